"""The one path on which a session ends, whatever the cause."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, insert, select, update
from sqlalchemy.sql.dml import ReturningUpdate

from models import EndCause, IdpSession, Logout, new_id
from worker.lifecycle import events
from worker.lifecycle.app_notices import add_notices
from worker.lifecycle.events import Cause
from worker.wiring import Services

# Mosaic has ended these sessions itself; for all other causes it must be told.
_KNOWN_TO_MOSAIC: Final = frozenset({EndCause.GONE_AT_IDP, EndCause.EXPIRED})


@dataclass(frozen=True, slots=True)
class Ended:
    """What one call has ended, and the duties to wake, after the commit."""

    sessions: tuple[UUID, ...] = ()
    logouts: tuple[UUID, ...] = ()
    notices: tuple[UUID, ...] = ()
    # The latest time at which any of the sessions would have expired.
    expiring_until: datetime | None = None


def end_sessions(  # noqa: PLR0913 - said by name
    connection: Connection,
    services: Services,
    which: ColumnElement[bool],
    cause: EndCause,
    *,
    by: Cause,
    lifetime: timedelta,
) -> Ended:
    """End the live sessions that match *which*, in the caller's transaction.

    Writes the end, the duty to tell Mosaic where there is one, the duties to tell the apps that
    share the session, and the audit trail. *lifetime* is how long a session may live on at Mosaic:
    after that it need not be told any more. A session that has ended already is left alone, so
    repeating is harmless.
    """
    now = services.now()
    end = (
        update(IdpSession)
        .where(IdpSession.ended_at.is_(None), which)
        .values(
            ended_at=now,
            end_cause=cause.value,
            version=IdpSession.version + 1,
            **_scrubbed_if(cause in _KNOWN_TO_MOSAIC),
        )
        .returning(
            IdpSession.id, IdpSession.user_id, IdpSession.registered_by, IdpSession.expires_at
        )
    )
    ended = _execute_and_note(connection, end, at=now, cause=cause, by=by)
    if not ended:
        return Ended()
    duties = [] if cause in _KNOWN_TO_MOSAIC else [_duty(row, now, by, lifetime) for row in ended]
    add_duties(connection, duties)
    sessions = tuple(row.id for row in ended)
    notices = add_notices(connection, services, sessions, cause, by)
    logouts = tuple(duty["id"] for duty in duties)
    return Ended(sessions, logouts, tuple(notices), max(row.expires_at for row in ended))


def _execute_and_note(
    connection: Connection,
    end: ReturningUpdate[*tuple[Any, ...]],
    *,
    at: datetime,
    cause: EndCause,
    by: Cause,
) -> Sequence[Row[Any]]:
    """End the sessions, with one event for each, and return them."""
    if connection.dialect.name != "sqlite":
        # In one statement: the rows of the trail, each sent by itself, would take longer than all
        # the rest. SQLite knows no writing CTEs.
        ended = end.cte("ended")
        trail = events.one_for_each(ended, events.ENDED, at=at, by=by, detail=cause.value)
        noted = trail.cte("noted")
        return connection.execute(select(ended).add_cte(noted)).all()
    rows = connection.execute(end).all()
    events.record(
        connection,
        (
            events.event(
                events.ENDED,
                at=at,
                session=row.id,
                user_id=row.user_id,
                by=by,
                detail=cause.value,
            )
            for row in rows
        ),
    )
    return rows


def _scrubbed_if(done_at_mosaic: bool) -> dict[str, Any]:  # noqa: FBT001 - read with its name
    # Nobody needs the id any more: what is not stored cannot be stolen.
    return {"sealed_session_id": None} if done_at_mosaic else {}


def _duty(row: Any, now: datetime, by: Cause, lifetime: timedelta) -> dict[str, Any]:
    # Our expiry may be behind Mosaic's: a silent authentication that loses against a logout has
    # extended the session there. And it may be far ahead of *lifetime*, which differs by app.
    # Nothing extends the session after the later of the two.
    give_up_at = max(now + lifetime, row.expires_at)
    return duty(row.id, by.app_id or row.registered_by, now, give_up_at)


def duty(session: UUID, requested_by: str, now: datetime, give_up_at: datetime) -> dict[str, Any]:
    """Return the row that says: Mosaic must be told that *session* has ended."""
    return {
        "id": new_id(),
        "idp_session_id": session,
        "requested_by": requested_by,
        "created_at": now,
        "give_up_at": give_up_at,
        "next_attempt_at": now,
        "woken_at": now,
    }


def add_duties(connection: Connection, duties: Collection[dict[str, Any]]) -> None:
    """Write the duties to tell Mosaic, in the caller's transaction."""
    if duties:
        connection.execute(insert(Logout), list(duties))
