"""Forgetting: marking what has expired, and deleting what ended long ago.

Both work in short batches, stop when their time is up, and go on at the next run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import structlog
from sqlalchemy import ColumnElement, Connection, delete, func, inspect, select

from models import (
    Base,
    EndCause,
    IdpSession,
    Logout,
    LogoutRequest,
    Notice,
    SessionEvent,
    UserWatermark,
)
from worker.lifecycle.batches import first_free
from worker.lifecycle.ending import end_sessions
from worker.lifecycle.events import Cause
from worker.lifecycle.lifetimes import has_caps, longest_lifetime, past_a_cap
from worker.lifecycle.revoking import refuse_implausible, refuse_jumped_clock
from worker.wiring import Services

log = structlog.get_logger()

_BY_TIME: Final = Cause(None, "maintenance.expire_sessions")


WATERMARKS_KEPT_AT_LEAST: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Counts:
    """What a run did (or would do), and whether it had to stop early."""

    rows: dict[str, int]
    is_complete: bool = True


def expire_sessions(
    services: Services, *, dry_run: bool = False, override_guard: bool = False
) -> Counts:
    """Mark live sessions past their expiry, or past a cap, as ended.

    One statement a batch compares and sets, so a renewal that commits first wins; and sessions
    are left alone until `expire_grace_seconds` after their expiry, so that a renewal that is
    still under way at Mosaic is never beaten to it. Raises `Implausible` instead of ending an
    implausible share of all sessions, or by a clock that has jumped.
    """
    cutoff = services.now() - timedelta(seconds=services.settings.expire_grace_seconds)
    live = IdpSession.ended_at.is_(None)
    expired = live & (IdpSession.expires_at <= cutoff)
    with services.store.read() as connection:
        longest = longest_lifetime(connection, services.settings)
        capped = live & past_a_cap(services.settings, cutoff, longest)
        if not (dry_run or override_guard):
            refuse_jumped_clock(connection, services)
            refuse_implausible(connection, services, expired | capped)
    passes = [("expired", expired, EndCause.EXPIRED)]
    if has_caps(services.settings):
        passes.append(("capped", capped & ~expired, EndCause.CAP_REACHED))
    if dry_run:
        return Counts({name: _count(services, IdpSession, which) for name, which, _ in passes})
    runs = [_in_batches(services, n, _ender(services, which, why)) for n, which, why in passes]
    rows = {name: count for run in runs for name, count in run.rows.items()}
    return Counts(rows, all(run.is_complete for run in runs))


def _ender(
    services: Services, overdue: ColumnElement[bool], cause: EndCause
) -> Callable[[Connection, int], int]:
    oldest_first = (
        select(IdpSession.id).where(overdue).order_by(IdpSession.expires_at, IdpSession.id)
    )

    def end_batch(connection: Connection, limit: int) -> int:
        ended = end_sessions(
            connection,
            services,
            # Said again beside the batch: a session may be renewed after it was chosen.
            IdpSession.id.in_(first_free(oldest_first, limit)) & overdue,
            cause,
            by=_BY_TIME,
            lifetime=services.settings.session_lifetime,
        )
        return len(ended.sessions)

    return end_batch


def purge_history(services: Services, *, dry_run: bool = False) -> Counts:
    """Delete what is past its retention (`models.retention`).

    A session of which Mosaic or an app must still be told stays, however old.
    """
    now = services.now()
    kept = now - timedelta(days=services.settings.keep_ended_days)
    # A login may be registered as long as its ID token lives, whatever retention is set.
    marks_kept = min(kept, now - WATERMARKS_KEPT_AT_LEAST)
    events_kept = now - timedelta(days=services.settings.keep_events_days)
    owed_to_mosaic = select(Logout.idp_session_id).where(Logout.closed_at.is_(None))
    owed_to_apps = select(Notice.idp_session_id).where(Notice.closed_at.is_(None))
    ended = (
        (IdpSession.ended_at <= kept)
        & IdpSession.id.not_in(owed_to_mosaic)
        & IdpSession.id.not_in(owed_to_apps)
    )
    purges = (
        ("sessions", IdpSession, ended),
        ("watermarks", UserWatermark, UserWatermark.logged_out_at <= marks_kept),
        ("receipts", LogoutRequest, LogoutRequest.created_at <= kept),
        ("events", SessionEvent, SessionEvent.at <= events_kept),
    )
    rows: dict[str, int] = {}
    is_complete = True
    for name, table, old in purges:
        if dry_run:
            rows[name] = _count(services, table, old)
            continue
        counts = _in_batches(services, name, _deleter(table, old))
        rows |= counts.rows
        is_complete = is_complete and counts.is_complete
    return Counts(rows, is_complete)


def _deleter(table: type[Base], old: ColumnElement[bool]) -> Callable[[Connection, int], int]:
    (key,) = inspect(table).primary_key

    def delete_batch(connection: Connection, limit: int) -> int:
        batch = first_free(select(key).where(old), limit)
        deleted = connection.execute(delete(table).where(key.in_(batch), old).returning(key))
        return len(deleted.all())

    return delete_batch


def _in_batches(services: Services, name: str, work: Callable[[Connection, int], int]) -> Counts:
    """Repeat *work*, a short transaction each, until nothing is left or the time is up."""
    stop_at = time.monotonic() + services.settings.maintenance_budget_seconds
    limit = services.settings.maintenance_batch
    total = 0
    while True:
        with services.store.write() as connection:
            done = work(connection, limit)
        total += done
        if done < limit:
            return Counts({name: total})
        if time.monotonic() >= stop_at:
            log.warning("maintenance_out_of_time", what=name, rows=total)
            return Counts({name: total}, is_complete=False)


def _count(services: Services, table: type[Base], where: ColumnElement[bool]) -> int:
    with services.store.read() as connection:
        query = select(func.count()).select_from(table).where(where)
        return int(connection.execute(query).scalar_one())
