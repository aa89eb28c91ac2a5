"""What `top` shows: the health of the moment, and how often things have happened lately."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Integer, case, cast, func, select
from sqlalchemy.exc import SQLAlchemyError

from models import SessionEvent
from session_client import contract
from worker.errors import StoreUnavailable
from worker.operations import health
from worker.operations.health import Health, Part
from worker.sessions import audit
from worker.wiring import Services

MOMENTS: Final = 30  # as many as a plot has columns
COUNT_EVERY_SECONDS: Final = 15.0  # what counts rows
# An event is written at its time and committed a little later.
_SETTLED_AFTER: Final = timedelta(seconds=1)

EVENTS: Final = {
    "logins": (audit.REGISTERED, audit.SIGNED_IN),
    "silent authentications": (audit.AUTHENTICATED,),
    "sessions ended": (audit.ENDED, audit.EXPIRED),
    "confirmed by Mosaic": (audit.IDP_CONFIRMED,),
    "confirmed by apps": (audit.APP_CONFIRMED,),
}
# How often what a row tells has happened.
_HAPPENED: Final = case(
    (SessionEvent.event == audit.EXPIRED, cast(SessionEvent.detail, Integer)), else_=1
)


class Live:
    """Looks again and again, and remembers the last `MOMENTS`."""

    def __init__(
        self, services: Services, every: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """*every* is how many seconds pass between two looks."""
        self._services = services
        self._every = timedelta(seconds=every)
        self._clock = clock
        self._counted_at: float | None = None
        self._counted: Health | None = None
        self._seen_until: datetime | None = None
        self.per_second: dict[str, deque[float]] = {n: deque(maxlen=MOMENTS) for n in EVENTS}
        self.waiting: dict[str, deque[float]] = {
            queue.value: deque(maxlen=MOMENTS) for queue in contract.Queue
        }

    def look(self) -> Health:
        """Return how the service is, and note what has happened since the last look."""
        found = self._examined()
        for queue, seen in self.waiting.items():
            if found.backlog is not None and queue in found.backlog.waiting:
                seen.append(float(found.backlog.waiting[queue]))
        try:
            self._count_events()
        except (StoreUnavailable, SQLAlchemyError):  # the health says so
            for seen in self.per_second.values():
                seen.clear()
            self._seen_until = None
        return found

    def _examined(self) -> Health:
        now = self._clock()
        if self._counted_at is None or now - self._counted_at >= COUNT_EVERY_SECONDS:
            self._counted_at, self._counted = now, health.examine(self._services)
            return self._counted
        other_parts = [part for part in Part if part is not Part.DELIVERIES]
        found = health.examine(self._services, other_parts)
        if self._counted is not None:
            found.store = self._counted.store
            found.notice_queues = self._counted.notice_queues
            found.wrong[Part.DELIVERIES] = self._counted.wrong[Part.DELIVERIES]
            found.warnings[Part.DELIVERIES] = self._counted.warnings[Part.DELIVERIES]
        return found

    def _count_events(self) -> None:
        until = self._services.now() - _SETTLED_AFTER
        since = self._seen_until
        if since is None:  # the first look shows what was before it
            for moment in range(MOMENTS, 1, -1):
                end = until - (moment - 1) * self._every
                self._note(self._counts(end - self._every, end), self._every)
            since = until - self._every
        self._note(self._counts(since, until), until - since)
        self._seen_until = until

    def _note(self, counts: Mapping[str, int], during: timedelta) -> None:
        seconds = max(during.total_seconds(), 1e-3)
        for name, events in EVENTS.items():
            self.per_second[name].append(sum(counts.get(e, 0) for e in events) / seconds)

    def _counts(self, since: datetime, until: datetime) -> dict[str, int]:
        query = (
            select(SessionEvent.event, func.sum(_HAPPENED))
            .where(SessionEvent.at > since, SessionEvent.at <= until)
            .group_by(SessionEvent.event)
        )
        with self._services.store.read() as connection:
            return {row[0]: int(row[1]) for row in connection.execute(query)}
