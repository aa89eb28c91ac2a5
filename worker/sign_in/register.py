"""Remembering a session after an active login of the app's own, or after an added factor."""

from __future__ import annotations

from models import TokenOrigin
from session_client import times
from session_client.contract import Reason, Verdict
from worker.app_registry import KnownApp
from worker.errors import InvalidRequest, TokenRejected, WrongSubject
from worker.mosaic import Identity
from worker.requests.commands import RegisterCommand
from worker.requests.outcomes import Outcome
from worker.requests.request import OpenedRequest
from worker.sessions import audit
from worker.sign_in import store_session
from worker.sign_in.active_login import ActiveLogin
from worker.sign_in.store_session import Stored
from worker.wiring import Services


def register(services: Services, request: OpenedRequest[RegisterCommand]) -> Outcome:
    """Store the session of a verified login, or update what it proves. Safe to repeat."""
    command = request.command
    login = ActiveLogin(
        session_id=command.session_id,
        identity=_verified(services, request.app, command),
        device_id=command.device_id,
        origin=TokenOrigin.REGISTER,
        name=audit.REGISTERED,
        replaces=command.replaces,
    )
    try:
        with services.store.write() as connection:
            stored = store_session.store(connection, services, request, login)
    except WrongSubject:
        raise InvalidRequest(Reason.SUBJECT_MISMATCH) from None
    return stored if isinstance(stored, Outcome) else _remembered(stored)


def _verified(services: Services, app: KnownApp, command: RegisterCommand) -> Identity:
    try:
        return services.mosaic.verify_id_token(app.mosaic, command.id_token, command.user_id)
    except WrongSubject:
        raise InvalidRequest(Reason.SUBJECT_MISMATCH) from None
    except TokenRejected as rejected:
        raise InvalidRequest(Reason.ID_TOKEN_INVALID, rejected.check) from None


def _remembered(stored: Stored) -> Outcome:
    data = {"session_ref": str(stored.session), "expires_at": times.to_wire(stored.expires_at)}
    if stored.browser_token is not None:
        data["browser_token"] = stored.browser_token
    replaced = stored.replaced
    return Outcome(Verdict.OK, data=data, logouts=replaced.logouts, notices=replaced.notices)
