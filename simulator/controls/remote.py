"""The simulator's verbs for another process: `MosaicState`'s names, spoken over HTTP."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self, Unpack

import httpx

from simulator.controls.calls import Call
from simulator.controls.faults import FaultDetails
from simulator.controls.gates import wait_until
from simulator.idp.outbox import Message
from simulator.idp.records import Login, Session

TIMEOUT_SECONDS = 60.0


class RemoteError(Exception):
    """The simulator did not understand a verb, or could not do it."""


class Wire:
    """Speaks one verb at a time."""

    def __init__(self, url: str) -> None:
        # trust_env: a proxy has no business between two local processes.
        self._http = httpx.Client(base_url=f"{url}/_sim/", timeout=TIMEOUT_SECONDS, trust_env=False)

    def __call__(self, verb: str, **arguments: Any) -> Any:
        """Do *verb* and return its result; RemoteError with the reason if it fails."""
        response = self._http.post(verb, json=arguments)
        if response.is_error:
            raise RemoteError(f"{verb}: {response.text}")
        return response.json()["result"]

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


class RemoteClock:
    """`MosaicState.clock`."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def now(self) -> float:
        """See `Clock.now`."""
        return float(self._wire("clock/now"))

    def advance(self, seconds: float) -> float:
        """See `Clock.advance`."""
        return float(self._wire("clock/advance", seconds=seconds))


class RemoteFaults:
    """`MosaicState.faults`."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def add(self, endpoint: str, kind: str, **details: Unpack[FaultDetails]) -> None:
        """See `Faults.add`."""
        self._wire("faults/add", endpoint=endpoint, kind=kind, **details)

    def clear(self) -> None:
        """See `Faults.clear`."""
        self._wire("faults/clear")


class RemoteCalls:
    """`MosaicState.calls`."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def count(self, endpoint: str | None = None, client_id: str | None = None) -> int:
        """See `Calls.count`."""
        return int(self._wire("calls/count", endpoint=endpoint, client_id=client_id))

    def log(self) -> list[Call]:
        """See `Calls.log`."""
        return [Call(**call) for call in self._wire("calls/log")]

    def clear(self) -> None:
        """See `Calls.clear`."""
        self._wire("calls/clear")


class RemoteGate:
    """A closed gate in the simulator; leaving its block releases it."""

    def __init__(self, wire: Wire, number: int) -> None:
        self._wire = wire
        self._number = number

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    @property
    def arrived(self) -> int:
        """How many calls have come to the gate."""
        return int(self._wire("gates/arrived", gate=self._number))

    def wait_arrived(self, count: int = 1, timeout_seconds: float = 60.0) -> None:
        """See `Gate.wait_arrived`."""
        wait_until(lambda: self.arrived >= count, timeout_seconds)

    def release(self) -> None:
        """See `Gate.release`."""
        self._wire("gates/release", gate=self._number)


class RemoteGates:
    """`MosaicState.gates`."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def hold(
        self, endpoint: str, client_id: str | None = None, *, before: bool = False
    ) -> RemoteGate:
        """See `Gates.hold`."""
        number = self._wire("gates/hold", endpoint=endpoint, client_id=client_id, before=before)
        return RemoteGate(self._wire, number)


class RemoteSimulator:
    """A simulator in another process, driven by the verbs of `MosaicState`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._wire = Wire(url)
        self.clock = RemoteClock(self._wire)
        self.faults = RemoteFaults(self._wire)
        self.calls = RemoteCalls(self._wire)
        self.gates = RemoteGates(self._wire)

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
    ) -> None:
        """See `MosaicState.add_client`."""
        self._wire("clients/add", client_id=client_id, secret=secret, public_jwk=public_jwk)

    def revoke_client_tokens(self, client_id: str | None = None) -> None:
        """See `MosaicState.revoke_client_tokens`."""
        self._wire("clients/revoke_tokens", client_id=client_id)

    def add_user(
        self,
        user_id: str,
        *,
        password: str | None = None,
        email: str | None = None,
        phone: str | None = None,
    ) -> None:
        """See `MosaicState.add_user`."""
        self._wire("users/add", user_id=user_id, password=password, email=email, phone=phone)

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

    def latest_message(self, address: str) -> Message:
        """The last unused passcode or link sent to *address*."""
        return Message(**self._wire("outbox/latest", address=address))

    def change_policy(self, **choices: Any) -> None:
        """See `Policy.change`."""
        self._wire("policy/change", **choices)
