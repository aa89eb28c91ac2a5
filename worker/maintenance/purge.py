"""Deleting what ended long ago, past its retention."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    String,
    any_,
    bindparam,
    cast,
    delete,
    exists,
    func,
    inspect,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import InstrumentedAttribute

from models import (
    AppSession,
    BrowserToken,
    DeviceWatermark,
    IdpSession,
    LoginCall,
    Logout,
    LogoutRequest,
    Notice,
    OperatorAction,
    SessionAlias,
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
# What goes with a session (`Retention.PURGED_ALONG`), by what names it there.
PURGED_ALONG: Final[tuple[InstrumentedAttribute[UUID], ...]] = (
    AppSession.idp_session_id,
    BrowserToken.idp_session_id,
    SessionAlias.idp_session_id,
)


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
    rest = (
        select(_key(table), since).where(since <= until, is_free, since >= REACHED).order_by(since)
    )
    purge = _purge_in_turn if services.store.is_sqlite else _purge_at_once
    purge_batch = purge(table, locked(rest, limit), is_free)
    reached = BEGINNING

    def delete_batch(connection: Connection) -> Batch:
        nonlocal reached
        purged = purge_batch(connection, reached)
        reached = purged.reached or reached
        return Batch(purged.deleted, is_last=purged.chosen < limit)

    return delete_batch


class _Purged(NamedTuple):
    chosen: int
    deleted: int
    reached: datetime | None  # since when the last one chosen is as it is; None where there is none


# Deletes those of the oldest rows from a time on that are still free, with what goes along. By a
# statement of its own, which sees what was committed before the rows were locked: a delivery that
# has come to be owed since the batch was looked for.
_Purge = Callable[[Connection, datetime], _Purged]


def _purge_at_once(table: Any, oldest: Select[Any], is_free: ColumnElement[bool]) -> _Purge:
    """The keys come and go as one text: to read each of them takes as long as to delete its row."""
    key = _key(table)
    keys = ARRAY(key.type)
    its_key, since = oldest.subquery("oldest").c
    choose = select(
        cast(func.array_agg(its_key, type_=keys), String), func.count(), func.max(since)
    )
    was_chosen = key == any_(cast(bindparam("chosen", type_=String), keys))
    gone = delete(table).where(was_chosen, is_free).returning(key).cte("gone")
    gone_keys = func.array(select(gone).scalar_subquery(), type_=keys)
    along = (
        delete(name.class_).where(name == any_(gone_keys)).cte(f"gone_{name.class_.__tablename__}")
        for name in _along(table)
    )
    remove = select(func.count()).select_from(gone).add_cte(*along)

    def purge(connection: Connection, reached: datetime) -> _Purged:
        chosen, count, until = connection.execute(choose, {"reached": reached}).one()
        deleted = connection.execute(remove, {"chosen": chosen}).scalar_one() if count else 0
        return _Purged(count, deleted, until)

    return purge


def _purge_in_turn(table: Any, oldest: Select[Any], is_free: ColumnElement[bool]) -> _Purge:
    """For SQLite, which knows no writing CTEs."""
    key = _key(table)
    rows = delete(table).where(among_keys(key, is_sqlite=True), is_free).returning(key)
    along = [delete(name.class_).where(among_keys(name, is_sqlite=True)) for name in _along(table)]

    def purge(connection: Connection, reached: datetime) -> _Purged:
        chosen = connection.execute(oldest, {"reached": reached}).all()
        if not chosen:
            return _Purged(0, 0, None)
        gone = connection.execute(rows, {"keys": [row[0] for row in chosen]}).scalars().all()
        for statement in along:
            connection.execute(statement, {"keys": gone})
        return _Purged(len(chosen), len(gone), chosen[-1][1])

    return purge


def _along(table: Any) -> tuple[InstrumentedAttribute[UUID], ...]:
    return PURGED_ALONG if table is IdpSession else ()


def _key(table: Any) -> Any:
    (key,) = inspect(table).primary_key
    return key
