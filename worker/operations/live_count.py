"""How many sessions live: counted at each look while they are few, and seldom once they are many.

An index tells it, of which all that live must be read: of millions that takes a second, and each
worker, monitor and `top` looks every few seconds. So of many one process counts for all.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import redis
from sqlalchemy import ColumnElement, Connection, Select, case, func, select

from models import IdpSession
from worker.storage.redis_client import value_and_age
from worker.wiring import Services

FEW: Final = 10_000  # counted at each look, in two milliseconds
SELDOM_SECONDS: Final = 60.0
RESTS_TIMES_AS_LONG: Final = 1000  # so that counting takes a thousandth of the time, however many
KEY: Final = "mosaic-sessions:live-sessions"
_KEPT_SECONDS: Final = 24 * 3600  # longer than any count rests: the database lets it take 15 s
_COUNTING: Final = f"{KEY}:counting"
_COUNTING_SECONDS: Final = 20
_DUE_AT_ONCE: Final = 10_000  # more than expiry leaves when it runs every minute
_LIVE: Final = IdpSession.ended_at.is_(None)


@dataclass(frozen=True, slots=True)
class LiveSessions:
    """How many lived, and how many seconds ago that was counted."""

    count: int
    age_seconds: float = 0.0

    def __str__(self) -> str:
        counted = f", counted {self.age_seconds:.0f} s ago" if self.age_seconds else ""
        return f"{self.count}{counted}"


@dataclass(frozen=True, slots=True)
class _Known:
    """A count of any process, and how long it took."""

    count: int
    took_seconds: float
    age_seconds: float

    @property
    def is_fresh(self) -> bool:
        rest = max(SELDOM_SECONDS, RESTS_TIMES_AS_LONG * self.took_seconds)
        return 0 <= self.age_seconds < rest


def live_sessions(services: Services, connection: Connection) -> LiveSessions:
    """Return how many sessions live. More than `FEW` may have been counted a while ago.

    While Redis does not answer they are counted at each look: no other process is heard of then.
    """
    now = services.now()
    if (few := _few(connection, now)) is not None:
        return LiveSessions(few)
    try:
        known = _known(services.redis)
    except redis.RedisError:  # and not asked to keep it: one that hangs would be waited for twice
        return LiveSessions(_all(connection, now))
    if known is not None and (known.is_fresh or not _is_our_turn(services.redis)):
        return LiveSessions(known.count, known.age_seconds)
    begun = time.monotonic()
    count = _all(connection, now)
    _remember(services.redis, count, time.monotonic() - begun)
    return LiveSessions(count)


# --- the database. A session is never looked at after it expires, so that one with its look before
# it lives. One whose look is due may have been used since.


def _few(connection: Connection, now: datetime) -> int | None:
    """Return how many live, or None where that is not seen at once."""
    # By their turn: PostgreSQL would else look for the first of them among all that have ended.
    some = select(IdpSession.id).where(_LIVE, _is_ahead(now))
    some = some.order_by(IdpSession.check_expiry_at).limit(FEW + 1)
    ahead = _number(connection, select(func.count()).select_from(some.subquery()))
    if ahead > FEW:
        return None
    due, living = _due(connection, now)
    return None if due == _DUE_AT_ONCE else ahead + living


def _all(connection: Connection, now: datetime) -> int:
    due, living = _due(connection, now)
    if due == _DUE_AT_ONCE:  # expiry has not run for long
        living = _number(connection, _counting(~_is_ahead(now), IdpSession.expires_at > now))
    return _number(connection, _counting(_is_ahead(now))) + living


def _due(connection: Connection, now: datetime) -> tuple[int, int]:
    """Return of how many the look is due, as far as `_DUE_AT_ONCE`, and how many of them live."""
    # By their turn and up to a limit: it would else look at all that live, see `refuse_too_many`.
    lives = case((IdpSession.expires_at > now, 1)).label("lives")
    due = select(lives).where(_LIVE, ~_is_ahead(now))
    some = due.order_by(IdpSession.check_expiry_at).limit(_DUE_AT_ONCE).subquery()
    seen, living = connection.execute(select(func.count(), func.count(some.c.lives))).one()
    return int(seen), int(living)


def _is_ahead(now: datetime) -> ColumnElement[bool]:
    return IdpSession.check_expiry_at > now


def _counting(*which: ColumnElement[bool]) -> Select[int]:
    return select(func.count(IdpSession.id)).where(_LIVE, *which)


def _number(connection: Connection, query: Select[int]) -> int:
    return int(connection.execute(query).scalar_one())


# --- Redis, by whose clock a count grows old


def _known(client: redis.Redis) -> _Known | None:
    found = value_and_age(client, KEY, _KEPT_SECONDS)
    if found is None:
        return None
    written, age_seconds = found
    try:  # anybody who may use this Redis can write there
        fields = json.loads(written)
        count, took = int(fields["count"]), float(fields["took_seconds"])
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        return None
    return _Known(count, took, age_seconds)


def _is_our_turn(client: redis.Redis) -> bool:
    try:
        return bool(client.set(_COUNTING, "", nx=True, ex=_COUNTING_SECONDS))
    except redis.RedisError:
        return False  # full, perhaps: what is counted now could not be kept


def _remember(client: redis.Redis, count: int, took_seconds: float) -> None:
    fields = {"count": count, "took_seconds": took_seconds}
    with suppress(redis.RedisError):
        client.set(KEY, json.dumps(fields), ex=_KEPT_SECONDS)
