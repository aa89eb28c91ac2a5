"""What operators see of the deliveries to Mosaic and to apps: pending, failing, given up."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, func, select

from models import IdpSession, Logout, Notice
from worker.operations.views import (
    AppBehind,
    LogoutInfo,
    LogoutListing,
    NoticeInfo,
    NoticeListing,
)
from worker.outbox import leases
from worker.outbox.mosaic_logouts import EXPIRED_UNCONFIRMED
from worker.wiring import Services

_PENDING: Final = "pending"
BEHIND_AFTER: Final = timedelta(minutes=5)


def list_logouts(
    services: Services, *, app_id: str | None = None, only_failed: bool = False, limit: int
) -> LogoutListing:
    """Return the logouts that Mosaic must still be told or could not be, oldest first."""
    lost = Logout.outcome.in_((leases.DEAD, EXPIRED_UNCONFIRMED))
    wanted = lost if only_failed else Logout.closed_at.is_(None) | lost
    if app_id is not None:
        wanted &= Logout.requested_by == app_id
    query = (
        select(Logout.__table__, IdpSession.user_id)
        .join(IdpSession, IdpSession.id == Logout.idp_session_id)
        .where(wanted)
        .order_by(Logout.created_at, Logout.id)
        .limit(limit + 1)
    )
    with services.store.read() as connection:
        rows = connection.execute(query).all()
    return LogoutListing(tuple(map(_logout, rows[:limit])), has_more=len(rows) > limit)


def _logout(row: Row[Any]) -> LogoutInfo:
    return LogoutInfo(
        session_ref=row.idp_session_id,
        user_id=row.user_id,
        app_id=row.requested_by,
        state=row.outcome or _PENDING,
        attempts=row.attempts,
        next_attempt_at=row.next_attempt_at if row.closed_at is None else None,
        give_up_at=row.give_up_at,
        last_error=row.last_error,
        created_at=row.created_at,
        closed_at=row.closed_at,
    )


def list_notices(
    services: Services, *, app_id: str | None = None, only_failed: bool = False, limit: int
) -> NoticeListing:
    """Return the notices that are pending or have failed, oldest first."""
    wanted = given_up() if only_failed else Notice.closed_at.is_(None) | given_up()
    if app_id is not None:
        wanted &= Notice.app_id == app_id
    with services.store.read() as connection:
        found = notices(connection, wanted, limit + 1)
    return NoticeListing(found[:limit], has_more=len(found) > limit)


def notices(
    connection: Connection, wanted: ColumnElement[bool], limit: int | None = None
) -> tuple[NoticeInfo, ...]:
    """Return the notices that are *wanted*, oldest first."""
    query = select(Notice.__table__).where(wanted).order_by(Notice.created_at, Notice.id)
    return tuple(
        NoticeInfo(
            notice_id=row.id,
            session_ref=row.idp_session_id,
            app_id=row.app_id,
            cause=row.cause,
            state=row.outcome or _PENDING,
            attempts=row.attempts,
            next_attempt_at=row.next_attempt_at if row.closed_at is None else None,
            last_error=row.last_error,
            created_at=row.created_at,
            closed_at=row.closed_at,
        )
        for row in connection.execute(query.limit(limit))
    )


def given_up() -> ColumnElement[bool]:
    """Return what selects the notices that were given up."""
    return Notice.outcome.in_((leases.FAILED, leases.DEAD))


def apps_behind(connection: Connection, now: datetime) -> list[AppBehind]:
    """Return the apps that have not taken a notice that was sent, for minutes."""
    query = (
        select(
            Notice.app_id,
            func.count(Notice.id).label("pending"),
            func.min(Notice.created_at).label("oldest"),
            func.max(Notice.last_error).label("last_error"),
        )
        .where(
            Notice.closed_at.is_(None),
            Notice.attempts > 0,
            Notice.lease_token.is_(None),  # else this very attempt may be the one it takes
            Notice.created_at < now - BEHIND_AFTER,
        )
        .group_by(Notice.app_id)
        .order_by(Notice.app_id)
    )
    return [
        AppBehind(
            app_id=row.app_id,
            pending=row.pending,
            oldest_seconds=(now - row.oldest).total_seconds(),
            last_error=row.last_error,
        )
        for row in connection.execute(query)
    ]
