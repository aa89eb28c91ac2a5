"""The gate before Mosaic: a call needs a permit, and tells how it went.

While Redis does not answer, everybody gets one: then nobody knows what the others do.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

import structlog

from session_client.contract import Reason
from worker.errors import (
    BreakerOpen,
    HeldBack,
    MosaicRateLimited,
    MosaicTimedOut,
    MosaicUnavailable,
    SessionWorkerError,
)
from worker.settings.model import Settings
from worker.storage.redis_scripts import Argument
from worker.traffic.budgets import PREFIX, Application, Lane, Lanes, Rules, pause_key
from worker.traffic.scripts import Scripts

PROBES_AT_A_TIME: Final = 3
GOOD_PROBES: Final = 3  # that close a breaker
BAD_PROBES: Final = 3  # of different sessions, that open it again
PROBE_LASTS_SECONDS: Final = 35.0  # longer than any call; then its process is taken for dead
FAILED_SHARE: Final = 0.5  # of the calls in a window opens a breaker …
SHARE_OF_CALLS: Final = 20  # … once there are so many …
SHARE_OF_ONE: Final = 3  # … of which the failures of one session count so often
SHARE_WINDOW_SECONDS: Final = 30.0
# A call cut off earlier by its own deadline says nothing about Mosaic. Were it counted, an app
# with hasty deadlines could close the way for everybody. And no more than this share of the longest
# call: one that has waited for its turn has less than all of it.
FAIR_SECONDS: Final = 2.0
FAIR_SHARE: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 60.0  # of those we choose ourselves
SLOW_SECONDS: Final = 1.0  # a failure that takes so long keeps a slot from others

log = structlog.get_logger()


class Learnt(Enum):
    """What a call has taught of its endpoint."""

    NOTHING = auto()
    ANSWERS = auto()
    FAILS = auto()


class Watch:
    """Looks on while the endpoint is asked, and at nothing before or after it."""

    learnt = Learnt.NOTHING
    seconds = 0.0  # that it took

    def __init__(self, fair_seconds: float) -> None:
        self._fair_seconds = fair_seconds

    @contextmanager
    def asking(self, allowed_seconds: float) -> Iterator[None]:
        """Learn from how it takes what is asked within; it has *allowed_seconds* to answer.

        The last time counts: a call may ask twice.
        """
        self.learnt = Learnt.NOTHING
        began = time.monotonic()
        try:
            yield
        except MosaicTimedOut:
            if allowed_seconds >= self._fair_seconds:
                self.learnt = Learnt.FAILS
            raise
        except MosaicUnavailable:
            self.learnt = Learnt.FAILS
            raise
        except SessionWorkerError:
            self.learnt = Learnt.ANSWERS  # if not what was hoped for
            raise
        else:
            self.learnt = Learnt.ANSWERS
        finally:
            self.seconds = time.monotonic() - began


@dataclass(frozen=True, slots=True)
class Permit:
    """The right to make one call now. `watch` it: the breakers learn from how it goes."""

    gate: Gate
    lane: Lane
    app: Application
    whom: str  # it is made for; opaque
    # Of which opening it is a probe, of the breaker all clients share and of that of its own.
    probe_of: tuple[int, int] = (0, 0)
    is_good_news: bool = False  # others have failed before it

    @property
    def is_probe(self) -> bool:
        """Whether a breaker waits to hear how it goes."""
        return any(self.probe_of)

    @contextmanager
    def watch(self) -> Iterator[Watch]:
        """Tell everybody what the call within has taught of the endpoint it is for."""
        watch = Watch(self.gate.fair_seconds)
        try:
            yield watch
        except MosaicRateLimited as error:
            raise MosaicRateLimited(
                str(error), retry_after=self.gate.limited(self, error.asked_seconds)
            ) from None
        finally:
            self.gate.learn(self, watch)


class Gate:
    """Admits calls by rules that all processes share, and keeps them up to date."""

    def __init__(self, scripts: Scripts, settings: Settings) -> None:
        self._scripts = scripts
        self._lanes = Lanes(settings)
        self._failures = settings.breaker_failures
        self._open_seconds = settings.breaker_open_seconds
        self._open_max_seconds = settings.breaker_open_max_seconds
        self.fair_seconds = min(FAIR_SECONDS, FAIR_SHARE * settings.mosaic_timeout_seconds)

    def admit(
        self,
        lane: Lane,
        app: Application,
        patience_seconds: float,
        *,
        whom: str,
        is_untried: bool = False,
    ) -> Permit:
        """Return a permit, waiting for our turn if it comes soon. Raises `HeldBack`."""
        rules = self.rules(lane, app)
        arguments = arguments_of(rules, patience_seconds, is_untried=is_untried)
        return self.permit(lane, app, whom, rules, self._scripts.admit(keys_of(rules), arguments))

    def rules(self, lane: Lane, app: Application, user: str | None = None) -> Rules:
        """Return what a call is held to."""
        return self._lanes.rules(lane, app, user)

    def permit(
        self, lane: Lane, app: Application, whom: str, rules: Rules, answer: list[Any] | None
    ) -> Permit:
        """Read what ``admit`` said. Raises `HeldBack`."""
        if answer is None:
            return Permit(self, lane, app, whom)
        if answer[0] == b"held":
            raise _held_back(rules, answer[1].decode(), answer[2] / 1e6)
        _, wait, of_shared, of_own, is_good_news = answer
        if wait > 0:
            time.sleep(wait / 1e6)
        return Permit(self, lane, app, whom, (of_shared, of_own), bool(is_good_news))

    def learn(self, permit: Permit, watch: Watch) -> None:
        """Tell the breakers. It costs a round trip only where it is news."""
        if watch.learnt is Learnt.FAILS:
            self._report(permit, "failed", is_slow=watch.seconds >= SLOW_SECONDS)
        elif watch.learnt is Learnt.ANSWERS and (permit.is_probe or permit.is_good_news):
            self._report(permit, "ok")
        elif watch.learnt is Learnt.NOTHING and permit.is_probe:
            self._report(permit, "unknown")  # let another call find out what this one did not

    def limited(self, permit: Permit, asked_seconds: float | None) -> float:
        """Pause everybody who shares the limit; returns the seconds."""
        app, lane = permit.app, permit.lane
        keys = (
            pause_key(lane, app.client_id),
            pause_key(lane),
            f"{PREFIX}:limited:last:{lane}",
            f"{PREFIX}:limited:times:{app.client_id}:{lane}",
        )
        asked = -1 if asked_seconds is None else int(asked_seconds * 1e6)
        jitter = random.random()  # noqa: S311 - jitter, no secret
        arguments = (app.client_id, asked, int(LONGEST_PAUSE_SECONDS * 1e6), jitter)
        paused = self._scripts.pause(keys, arguments)
        seconds = (asked_seconds or 1.0) if paused is None else paused / 1e6
        log.warning("mosaic_rate_limited", client=app.client_id, lane=lane.value, seconds=seconds)
        return seconds

    def _report(self, permit: Permit, how: str, *, is_slow: bool = False) -> None:
        called = (how, *permit.probe_of, permit.app.client_id, permit.whom[-16:], int(is_slow))
        rules = self.rules(permit.lane, permit.app)
        changed = self._scripts.report(rules.breakers, (*called, *self._breaker_rules(permit.lane)))
        if changed is not None:
            _log_change(permit, "all", *changed[:2])
            _log_change(permit, permit.app.client_id, *changed[2:])

    def _breaker_rules(self, lane: Lane) -> tuple[Argument, ...]:
        """Return what breakers go by, in the order of ``lua/report.lua``."""
        first = self._open_seconds
        # A logout has a back-off of its own, which doubles: one that failed because of others must
        # not wait for both.
        most = first if lane is Lane.LOGOUT else self._open_max_seconds
        shares = (FAILED_SHARE, SHARE_OF_CALLS, int(SHARE_WINDOW_SECONDS * 1e6), SHARE_OF_ONE)
        lasts = (int(first * 1e6), int(most * 1e6))
        return (self._failures, *shares, *lasts, GOOD_PROBES, BAD_PROBES)


def _log_change(permit: Permit, clients: str, opens: int, is_closed: int) -> None:
    where = {"mosaic": permit.app.base_url, "clients": clients, "lane": permit.lane.value}
    if opens:
        log.error("breaker_opened", **where, seconds=round(opens / 1e6, 1))
    elif is_closed:
        log.warning("breaker_closed", **where)


def keys_of(rules: Rules) -> tuple[str, ...]:
    """Return the keys ``admit`` wants."""
    return (*rules.breakers, *rules.pauses, *(cell.key for cell in rules.cells))


def arguments_of(
    rules: Rules, patience_seconds: float, *, is_untried: bool = False
) -> tuple[Argument, ...]:
    """Return the arguments ``admit`` wants."""
    numbers = [number for cell in rules.cells for number in (cell.interval, cell.tolerance)]
    patience, probe_lasts = int(patience_seconds * 1e6), int(PROBE_LASTS_SECONDS * 1e6)
    probes = (PROBES_AT_A_TIME, probe_lasts)
    return (len(rules.pauses), int(is_untried), *probes, patience, *numbers)


def _held_back(rules: Rules, why: str, seconds: float) -> HeldBack:
    if why in {"breaker", "probing"}:
        return BreakerOpen("mosaic: the breaker is open", Reason.IDP_UNAVAILABLE, seconds)
    if why == "pause":
        return HeldBack("mosaic: it asked us to wait", Reason.RATE_LIMITED, seconds)
    name = rules.cells[int(why) - 1].name
    return HeldBack(f"mosaic: the budget of {name} is used up", Reason.RATE_LIMITED, seconds)
