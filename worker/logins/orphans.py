"""Sessions that a login opened at Mosaic and that no app may use: they are ended there.

Of a login whose answer the worker did not hear, Mosaic's id is not known. It is looked for once its
user is: when the same name signs in at the same app again. What is found is ended and never taken
over: that Mosaic lists a session proves nothing, and other ways to sign in make sessions too.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import structlog
from sqlalchemy import Connection, Row, bindparam, select, update

from models import CallKind, CallOutcome, IdpSession, LoginCall
from worker.app_registry import KnownApp
from worker.errors import SessionWorkerError
from worker.logins import other_calls
from worker.mosaic import ListedSession
from worker.requests.command_fields import Command
from worker.requests.request import OpenedRequest
from worker.sessions import audit, mosaic_ids
from worker.sessions.audit import Cause
from worker.wiring import Services

log = structlog.get_logger()

# By how much a session may seem to begin before its call: clocks differ, and Mosaic's list may tell
# whole seconds.
_TOLERANCE: Final = timedelta(seconds=5)


def end(
    services: Services,
    request: OpenedRequest[Command],
    body: Mapping[str, Any],
    *,
    keeps: str | None,
) -> None:
    """End what Mosaic opened by an answer that is thrown away; if that fails, it expires there.

    Not the session a factor was to be added to, which is *keeps*.
    """
    session_id = body.get("session_id")
    if not isinstance(session_id, str) or session_id in {"", keeps}:
        return
    if not (session_id.isascii() and session_id.isprintable()):
        return  # no id of Mosaic's
    app = request.app.mosaic
    try:
        whom = services.keyring.lookup_hash(session_id).hex()
        permit = services.traffic.admit_logout(app, whom, is_untried=True)
        services.mosaic.logout_session(
            permit, app, session_id, timeout_seconds=services.settings.mosaic_timeout_seconds
        )
    except SessionWorkerError as error:
        log.warning("orphan_not_ended", app=app.app_id, error=type(error).__name__)


def may_have_left(connection: Connection, app_id: str, subject: bytes | None) -> bool:
    """Whether an earlier login of *subject* at the app may have left a session at Mosaic."""
    if subject is None:
        return False
    return connection.execute(ANY_UNHEARD, _of(app_id, subject)).first() is not None


def end_unheard(services: Services, login: UUID) -> int:
    """End what earlier calls of the name that *login* signed in have left; returns how many.

    Each is looked for once, and left alone if it is not one session that it can be. When Mosaic
    cannot be asked, or a login of the name is on its way, the next login looks. Safe to repeat,
    also at the same time.
    """
    found = _whose(services, login)
    app = None if found is None else services.apps.find(found.app_id)
    if found is None or app is None:
        return 0
    with services.store.read() as connection:
        subject = _of(found.app_id, found.identifier_hash)
        calls = connection.execute(_UNHEARD, subject).all()
    if not calls:
        return 0
    try:
        listed = services.mosaic.list_sessions(
            services.traffic.admit_logout(app.mosaic, str(login), is_untried=False),
            app.mosaic,
            found.user_id,
            timeout_seconds=services.settings.mosaic_timeout_seconds,
        )
        if other_calls.has_login_under_way(services, found.identifier_hash):
            return 0  # what is listed may be its session: once it is known here, it looks itself
        return sum(_end_of(services, app, found.user_id, call, listed) for call in calls)
    except SessionWorkerError as error:
        log.warning("orphans_left_for_now", app=app.app_id, error=type(error).__name__)
        return 0


# Built once: every login asks whether there is any.
_UNHEARD: Final = select(LoginCall.__table__).where(
    LoginCall.app_id == bindparam("app_id"),
    LoginCall.identifier_hash == bindparam("subject", type_=LoginCall.identifier_hash.type),
    LoginCall.outcome == CallOutcome.UNKNOWN.value,
    LoginCall.kind == CallKind.LOGIN.value,
)
ANY_UNHEARD: Final = _UNHEARD.with_only_columns(LoginCall.id).limit(1)


def _of(app_id: str, subject: bytes) -> dict[str, Any]:
    return {"app_id": app_id, "subject": subject}


def _whose(services: Services, login: UUID) -> Row[str, bytes | None, str] | None:
    """Return who signed in by a call, under which name and where."""
    query = (
        select(LoginCall.app_id, LoginCall.identifier_hash, IdpSession.user_id)
        .join(IdpSession, IdpSession.id == LoginCall.idp_session_id)
        .where(LoginCall.id == login, LoginCall.identifier_hash.is_not(None))
    )
    with services.store.read() as connection:
        return connection.execute(query).one_or_none()


def _end_of(
    services: Services, app: KnownApp, user_id: str, call: Row[Any], listed: list[ListedSession]
) -> int:
    since, until = call.sent_at - _TOLERANCE, call.call_until
    began = [session for session in listed if since <= session.started_at <= until]
    strangers = [session for session in began if not _is_known(services, session.session_id)]
    if len(strangers) == 1:
        services.mosaic.logout_session(
            services.traffic.admit_logout(app.mosaic, str(call.id), is_untried=True),
            app.mosaic,
            strangers[0].session_id,
            timeout_seconds=services.settings.mosaic_timeout_seconds,
        )
    log.info("orphan_looked_for", call=str(call.id), app=app.app_id, found=len(strangers))
    is_first = _note(services, user_id, call, is_ended=len(strangers) == 1)
    return int(is_first and len(strangers) == 1)


def _is_known(services: Services, session_id: str) -> bool:
    with services.store.read() as connection:
        return mosaic_ids.find(connection, services.keyring.lookup_hash(session_id)) is not None


def _note(services: Services, user_id: str, call: Row[Any], *, is_ended: bool) -> bool:
    """Have no login look for it again; return whether none has before."""
    looked_for = (
        update(LoginCall)
        .where(LoginCall.id == call.id, LoginCall.identifier_hash.is_not(None))
        .values(identifier_hash=None)
        .returning(LoginCall.id)
    )
    with services.store.write() as connection:
        is_first = connection.execute(looked_for).one_or_none() is not None
        if is_first and is_ended:
            row = audit.event(
                audit.ORPHAN_ENDED,
                at=services.now(),
                session=None,
                user_id=user_id,
                by=Cause(call.app_id, call.request_id),
                detail=call.method,
            )
            audit.record(connection, [row])
    return is_first
