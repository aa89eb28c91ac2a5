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
from sqlalchemy import ColumnElement, Connection, delete, func, select

from models import EndCause, IdpSession, Logout, LogoutRequest, SessionEvent
from worker.lifecycle.batches import first_free
from worker.lifecycle.ending import end_sessions
from worker.lifecycle.events import Cause
from worker.wiring import Services

log = structlog.get_logger()

_BY_TIME: Final = Cause(None, "maintenance.expire_sessions")


@dataclass(frozen=True, slots=True)
class Counts:
    """What a run did (or would do), and whether it had to stop early."""

    rows: dict[str, int]
    is_complete: bool = True


def expire_sessions(services: Services, *, dry_run: bool = False) -> Counts:
    """Mark live sessions past their expiry as ended.

    One statement a batch compares and sets, so a renewal that commits first wins; and sessions
    are left alone until `expire_grace_seconds` after their expiry, so that a renewal that is
    still under way at Mosaic is never beaten to it.
    """
    now = services.now()
    cutoff = now - timedelta(seconds=services.settings.expire_grace_seconds)
    overdue = IdpSession.ended_at.is_(None) & (IdpSession.expires_at <= cutoff)
    if dry_run:
        return Counts({"expired": _count(services, IdpSession.id, overdue)})
    oldest_first = (
        select(IdpSession.id).where(overdue).order_by(IdpSession.expires_at, IdpSession.id)
    )

    def expire_batch(connection: Connection, limit: int) -> int:
        ended = end_sessions(
            connection,
            # Said again beside the batch: a session may be renewed after it was chosen.
            IdpSession.id.in_(first_free(oldest_first, limit)) & overdue,
            EndCause.EXPIRED,
            now=now,
            by=_BY_TIME,
            lifetime=services.settings.session_lifetime,
        )
        return len(ended.sessions)

    return _in_batches(services, "expired", expire_batch)


def purge_history(services: Services, *, dry_run: bool = False) -> Counts:
    """Delete what is past its retention (`models.retention`).

    A session that Mosaic must still be told about stays, however old.
    """
    now = services.now()
    kept = now - timedelta(days=services.settings.keep_ended_days)
    events_kept = now - timedelta(days=services.settings.keep_events_days)
    still_open = select(Logout.idp_session_id).where(Logout.closed_at.is_(None))
    purges = (
        ("sessions", IdpSession, (IdpSession.ended_at <= kept) & IdpSession.id.not_in(still_open)),
        ("receipts", LogoutRequest, LogoutRequest.created_at <= kept),
        ("events", SessionEvent, SessionEvent.at <= events_kept),
    )
    rows: dict[str, int] = {}
    is_complete = True
    for name, table, old in purges:
        if dry_run:
            rows[name] = _count(services, table.id, old)
            continue
        counts = _in_batches(services, name, _deleter(table, old))
        rows |= counts.rows
        is_complete = is_complete and counts.is_complete
    return Counts(rows, is_complete)


def _deleter(
    table: type[IdpSession | LogoutRequest | SessionEvent], old: ColumnElement[bool]
) -> Callable[[Connection, int], int]:
    def delete_batch(connection: Connection, limit: int) -> int:
        batch = first_free(select(table.id).where(old), limit)
        deleted = connection.execute(
            delete(table).where(table.id.in_(batch), old).returning(table.id)
        )
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


def _count(services: Services, column: object, where: ColumnElement[bool]) -> int:
    with services.store.read() as connection:
        query = select(func.count(column)).where(where)  # type: ignore[arg-type]
        return int(connection.execute(query).scalar_one())
