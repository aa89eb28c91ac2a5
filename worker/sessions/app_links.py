"""Which apps share a session, and until when they have tokens of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, func, select

from models import AppSession, IdpSession
from worker.storage.sql import in_each_dialect, not_before

LINK_KEY: Final = ("idp_session_id", "app_id")
LINK_COLUMNS: Final = (
    *LINK_KEY,
    "first_authenticated_at",
    "last_authenticated_at",
    "access_token_expires_at",
)


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
    at: datetime,
    access_token_expires_at: datetime | None,
) -> None:
    """Note that the app has had a token of the session, issued *at*.

    Safe to repeat, and in any order.
    """
    link = _LINK[access_token_expires_at is not None][connection.dialect.name]
    columns = (session, app_id, at, at, access_token_expires_at)
    connection.execute(link, dict(zip(LINK_COLUMNS, columns, strict=True)))


def link_changes(at: Any, access_token_expires_at: Any) -> dict[str, ColumnElement[datetime]]:
    """Return what a repeated link changes: its times move forwards only."""
    changes = {"last_authenticated_at": not_before(AppSession.last_authenticated_at, at)}
    if access_token_expires_at is not None:
        latest = not_before(AppSession.access_token_expires_at, access_token_expires_at)
        changes["access_token_expires_at"] = latest
    return changes


def _link(*, is_token: bool) -> Mapping[str, Any]:
    def build(insert: Any) -> Any:
        new = insert(AppSession)
        until = new.excluded.access_token_expires_at if is_token else None
        changes = link_changes(new.excluded.last_authenticated_at, until)
        return new.on_conflict_do_update(index_elements=list(LINK_KEY), set_=changes)

    return in_each_dialect(build)


_LINK: Final = {is_token: _link(is_token=is_token) for is_token in (False, True)}


def latest_token_of(connection: Connection, user_id: str, app_id: str) -> datetime | None:
    """Return when the latest token was issued that the app has had of the user, if any."""
    query = (
        select(func.max(AppSession.last_authenticated_at))
        .join(IdpSession, IdpSession.id == AppSession.idp_session_id)
        .where(IdpSession.user_id == user_id, AppSession.app_id == app_id)
    )
    return connection.execute(query).scalar_one()


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
