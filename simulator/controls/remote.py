"""The simulator's verbs for another process: `MosaicState`'s names, spoken over HTTP."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from types import TracebackType
from typing import Any, Self, Unpack

from simulator.controls.wire import (
    RemoteAttempts,
    RemoteAuthenticatorApps,
    RemoteBiometrics,
    RemoteCalls,
    RemoteClock,
    RemoteError,
    RemoteFaults,
    RemoteGates,
    RemoteOutbox,
    RemotePasskeys,
    RemotePolicy,
    RemoteSocialAccounts,
    Wire,
)
from simulator.idp.records import Login, Session, UserFacts

__all__ = ["RemoteError", "RemoteSimulator"]


class RemoteSimulator:
    """A simulator in another process, driven by the verbs of `MosaicState`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._wire = Wire(url)
        self.clock = RemoteClock(self._wire)
        self.faults = RemoteFaults(self._wire)
        self.calls = RemoteCalls(self._wire)
        self.gates = RemoteGates(self._wire)
        self.outbox = RemoteOutbox(self._wire)
        self.policy = RemotePolicy(self._wire)
        self.attempts = RemoteAttempts(self._wire)
        self.authenticator_apps = RemoteAuthenticatorApps(self._wire)
        self.passkeys = RemotePasskeys(self._wire)
        self.biometrics = RemoteBiometrics(self._wire)
        self.social = RemoteSocialAccounts(self._wire)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the simulator itself runs on."""
        self._wire.close()

    def add_client(
        self,
        client_id: str,
        secret: str | None = None,
        *,
        public_jwk: Mapping[str, Any] | None = None,
        redirect_uris: Collection[str] | None = None,
        resources: Collection[str] | None = None,
    ) -> None:
        """See `MosaicState.add_client`."""
        self._wire(
            "clients/add",
            client_id=client_id,
            secret=secret,
            public_jwk=public_jwk,
            redirect_uris=None if redirect_uris is None else [*redirect_uris],
            resources=None if resources is None else [*resources],
        )

    def revoke_client_tokens(self, client_id: str | None = None) -> None:
        """See `MosaicState.revoke_client_tokens`."""
        self._wire("clients/revoke_tokens", client_id=client_id)

    def add_user(self, user_id: str, **facts: Unpack[UserFacts]) -> None:
        """See `MosaicState.add_user`."""
        self._wire("users/add", user_id=user_id, **facts)

    def change_user(self, user_id: str, **facts: Unpack[UserFacts]) -> None:
        """See `MosaicState.change_user`."""
        self._wire("users/change", user_id=user_id, **facts)

    def login(self, user_id: str, client_id: str, amr: Iterable[str] = ("pwd",)) -> Login:
        """See `MosaicState.login`."""
        return Login(**self._wire("login", user_id=user_id, client_id=client_id, amr=[*amr]))

    def add_factor(self, session_id: str, client_id: str, method: str) -> Login:
        """See `MosaicState.add_factor`."""
        return Login(
            **self._wire("factor", session_id=session_id, client_id=client_id, method=method)
        )

    def end_session(self, session_id: str) -> None:
        """See `MosaicState.end_session`."""
        self._wire("sessions/end", session_id=session_id)

    def live_sessions(self, user_id: str | None = None) -> list[Session]:
        """See `MosaicState.live_sessions`."""
        return [Session(**session) for session in self._wire("sessions/live", user_id=user_id)]

    def is_live(self, session_id: str) -> bool:
        """See `MosaicState.is_live`."""
        return bool(self._wire("sessions/is_live", session_id=session_id))

    def open_frontend_session(self, user_id: str) -> None:
        """See `MosaicState.open_frontend_session`."""
        self._wire("frontend_sessions/open", user_id=user_id)

    def count_frontend_sessions(self, user_id: str) -> int:
        """See `MosaicState.count_frontend_sessions`."""
        return int(self._wire("frontend_sessions/count", user_id=user_id))

    def rotate_keys(self, *, keep_old: bool = True) -> str:
        """See `MosaicState.rotate_keys`."""
        return str(self._wire("keys/rotate", keep_old=keep_old))

    def mint_id_token(self, *, forgery: str | None = None, **claims: Any) -> str:
        """See `MosaicState.mint_id_token`."""
        return str(self._wire("tokens/mint", forgery=forgery, **claims))
