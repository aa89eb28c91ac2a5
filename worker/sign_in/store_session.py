"""Storing what an active login has proved: the one path of all of them.

A login that an app did itself and registers, one that the worker did, a factor that is added: each
is stored, linked, given to the browser and written to the trail here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, update

from models import EndCause, IdpSession, TokenOrigin
from session_client.contract import Reason, Verdict
from worker.errors import SessionChanged, WrongSubject
from worker.logout.end_sessions import Ended, end_sessions
from worker.mosaic import Identity
from worker.requests.command_fields import Command
from worker.requests.outcomes import Outcome
from worker.requests.request import OpenedRequest
from worker.sessions import app_links, audit, browser_tokens, mosaic_ids, queries
from worker.sessions.caps import effective_expiry, is_past_the_absolute_cap
from worker.sessions.queries import Session
from worker.sessions.watermarks import is_before_device_watermark, is_before_watermark, lock_user
from worker.sign_in.active_login import ActiveLogin, open_session
from worker.sign_in.replaced import end_replaced, lock_with_replaced
from worker.storage.sql import not_before
from worker.wiring import Services


@dataclass(frozen=True, slots=True)
class Stored:
    """What the store knows now: the session, what it proves, and what its browser gets."""

    session: UUID
    user_id: str
    amr: list[str]
    authenticated_at: datetime
    expires_at: datetime
    browser_token: str | None = field(repr=False)
    replaced: Ended  # what the browser had before


def store(
    connection: Connection,
    services: Services,
    request: OpenedRequest[Command],
    login: ActiveLogin,
) -> Stored | Outcome:
    """Store *login* in the caller's transaction; return the refusal where an ending has won.

    Safe to repeat, and in any order: an older token never takes back what a newer one proved, and
    a session that was logged out before it was registered stays ended. Raises `WrongSubject` when
    the session is another user's here, `SessionChanged` when its new id is another session's, or a
    session that ended long ago has just been purged.
    """
    app, identity, now = request.app, login.identity, services.now()
    lock_user(connection, identity.user_id)
    opened = _open(connection, services, request, login, now)
    session = opened or _locked(connection, services, login)
    if session.user_id != identity.user_id:
        raise WrongSubject
    if session.ended_at is not None:
        return Outcome(Verdict.LOGIN_REQUIRED, queries.reason_for(session.end_cause))
    if _is_late(connection, request, login, session):
        return _record_as_ended(connection, services, request, session)
    if is_past_the_absolute_cap(services.settings, session.created_at, now):
        # No tokens come of it any more, and maintenance is about to end it.
        return Outcome(Verdict.LOGIN_REQUIRED, Reason.CAP_REACHED)
    if opened is None:
        logged_in_at = _logged_in_at(connection, request, login, session)
        news = _news(request, login, session, logged_in_at)
        ends_at = _update(connection, services, session, news)
    else:
        news, ends_at = {}, queries.ends_at(services.settings, session)
    # The token's time, not ours: the same message once more changes nothing.
    app_links.link_app(
        connection, session.id, app.app_id, identity.issued_at, login.token_expires_at
    )
    if opened is not None or "version" in news:
        name = audit.FACTOR_ADDED if opened is None else login.name
        _note(connection, request, login, session, name, now)
    replaced = end_replaced(connection, services, request, login.replaces, session.id)
    return Stored(
        session=session.id,
        user_id=session.user_id,
        amr=news.get("amr", session.amr),
        authenticated_at=news.get("authenticated_at", session.authenticated_at),
        expires_at=ends_at,
        browser_token=_browser_token(
            connection, services, request, login, session, news, is_first=opened is not None
        ),
        replaced=replaced,
    )


def _open(
    connection: Connection,
    services: Services,
    request: OpenedRequest[Command],
    login: ActiveLogin,
    now: datetime,
) -> Session | None:
    """Return the session that *login* opens; None for one that is known."""
    if login.replaces is not None:
        own = login.into
        if own is None:
            known = mosaic_ids.find(connection, services.keyring.lookup_hash(login.session_id))
            own = None if known is None else known.id
        lock_with_replaced(connection, services, login.replaces, own)
    if login.into is not None:
        return None
    return open_session(connection, services, request, login, now)


def _locked(connection: Connection, services: Services, login: ActiveLogin) -> Session:
    """Return a known session; of two tokens at once the older sees what the newer has proved."""
    if login.into is None:
        session_hash = services.keyring.lookup_hash(login.session_id)
        session = mosaic_ids.find(connection, session_hash, for_update=True)
    else:
        session = queries.by_id(connection, login.into, for_update=True)
    if session is None:
        raise SessionChanged  # purged this very moment: what comes again opens it
    if login.into is not None and session.ended_at is None:
        _keep_new_id(connection, services, session, login)
    return session


def _keep_new_id(
    connection: Connection, services: Services, session: Session, login: ActiveLogin
) -> None:
    """Store the id that Mosaic gave the session with its new factor, the old one as an alias.

    An answer with the id that Mosaic was asked about gave none: a silent authentication may have
    brought a newer one meanwhile, and Mosaic may know no other any more.
    """
    session_hash = services.keyring.lookup_hash(login.session_id)
    if session_hash in {session.session_hash, login.asked_about}:
        return
    other = mosaic_ids.find(connection, session_hash)
    if other is not None and other.id != session.id:
        raise SessionChanged
    mosaic_ids.give_new(connection, services.keyring, session, login.session_id, services.now())


def _is_late(
    connection: Connection,
    request: OpenedRequest[Command],
    login: ActiveLogin,
    session: Session,
) -> bool:
    """Whether a logout that has been would have ended this login, had it been registered before."""
    app_id, logged_in_at = request.app.app_id, login.logged_in_at
    if is_before_watermark(connection, session.user_id, logged_in_at):
        return True
    device_id = login.device_id or session.device_id
    if device_id is None:
        return False
    # What the app shares, was of the device then and is live has been used since, or the logout had
    # ended it. What becomes of the device only now had escaped it.
    was_of_device = session.device_id == device_id
    if was_of_device and app_links.is_shared_by(connection, session.id, app_id):
        return False
    return is_before_device_watermark(connection, session.user_id, device_id, app_id, logged_in_at)


def _record_as_ended(
    connection: Connection,
    services: Services,
    request: OpenedRequest[Command],
    session: Session,
) -> Outcome:
    """End a login from before its user or device was logged out, and queue that for Mosaic."""
    app = request.app
    # It shares what it registered: operators see whose login it was.
    app_links.link_app(connection, session.id, app.app_id, services.now(), None)
    ended = end_sessions(
        connection,
        services,
        IdpSession.id == session.id,
        EndCause.LOGOUT,
        by=request.by,
        lifetime=app.mosaic.session_lifetime,
        initiating_app=app.app_id,  # it never learnt the session's name, which a notice would tell
    )
    return Outcome(
        Verdict.LOGIN_REQUIRED, Reason.LOGGED_OUT, logouts=ended.logouts, notices=ended.notices
    )


def _logged_in_at(
    connection: Connection, request: OpenedRequest[Command], login: ActiveLogin, session: Session
) -> datetime:
    """Return when the user last proved themselves, as far as the token says anything of it.

    A token without ``auth_time`` that an app hands in may come from a silent authentication, which
    proves nothing, of this session or another: no token names its session. It does not if it is
    newer than all that the app has had of the user: then it was issued at an active login.
    """
    identity = login.identity
    if identity.auth_time is not None or login.origin is not TokenOrigin.REGISTER:
        return login.logged_in_at
    latest = app_links.latest_token_of(connection, session.user_id, request.app.app_id)
    is_newer = latest is None or identity.issued_at > latest
    return identity.issued_at if is_newer else session.authenticated_at


def _news(
    request: OpenedRequest[Command],
    login: ActiveLogin,
    session: Session,
    logged_in_at: datetime,
) -> dict[str, Any]:
    """Return what the token changes in the row; an older token than the row's proves nothing."""
    identity = login.identity
    expires_at = identity.issued_at + request.app.mosaic.session_lifetime
    news: dict[str, Any] = {
        "expires_at": not_before(IdpSession.expires_at, expires_at),
        "last_used_at": not_before(IdpSession.last_used_at, identity.issued_at),
    }
    if identity.issued_at < session.amr_as_of:
        return news
    proof = {
        "amr": _proven(identity, session),
        "authenticated_at": max(session.authenticated_at, logged_in_at),
        "device_id": login.device_id or session.device_id,
    }
    news["amr_as_of"] = identity.issued_at
    is_factor = login.origin is TokenOrigin.FACTOR
    if is_factor:
        news["factor_added_at"] = identity.issued_at
    if is_factor or any(getattr(session, name) != proof[name] for name in proof):
        news |= {**proof, "version": IdpSession.version + 1}
    return news


