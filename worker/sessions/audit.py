"""The audit trail: one row for each thing that happens to a session, but for expiry."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    CTE,
    ColumnElement,
    Connection,
    Insert,
    LargeBinary,
    Select,
    String,
    Uuid,
    bindparam,
    cast,
    func,
    insert,
    literal,
    select,
)

from models import SessionEvent, new_id
from worker.storage.database import Store

REGISTERED: Final = "registered"
SIGNED_IN: Final = "signed_in"
# Once for as long as the limit holds; the detail is which (`limits.Limit`).
SIGN_IN_LIMITED: Final = "sign_in_limited"
FACTOR_ADDED: Final = "factor_added"
AUTHENTICATED: Final = "authenticated"
REFRESHED: Final = "refreshed"
ENDED: Final = "ended"
# One for all that a transaction found past their time; the detail is how many. A row each would
# cost more than ending them does, to say what their `expires_at` has said all the while.
EXPIRED: Final = "expired"
IDP_CONFIRMED: Final = "idp_confirmed"
IDP_GIVEN_UP: Final = "idp_given_up"
OUTCOME_UNKNOWN: Final = "outcome_unknown"
ORPHAN_ENDED: Final = "orphan_ended"  # of a login whose answer the worker did not hear
APP_CONFIRMED: Final = "app_confirmed"
APP_GIVEN_UP: Final = "app_given_up"
REPLACED_TOKEN_PRESENTED: Final = "replaced_token_presented"  # noqa: S105 - an event
OTHER_DEVICE_NAMED: Final = "other_device_named"
# The details: for which app, from which app, and why.
TICKET_ISSUED: Final = "ticket_issued"
TICKET_USED: Final = "ticket_used"
TICKET_REFUSED: Final = "ticket_refused"

# The detail of an authentication by user id: whether that user was there is unknown.
BY_USER: Final = "by_user"
USER_REVOKED: Final = "user_revoked"


@dataclass(frozen=True, slots=True)
class Cause:
    """Who or what made it happen."""

    app_id: str | None
    correlation_id: str | None


def event(  # noqa: PLR0913 - the columns of the trail
    name: str,
    *,
    at: datetime,
    session: UUID | None,
    user_id: str | None,
    by: Cause,
    detail: str | None = None,
) -> dict[str, Any]:
    """Return one row of the trail."""
    return {
        "id": new_id(),
        "at": at,
        "event": name,
        "idp_session_id": session,
        "user_id": user_id,
        "app_id": by.app_id,
        "detail": detail,
        "correlation_id": by.correlation_id,
    }


def expired(count: int, *, at: datetime, by: Cause) -> dict[str, Any]:
    """Return the row that says that *count* sessions have expired."""
    return event(EXPIRED, at=at, session=None, user_id=None, by=by, detail=str(count))


def record(connection: Connection, rows: Iterable[dict[str, Any]]) -> None:
    """Append *rows* in the caller's transaction."""
    values = list(rows)
    if values:
        connection.execute(_APPEND, values)


def record_once_an_hour(store: Store, row: dict[str, Any]) -> None:
    """Append *row* unless its session had that event, with that detail, within the hour.

    A transaction by itself. Browsers send what they have with every page: each time a row, and the
    trail would drown in it. Two at once may both be written.
    """
    since = row["at"] - timedelta(hours=1)
    parameters = {"session": row["idp_session_id"], "name": row["event"], "detail": row["detail"]}
    known = store.run(_SINCE, {**parameters, "at": since})
    if not known:
        with store.write() as connection:
            record(connection, [row])


_APPEND: Final = insert(SessionEvent)  # built once: every login runs it
_SINCE: Final[Select[Any]] = (
    select(SessionEvent.id)
    .where(
        SessionEvent.idp_session_id == bindparam("session", type_=SessionEvent.idp_session_id.type),
        SessionEvent.at > bindparam("at", type_=SessionEvent.at.type),
        SessionEvent.event == bindparam("name"),
        SessionEvent.detail.is_not_distinct_from(bindparam("detail", type_=String())),
    )
    .limit(1)
)


def one_for_each(rows: CTE, name: str, *, by: Cause, detail: str | None = None) -> Insert:
    """Return the statement of PostgreSQL that appends one row for each of *rows*.

    These are sessions, with `id` and `user_id`, that the same statement has just changed. To be
    given what `parameters_at` returns.
    """
    values: dict[str, Any] = {
        "id": _new_id_of_each(),
        "at": bindparam("noted_at", type_=SessionEvent.at.type),
        "event": literal(name),
        "idp_session_id": rows.c.id,
        "user_id": rows.c.user_id,
        "app_id": literal(by.app_id, SessionEvent.app_id.type),
        "detail": literal(detail, SessionEvent.detail.type),
        "correlation_id": literal(by.correlation_id, SessionEvent.correlation_id.type),
    }
    return insert(SessionEvent).from_select(list(values), select(*values.values()))


def parameters_at(at: datetime) -> dict[str, Any]:
    """Return what the statement of `one_for_each` takes each time it runs."""
    return {"noted_at": at, "id_begins": new_id().bytes[:7]}


def _new_id_of_each() -> ColumnElement[UUID]:
    """Return what makes an id like `new_id` in each row: the time of now, the rest random."""
    # Not handed in, an id a row: that took as long as the rest. PostgreSQL's own uuidv7 is new
    # in 18, and ids that are random from their first bit would spread over the whole index.
    time_and_version = bindparam("id_begins", type_=LargeBinary())
    rest = func.substr(func.uuid_send(func.gen_random_uuid()), 8)
    return cast(func.encode(time_and_version.concat(rest), "hex"), Uuid)
