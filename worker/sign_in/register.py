"""Remembering a session after an active login, or after an added factor."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, update

from models import EndCause, IdpSession, TokenOrigin, new_id
from session_client import times
from session_client.contract import Reason, Verdict
from worker.app_registry import KnownApp
from worker.errors import InvalidRequest, TokenRejected, WrongSubject
from worker.logout.end_sessions import Ended, end_sessions
from worker.mosaic import Identity
from worker.requests.commands import RegisterCommand
from worker.requests.outcomes import Outcome
from worker.requests.request import OpenedRequest
from worker.sessions import audit, browser_tokens, queries
from worker.sessions.audit import Cause
from worker.sessions.caps import effective_expiry, is_past_the_absolute_cap
from worker.sessions.queries import Session
from worker.sessions.watermarks import is_before_device_watermark, is_before_watermark, take_turns
from worker.sign_in.replaced import end_replaced
from worker.storage.sql import not_before, upsert
from worker.wiring import Services


def register(services: Services, request: OpenedRequest[RegisterCommand]) -> Outcome:
    """Store the session of a verified login, or update what it proves.

    Safe to repeat, and in any order: an older token never takes back what a newer one proved, and
    a session that was logged out before it was registered stays ended.
    """
    app, command, by = request.app, request.command, request.by
    identity = _verified(services, app, command)
    session_hash = services.keyring.lookup_hash(command.session_id)
    now = services.now()
    with services.store.write() as connection:
        take_turns(connection, command.user_id)
        _insert(connection, services, app, command, identity, session_hash, now)
        # Locked: of two tokens at once the older one must see what the newer one has proved.
        session = queries.by_hash(connection, session_hash, for_update=True)
        assert session is not None, "just inserted, or there before"  # noqa: S101
        if session.user_id != command.user_id:
            raise InvalidRequest(Reason.SUBJECT_MISMATCH)
        if session.ended_at is not None:
            return Outcome(Verdict.LOGIN_REQUIRED, queries.reason_for(session.end_cause))
        if _is_late(connection, app, command, identity, session):
            return _born_ended(connection, services, app, session, by)
        if is_past_the_absolute_cap(services.settings, session.created_at, now):
            # No tokens come of it any more, and maintenance is about to end it.
            return Outcome(Verdict.LOGIN_REQUIRED, Reason.CAP_REACHED)
        news = _news(app, command, identity, session)
        ends_at = _update(connection, services, session, news)
        # The token's time, not ours: the same message once more changes nothing.
        queries.link_app(connection, session.id, app.app_id, identity.issued_at, None)
        if "version" in news:
            name = audit.REGISTERED if session.version == 0 else audit.FACTOR_ADDED
            row = audit.event(name, at=now, session=session.id, user_id=session.user_id, by=by)
            audit.record(connection, [row])
        replaced = end_replaced(connection, services, request, command.replaces, session.id)
        browser_token = _browser_token(connection, services, app, identity, session, news)
    return _remembered(session.id, ends_at, browser_token, replaced)


def _is_late(
    connection: Connection,
    app: KnownApp,
    command: RegisterCommand,
    identity: Identity,
    session: Session,
) -> bool:
    """Whether a logout that has been would have ended this login, had it been registered before."""
    logged_in_at = identity.auth_time or identity.issued_at
    if is_before_watermark(connection, session.user_id, logged_in_at):
        return True
    device_id = command.device_id or session.device_id
    if device_id is None:
        return False
    # What the app shares, was of the device then and is live has been used since, or the logout had
    # ended it. What becomes of the device only now had escaped it.
    was_of_device = session.device_id == device_id
    if was_of_device and queries.is_shared_by(connection, session.id, app.app_id):
        return False
    return is_before_device_watermark(
        connection, session.user_id, device_id, app.app_id, logged_in_at
    )


def _born_ended(
    connection: Connection, services: Services, app: KnownApp, session: Session, by: Cause
) -> Outcome:
    """End what was logged in before its user or device was logged out; Mosaic is told."""
    # It shares what it registered: operators see whose login it was.
    queries.link_app(connection, session.id, app.app_id, services.now(), None)
    ended = end_sessions(
        connection,
        services,
        IdpSession.id == session.id,
        EndCause.LOGOUT,
        by=by,
        lifetime=app.mosaic.session_lifetime,
        informed=app.app_id,  # it never learnt the session's name, which a notice would tell
    )
    return Outcome(
        Verdict.LOGIN_REQUIRED, Reason.LOGGED_OUT, logouts=ended.logouts, notices=ended.notices
    )


def _verified(services: Services, app: KnownApp, command: RegisterCommand) -> Identity:
    try:
        return services.mosaic.verify_id_token(app.mosaic, command.id_token, command.user_id)
    except WrongSubject:
        raise InvalidRequest(Reason.SUBJECT_MISMATCH) from None
    except TokenRejected as rejected:
        raise InvalidRequest(Reason.ID_TOKEN_INVALID, rejected.check) from None


def _insert(  # noqa: PLR0913, PLR0917 - a row has many columns
    connection: Connection,
    services: Services,
    app: KnownApp,
    command: RegisterCommand,
    identity: Identity,
    session_hash: bytes,
    now: datetime,
) -> None:
    if queries.by_hash(connection, session_hash) is not None:
        return  # also when the id is an earlier one of a known session
    session = new_id()
    values: dict[str, Any] = {
        "id": session,
        "user_id": command.user_id,
        "session_hash": session_hash,
        "sealed_session_id": services.keyring.seal(
            command.session_id, queries.session_id_place(session)
        ),
        "device_id": command.device_id,
        "registered_by": app.app_id,
        "amr": sorted(set(identity.amr or ())),
        "authenticated_at": identity.auth_time or identity.issued_at,
        "amr_as_of": identity.issued_at,
        "created_at": now,
        "last_used_at": identity.issued_at,
        "expires_at": identity.issued_at + app.mosaic.session_lifetime,
        "version": 0,  # the update that follows makes it 1
    }
    # Two registrations of one session at once: the second finds the first one's row.
    statement = upsert(connection, IdpSession).values(values)
    connection.execute(statement.on_conflict_do_nothing(index_elements=[IdpSession.session_hash]))


def _news(
    app: KnownApp, command: RegisterCommand, identity: Identity, session: Session
) -> dict[str, Any]:
    """Return what the token changes in the row; an older token than the row's proves nothing."""
    expires_at = identity.issued_at + app.mosaic.session_lifetime
    news: dict[str, Any] = {
        "expires_at": not_before(IdpSession.expires_at, expires_at),
        "last_used_at": not_before(IdpSession.last_used_at, identity.issued_at),
    }
    if identity.issued_at < session.amr_as_of:
        return news
    proof = {
        "amr": _proven(identity, session),
        "authenticated_at": max(session.authenticated_at, identity.auth_time or identity.issued_at),
        "device_id": command.device_id or session.device_id,
    }
    news["amr_as_of"] = identity.issued_at
    if session.version == 0 or any(getattr(session, name) != proof[name] for name in proof):
        news |= {**proof, "version": IdpSession.version + 1}
    return news


