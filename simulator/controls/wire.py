"""What `RemoteSimulator` is made of: the wire, and the controls that hang on it."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self, Unpack

import httpx

from simulator.controls.calls import Call
from simulator.controls.faults import FaultDetails
from simulator.controls.gates import wait_until
from simulator.idp.store.outbox import Message

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

    def find(
        self, endpoint: str | None = None, client_id: str | None = None, **fields: Any
    ) -> list[Call]:
        """See `Calls.find`."""
        found = self._wire("calls/find", endpoint=endpoint, client_id=client_id, **fields)
        return [Call(**call) for call in found]

    def complaints(self) -> list[str]:
        """See `Calls.complaints`."""
        return list(self._wire("calls/complaints"))

    def forgive(self) -> None:
        """See `Calls.forgive`."""
        self._wire("calls/forgive")

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


class RemoteOutbox:
    """`MosaicState.outbox`."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def sent(self, user_id: str | None = None) -> list[Message]:
        """See `Outbox.sent`."""
        return [Message(**message) for message in self._wire("outbox/sent", user_id=user_id)]

    def latest(self, address: str) -> Message:
        """See `Outbox.latest`."""
        return Message(**self._wire("outbox/latest", address=address))


class RemotePolicy:
    """`MosaicState.policy`."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def change(self, **choices: Any) -> None:
        """See `Policy.change`."""
        self._wire("policy/change", **choices)


class RemoteAttempts:
    """`MosaicState.attempts`."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def lock(self, user_id: str, method: str) -> None:
        """See `Attempts.lock`."""
        self._wire("users/lock", user_id=user_id, method=method)

    def unlock(self, user_id: str, method: str) -> None:
        """See `Attempts.unlock`."""
        self._wire("users/unlock", user_id=user_id, method=method)


class RemoteAuthenticatorApps:
    """`MosaicState.authenticator_apps`."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def enrol(self, user_id: str, label: str | None = None) -> dict[str, str]:
        """See `AuthenticatorApps.enrol`."""
        return dict(self._wire("authenticator_apps/enrol", user_id=user_id, label=label))


class RemotePasskeys:
    """`MosaicState.passkeys`."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def register(
        self, user_id: str, credential_id: str, public_key: str, sign_count: int = 0
    ) -> None:
        """See `Passkeys.register`."""
        self._wire(
            "passkeys/register",
            user_id=user_id,
            credential_id=credential_id,
            public_key=public_key,
            sign_count=sign_count,
        )


class RemoteBiometrics:
    """`MosaicState.biometrics`."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def register(self, user_id: str, key_id: str, public_key: str) -> None:
        """See `Biometrics.register`."""
        self._wire("biometrics/register", user_id=user_id, key_id=key_id, public_key=public_key)


class RemoteSocialAccounts:
    """`MosaicState.social`."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def add_account(self, provider: str, subject: str, **claims: Any) -> None:
        """See `SocialAccounts.add_account`."""
        self._wire("social/add_account", provider=provider, subject=subject, **claims)
