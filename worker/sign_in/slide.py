"""Sliding a session after Mosaic has used it, if it is live and as it was read.

This is promise P1 (docs/why.md). Without the conditions of `_SLIDE` a logout that was committed
while Mosaic answered would be followed by tokens. The statements are built once: putting one
together costs more than running it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Select, bindparam, select, update
from sqlalchemy.dialects.postgresql import insert as postgres_insert

from models import AppSession, IdpSession, SessionEvent
from worker.sessions import app_links
from worker.sessions.queries import Session
from worker.storage.database import Store
from worker.storage.sql import not_before

_AT: Final = bindparam("used_at", type_=IdpSession.last_used_at.type)
_EXPIRES_AT: Final = bindparam("slid_to", type_=IdpSession.expires_at.type)

_SLIDE: Final = (
    update(IdpSession)
    .where(
        IdpSession.id == bindparam("session", type_=IdpSession.id.type),
        IdpSession.ended_at.is_(None),
        IdpSession.version == bindparam("version_read"),
    )
    .values(
        expires_at=not_before(IdpSession.expires_at, _EXPIRES_AT),
        last_used_at=not_before(IdpSession.last_used_at, _AT),
    )
    .returning(IdpSession.id, IdpSession.expires_at)
)


def slide(
    connection: Connection, session: Session, used_at: datetime, slid_to: datetime
) -> datetime | None:
    """Return the expiry of the session after its use; None when it ended or changed."""
    row = connection.execute(_SLIDE, _sliding(session, used_at, slid_to)).one_or_none()
    return None if row is None else row.expires_at


def slide_link_and_note(  # noqa: PLR0913 - what the one statement is made of
    store: Store,
    session: Session,
    used_at: datetime,
    slid_to: datetime,
    *,
    token_issued_at: datetime,
    token_expires_at: datetime,
    event: Mapping[str, Any],
) -> datetime | None:
    """Do what `slide`, `app_links.link_app` and `audit.record` do, in one round trip.

    For PostgreSQL: SQLite knows no writing CTEs. Committed by itself.
    """
    noted = {f"event_{column}": value for column, value in event.items()}
    parameters = {
        **_sliding(session, used_at, slid_to),
        **noted,
        "token_issued_at": token_issued_at,
        "token_expires_at": token_expires_at,
    }
    rows = store.run(_ALL_IN_ONE, parameters)
    return rows[0][0] if rows else None


def _sliding(session: Session, used_at: datetime, slid_to: datetime) -> dict[str, Any]:
    return {
        "session": session.id,
        "version_read": session.version,
        "used_at": used_at,
        "slid_to": slid_to,
    }


def _all_in_one() -> Select[Any]:
    slid = _SLIDE.cte("slid")
    token_from = bindparam("token_issued_at", type_=AppSession.last_authenticated_at.type)
    token_until = bindparam("token_expires_at", type_=AppSession.access_token_expires_at.type)
    linked = (
        postgres_insert(AppSession)
        .from_select(
            list(app_links.LINK_COLUMNS),
            select(slid.c.id, bindparam("event_app_id"), token_from, token_from, token_until),
        )
        .on_conflict_do_update(
            index_elements=list(app_links.LINK_KEY),
            set_=app_links.link_changes(token_from, token_until),
        )
        .cte("linked")
    )
    columns = SessionEvent.__table__.columns
    values = [bindparam(f"event_{column.name}", type_=column.type) for column in columns]
    noted = (
        postgres_insert(SessionEvent)
        .from_select([column.name for column in columns], select(*values).select_from(slid))
        .cte("noted")
    )
    return select(slid.c.expires_at).add_cte(linked, noted)


_ALL_IN_ONE: Final = _all_in_one()
