"""What operators see of the store. Reads only; no session id, hash or sealed value is selected."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, func, select

from models import AppSession, IdpSession, Logout, SessionEvent
from worker.lifecycle import sessions
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


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionInfo:
    """A session as `sessions list` shows it."""

    session_ref: UUID
    user_id: str
    device_id: str | None
    registered_by: str
    apps: tuple[str, ...]
    amr: tuple[str, ...]
    authenticated_at: datetime
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    end_cause: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One app's share in a session."""

    app_id: str
    first_authenticated_at: datetime
    last_authenticated_at: datetime
    access_token_expires_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Duty:
    """What Mosaic must be told, or has been."""

    requested_by: str
    created_at: datetime
    give_up_at: datetime
    attempts: int
    next_attempt_at: datetime
    leased_until: datetime | None
    last_error: str | None
    closed_at: datetime | None
    outcome: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Happening:
    """One line of the audit trail."""

    at: datetime
    event: str
    app_id: str | None
    detail: str | None
    correlation_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStory:
    """A session as `sessions show` shows it."""

    session: SessionInfo
    shares: tuple[Share, ...]
    logout: Duty | None
    trail: tuple[Happening, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreCounts:
    """What `status` shows of the store. A logout is failing when its latest attempt failed."""

    live_sessions: int
    pending_logouts: int
    failing_logouts: int
    oldest_pending_seconds: float | None


@dataclass(frozen=True, slots=True)
class Listing:
    """Some sessions, newest first, and whether there are more."""

    sessions: tuple[SessionInfo, ...]
    has_more: bool


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
        shared = select(AppSession.idp_session_id).where(AppSession.app_id == app_id)
        query = query.where(IdpSession.id.in_(shared))
    if not include_ended:
        query = query.where(_is_live(services.now()))
    with services.store.read() as connection:
        rows = connection.execute(query.limit(limit + 1)).all()
        found = _with_apps(connection, rows[:limit])
    return Listing(tuple(found), has_more=len(rows) > limit)


def session_story(services: Services, session: UUID) -> SessionStory | None:
    """Return all we know of one session; None when there is none."""
    with services.store.read() as connection:
        rows = connection.execute(select(*_COLUMNS).where(IdpSession.id == session)).all()
        if not rows:
            return None
        return SessionStory(
            session=_with_apps(connection, rows)[0],
            shares=_shares(connection, session),
            logout=_duty(connection, session),
            trail=_trail(connection, session),
        )


def store_counts(connection: Connection, now: datetime) -> StoreCounts:
    """Count the living, and what Mosaic must still be told."""
    live = select(func.count(IdpSession.id)).where(_is_live(now))
    pending = connection.execute(
        select(
            func.count(Logout.id).label("pending"),
            func.count(Logout.last_error).label("failing"),
            func.min(Logout.created_at).label("oldest"),
        ).where(Logout.closed_at.is_(None))
    ).one()
    return StoreCounts(
        live_sessions=connection.execute(live).scalar_one(),
        pending_logouts=pending.pending,
        failing_logouts=pending.failing,
        oldest_pending_seconds=(
            None if pending.oldest is None else max(0.0, (now - pending.oldest).total_seconds())
        ),
    )


def _is_live(now: datetime) -> ColumnElement[bool]:
    return IdpSession.ended_at.is_(None) & (IdpSession.expires_at > now)


def _with_apps(connection: Connection, rows: Any) -> list[SessionInfo]:
    sharing = sessions.apps_sharing(connection, [row.id for row in rows])
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


def _shares(connection: Connection, session: UUID) -> tuple[Share, ...]:
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
    return tuple(Share(**row._mapping) for row in connection.execute(query))  # noqa: SLF001 - its public name


def _duty(connection: Connection, session: UUID) -> Duty | None:
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
    return None if row is None else Duty(**row._mapping)  # noqa: SLF001


def _trail(connection: Connection, session: UUID) -> tuple[Happening, ...]:
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
    return tuple(Happening(**row._mapping) for row in connection.execute(query))  # noqa: SLF001