def _proven(identity: Identity, session: Session) -> list[str]:
    if identity.amr is None:
        return session.amr  # there was no ID token to say more
    # Tokens tell the time in whole seconds: which of two in the same second came last is unknown.
    is_tie = identity.issued_at == session.amr_as_of
    return sorted({*identity.amr, *(session.amr if is_tie else ())})


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


def _note(  # noqa: PLR0913, PLR0917 - what a row of the trail is made of
    connection: Connection,
    request: OpenedRequest[Command],
    login: ActiveLogin,
    session: Session,
    name: str,
    now: datetime,
) -> None:
    row = audit.event(
        name,
        at=now,
        session=session.id,
        user_id=session.user_id,
        by=request.by,
        detail=login.detail,
    )
    audit.record(connection, [row])


def _browser_token(  # noqa: PLR0913, PLR0917 - whose it is, and whether it is the newest
    connection: Connection,
    services: Services,
    request: OpenedRequest[Command],
    login: ActiveLogin,
    session: Session,
    news: dict[str, Any],
    *,
    is_first: bool,
) -> str | None:
    """Return a token for the browser of this login; none where a newer one has been given out.

    An ID token from before the last proof comes from a browser that has a newer one by now, or is
    to get it. A token for it would hold what was proved since.
    """
    if login.identity.issued_at < session.amr_as_of or not login.gives_browser_token:
        return None
    is_new_proof = any(
        name in news and news[name] != getattr(session, name)
        for name in ("amr", "authenticated_at")
    )
    return browser_tokens.issue(
        connection,
        services,
        session.id,
        issued_to=request.app.app_id,
        origin=login.origin,
        replaces_all=is_new_proof or login.origin is not TokenOrigin.REGISTER,
        is_first=is_first,
    )
