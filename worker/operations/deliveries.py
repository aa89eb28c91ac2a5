"""What operators see of the deliveries to Mosaic and to apps: pending, failing, given up."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, case, func, select

from models import App, IdpSession, Logout, Notice, UserRevocation
from worker.operations.views import (
    AppBehind,
    LateLogouts,
    LogoutInfo,
    LogoutListing,
    NoticeInfo,
    NoticeListing,
)
from worker.outbox import leases
from worker.outbox.mosaic_logouts import EXPIRED_UNCONFIRMED
from worker.sessions import queries
from worker.wiring import Services

_PENDING: Final = "pending"
BEHIND_AFTER: Final = timedelta(minutes=5)
LOGOUT_LATE_AFTER: Final = timedelta(minutes=15)


def list_logouts(
    services: Services, *, app_id: str | None = None, only_failed: bool = False, limit: int
) -> LogoutListing:
    """Return the logouts that Mosaic must still be told or could not be, oldest first."""
    of_sessions = select(Logout.__table__, IdpSession.user_id).join(
        IdpSession, IdpSession.id == Logout.idp_session_id
    )
    of_users = select(UserRevocation.__table__)
    queries = ((of_sessions, Logout), (of_users, UserRevocation))
    with services.store.read() as connection:
        # Apart: there are few of the second kind, and each has its own index.
        found = [
            _logout(row)
            for query, kind in queries
            for row in connection.execute(
                query.where(_wanted(kind, app_id, only_failed=only_failed))
                .order_by(kind.created_at, kind.id)
                .limit(limit + 1)
            )
        ]
    found.sort(key=lambda one: one.created_at)
    return LogoutListing(tuple(found[:limit]), has_more=len(found) > limit)


def _wanted(
    kind: type[Logout | UserRevocation], app_id: str | None, *, only_failed: bool
) -> ColumnElement[bool]:
    lost = kind.outcome.in_((leases.DEAD, leases.FAILED, EXPIRED_UNCONFIRMED))
    wanted = lost if only_failed else kind.closed_at.is_(None) | lost
    return wanted if app_id is None else wanted & (kind.requested_by == app_id)


def _logout(row: Row[Any]) -> LogoutInfo:
    return LogoutInfo(
        session_ref=getattr(row, "idp_session_id", None),
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


def apps_that_are_told(connection: Connection) -> list[str]:
    """Return the apps that want to be told of ended sessions, by name."""
    query = select(App.app_id).where(App.notice_method.is_not(None)).order_by(App.app_id)
    return list(connection.execute(query).scalars())


def apps_behind(connection: Connection, now: datetime) -> list[AppBehind]:
    """Return the apps that have not taken a notice that was sent, for minutes.

    Not those whose address was taken away: each notice is closed by its next attempt.
    """
    query = (
        select(
            Notice.app_id,
            func.count(Notice.id).label("pending"),
            func.min(Notice.created_at).label("oldest"),
            func.max(Notice.last_error).label("last_error"),
        )
        .join(App, App.app_id == Notice.app_id)
        .where(
            App.notice_method.is_not(None),
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


def any_proven_fails(connection: Connection, *which: ColumnElement[bool]) -> bool:
    """Whether Mosaic does not confirm an open logout of a session that a token has proved.

    It takes no id that an app has made up: any app could call an operator with one, for as long as
    a session lasts. Looks for the first: to count them among very many takes seconds.
    """
    query = (
        select(Logout.id)
        .join(IdpSession, IdpSession.id == Logout.idp_session_id)
        .where(Logout.closed_at.is_(None), Logout.last_error.is_not(None), *which)
        .where(queries.is_proven())
    )
    return connection.execute(query.limit(1)).first() is not None


def late_logouts(connection: Connection, now: datetime) -> LateLogouts | None:
    """Return the logouts that Mosaic could not be told for `LOGOUT_LATE_AFTER`; None without any.

    Those of users who were revoked are among them. Those of an app are not where Mosaic was asked
    about each and no token has proved the session of any: the app may have made their ids up.
    """
    late_before = now - LOGOUT_LATE_AFTER
    found = [
        row
        for kind in (Logout, UserRevocation)
        for row in _late_by_app(connection, kind, late_before)
        # What was never tried says something of the workers.
        if kind is UserRevocation
        or row.failing < row.pending
        or any_proven_fails(
            connection, Logout.requested_by == row.requested_by, Logout.created_at < late_before
        )
    ]
    if not found:
        return None
    apps = {row.requested_by for row in found}
    oldest = min(row.oldest for row in found)
    # What no worker has asked Mosaic about is late for every app.
    is_of_one = len(apps) == 1 and all(row.failing == row.pending for row in found)
    is_of_one = is_of_one and _is_another_confirmed(connection, min(apps), since=oldest)
    return LateLogouts(
        pending=sum(row.pending for row in found),
        oldest_seconds=(now - oldest).total_seconds(),
        of_one_app=min(apps) if is_of_one else None,
    )


def _late_by_app(
    connection: Connection, kind: type[Logout | UserRevocation], late_before: datetime
) -> list[Row[Any]]:
    query = (
        select(
            kind.requested_by,
            func.count(kind.id).label("pending"),
            func.count(case((leases.was_asked(kind), kind.id))).label("failing"),
            func.min(kind.created_at).label("oldest"),
        )
        .where(kind.closed_at.is_(None), kind.created_at < late_before)
        .group_by(kind.requested_by)
    )
    return list(connection.execute(query))


def _is_another_confirmed(connection: Connection, app_id: str, *, since: datetime) -> bool:
    """Whether Mosaic has confirmed a logout of another app since then: else it may fail them all.

    That others are enabled says nothing: one portal may be all that logs users out.
    """
    confirmed = select(Logout.id).where(
        Logout.closed_at >= since,
        Logout.outcome == leases.CONFIRMED,
        Logout.requested_by != app_id,
    )
    return connection.execute(confirmed.limit(1)).first() is not None
