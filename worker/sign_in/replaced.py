"""One session a browser: a new one ends the session that its browser came with.

The old one would live on for weeks, and no browser could log it out any more.
"""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Connection

from models import EndCause, IdpSession
from worker.logout.end_sessions import Ended, end_sessions
from worker.requests.command_fields import Command
from worker.requests.request import OpenedRequest
from worker.sessions import browser_tokens, queries
from worker.wiring import Services


def lock_with_replaced(
    connection: Connection, services: Services, token: str | None, session: UUID | None
) -> None:
    """Lock the session that *token* names, and *session* if it is there, before either is written.

    Two browsers that come with each other's token would else wait for each other. So would a login
    that has inserted a session, and a transaction that has locked the session it replaces and is
    to give it the new one's id.
    """
    before = None if token is None else browser_tokens.find_session(connection, services, token)
    if before is not None:
        queries.lock_in_order(connection, before.id, *([] if session is None else [session]))


def end_replaced(
    connection: Connection,
    services: Services,
    request: OpenedRequest[Command],
    token: str | None,
    session: UUID,
) -> Ended:
    """End the session that *token* names, now that its browser has *session*.

    In the transaction that stores the new one. A token of the same session gives way alone. A
    replaced token counts too: whatever once named a session may end it. One that names none is
    a garbled or forgotten cookie, and stops no login.
    """
    before = None if token is None else browser_tokens.find_session(connection, services, token)
    if token is None or before is None:
        return Ended()
    if before.id == session:
        browser_tokens.replace(connection, services, token)
        return Ended()
    return end_sessions(
        connection,
        services,
        IdpSession.id == before.id,
        EndCause.REPLACED,
        by=request.by,
        lifetime=request.app.mosaic.session_lifetime,
        # It ends its own local session, before it begins the new one.
        initiating_app=request.app.app_id,
    )
