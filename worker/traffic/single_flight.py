"""One call for identical requests: the first one leads, the others wait for what it publishes.

A shared answer is believed for a while. A request that takes it has read the session from the
store just before, and names the version it read: that keeps a logout final.
"""

from __future__ import annotations

import itertools
import json
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from session_client.contract import Reason
from worker.errors import HeldBack, TryLater
from worker.http_client import MAX_RETRY_AFTER_SECONDS
from worker.settings.model import Settings
from worker.storage.encryption import KeyRing, SealedValueUnreadable
from worker.storage.redis_scripts import Call
from worker.traffic.admission import Gate, Permit
from worker.traffic.budgets import Application, Lane
from worker.traffic.scripts import Scripts

# Between the end of a call and that of its lease: time to verify, to commit and to say so.
LEASE_SPARE_SECONDS: Final = 5.0
# A failed call is not repeated at once by all requests that waited for it.
FAILURE_SECONDS: Final = 1.0
# An answer no request will take any more, kept for those that are about to wait for it.
PASSING_SECONDS: Final = 2.0
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LISTEN_SECONDS: Final = 1.0  # then we look again: the process that leads may have died


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPlan:
    """What is asked, for whom, and what would do."""

    name: str  # the same for identical requests; opaque
    app: Application
    user: str  # opaque
    version: int  # of the session as it was read: nothing asked before its last change will do
    since: datetime  # when our own request came: what was published after it is always new enough
    call_seconds: float  # how long a call may take
    max_wait_seconds: float  # for our turn


@dataclass(frozen=True, slots=True)
class SharedAnswer:
    """What an identical request was answered a moment ago."""

    content: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Superseded:
    """What was published is of a newer version of the session than was read: read it again."""


@dataclass(frozen=True, slots=True)
class InProgress:
    """An identical request is asking Mosaic this very moment."""

    name: str


@dataclass(frozen=True, slots=True)
class Lead:
    """The right to ask Mosaic for all identical requests. It must end, whatever happens.

    It does by what is published, by `SingleFlight.fail` or `SingleFlight.abandon`. One that
    does not end keeps the other requests waiting until its lease is over.
    """

    permit: Permit
    name: str
    token: str  # of our lease, if Redis has heard of it
    has_short_deadline: bool  # other requests may have time enough where ours is too short


class SingleFlight:
    """What the processes ask once for all of them."""

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
        self._reuse_time = timedelta(seconds=settings.reuse_seconds)
        self._keyring = keyring
        self._now = now
        # Unlike any other process', and counted: a lease needs no secret.
        self._tokens = map(f"{secrets.token_hex(8)}:{{}}".format, itertools.count())

    def join(self, plan: CallPlan) -> Lead | InProgress | SharedAnswer | Superseded:
        """Take the lead, or learn who is ahead of us. Raises `HeldBack`."""
        token = next(self._tokens)
        limits = self._gate.limits(Lane.AUTH, plan.app, plan.user)
        lease = int((plan.call_seconds + LEASE_SPARE_SECONDS) * 1000)
        oldest = _us(min(plan.since, self._now() - self._reuse_time))
        while True:
            reply = self._scripts.join(
                plan.name, token, lease, oldest, limits, plan.max_wait_seconds
            )
            if reply is None or reply[0] != b"shared":
                break
            shared = self._read(plan, reply[1])
            if shared is not None:
                return shared
            self._scripts.forget(plan.name)
        if reply is not None and reply[0] == b"in progress":
            return InProgress(plan.name)
        permit = self._gate.permit(Lane.AUTH, plan.app, plan.user, limits, reply)
        has_short_deadline = plan.call_seconds < self._gate.min_counted_timeout
        # Also when Redis did not answer: it may have heard us, and then other requests wait for us.
        return Lead(permit, plan.name, token, has_short_deadline)

    def wait(self, call: InProgress, seconds: float) -> None:
        """Return when its answer has been published, or after a while; then join again."""
        self._scripts.wait(call.name, min(seconds, _LISTEN_SECONDS))

    def publication(
        self, lead: Lead, content: dict[str, Any], *, version: int, seconds: float
    ) -> Call:
        """Return what publishes Mosaic's answer, for *seconds* at most; run it after its commit.

        Only requests that read the session in this *version* may have it.
        """
        published_at = _us(self._now())
        shared = {"version": version, "content": content, "at": published_at}
        sealed = self._keyring.seal(json.dumps(shared), _place(lead.name))
        life = min(seconds, max(self._reuse_seconds, PASSING_SECONDS))
        answer = _answer(b"+" + sealed, published_at)
        return self._scripts.publication(lead.name, lead.token, answer, int(life * 1000))

    def publish(self, publication: Call) -> None:
        """Run what `publication` has returned: no answer comes that it could go with."""
        self._scripts.run(publication)

    def fail(self, lead: Lead, error: TryLater) -> None:
        """Tell the waiting requests that it is no use to try at once."""
        failure = {"reason": error.reason.value, "retry_after": error.retry_after}
        answer = _answer(b"-" + json.dumps(failure).encode(), _us(self._now()))
        self._scripts.publish(lead.name, lead.token, answer, int(FAILURE_SECONDS * 1000))

    def abandon(self, lead: Lead) -> None:
        """Let the waiting requests look for themselves."""
        life = int(PASSING_SECONDS * 1000)
        self._scripts.publish(lead.name, lead.token, b"abandoned", life)

    def _read(self, plan: CallPlan, answer: bytes) -> SharedAnswer | Superseded | None:
        """Return what was shared, None when it is not for us. Raises `HeldBack`."""
        published_at, _, value = answer.partition(b":")
        if value.startswith(b"-"):
            failure = _failure(value[1:])
            if failure is None:
                return None
            raise failure
        try:
            shared = json.loads(self._keyring.open(value[1:], _place(plan.name)))
        except SealedValueUnreadable:
            return None  # sealed with a key that left the ring
        if shared.get("at") != int(published_at):
            return None  # an attacker, who has no key, gave an older answer another time
        if shared["version"] > plan.version:
            return Superseded()
        return SharedAnswer(shared["content"]) if shared["version"] == plan.version else None


def _answer(value: bytes, published_at: int) -> bytes:
    return b"%d:%b" % (published_at, value)


def _failure(text: bytes) -> HeldBack | None:
    """Return the failure of a call, None if it cannot be read: an attacker may have written it."""
    try:
        content = json.loads(text)
        reason, seconds = Reason(content["reason"]), float(content["retry_after"])
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
        return None
    if not 0 <= seconds <= MAX_RETRY_AFTER_SECONDS:  # also refuses NaN, which is no JSON for an app
        return None
    return HeldBack("mosaic: an identical request has just failed", reason, seconds)


def _place(name: str) -> str:
    return f"flight:{name}"


def _us(moment: datetime) -> int:
    """Return microseconds: in coarser steps a request takes an answer from just before it came."""
    return (moment - _EPOCH) // timedelta(microseconds=1)
