"""Forgetting: marking what has expired, and deleting what ended long ago.

Both work in short batches, stop when their time is up, and go on at the next run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog
from sqlalchemy import (
    ColumnElement,
    Connection,
    bindparam,
    delete,
    exists,
    func,
    inspect,
    select,
    true,
)
from sqlalchemy.orm import InstrumentedAttribute

from models import (
    DeviceWatermark,
    EndCause,
    IdpSession,
    Logout,
    LogoutRequest,
    Notice,
    SessionEvent,
    UserWatermark,
    UtcDateTime,
)
from session_client import contract
from worker.lifecycle.batches import among_keys, first_free, locked
from worker.lifecycle.ending import Ending
from worker.lifecycle.events import Cause
from worker.lifecycle.lifetimes import has_caps, last_idle_expiry, past_a_cap
from worker.lifecycle.revoking import refuse_implausible, refuse_jumped_clock
from worker.wiring import Services

log = structlog.get_logger()

_BY_TIME: Final = Cause(None, "maintenance.expire_sessions")

# What tells that a message has been served before is kept for as long as one may come again,
# twice over: clocks differ. Forgotten earlier, a logout that is delivered once more would end the
# session that its user has opened since. A login, too, may be registered while its ID token lives.
REMEMBERED_AT_LEAST: Final = 2 * max(contract.MAX_LIFETIME.values())


@dataclass(frozen=True, slots=True)
class Counts:
    """What a run did (or would do), and whether it had to stop early."""

    rows: dict[str, int]
    is_complete: bool = True


@dataclass(frozen=True, slots=True)
class _Batch:
    """What one short transaction did, and whether it came upon the end."""

    rows: int
    is_last: bool


_Work = Callable[[Connection], _Batch]

# Where the last batch ended: what a run has ended or deleted lies about until a vacuum, and each
# batch would have to pass by all of it again. The statements are put together once for a run: that
# takes as long as a hundred rows do.
_REACHED: Final = bindparam("reached", type_=UtcDateTime())
_BEGINNING: Final = datetime.min.replace(tzinfo=UTC)


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
        last_expiry = last_idle_expiry(connection, services.settings, cutoff)
        capped = live & past_a_cap(services.settings, cutoff, last_expiry)
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


def _ender(services: Services, overdue: ColumnElement[bool], cause: EndCause) -> _Work:
    limit = services.settings.maintenance_batch
    rest = (
        select(IdpSession.id)
        .where(overdue, IdpSession.expires_at >= _REACHED)
        .order_by(IdpSession.expires_at, IdpSession.id)
    )
    # Said again beside the batch: a session may be renewed after it was chosen.
    batch = IdpSession.id.in_(first_free(rest, limit)) & overdue
    ending = Ending(batch, cause, by=_BY_TIME)
    lifetime = services.settings.session_lifetime
    reached = _BEGINNING

    def end_batch(connection: Connection) -> _Batch:
        nonlocal reached
        ended = ending.run(connection, services, lifetime=lifetime, reached=reached)
        reached = ended.expiring_until or reached
        return _Batch(len(ended.sessions), is_last=len(ended.sessions) < limit)

    return end_batch


def purge_history(services: Services, *, dry_run: bool = False) -> Counts:
    """Delete what is past its retention (`models.retention`).

    A session of which Mosaic or an app must still be told stays, however old.
    """
    now = services.now()
    keep_ended = timedelta(days=services.settings.keep_ended_days)
    kept = now - max(keep_ended, REMEMBERED_AT_LEAST)
    events_kept = now - timedelta(days=services.settings.keep_events_days)
    # Asked of each session apart: a list of all that is owed would be made again for each batch.
    owed_to_mosaic = exists().where(
        Logout.idp_session_id == IdpSession.id, Logout.closed_at.is_(None)
    )
    owed_to_apps = exists().where(
        Notice.idp_session_id == IdpSession.id, Notice.closed_at.is_(None)
    )
    purges = (
        ("sessions", IdpSession.ended_at, kept, ~owed_to_mosaic & ~owed_to_apps),
        ("watermarks", UserWatermark.logged_out_at, kept, true()),
        ("device_watermarks", DeviceWatermark.logged_out_at, kept, true()),
        ("receipts", LogoutRequest.created_at, kept, true()),
        ("events", SessionEvent.at, events_kept, true()),
    )
    rows: dict[str, int] = {}
    is_complete = True
    for name, since, until, is_free in purges:
        if dry_run:
            rows[name] = _count(services, since.class_, (since <= until) & is_free)
            continue
        counts = _in_batches(services, name, _deleter(services, since, until, is_free))
        rows |= counts.rows
        is_complete = is_complete and counts.is_complete
    return Counts(rows, is_complete)


def _deleter(
    services: Services,
    since: InstrumentedAttribute[Any],
    until: datetime,
    is_free: ColumnElement[bool],
) -> _Work:
    """Return what deletes the rows that are as they are *since* a time up to *until*."""
    table, limit = since.class_, services.settings.maintenance_batch
    (key,) = inspect(table).primary_key
    rest = select(key, since).where(since <= until, is_free, since >= _REACHED).order_by(since)
    oldest = locked(rest, limit)
    # Said again by a statement of its own, which sees what was committed before the rows were
    # locked: a duty that somebody has come to owe since the batch was looked for.
    among = among_keys(key, is_sqlite=services.store.is_sqlite)
    deleting = delete(table).where(among, is_free)
    reached = _BEGINNING

    def delete_batch(connection: Connection) -> _Batch:
        nonlocal reached
        batch = connection.execute(oldest, {"reached": reached}).all()
        if not batch:
            return _Batch(0, is_last=True)
        deleted = connection.execute(deleting, {"keys": [row[0] for row in batch]})
        reached = batch[-1][1]
        return _Batch(deleted.rowcount, is_last=len(batch) < limit)

    return delete_batch


def _in_batches(services: Services, name: str, work: _Work) -> Counts:
    """Repeat *work*, a short transaction each, until nothing is left or the time is up.

    Not faster than `maintenance_rows_per_second`: what it leaves of the store's time is the users'.
    """
    settings = services.settings
    begin = time.monotonic()
    total = 0
    while True:
        with services.store.write() as connection:
            done = work(connection)
        total += done.rows
        if done.is_last:
            return Counts({name: total})
        now = time.monotonic()
        goes_on_at = max(now, begin + total / settings.maintenance_rows_per_second)
        if goes_on_at >= begin + settings.maintenance_budget_seconds:
            log.warning("maintenance_out_of_time", what=name, rows=total)
            return Counts({name: total}, is_complete=False)
        time.sleep(goes_on_at - now)


def _count(services: Services, table: Any, where: ColumnElement[bool]) -> int:
    with services.store.read() as connection:
        query = select(func.count()).select_from(table).where(where)
        return int(connection.execute(query).scalar_one())
