"""Sessions that a login opened at Mosaic and that nobody here may use: they are ended there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Connection, select, update

from models import IdpSession, Logout
from worker.errors import SessionWorkerError
from worker.logout.end_sessions import add_deliveries, delivery
from worker.requests.command_fields import Command
from worker.requests.request import OpenedRequest
from worker.sessions import queries
from worker.wiring import Services

log = structlog.get_logger()


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
    if not isinstance(session_id, str) or not session_id or session_id == keeps:
        return
    app = request.app.mosaic
    try:
        whom = services.keyring.lookup_hash(session_id).hex()
        permit = services.traffic.admit_logout(app, whom, is_untried=True)
        services.mosaic.logout_session(
            permit, app, session_id, timeout_seconds=services.settings.mosaic_timeout_seconds
        )
    except SessionWorkerError as error:
        log.warning("orphan_not_ended", app=app.app_id, error=type(error).__name__)


def owe_end(
    connection: Connection,
    services: Services,
    request: OpenedRequest[Command],
    session_id: str,
) -> tuple[UUID, ...]:
    """Owe Mosaic the end of a session that is ended here and that it has just used again.

    Returns the deliveries to wake; none where one is open already.
    """
    session = queries.by_hash(connection, services.keyring.lookup_hash(session_id))
    if session is None or session.ended_at is None:
        return ()
    is_open = (Logout.idp_session_id == session.id) & Logout.closed_at.is_(None)
    if connection.execute(select(Logout.id).where(is_open)).first() is not None:
        return ()
    sealed = services.keyring.seal(session_id, queries.session_id_place(session.id))
    connection.execute(
        update(IdpSession).where(IdpSession.id == session.id).values(sealed_session_id=sealed)
    )
    now = services.now()
    give_up_at = now + request.app.mosaic.session_lifetime
    owed = delivery(session.id, request.app.app_id, now, give_up_at)
    add_deliveries(connection, [owed])
    return (owed["id"],)
