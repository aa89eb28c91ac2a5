"""Finding sessions, and linking apps to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, or_, select
from sqlalchemy.dialects.postgresql import Insert as PostgresInsert
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import Insert as SqliteInsert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from models import AppSession, EndCause, IdpSession, SessionAlias
from session_client.contract import Reason

_COLUMNS = (
    IdpSession.id,
    IdpSession.user_id,
    IdpSession.sealed_session_id,
    IdpSession.device_id,
    IdpSession.registered_by,
    IdpSession.amr,
    IdpSession.amr_as_of,
    IdpSession.authenticated_at,
    IdpSession.expires_at,
    IdpSession.ended_at,
    IdpSession.end_cause,
    IdpSession.version,
)


@dataclass(frozen=True, slots=True)
class Session:
    """One session as the store knows it."""

    id: UUID
    user_id: str
    sealed_session_id: bytes | None = field(repr=False)
    device_id: str | None
    registered_by: str
    amr: list[str]
    amr_as_of: datetime
    authenticated_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    end_cause: str | None
    version: int


def session_id_place(session: UUID) -> str:
    """Return what a sealed session id is bound to."""
    return f"idp_sessions:{session}:session_id"


def candidates(
    connection: Connection, user_id: str, device_id: str | None, now: datetime, limit: int
) -> list[Session]:
    """Return the user's live sessions that a request from *device_id* may use, newest first.

    A session bound to a device is offered only to requests that name it.
    """
    query = (
        select(*_COLUMNS)
        .where(
            IdpSession.user_id == user_id,
            IdpSession.ended_at.is_(None),
            IdpSession.expires_at > now,
            _usable_from(device_id),
        )
        .order_by(IdpSession.authenticated_at.desc(), IdpSession.id.desc())
        .limit(limit)
    )
    return [_session(row) for row in connection.execute(query)]


def _usable_from(device_id: str | None) -> ColumnElement[bool]:
    unbound = IdpSession.device_id.is_(None)
    return unbound if device_id is None else or_(unbound, IdpSession.device_id == device_id)


def why_none(connection: Connection, user_id: str, device_id: str | None) -> Reason:
    """Return why a user has no usable session: how their newest one ended."""
    row = connection.execute(
        select(IdpSession.end_cause)
        .where(IdpSession.user_id == user_id, _usable_from(device_id))
        .order_by(IdpSession.created_at.desc())
        .limit(1)
    ).one_or_none()
    if row is None:
        return Reason.NO_SESSION
    return reason_for(row.end_cause)


def reason_for(end_cause: str | None) -> Reason:
    """Return the contract's word for how a session ended.

    One that is past its time but not yet pruned has no cause: that is expired as well.
    """
    return {
        EndCause.LOGOUT.value: Reason.LOGGED_OUT,
        EndCause.GONE_AT_IDP.value: Reason.GONE_AT_IDP,
        EndCause.QUARANTINED.value: Reason.QUARANTINED,
    }.get(end_cause or "", Reason.EXPIRED)


def by_id(connection: Connection, session: UUID) -> Session | None:
    """Return one session, live or ended."""
    row = connection.execute(select(*_COLUMNS).where(IdpSession.id == session)).one_or_none()
    return None if row is None else _session(row)


def by_hash(connection: Connection, session_hash: bytes) -> Session | None:
    """Return the session a session id belongs to, also by an id it had earlier."""
    query = select(*_COLUMNS).where(IdpSession.session_hash == session_hash)
    row = connection.execute(query).one_or_none()
    if row is not None:
        return _session(row)
    aliased = select(SessionAlias.idp_session_id).where(SessionAlias.session_hash == session_hash)
    row = connection.execute(select(*_COLUMNS).where(IdpSession.id.in_(aliased))).one_or_none()
    return None if row is None else _session(row)


def is_shared_by(connection: Connection, session: UUID, app_id: str) -> bool:
    """Whether the app registered the session or was given tokens from it."""
    query = select(AppSession.app_id).where(
        AppSession.idp_session_id == session, AppSession.app_id == app_id
    )
    return connection.execute(query).first() is not None


def link_app(
    connection: Connection,
    session: UUID,
    app_id: str,
    now: datetime,
    access_token_expires_at: datetime | None,
) -> None:
    """Note that the app shares the session. Safe to repeat."""
    statement = upsert(connection, AppSession).values(
        idp_session_id=session,
        app_id=app_id,
        first_authenticated_at=now,
        last_authenticated_at=now,
        access_token_expires_at=access_token_expires_at,
    )
    changes: dict[str, Any] = {"last_authenticated_at": now}
    if access_token_expires_at is not None:
        changes["access_token_expires_at"] = access_token_expires_at
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[AppSession.idp_session_id, AppSession.app_id], set_=changes
        )
    )


def apps_sharing(connection: Connection, sessions: Sequence[UUID]) -> dict[UUID, list[str]]:
    """Return the app ids that share each of *sessions*."""
    sharing: dict[UUID, list[str]] = {session: [] for session in sessions}
    query = (
        select(AppSession.idp_session_id, AppSession.app_id)
        .where(AppSession.idp_session_id.in_(sessions))
        .order_by(AppSession.first_authenticated_at, AppSession.app_id)
    )
    for row in connection.execute(query):
        sharing[row.idp_session_id].append(row.app_id)
    return sharing


def upsert(connection: Connection, table: Any) -> PostgresInsert | SqliteInsert:
    """Return an INSERT that can say ON CONFLICT in this database's dialect."""
    if connection.dialect.name == "sqlite":
        return sqlite_insert(table)
    return postgres_insert(table)


def _session(row: Any) -> Session:
    return Session(*row)
