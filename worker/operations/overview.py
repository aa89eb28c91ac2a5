"""What operators see of the store. Reads only; no session id, hash or sealed value is selected."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, exists, func, select
from sqlalchemy.orm import aliased

from models import App, AppSession, IdpSession, Logout, Notice, SessionEvent, UserRevocation
from worker.errors import StoreTooSlow
from worker.logout import guards
from worker.operations import deliveries
from worker.operations.live_count import live_sessions
from worker.operations.views import (
    AppLink,
    AuditEntry,
    Delivery,
    DeliveryCounts,
    Listing,
    SessionDetails,
    SessionInfo,
    StoreCounts,
)
from worker.outbox import leases
from worker.sessions import app_links, audit
from worker.wiring import Services

_COLUMNS = (
    IdpSession.id,
    IdpSession.user_id,
    IdpSession.device_id,
    IdpSession.registered_by,
    IdpSession.amr,
    IdpSession.authenticated_at,
    IdpSession.created_at,
    IdpSession.expires_at,
    IdpSession.ended_at,
    IdpSession.end_cause,
)
_PENDING: Final = "pending"


def list_sessions(
    services: Services,
    *,
    user_id: str | None = None,
    app_id: str | None = None,
    include_ended: bool = False,
    limit: int,
) -> Listing:
    """Return the sessions of a user, shared by an app, or all; only live ones unless asked."""
    query = select(*_COLUMNS).order_by(IdpSession.created_at.desc(), IdpSession.id.desc())
    if user_id is not None:
        query = query.where(IdpSession.user_id == user_id)
    if app_id is not None:
        query = query.where(IdpSession.id.in_(_shared_by(app_id)))
    if not include_ended:
        query = query.where(_is_live(services.now()))
    with services.store.read() as connection:
        rows = connection.execute(query.limit(limit + 1)).all()
        found = _with_apps(connection, rows[:limit])
    return Listing(tuple(found), has_more=len(rows) > limit)


def session_details(services: Services, session: UUID) -> SessionDetails | None:
    """Return all we know of one session; None when there is none."""
    with services.store.read() as connection:
        rows = connection.execute(select(*_COLUMNS).where(IdpSession.id == session)).all()
        if not rows:
            return None
        trail = _trail(connection, session)
        return SessionDetails(
            session=_with_apps(connection, rows)[0],
            shares=_shares(connection, session),
            logout=_delivery(connection, session, trail),
            notices=deliveries.notices(connection, Notice.idp_session_id == session),
            trail=trail,
        )


def live_sessions_of(
    *, session: UUID | None = None, user_id: str | None = None, app_id: str | None = None
) -> ColumnElement[bool]:
    """Return what selects one session, a user's, or those an app shares, as far as they live.

    Also those past their expiry that maintenance has not marked yet: they have not ended.
    """
    chosen: list[ColumnElement[bool]] = [IdpSession.ended_at.is_(None)]
    if session is not None:
        chosen.append(IdpSession.id == session)
    if user_id is not None:
        chosen.append(IdpSession.user_id == user_id)
    if app_id is not None:
        chosen.append(IdpSession.id.in_(_shared_by(app_id)))
    return and_(*chosen)


@contextmanager
def counting(without: str) -> Iterator[None]:
    """Say which option leaves out a count of millions that the database does not let finish."""
    try:
        yield
    except StoreTooSlow as error:
        raise StoreTooSlow(f"{error}, counting sessions, which {without} leaves out") from None


def count_live(services: Services, which: ColumnElement[bool]) -> int:
    """Return how many live sessions *which* selects, as far as `guards.MAX_COUNTED`."""
    with services.store.read() as connection:
        return guards.count_up_to(connection, which, guards.MAX_COUNTED)


def is_app(services: Services, app_id: str) -> bool:
    """Whether an app of this name is registered."""
    with services.store.read() as connection:
        query = select(App.app_id).where(App.app_id == app_id)
        return connection.execute(query).first() is not None


def all_apps(connection: Connection) -> list[str]:
    """Return the apps that are registered, also those that are disabled, by name."""
    return list(connection.execute(select(App.app_id).order_by(App.app_id)).scalars())


def apps_that_may(connection: Connection, capability: str) -> tuple[str, ...]:
    """Return the apps that are not disabled and have *capability*, by name."""
    query = select(App.app_id, App.capabilities).where(App.disabled_at.is_(None))
    rows = connection.execute(query.order_by(App.app_id))
    return tuple(row.app_id for row in rows if capability in row.capabilities)


def store_counts(services: Services, connection: Connection) -> StoreCounts:
    """Count the living, and what Mosaic and the apps must still be told."""
    now = services.now()
    # Users who were revoked are counted with the logouts: Mosaic must be told of both.
    failed_logouts = [
        select(func.count(Logout.id)).where(Logout.outcome == leases.DEAD),
        select(func.count(UserRevocation.id)).where(UserRevocation.outcome == leases.DEAD),
        _failed_revocations(),
    ]
    failed = select(func.count(Notice.id)).where(deliveries.given_up())
    return StoreCounts(
        live_sessions=live_sessions(services, connection),
        logouts=_together(
            _delivery_counts(connection, Logout, now),
            _delivery_counts(connection, UserRevocation, now),
        ),
        failed_logouts=sum(connection.execute(query).scalar_one() for query in failed_logouts),
        notices=_delivery_counts(connection, Notice, now),
        failed_notices=connection.execute(failed).scalar_one(),
    )


def _failed_revocations() -> Select[int]:
    """Return what counts the users whose front ends' sessions were not ended.

    Not of a user who was revoked once more since, as the operator was told to see to: it would be
    counted until it is purged, and could not be put right.
    """
    later = aliased(UserRevocation)
    is_done_anew = exists().where(
        later.user_id == UserRevocation.user_id,
        later.frontend,
        later.created_at > UserRevocation.created_at,
    )
    return select(func.count(UserRevocation.id)).where(
        UserRevocation.outcome == leases.FAILED, ~is_done_anew
    )


def _delivery_counts(
    connection: Connection, kind: leases.DeliveryKind, now: datetime
) -> DeliveryCounts:
    open_ = connection.execute(
        select(
            func.count(kind.id).label("pending"),
            func.count(kind.last_error).label("failing"),
            func.min(kind.created_at).label("oldest"),
        ).where(kind.closed_at.is_(None))
    ).one()
    failing = open_.failing
    if kind is Logout and failing and not deliveries.any_proven_fails(connection):
        failing = 0
    return DeliveryCounts(
        pending=open_.pending,
        failing=failing,
        oldest_pending_seconds=(
            None if open_.oldest is None else max(0.0, (now - open_.oldest).total_seconds())
        ),
    )


def _together(some: DeliveryCounts, others: DeliveryCounts) -> DeliveryCounts:
    ages = (some.oldest_pending_seconds, others.oldest_pending_seconds)
    return DeliveryCounts(
        pending=some.pending + others.pending,
        failing=some.failing + others.failing,
        oldest_pending_seconds=max((age for age in ages if age is not None), default=None),
    )


def _shared_by(app_id: str) -> Select[UUID]:
    return select(AppSession.idp_session_id).where(AppSession.app_id == app_id)


def _is_live(now: datetime) -> ColumnElement[bool]:
    return IdpSession.ended_at.is_(None) & (IdpSession.expires_at > now)


def _with_apps(connection: Connection, rows: Any) -> list[SessionInfo]:
    sharing = app_links.apps_sharing(connection, [row.id for row in rows])
    return [_info(row, sharing[row.id]) for row in rows]


def _info(row: Row[Any], apps: list[str]) -> SessionInfo:
    return SessionInfo(
        session_ref=row.id,
        user_id=row.user_id,
        device_id=row.device_id,
        registered_by=row.registered_by,
        apps=tuple(apps),
        amr=tuple(row.amr),
        authenticated_at=row.authenticated_at,
        created_at=row.created_at,
        expires_at=row.expires_at,
        ended_at=row.ended_at,
        end_cause=row.end_cause,
    )


def _shares(connection: Connection, session: UUID) -> tuple[AppLink, ...]:
    query = (
        select(
            AppSession.app_id,
            AppSession.first_authenticated_at,
            AppSession.last_authenticated_at,
            AppSession.access_token_expires_at,
        )
        .where(AppSession.idp_session_id == session)
        .order_by(AppSession.first_authenticated_at, AppSession.app_id)
    )
    return tuple(AppLink(**row._mapping) for row in connection.execute(query))  # noqa: SLF001 - its public name


def _delivery(
    connection: Connection, session: UUID, trail: Sequence[AuditEntry]
) -> Delivery | None:
    query = select(
        Logout.requested_by,
        Logout.created_at,
        Logout.give_up_at,
        Logout.attempts,
        Logout.next_attempt_at,
        Logout.leased_until,
        Logout.last_error,
        Logout.closed_at,
        Logout.outcome,
    ).where(Logout.idp_session_id == session)
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    return Delivery(**{**row._mapping, "requested_by": who_ended(trail) or row.requested_by})  # noqa: SLF001


def who_ended(trail: Sequence[AuditEntry]) -> str | None:
    """Return the app that ended the session, or the operator with their reason.

    The delivery names an app always: the one whose client is to tell Mosaic.
    """
    ends = (entry for entry in trail if entry.event == audit.ENDED)
    return next((entry.app_id or entry.correlation_id for entry in ends), None)


def _trail(connection: Connection, session: UUID) -> tuple[AuditEntry, ...]:
    query = (
        select(
            SessionEvent.at,
            SessionEvent.event,
            SessionEvent.app_id,
            SessionEvent.detail,
            SessionEvent.correlation_id,
        )
        .where(SessionEvent.idp_session_id == session)
        .order_by(SessionEvent.at, SessionEvent.id)
    )
    return tuple(AuditEntry(**row._mapping) for row in connection.execute(query))  # noqa: SLF001
