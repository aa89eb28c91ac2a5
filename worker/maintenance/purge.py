"""Deleting what ended long ago, past its retention."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    any_,
    delete,
    exists,
    func,
    inspect,
    or_,
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
    LogoutRequestSession,
    Notice,
    OperatorAction,
    SessionAlias,
    SessionEvent,
    Ticket,
    UserRevocation,
    UserWatermark,
)
from session_client import contract
from worker.maintenance.batches import Batch, Counts, Work, count, ends_at, in_turn
from worker.maintenance.choice import BEGINNING, among_chosen, choosing
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


def purge_history(
    services: Services, *, dry_run: bool = False, until: float | None = None
) -> Counts:
    """Delete what is past its retention (`models.retention`), *until* the run's `batches.ends_at`.

    A session of which Mosaic or an app must still be told stays, however old, and so does the
    receipt that tells of it; likewise that of a user whom Mosaic must still revoke.
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
    owed_of_its_sessions = (
        exists().where(
            LogoutRequestSession.logout_request_id == LogoutRequest.id,
            LogoutRequestSession.idp_session_id == kind.idp_session_id,
            kind.closed_at.is_(None),
        )
        for kind in (Logout, Notice)
    )
    purges = (
        ("sessions", IdpSession.ended_at, kept, ~owed_to_mosaic & ~owed_to_apps),
        ("watermarks", UserWatermark.logged_out_at, kept, true()),
        ("device_watermarks", DeviceWatermark.logged_out_at, kept, true()),
        ("receipts", LogoutRequest.created_at, kept, ~or_(owed_of_user, *owed_of_its_sessions)),
        ("login_calls", LoginCall.sent_at, kept, true()),
        ("tickets", Ticket.expires_at, now - _TICKETS_KEPT, true()),
        ("events", SessionEvent.at, events_kept, true()),
        ("operator_actions", OperatorAction.at, events_kept, true()),
    )
    if dry_run:
        return Counts(
            {
                name: count(services, since.class_, (since <= latest) & is_free)
                for name, since, latest, is_free in purges
            }
        )
    deleters = {
        name: _deleter(services, since, latest, is_free) for name, since, latest, is_free in purges
    }
    return in_turn(services, deleters, ends_at(services) if until is None else until)


def _deleter(
    services: Services,
    since: InstrumentedAttribute[Any],
    latest: datetime,
    is_free: ColumnElement[bool],
) -> Work:
    """Return what deletes the rows that are as they are *since* a time up to *latest*."""
    table, limit = since.class_, services.settings.maintenance_batch
    choose = choosing(services, _key(table), since, (since <= latest) & is_free)
    delete_chosen = (_in_turn if services.store.is_sqlite else _at_once)(services, table, is_free)
    reached = BEGINNING

    def delete_batch(connection: Connection) -> Batch:
        nonlocal reached
        chosen = choose(connection, reached)
        if not chosen.count:
            return Batch(0, is_last=True)
        reached = chosen.reached
        deleted = delete_chosen(connection, chosen.keys)
        return Batch(deleted, is_last=chosen.count < limit)

    return delete_batch


# Deletes those of the chosen rows that are still free, with what goes along; returns how many.
_Delete = Callable[[Connection, Any], int]


def _at_once(services: Services, table: Any, is_free: ColumnElement[bool]) -> _Delete:
    """In one statement: to fetch the keys and hand them over again takes as long as to delete."""
    key = _key(table)
    chosen = delete(table).where(among_chosen(services, key), is_free)
    gone = chosen.returning(key).cte("gone")
    keys = func.array(select(gone).scalar_subquery(), type_=ARRAY(key.type))
    along = (
        delete(name.class_).where(name == any_(keys)).cte(f"gone_{name.class_.__tablename__}")
        for name in _along(table)
    )
    statement = select(func.count()).select_from(gone).add_cte(*along)
    return lambda connection, keys: connection.execute(statement, {"keys": keys}).scalar_one()


def _in_turn(services: Services, table: Any, is_free: ColumnElement[bool]) -> _Delete:
    """For SQLite, which knows no writing CTEs."""
    key = _key(table)
    rows = delete(table).where(among_chosen(services, key), is_free).returning(key)
    along = [delete(name.class_).where(among_chosen(services, name)) for name in _along(table)]

    def delete_rows(connection: Connection, keys: Any) -> int:
        gone = connection.execute(rows, {"keys": keys}).scalars().all()
        for statement in along:
            connection.execute(statement, {"keys": gone})
        return len(gone)

    return delete_rows


def _along(table: Any) -> tuple[InstrumentedAttribute[UUID], ...]:
    return PURGED_ALONG if table is IdpSession else ()


def _key(table: Any) -> Any:
    (key,) = inspect(table).primary_key
    return key
