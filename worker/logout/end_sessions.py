"""The one path on which a session ends, whatever the cause."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    bindparam,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.sql.dml import ReturningUpdate

from models import EndCause, IdpSession, Logout, new_id
from worker.outbox.app_notices import add_notices, any_app_listens
from worker.sessions import audit
from worker.sessions.audit import Cause
from worker.wiring import Services

# Mosaic has ended these sessions itself; for all other causes it must be told.
_KNOWN_TO_MOSAIC: Final = frozenset({EndCause.GONE_AT_IDP, EndCause.EXPIRED})
# By whether it is expiry, which ends by far the most and has no user to name.
_RETURNED: Final[dict[bool, tuple[Any, ...]]] = {
    True: (IdpSession.id,),
    False: (IdpSession.id, IdpSession.user_id, IdpSession.registered_by, IdpSession.expires_at),
}


@dataclass(frozen=True, slots=True)
class Ended:
    """What one call has ended, and the deliveries to wake, after the commit."""

    count: int = 0
    # None of them where they need only be counted.
    sessions: tuple[UUID, ...] = ()
    logouts: tuple[UUID, ...] = ()
    notices: tuple[UUID, ...] = ()


class Ending:
    """Ends the live sessions that match *which*, as often as it is run.

    Made once where it runs again and again: putting its statement together takes as long as
    ending a hundred sessions with it.
    """

    def __init__(
        self,
        which: ColumnElement[bool],
        cause: EndCause,
        *,
        by: Cause,
        initiating_app: str | None = None,
    ) -> None:
        self._cause = cause
        self._by = by
        # The app whose own logout it is. One that only asked for tokens gets a notice like all
        # others: its local sessions would live on, also when it is given tokens of another session.
        self._initiating_app = initiating_app
        self._end: ReturningUpdate[*tuple[Any, ...]] = (
            update(IdpSession)
            .where(IdpSession.ended_at.is_(None), which)
            .values(
                ended_at=bindparam("ends_at", type_=IdpSession.ended_at.type),
                end_cause=cause.value,
                version=IdpSession.version + 1,
                **_scrubbed_if(cause in _KNOWN_TO_MOSAIC),
            )
            .returning(*_RETURNED[cause is EndCause.EXPIRED])
        )

    def run(
        self, connection: Connection, services: Services, *, lifetime: timedelta, **parameters: Any
    ) -> Ended:
        """End them in the caller's transaction.

        Writes the end, the delivery to Mosaic where there is one, the deliveries to the apps
        that share the session, and the audit trail. *lifetime* is how long a session may live on
        at Mosaic: after that it need not be told any more. A session that has ended already is
        left alone, so repeating is harmless. *parameters* are those that `which` needs.
        """
        now, cause, by = services.now(), self._cause, self._by
        if self._need_only_be_counted(connection):
            return self._execute_and_count(connection, now, parameters)
        ended = self._execute_and_note(connection, now, parameters)
        if not ended:
            return Ended()
        deliveries: list[dict[str, Any]] = []
        if cause not in _KNOWN_TO_MOSAIC:
            deliveries = [_delivery(row, now, by, lifetime) for row in ended]
        add_deliveries(connection, deliveries)
        sessions = tuple(row.id for row in ended)
        notices = add_notices(connection, services, sessions, cause, self._initiating_app)
        logouts = tuple(delivery["id"] for delivery in deliveries)
        return Ended(len(sessions), sessions, logouts, tuple(notices))

    def _need_only_be_counted(self, connection: Connection) -> bool:
        """Whether no app is told of any of them. To fetch them takes as long as to end them."""
        return (
            self._cause is EndCause.EXPIRED
            and connection.dialect.name != "sqlite"
            and not any_app_listens(connection, self._cause, self._initiating_app)
        )

    def _execute_and_count(
        self, connection: Connection, now: datetime, parameters: Mapping[str, Any]
    ) -> Ended:
        """End the sessions, with one event for all, and return how many there were."""
        count = connection.execute(self._counting, {**parameters, "ends_at": now}).scalar_one()
        if count:
            audit.record(connection, [audit.expired(count, at=now, by=self._by)])
        return Ended(count)

    @cached_property
    def _counting(self) -> Select[int]:
        return select(func.count()).select_from(self._end.cte("ended"))

    def _execute_and_note(
        self, connection: Connection, now: datetime, parameters: Mapping[str, Any]
    ) -> Sequence[Row[Any]]:
        """End the sessions and note it: with one event for each, of expiry with one for all."""
        parameters = {**parameters, "ends_at": now}
        if self._cause is EndCause.EXPIRED:
            rows = connection.execute(self._end, parameters).all()
            if rows:
                audit.record(connection, [audit.expired(len(rows), at=now, by=self._by)])
            return rows
        if connection.dialect.name != "sqlite":
            return connection.execute(
                self._with_trail, {**parameters, **audit.parameters_at(now)}
            ).all()
        rows = connection.execute(self._end, parameters).all()
        audit.record(
            connection,
            (
                audit.event(
                    audit.ENDED,
                    at=now,
                    session=row.id,
                    user_id=row.user_id,
                    by=self._by,
                    detail=self._cause.value,
                )
                for row in rows
            ),
        )
        return rows

    @cached_property
    def _with_trail(self) -> Select[Any]:
        # In one statement: the rows of the trail, each sent by itself, would take longer than all
        # the rest. SQLite knows no writing CTEs.
        ended = self._end.cte("ended")
        trail = audit.one_for_each(ended, audit.ENDED, by=self._by, detail=self._cause.value)
        return select(ended).add_cte(trail.cte("noted"))


def end_sessions(  # noqa: PLR0913 - said by name
    connection: Connection,
    services: Services,
    which: ColumnElement[bool],
    cause: EndCause,
    *,
    by: Cause,
    lifetime: timedelta,
    initiating_app: str | None = None,
) -> Ended:
    """End the live sessions that match *which*, once: see `Ending.run`."""
    ending = Ending(which, cause, by=by, initiating_app=initiating_app)
    return ending.run(connection, services, lifetime=lifetime)


def _scrubbed_if(done_at_mosaic: bool) -> dict[str, Any]:  # noqa: FBT001 - read with its name
    # No call needs the id any more: what is not stored cannot be stolen.
    return {"sealed_session_id": None} if done_at_mosaic else {}


def _delivery(row: Any, now: datetime, by: Cause, lifetime: timedelta) -> dict[str, Any]:
    # Our expiry may be behind Mosaic's: a silent authentication that loses against a logout has
    # extended the session there. And it may be far ahead of *lifetime*, which differs by app.
    # Nothing extends the session after the later of the two.
    give_up_at = max(now + lifetime, row.expires_at)
    return delivery(row.id, by.app_id or row.registered_by, now, give_up_at)


def delivery(
    session: UUID, requested_by: str, now: datetime, give_up_at: datetime
) -> dict[str, Any]:
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


def add_deliveries(connection: Connection, deliveries: Collection[dict[str, Any]]) -> None:
    """Write the deliveries to Mosaic, in the caller's transaction."""
    if deliveries:
        connection.execute(insert(Logout), list(deliveries))
