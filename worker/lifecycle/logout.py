"""Logging out: the sessions end here at once, and what Mosaic must be told is written down."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, func, insert, select
from sqlalchemy.exc import IntegrityError

from models import (
    AppSession,
    EndCause,
    IdpSession,
    Logout,
    LogoutRequest,
    LogoutRequestSession,
    new_id,
)
from session_client.contract import LogoutScope, Reason, Verdict
from worker.errors import InvalidRequest, SessionChanged, Unauthorized
from worker.lifecycle import events, sessions
from worker.lifecycle.commands import LogoutCommand
from worker.lifecycle.ending import add_duties, duty, end_sessions
from worker.lifecycle.events import Cause
from worker.lifecycle.idp_logout import CONFIRMED
from worker.lifecycle.outcomes import Outcome
from worker.registry import LOGOUT_USER, KnownApp
from worker.wiring import Services


@dataclass(frozen=True, slots=True)
class LoggedOut:
    """The answer, and the duties to wake now that all is committed."""

    outcome: Outcome
    logouts: tuple[UUID, ...] = ()


@dataclass(frozen=True, slots=True)
class _Asked:
    app: KnownApp
    command: LogoutCommand
    request_id: str
    digest: bytes = field(repr=False)
    now: datetime

    @property
    def by(self) -> Cause:
        return Cause(self.app.app_id, self.request_id)


def log_out(
    services: Services, app: KnownApp, command: LogoutCommand, request_id: str, digest: bytes
) -> LoggedOut:
    """End the sessions in scope in one transaction; the receipt proves that it is committed.

    Safe to repeat: the same request finds its own receipt. Raises `InvalidRequest` when the
    request id was used for something else, `Unauthorized` when the app may not end them.
    """
    asked = _Asked(app, command, request_id, digest, services.now())
    for _ in range(2):
        try:
            with services.store.write() as connection:
                return _log_out(connection, services, asked)
        except IntegrityError:
            # The same request is being served at the same time: once that is committed, the
            # second look finds its receipt.
            continue
    raise SessionChanged


def _log_out(connection: Connection, services: Services, asked: _Asked) -> LoggedOut:
    earlier = _earlier(connection, asked)
    if earlier is not None:
        return LoggedOut(_receipt(connection, *earlier))
    tombstone = _bury_unknown(connection, services, asked)
    in_scope = _in_scope(connection, services, asked)
    ended = end_sessions(
        connection,
        in_scope,
        EndCause.LOGOUT,
        now=asked.now,
        by=asked.by,
        lifetime=asked.app.mosaic.session_lifetime,
    )
    receipt = _write_request(connection, asked, in_scope, len(ended.sessions))
    outcome = _receipt(connection, receipt, len(ended.sessions))
    return LoggedOut(outcome, (*ended.logouts, *tombstone))


def _earlier(connection: Connection, asked: _Asked) -> tuple[UUID, int] | None:
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


def _in_scope(connection: Connection, services: Services, asked: _Asked) -> ColumnElement[bool]:
    """Return which sessions the request is about. Raises when the app has no right to them."""
    command = asked.command
    theirs = IdpSession.user_id == command.user_id
    if command.logout_scope is LogoutScope.SESSION:
        return IdpSession.id == _named_session(connection, services, asked)
    may_end_all = asked.app.may(LOGOUT_USER)
    if command.logout_scope is LogoutScope.USER and not may_end_all:
        raise Unauthorized(Reason.NOT_PERMITTED, f"needs the capability {LOGOUT_USER}")
    shared = select(AppSession.idp_session_id).where(AppSession.app_id == asked.app.app_id)
    allowed = theirs if may_end_all else theirs & IdpSession.id.in_(shared)
    if command.logout_scope is LogoutScope.DEVICE:
        return allowed & (IdpSession.device_id == command.device_id)
    return allowed


def _named_session(connection: Connection, services: Services, asked: _Asked) -> UUID:
    command = asked.command
    if command.ref is not None:
        session = sessions.by_id(connection, command.ref)
    else:
        assert command.session_id is not None, "one of the two is given"  # noqa: S101
        session_hash = services.keyring.lookup_hash(command.session_id)
        session = sessions.by_hash(connection, session_hash)
    if session is None:
        raise InvalidRequest(Reason.NO_SESSION)
    shares = sessions.is_shared_by(connection, session.id, asked.app.app_id)
    if session.user_id != command.user_id or not shares:
        raise Unauthorized(Reason.NOT_PERMITTED, "the app does not share this session")
    return session.id


def _bury_unknown(connection: Connection, services: Services, asked: _Asked) -> tuple[UUID, ...]:
    """Remember a session that is logged out before it was registered, as ended already.

    Its registration may still be in a queue; it then finds this row and stays logged out.
    """
    session_id = asked.command.session_id
    if session_id is None:
        return ()
    session_hash = services.keyring.lookup_hash(session_id)
    if sessions.by_hash(connection, session_hash) is not None:
        return ()
    session = new_id()
    lifetime = asked.app.mosaic.session_lifetime
    buried = connection.execute(
        sessions.upsert(connection, IdpSession)
        .values(
            id=session,
            user_id=asked.command.user_id,
            session_hash=session_hash,
            sealed_session_id=services.keyring.seal(session_id, sessions.session_id_place(session)),
            device_id=asked.command.device_id,
            registered_by=asked.app.app_id,
            amr=[],
            authenticated_at=asked.now,
            amr_as_of=asked.now,
            created_at=asked.now,
            expires_at=asked.now + lifetime,
            ended_at=asked.now,
            end_cause=EndCause.LOGOUT.value,
        )
        .on_conflict_do_nothing(index_elements=[IdpSession.session_hash])
        .returning(IdpSession.id)
    ).scalar_one_or_none()
    if buried is None:
        return ()  # registered this very moment: it is ended like any other
    return (_bury(connection, asked, session),)


def _bury(connection: Connection, asked: _Asked, session: UUID) -> UUID:
    sessions.link_app(connection, session, asked.app.app_id, asked.now, None)
    lifetime = asked.app.mosaic.session_lifetime
    told: dict[str, Any] = duty(session, asked.app.app_id, asked.now, asked.now + lifetime)
    add_duties(connection, [told])
    row = events.event(
        events.ENDED,
        at=asked.now,
        session=session,
        user_id=asked.command.user_id,
        by=asked.by,
        detail="logout before registration",
    )
    events.record(connection, [row])
    duty_id: UUID = told["id"]
    return duty_id


def _write_request(
    connection: Connection, asked: _Asked, in_scope: ColumnElement[bool], ended: int
) -> UUID:
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


def _receipt(connection: Connection, request: UUID, sessions_ended: int) -> Outcome:
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
