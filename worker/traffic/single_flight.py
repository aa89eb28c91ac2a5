"""One call for identical requests: the first one flies, the others wait for it to land.

What has landed is believed for a while. Whoever takes it has read the session from the store
just before, and names the version it read: that keeps a logout final.
"""

from __future__ import annotations

import itertools
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from session_client.contract import Reason
from worker.errors import HeldBack, TryLater
from worker.settings.model import Settings
from worker.storage.encryption import KeyRing, SealedValueUnreadable
from worker.storage.redis_scripts import Argument, Call
from worker.traffic.admission import Gate, Permit, arguments_of, keys_of
from worker.traffic.budgets import PREFIX, Application, Lane
from worker.traffic.scripts import Scripts

# Between the end of a call and that of its lease: time to verify, to commit and to say so.
LEASE_SPARE_SECONDS: Final = 5.0
# A failed call is not repeated at once by everybody who waited for it.
FAILURE_SECONDS: Final = 1.0
# An answer no request will take any more, kept for those who are about to wait for it.
PASSING_SECONDS: Final = 2.0
_LISTEN_SECONDS: Final = 1.0  # then we look again: whoever flew may have died


@dataclass(frozen=True, slots=True, kw_only=True)
class FlightPlan:
    """What is asked, for whom, and what would do."""

    name: str  # the same for all who ask the same; opaque
    app: Application
    user: str  # opaque
    version: int  # of the session as it was read: nothing asked before its last change will do
    since: datetime  # when our own request came: what landed after it is always new enough
    call_seconds: float  # how long a call may take
    patience_seconds: float  # how long we would wait for our turn


@dataclass(frozen=True, slots=True)
class Landed:
    """What an identical request brought home a moment ago."""

    content: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Superseded:
    """What landed is of a newer version of the session than was read: it is to be read again."""


@dataclass(frozen=True, slots=True)
class Flying:
    """An identical request is asking Mosaic this very moment."""

    answer_key: str


@dataclass(frozen=True, slots=True)
class Flight:
    """The right to ask Mosaic for all who ask the same. It must end, whatever happens.

    One that nobody ends keeps the others waiting until its lease is over.
    """

    permit: Permit
    flights: Flights
    name: str
    token: str  # of our lease, if Redis has heard of it
    is_hasty: bool  # others may have time enough where ours is too short

    def landing(self, content: dict[str, Any], *, version: int, seconds: float) -> Call:
        """Return what shares Mosaic's answer, for *seconds* at most; run it after the commit of it.

        Only those who read the session in this *version* may have it.
        """
        return self.flights.landing(self, {"version": version, "content": content}, seconds)

    def fail(self, error: TryLater) -> None:
        """Tell the others that it is no use to try at once."""
        self.flights.fail(self, error)

    def abandon(self) -> None:
        """Let the others look for themselves."""
        self.flights.abandon(self)


class Flights:
    """Flights of all processes."""

    def __init__(
        self,
        scripts: Scripts,
        gate: Gate,
        settings: Settings,
        keyring: KeyRing,
        now: Callable[[], datetime],
    ) -> None:
        self._scripts = scripts
        self._gate = gate
        self._reuse_seconds = settings.reuse_seconds
        self._keyring = keyring
        self._now = now
        # Unlike any other process', and counted: a lease needs no secret.
        self._tokens = map(f"{secrets.token_hex(8)}:{{}}".format, itertools.count())

    def join(self, plan: FlightPlan) -> Flight | Flying | Landed | Superseded:
        """Start the flight, or say who is ahead of us. Raises `HeldBack`."""
        token = next(self._tokens)
        rules = self._gate.rules(Lane.AUTH, plan.app, plan.user)
        lease = int((plan.call_seconds + LEASE_SPARE_SECONDS) * 1000)
        oldest = min(_ms(plan.since), _ms(self._now()) - int(self._reuse_seconds * 1000))
        keys = (*_keys(plan.name), *keys_of(rules))
        arguments = (token, lease, oldest, *arguments_of(rules, plan.patience_seconds))
        answer = self._scripts.join(keys, arguments)
        while answer is not None and answer[0] == b"landed":
            landed = self._read(plan, answer[1])
            if landed is not None:
                return landed
            self._scripts.forget(_keys(plan.name)[0])
            answer = self._scripts.join(keys, arguments)
        if answer is not None and answer[0] == b"flying":
            return Flying(_keys(plan.name)[0])
        permit = self._gate.permit(Lane.AUTH, plan.app, plan.user, rules, answer)
        is_hasty = plan.call_seconds < self._gate.fair_seconds
        # Also when Redis did not answer: it may have heard us, and then the others wait for us.
        return Flight(permit, self, plan.name, token, is_hasty)

    def wait(self, flying: Flying, seconds: float) -> None:
        """Return when the flight has landed, or after a while; then join again."""
        self._scripts.listen(flying.answer_key, min(seconds, _LISTEN_SECONDS))

    def landing(self, flight: Flight, shared: dict[str, Any], seconds: float) -> Call:
        """See `Flight.landing`."""
        landed_at = _ms(self._now())
        sealed = self._keyring.seal(json.dumps({**shared, "at": landed_at}), _place(flight.name))
        life = min(seconds, max(self._reuse_seconds, PASSING_SECONDS))
        left = _left(flight, b"+" + sealed, life, landed_at)
        return self._scripts.landing(_keys(flight.name), left)

    def fail(self, flight: Flight, error: TryLater) -> None:
        """See `Flight.fail`."""
        told = {"reason": error.reason.value, "retry_after": error.retry_after}
        self._leave(flight, b"-" + json.dumps(told).encode(), FAILURE_SECONDS)

    def abandon(self, flight: Flight) -> None:
        """See `Flight.abandon`."""
        self._leave(flight, None, PASSING_SECONDS)

    def _leave(self, flight: Flight, value: bytes | None, seconds: float) -> None:
        left = _left(flight, value, seconds, _ms(self._now()))
        self._scripts.land(_keys(flight.name), left)

    def _read(self, plan: FlightPlan, answer: bytes) -> Landed | Superseded | None:
        """Return what was shared, None when it is not for us. Raises `HeldBack`."""
        landed_at, _, value = answer.partition(b":")
        if value.startswith(b"-"):
            failure = _failure(value[1:])
            if failure is None:
                return None
            raise failure
        try:
            shared = json.loads(self._keyring.open(value[1:], _place(plan.name)))
        except SealedValueUnreadable:
            return None  # sealed with a key that left the ring
        if shared.get("at") != int(landed_at):
            return None  # what is older was given another time, by somebody who has no key
        if shared["version"] > plan.version:
            return Superseded()
        return Landed(shared["content"]) if shared["version"] == plan.version else None


def _left(
    flight: Flight, value: bytes | None, seconds: float, landed_at: int
) -> tuple[Argument, ...]:
    left = b"abandoned" if value is None else b"%d:%b" % (landed_at, value)
    return (flight.token, left, int(seconds * 1000))


def _failure(told: bytes) -> HeldBack | None:
    """Return the failure of a flight, None when it cannot be read: anybody could write there."""
    try:
        content = json.loads(told)
        reason, seconds = Reason(content["reason"]), float(content["retry_after"])
    except (ValueError, LookupError, TypeError):
        return None
    return HeldBack("mosaic: an identical request has just failed", reason, seconds)


def _keys(name: str) -> tuple[str, str]:
    return f"{PREFIX}:flight:{name}:answer", f"{PREFIX}:flight:{name}:lease"


def _place(name: str) -> str:
    return f"flight:{name}"


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
