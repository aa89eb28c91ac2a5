"""The audit trails, as operators export them: what happened to sessions, and what operators did."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, Select, select

from models import OperatorAction, SessionEvent
from worker.wiring import Services

# Rows are read by their ids, which tell the time at which they were made, and are committed later.
# A reader that goes on from the newest row would miss those that are still being written.
SETTLED_AFTER: Final = timedelta(minutes=1)
_BATCH: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One thing an operator did, as it is shown."""

    id: UUID
    at: datetime
    operator: str
    action: str
    app_id: str | None
    user_id: str | None
    session_ref: UUID | None
    reason: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class ActionListing:
    """Some of what operators did, newest first, and whether there is more."""

    actions: tuple[Action, ...]
    has_more: bool


def list_actions(services: Services, *, app_id: str | None = None, limit: int) -> ActionListing:
    """Return what operators did, with one app or at all, newest first."""
    query = select(OperatorAction.__table__).order_by(OperatorAction.id.desc()).limit(limit + 1)
    if app_id is not None:
        query = query.where(OperatorAction.app_id == app_id)
    with services.store.read() as connection:
        rows = connection.execute(query).all()
    return ActionListing(tuple(map(_action, rows[:limit])), has_more=len(rows) > limit)


def export(services: Services, *, after: UUID | None, limit: int) -> Iterator[dict[str, Any]]:
    """Yield both trails from after the row *after*, in the order of ids, *limit* rows at most.

    What is younger than `SETTLED_AFTER` is left for the next time.
    """
    until = services.now() - SETTLED_AFTER
    while limit > 0:
        size = min(limit, _BATCH)
        with services.store.read() as connection:
            rows = _rows(connection, after, until, size)
        yield from rows
        if len(rows) < size:
            return
        limit -= size
        after = rows[-1]["id"]


def _rows(
    connection: Connection, after: UUID | None, until: datetime, size: int
) -> list[dict[str, Any]]:
    # Asked apart, each by its own key, and merged here: what a union sorts has no index.
    events = connection.execute(_next(SessionEvent, after, until, size)).all()
    actions = connection.execute(_next(OperatorAction, after, until, size)).all()
    found = [*map(_event_line, events), *map(_action_line, actions)]
    return sorted(found, key=lambda line: line["id"])[:size]


def _next(
    table: type[SessionEvent | OperatorAction], after: UUID | None, until: datetime, size: int
) -> Select[Any]:
    wanted: list[ColumnElement[bool]] = [table.at <= until]
    if after is not None:
        wanted.append(table.id > after)
    return select(table.__table__).where(*wanted).order_by(table.id).limit(size)


def _event_line(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "at": row.at,
        "trail": "sessions",
        "event": row.event,
        "session_ref": row.idp_session_id,
        "user_id": row.user_id,
        "app_id": row.app_id,
        "detail": row.detail,
        "correlation_id": row.correlation_id,
    }


def _action(row: Row[Any]) -> Action:
    return Action(
        id=row.id,
        at=row.at,
        operator=row.operator,
        action=row.action,
        app_id=row.app_id,
        user_id=row.user_id,
        session_ref=row.idp_session_id,
        reason=row.reason,
        before=row.before,
        after=row.after,
    )


def _action_line(row: Row[Any]) -> dict[str, Any]:
    return {
        "id": row.id,
        "at": row.at,
        "trail": "operators",
        "event": row.action,
        "operator": row.operator,
        "session_ref": row.idp_session_id,
        "user_id": row.user_id,
        "app_id": row.app_id,
        "detail": row.reason,
        "before": row.before,
        "after": row.after,
    }
