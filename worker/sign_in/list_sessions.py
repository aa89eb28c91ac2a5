"""What the store knows of a user's sessions. Costs Mosaic nothing and extends nothing."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import select

from models import AppSession, IdpSession
from session_client import times
from session_client.contract import Verdict
from worker.requests.commands import StatusCommand
from worker.requests.outcomes import Outcome
from worker.requests.request import OpenedRequest
from worker.sessions import app_links
from worker.sessions.caps import effective_expiry, past_a_cap
from worker.wiring import Services

_MAX_SESSIONS = 100


def status(services: Services, request: OpenedRequest[StatusCommand]) -> Outcome:
    """List the user's live sessions that the asking app shares, newest first; or one of them."""
    now = services.now()
    shared = select(AppSession.idp_session_id).where(AppSession.app_id == request.app.app_id)
    query = (
        select(
            IdpSession.id,
            IdpSession.amr,
            IdpSession.device_id,
            IdpSession.authenticated_at,
            IdpSession.created_at,
            IdpSession.last_used_at,
            IdpSession.expires_at,
        )
        .where(
            IdpSession.user_id == request.command.user_id,
            IdpSession.ended_at.is_(None),
            IdpSession.expires_at > now,
            # Maintenance has yet to end them; until then they take no other session's place.
            ~past_a_cap(services.settings, now),
            IdpSession.id.in_(shared),
        )
        .order_by(IdpSession.authenticated_at.desc(), IdpSession.id.desc())
        .limit(_MAX_SESSIONS)
    )
    if request.command.session_ref is not None:
        query = query.where(IdpSession.id == UUID(request.command.session_ref))
    with services.store.read() as connection:
        found = connection.execute(query).all()
        sharing = app_links.apps_sharing(connection, [row.id for row in found])
    listed = [
        {
            "session_ref": str(row.id),
            "apps": sharing[row.id],
            "amr": row.amr,
            "device_id": row.device_id,
            "authenticated_at": times.to_wire(row.authenticated_at),
            "expires_at": times.to_wire(_ends_at(services, row)),
        }
        for row in found
    ]
    return Outcome(Verdict.OK, data={"sessions": listed})


def _ends_at(services: Services, row: Any) -> datetime:
    return effective_expiry(
        services.settings,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        created_at=row.created_at,
    )