def _proven(identity: Identity, session: Session) -> list[str]:
    # Tokens tell the time in whole seconds: of two in the same one, nobody knows which came last.
    is_tie = identity.issued_at == session.amr_as_of
    return sorted({*(identity.amr or ()), *(session.amr if is_tie else ())})


def _update(
    connection: Connection, services: Services, session: Session, news: dict[str, Any]
) -> datetime:
    """Write *news* into the locked row and return when the session ends."""
    statement = update(IdpSession).where(IdpSession.id == session.id).values(news)
    row = connection.execute(
        statement.returning(IdpSession.expires_at, IdpSession.last_used_at)
    ).one()
    return effective_expiry(
        services.settings,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        created_at=session.created_at,
    )


def _browser_token(  # noqa: PLR0913, PLR0917 - whose it is, and whether it is the newest
    connection: Connection,
    services: Services,
    app: KnownApp,
    identity: Identity,
    session: Session,
    news: dict[str, Any],
) -> str | None:
    """Return a token for the browser of this login; none where a newer one has been given out.

    An ID token from before the last proof comes from a browser that has a newer one by now, or is
    to get it. A token for it would hold what was proved since.
    """
    if identity.issued_at < session.amr_as_of:
        return None
    is_new_proof = any(
        name in news and news[name] != getattr(session, name)
        for name in ("amr", "authenticated_at")
    )
    return browser_tokens.issue(
        connection,
        services,
        session.id,
        issued_to=app.app_id,
        origin=TokenOrigin.REGISTER,
        replaces_all=is_new_proof,
    )


def _remembered(
    session: UUID, expires_at: datetime, browser_token: str | None, replaced: Ended
) -> Outcome:
    data = {"session_ref": str(session), "expires_at": times.to_wire(expires_at)}
    if browser_token is not None:
        data["browser_token"] = browser_token
    return Outcome(Verdict.OK, data=data, logouts=replaced.logouts, notices=replaced.notices)
