"""Logging out: the sessions end here at once, and what Mosaic must be told is written down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, false, select
from sqlalchemy.exc import IntegrityError

from models import ALL_APPS, AppSession, EndCause, IdpSession
from session_client.contract import LogoutScope, Reason
from worker.app_registry import LOGOUT_USER
from worker.errors import InvalidRequest, SessionChanged, Unauthorized
from worker.logout import receipts, unknown_sessions
from worker.logout.end_sessions import end_sessions
from worker.logout.receipts import LogoutCall
from worker.requests.outcomes import Outcome
from worker.sessions import app_links, browser_tokens, mosaic_ids, queries
from worker.sessions.watermarks import lock_user, raise_device_watermark, raise_watermark
from worker.wiring import Services


def log_out(services: Services, request: LogoutCall) -> Outcome:
    """End the sessions in scope in one transaction; the receipt proves that it is committed.

    Safe to repeat: the same request finds its own receipt. Raises `InvalidRequest` when the
    request id was used for something else, `Unauthorized` when the app may not end them.
    """
    return commit_once(services, lambda connection: _log_out(connection, services, request))


def commit_once(services: Services, work: Callable[[Connection], Outcome]) -> Outcome:
    """Do *work* in one transaction; it begins by looking for the request's own receipt."""
    for _ in range(2):
        try:
            with services.store.write() as connection:
                return work(connection)
        except IntegrityError:
            # The same request is being served at the same time: once that is committed, the
            # second look finds its receipt.
            continue
    raise SessionChanged


def _log_out(connection: Connection, services: Services, request: LogoutCall) -> Outcome:
    earlier = receipts.earlier(connection, request)
    if earlier is not None:
        return receipts.receipt(connection, earlier)
    recorded = unknown_sessions.record_unknown_as_ended(connection, services, request)
    in_scope, user_id = _in_scope(connection, services, request)
    if request.command.logout_scope is not LogoutScope.SESSION:
        _note_for_late_logins(connection, request)
    ended = end_sessions(
        connection,
        services,
        queries.locked_in_order(in_scope),
        EndCause.LOGOUT,
        by=request.by,
        lifetime=request.app.mosaic.session_lifetime,
        initiating_app=request.app.app_id,
    )
    expired = unknown_sessions.tell_of_expired(connection, services, request)
    receipt = receipts.write(connection, request, user_id, in_scope, len(ended.sessions))
    outcome = receipts.receipt(connection, receipt)
    logouts = (*ended.logouts, *recorded, *expired)
    return replace(outcome, logouts=logouts, notices=ended.notices)


def _note_for_late_logins(connection: Connection, request: LogoutCall) -> None:
    """Have logins in scope that are registered only after this logout be recorded as ended."""
    user_id, device_id = request.command.user, request.command.device_id
    lock_user(connection, user_id)
    if device_id is None:
        raise_watermark(connection, user_id, request.opened_at)
    else:
        whose = ALL_APPS if request.app.may(LOGOUT_USER) else request.app.app_id
        raise_device_watermark(connection, user_id, device_id, whose, request.opened_at)


def _in_scope(
    connection: Connection, services: Services, request: LogoutCall
) -> tuple[ColumnElement[bool], str | None]:
    """Return which sessions the request is about, and whose. Raises when the app has no right."""
    command = request.command
    if command.browser_token is not None:
        return _of_browser(connection, services, command.browser_token)
    if command.logout_scope is LogoutScope.SESSION:
        return IdpSession.id == _named_session(connection, services, request), command.user
    return _of_user(request), command.user


def _of_browser(
    connection: Connection, services: Services, token: str
) -> tuple[ColumnElement[bool], str | None]:
    """Return the session of a browser token, whichever apps share it, also by a replaced token.

    Whatever once named a session may end it. A token that names none ends none: it may be a garbled
    cookie, which is no reason for alarm.
    """
    session = browser_tokens.find_session(connection, services, token)
    if session is None:
        return false(), None
    return IdpSession.id == session.id, session.user_id


def _of_user(request: LogoutCall) -> ColumnElement[bool]:
    command = request.command
    theirs = IdpSession.user_id == command.user
    may_end_all = request.app.may(LOGOUT_USER)
    if command.logout_scope is LogoutScope.USER and not may_end_all:
        raise Unauthorized(Reason.NOT_PERMITTED, f"needs the capability {LOGOUT_USER}")
    shared = select(AppSession.idp_session_id).where(AppSession.app_id == request.app.app_id)
    allowed = theirs if may_end_all else theirs & IdpSession.id.in_(shared)
    if command.logout_scope is LogoutScope.DEVICE:
        return allowed & (IdpSession.device_id == command.device_id)
    return allowed


def _named_session(connection: Connection, services: Services, request: LogoutCall) -> UUID:
    command = request.command
    if command.ref is not None:
        session = queries.by_id(connection, command.ref)
    else:
        assert command.session_id is not None, "one of the two is given"  # noqa: S101
        session_hash = services.keyring.lookup_hash(command.session_id)
        session = mosaic_ids.find(connection, session_hash)
    if session is None:
        raise InvalidRequest(Reason.NO_SESSION)
    # An app that has the session id has proven the session. Were it to share it as well, a
    # logout that overtakes its own app's registration would be refused if another app registered
    # before it.
    has_proven_it = command.session_id is not None
    if not (has_proven_it or app_links.is_shared_by(connection, session.id, request.app.app_id)):
        raise Unauthorized(Reason.NOT_PERMITTED, "the app does not share this session")
    if session.user_id != command.user_id:
        raise Unauthorized(Reason.NOT_PERMITTED, "the session is another user's")
    return session.id
