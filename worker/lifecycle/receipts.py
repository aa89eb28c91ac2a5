"""The proof of a logout: written with what it ended, and read again by whoever asks again."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, func, insert, select

from models import IdpSession, Logout, LogoutRequest, LogoutRequestSession, new_id
from session_client.contract import LogoutScope, Reason, Verdict
from worker.errors import InvalidRequest
from worker.lifecycle.commands import LogoutCommand
from worker.lifecycle.events import Cause
from worker.lifecycle.idp_logout import CONFIRMED
from worker.lifecycle.outcomes import Outcome
from worker.registry import KnownApp


@dataclass(frozen=True, slots=True)
class Asked:
    """One logout request, as it is served now."""

    app: KnownApp
    command: LogoutCommand
    request_id: str
    digest: bytes = field(repr=False)
    now: datetime

    @property
    def by(self) -> Cause:
        """Who is to be named in the audit trail."""
        return Cause(self.app.app_id, self.request_id)


def earlier(connection: Connection, asked: Asked) -> tuple[UUID, int] | None:
    """Return the receipt and count of a request served before.

    Raises `InvalidRequest` when its id was used for something else.
    """
    row = connection.execute(
        select(LogoutRequest.id, LogoutRequest.digest, LogoutRequest.sessions_ended).where(
            LogoutRequest.app_id == asked.app.app_id,
            LogoutRequest.request_id == asked.request_id,
        )
    ).one_or_none()
    if row is None:
        return None
    if row.digest != asked.digest:
        raise InvalidRequest(Reason.REQUEST_ID_REUSED)
    return row.id, row.sessions_ended


def write(connection: Connection, asked: Asked, in_scope: ColumnElement[bool], ended: int) -> UUID:
    """Write down the request with the sessions it is about, and return its id: the receipt's."""
    request = new_id()
    connection.execute(
        insert(LogoutRequest).values(
            id=request,
            app_id=asked.app.app_id,
            request_id=asked.request_id,
            digest=asked.digest,
            scope=asked.command.scope,
            user_id=asked.command.user_id,
            sessions_ended=ended,
            created_at=asked.now,
        )
    )
    # What was ended now, and also what somebody ended before: the receipt speaks of all that
    # Mosaic must still be told about. A session that is named is in it in any case.
    still_open = select(Logout.idp_session_id).where(Logout.closed_at.is_(None))
    query = select(IdpSession.id).where(in_scope)
    if asked.command.logout_scope is not LogoutScope.SESSION:
        query = query.where(IdpSession.id.in_(still_open))
    found = connection.execute(query).scalars().all()
    if found:
        links = [{"logout_request_id": request, "idp_session_id": session} for session in found]
        connection.execute(insert(LogoutRequestSession), links)
    return request


def receipt(connection: Connection, request: UUID, sessions_ended: int) -> Outcome:
    """Return the answer: what was ended here, and what Mosaic has confirmed by now."""
    rows = connection.execute(
        select(Logout.closed_at, Logout.outcome, func.count().label("sessions"))
        .join(LogoutRequestSession, LogoutRequestSession.idp_session_id == Logout.idp_session_id)
        .where(LogoutRequestSession.logout_request_id == request)
        .group_by(Logout.closed_at, Logout.outcome)
    ).all()
    return Outcome(
        Verdict.OK,
        data={
            "receipt_id": str(request),
            "sessions_ended": sessions_ended,
            "idp_confirmed": sum(row.sessions for row in rows if row.outcome == CONFIRMED),
            "idp_pending": sum(row.sessions for row in rows if row.closed_at is None),
        },
    )
