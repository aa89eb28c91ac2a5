"""The gate before Mosaic: a call needs a permit, and tells how it went.

While Redis does not answer, every call gets one: no process then knows what the others do.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import structlog

from session_client.contract import Reason
from worker.errors import BreakerOpen, HeldBack, MosaicRateLimited
from worker.settings.model import Settings
from worker.traffic.breakers import CallObserver, CallResult, breaker_rules, min_counted_timeout
from worker.traffic.budgets import Application, Lane, Lanes, Limits
from worker.traffic.scripts import Report, Scripts

MAX_PAUSE_SECONDS: Final = 60.0  # of those we choose ourselves

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Permit:
    """The right to make one call now. `observe` it: the breakers learn from how it goes."""

    gate: Gate
    lane: Lane
    app: Application
    whom: str  # it is made for; opaque
    # Of which opening it is a probe, of the breaker all clients share and of that of its own.
    probe_of: tuple[int, int] = (0, 0)
    is_good_news: bool = False  # calls before it have failed

    @property
    def is_probe(self) -> bool:
        """Whether a breaker waits to hear how it goes."""
        return any(self.probe_of)

    @contextmanager
    def observe(self) -> Iterator[CallObserver]:
        """Tell all processes what the call within has taught of the endpoint it is for."""
        observer = CallObserver(self.gate.min_counted_timeout)
        try:
            yield observer
        except MosaicRateLimited as error:
            raise MosaicRateLimited(
                str(error), retry_after=self.gate.limited(self, error.asked_seconds)
            ) from None
        finally:
            self.gate.learn(self, observer)


class Gate:
    """Admits calls by limits that all processes share, and keeps them up to date."""

    def __init__(self, scripts: Scripts, settings: Settings) -> None:
        self._scripts = scripts
        self._lanes = Lanes(settings)
        self._rules = {lane: breaker_rules(settings, lane) for lane in Lane}
        self.min_counted_timeout = min_counted_timeout(settings)

    def admit(  # noqa: PLR0913 - what one call is held to
        self,
        lane: Lane,
        app: Application,
        max_wait_seconds: float,
        *,
        whom: str,
        user: str | None = None,
        is_untried: bool = False,
    ) -> Permit:
        """Return a permit, waiting for our turn if it comes soon. Raises `HeldBack`.

        Where *user* is given, the call takes from that user's budget, too.
        """
        limits = self.limits(lane, app, user)
        reply = self._scripts.admit(limits, max_wait_seconds, is_untried=is_untried)
        return self.permit(lane, app, whom, limits, reply)

    def limits(self, lane: Lane, app: Application, user: str | None = None) -> Limits:
        """Return what a call is held to."""
        return self._lanes.limits(lane, app, user)

    def permit(
        self, lane: Lane, app: Application, whom: str, limits: Limits, reply: list[Any] | None
    ) -> Permit:
        """Read the reply of ``admit``. Raises `HeldBack`."""
        if reply is None:
            return Permit(self, lane, app, whom)
        if reply[0] == b"held":
            raise _held_back(limits, reply[1].decode(), reply[2] / 1e6)
        _, wait, of_shared, of_own, is_good_news = reply
        if wait > 0:
            time.sleep(wait / 1e6)
        return Permit(self, lane, app, whom, (of_shared, of_own), bool(is_good_news))

    def learn(self, permit: Permit, observed: CallObserver) -> None:
        """Tell the breakers. It costs a round trip only where it is news."""
        is_news = {
            CallResult.FAILED: True,
            CallResult.ANSWERED: permit.is_probe or permit.is_good_news,
            CallResult.UNKNOWN: permit.is_probe,  # let another call find out what this one did not
        }
        if is_news[observed.result]:
            self._report(permit, observed)

    def limited(self, permit: Permit, asked_seconds: float | None) -> float:
        """Pause all calls that share the limit; returns the seconds."""
        client_id, lane = permit.app.client_id, permit.lane
        # Nought, or a date that is past, names no time. Obeyed, it would have us ask ten times a
        # second for as long as Mosaic refuses: only pauses of our own grow.
        asked_us = int(asked_seconds * 1e6) if asked_seconds else -1
        jitter = random.random()  # noqa: S311 - jitter, no secret
        longest_us = int(MAX_PAUSE_SECONDS * 1e6)
        paused = self._scripts.pause(lane, client_id, asked_us, longest_us, jitter)
        seconds = (asked_seconds or 1.0) if paused is None else paused / 1e6
        log.warning("mosaic_rate_limited", client=client_id, lane=lane.value, seconds=seconds)
        return seconds

    def _report(self, permit: Permit, observed: CallObserver) -> None:
        app, lane = permit.app, permit.lane
        # The end of a name is what tells it from other names.
        report = Report(
            observed.result, permit.probe_of, app.client_id, permit.whom[-16:], observed.is_slow
        )
        changed = self._scripts.report(self.limits(lane, app).breakers, report, self._rules[lane])
        if changed is not None:
            _log_change(permit, "all", *changed[:2])
            _log_change(permit, app.client_id, *changed[2:])


def _log_change(permit: Permit, clients: str, opens: int, is_closed: int) -> None:
    where = {"mosaic": permit.app.base_url, "clients": clients, "lane": permit.lane.value}
    if opens:
        log.error("breaker_opened", **where, seconds=round(opens / 1e6, 1))
    elif is_closed:
        log.warning("breaker_closed", **where)


def _held_back(limits: Limits, why: str, seconds: float) -> HeldBack:
    if why in {"breaker", "probing"}:
        return BreakerOpen("mosaic: the breaker is open", Reason.IDP_UNAVAILABLE, seconds)
    if why == "pause":
        return HeldBack("mosaic: it asked us to wait", Reason.RATE_LIMITED, seconds)
    name = limits.rates[int(why) - 1].name
    return HeldBack(f"mosaic: the budget of {name} is used up", Reason.RATE_LIMITED, seconds)
