"""Opening the session of a login in one statement, as nearly every login does.

What `store_session` and `journal.close` do one after the other for a session that is new, for
PostgreSQL alone: SQLite knows no writing CTEs. Each trip to the database costs the worker as much
as a good part of the login.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Select, bindparam, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from models import (
    AppSession,
    BrowserToken,
    CallOutcome,
    IdpSession,
    LoginCall,
    SessionEvent,
)
from worker.logins import journal, orphans
from worker.logout.end_sessions import Ended
from worker.requests.command_fields import Command
from worker.requests.outcomes import Outcome
from worker.requests.request import OpenedRequest
from worker.sessions import app_links, audit, browser_tokens
from worker.sessions.caps import effective_expiry
from worker.sessions.watermarks import device_logged_out_since, lock_of, user_logged_out_since
from worker.sign_in.active_login import NEW_ROW, ActiveLogin, row_of, unless_known
from worker.sign_in.store_session import Stored
from worker.wiring import Services


def open_at_once(  # noqa: PLR0913, PLR0917 - a login, and the row of its call
    services: Services,
    request: OpenedRequest[Command],
    login: ActiveLogin,
    call: UUID,
    subject: bytes | None,
    answer: Callable[[Stored], Outcome],
) -> tuple[Outcome, bool] | None:
    """Open the session of *login* and close its *call* with *answer*, both or neither.

    Returns the answer, and whether earlier logins of *subject* may have left sessions at Mosaic.
    None where there is more to look at: a session that is known or is to be replaced, a logout
    that the login was before, a call that is closed. Nothing is written then. Raises
    `IntegrityError` when another request has used the login's handle up.
    """
    if services.store.is_sqlite or login.into is not None or _replaces_one(services, login):
        return None
    now, app_id = services.now(), request.app.app_id
    row = row_of(services, request, login, now)
    token = browser_tokens.make(services.keyring)
    stored = _stored(services, row, token.value)
    outcome = answer(stored)
    event = audit.event(
        login.name,
        at=now,
        session=row["id"],
        user_id=row["user_id"],
        by=request.by,
        detail=login.detail,
    )
    rows = services.store.run_in_turn(
        lock_of(row["user_id"]),
        _OPEN,
        {
            **row,
            **{f"event_{column}": value for column, value in event.items()},
            "token_hash": token.token_hash,
            "token_origin": login.origin.value,
            "token_expires_at": login.token_expires_at,
            "call": call,
            "closed_at": now,
            "sealed_answer": journal.sealed(services, call, outcome),
            "app_id": app_id,
            "subject": subject,
        },
    )
    return (outcome, bool(rows[0][0])) if rows else None


def _replaces_one(services: Services, login: ActiveLogin) -> bool:
    """Whether the token that the browser brings names a session that is to be ended.

    An ended one never lives again: cookies keep a token that is of no use any more.
    """
    found = None if login.replaces is None else browser_tokens.find(services, login.replaces)
    return found is not None and found.session.ended_at is None


def _stored(services: Services, row: dict[str, Any], token: str) -> Stored:
    return Stored(
        session=row["id"],
        user_id=row["user_id"],
        amr=row["amr"],
        authenticated_at=row["authenticated_at"],
        expires_at=effective_expiry(
            services.settings,
            expires_at=row["expires_at"],
            last_used_at=row["last_used_at"],
            created_at=row["created_at"],
        ),
        browser_token=token,
        replaced=Ended(),
    )


def _of(column: Any) -> ColumnElement[Any]:
    """Return the parameter for a column of the new session."""
    return bindparam(column.key, type_=column.type)


def _logged_out_since() -> ColumnElement[bool]:
    """Whether the user, or their device, was logged out after this login."""
    user, device, app_id = map(
        _of, (IdpSession.user_id, IdpSession.device_id, IdpSession.registered_by)
    )
    at = _of(IdpSession.authenticated_at)
    return or_(user_logged_out_since(user, at), device_logged_out_since(user, device, app_id, at))


def _statement() -> Select[Any]:
    call = bindparam("call", type_=LoginCall.id.type)
    # Locked, so that no other request says meanwhile that its outcome is unknown.
    is_open = (LoginCall.id == call) & LoginCall.closed_at.is_(None)
    open_call = select(LoginCall.id).where(is_open).with_for_update().cte("open_call")
    row = select(*NEW_ROW).select_from(open_call).where(~_logged_out_since())
    opened = unless_known(insert, row).cte("opened")

    issued_at, app_id = _of(IdpSession.amr_as_of), _of(IdpSession.registered_by)
    until = bindparam("token_expires_at", type_=AppSession.access_token_expires_at.type)
    link = select(opened.c.id, app_id, issued_at, issued_at, until)
    token = {
        "token_hash": bindparam("token_hash", type_=BrowserToken.token_hash.type),
        "idp_session_id": opened.c.id,
        "issued_to": app_id,
        "origin": bindparam("token_origin", type_=BrowserToken.origin.type),
        "issued_at": _of(IdpSession.created_at),
    }
    columns = SessionEvent.__table__.columns
    event = [bindparam(f"event_{column.name}", type_=column.type) for column in columns]
    closed = (
        update(LoginCall)
        .where(LoginCall.id == call)
        .values(
            closed_at=bindparam("closed_at", type_=LoginCall.closed_at.type),
            outcome=CallOutcome.ANSWERED.value,
            sealed_answer=bindparam("sealed_answer", type_=LoginCall.sealed_answer.type),
            idp_session_id=opened.c.id,
        )
    )
    return select(orphans.ANY_UNHEARD.exists().select().scalar_subquery(), opened.c.id).add_cte(
        insert(AppSession).from_select(list(app_links.LINK_COLUMNS), link).cte("linked"),
        insert(BrowserToken).from_select(list(token), select(*token.values())).cte("given"),
        insert(SessionEvent)
        .from_select([column.name for column in columns], select(*event).select_from(opened))
        .cte("noted"),
        closed.cte("closed"),
    )


_OPEN: Final = _statement()
