"""Deleting what ended long ago, past its retention."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    delete,
    exists,
    inspect,
    select,
    true,
)
from sqlalchemy.orm import InstrumentedAttribute

from models import (
    DeviceWatermark,
    IdpSession,
    LoginCall,
    Logout,
    LogoutRequest,
    Notice,
    OperatorAction,
    SessionEvent,
    Ticket,
    UserRevocation,
    UserWatermark,
)
from session_client import contract
from worker.maintenance.batches import BEGINNING, REACHED, Batch, Counts, Work, count, in_batches
from worker.storage.sql import among_keys, locked
from worker.wiring import Services

# What tells that a message has been served before is kept for as long as one may come again,
# twice over: clocks differ. Forgotten earlier, a logout that is delivered once more would end the
# session that its user has opened since. A login, too, may be registered while its ID token lives.
REMEMBERED_AT_LEAST: Final = 2 * max(contract.MAX_LIFETIME.values())
# A ticket is good for a minute; until then the trail can still be held against it.
_TICKETS_KEPT: Final = timedelta(hours=1)


def purge_history(services: Services, *, dry_run: bool = False) -> Counts:
    """Delete what is past its retention (`models.retention`).

    A session of which Mosaic or an app must still be told stays, however old; so does the receipt
    of a user whom Mosaic must still revoke.
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
    owed_of_user = exists().where(
        UserRevocation.logout_request_id == LogoutRequest.id, UserRevocation.closed_at.is_(None)
    )
    purges = (
        ("sessions", IdpSession.ended_at, kept, ~owed_to_mosaic & ~owed_to_apps),
        ("watermarks", UserWatermark.logged_out_at, kept, true()),
        ("device_watermarks", DeviceWatermark.logged_out_at, kept, true()),
        ("receipts", LogoutRequest.created_at, kept, ~owed_of_user),
        ("login_calls", LoginCall.sent_at, kept, true()),
        ("tickets", Ticket.expires_at, now - _TICKETS_KEPT, true()),
        ("events", SessionEvent.at, events_kept, true()),
        ("operator_actions", OperatorAction.at, events_kept, true()),
    )
    rows: dict[str, int] = {}
    is_complete = True
    for name, since, until, is_free in purges:
        if dry_run:
            rows[name] = count(services, since.class_, (since <= until) & is_free)
            continue
        counts = in_batches(services, name, _deleter(services, since, until, is_free))
        rows |= counts.rows
        is_complete = is_complete and counts.is_complete
    return Counts(rows, is_complete)


def _deleter(
    services: Services,
    since: InstrumentedAttribute[Any],
    until: datetime,
    is_free: ColumnElement[bool],
) -> Work:
    """Return what deletes the rows that are as they are *since* a time up to *until*."""
    table, limit = since.class_, services.settings.maintenance_batch
    (key,) = inspect(table).primary_key
    rest = select(key, since).where(since <= until, is_free, since >= REACHED).order_by(since)
    oldest = locked(rest, limit)
    # Said again by a statement of its own, which sees what was committed before the rows were
    # locked: a delivery that somebody has come to owe since the batch was looked for.
    among = among_keys(key, is_sqlite=services.store.is_sqlite)
    deleting = delete(table).where(among, is_free)
    reached = BEGINNING

    def delete_batch(connection: Connection) -> Batch:
        nonlocal reached
        batch = connection.execute(oldest, {"reached": reached}).all()
        if not batch:
            return Batch(0, is_last=True)
        deleted = connection.execute(deleting, {"keys": [row[0] for row in batch]})
        reached = batch[-1][1]
        return Batch(deleted.rowcount, is_last=len(batch) < limit)

    return delete_batch
