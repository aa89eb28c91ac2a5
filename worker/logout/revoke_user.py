"""Revoking a user: all sessions end here at once, and Mosaic owes the end of all it knows."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, insert

from models import EndCause, IdpSession, UserRevocation, new_id
from session_client.contract import Reason
from worker.app_registry import REVOKE_USER
from worker.errors import Unauthorized
from worker.logout import receipts
from worker.logout.end_sessions import end_sessions
from worker.logout.logout import commit_once
from worker.requests.commands import RevokeUserCommand
from worker.requests.outcomes import Outcome
from worker.requests.request import OpenedRequest
from worker.sessions import audit, queries
from worker.sessions.watermarks import lock_user, raise_watermark
from worker.wiring import Services

RevokeUserCall = OpenedRequest[RevokeUserCommand]


def revoke_user(services: Services, request: RevokeUserCall) -> Outcome:
    """End everything of a user in one transaction; the receipt proves that it is committed.

    Safe to repeat: the same request finds its own receipt. Raises `InvalidRequest` when the
    request id was used for something else, `Unauthorized` when the app may not revoke users.
    """
    if not request.app.may(REVOKE_USER):
        raise Unauthorized(Reason.NOT_PERMITTED, f"needs the capability {REVOKE_USER}")
    return commit_once(services, lambda connection: _revoke(connection, services, request))


def _revoke(connection: Connection, services: Services, request: RevokeUserCall) -> Outcome:
    earlier = receipts.earlier(connection, request)
    if earlier is not None:
        return receipts.receipt(connection, earlier)
    user_id = request.command.user
    lock_user(connection, user_id)
    watermark = raise_watermark(connection, user_id, request.opened_at)
    theirs = IdpSession.user_id == user_id
    ended = end_sessions(
        connection,
        services,
        queries.locked_in_order(theirs),
        EndCause.REVOKED,
        by=request.by,
        lifetime=request.app.mosaic.session_lifetime,
        initiating_app=request.app.app_id,
    )
    receipt = receipts.write(connection, request, user_id, theirs, len(ended.sessions))
    revocation = _owe(connection, request, receipt.id, watermark)
    return replace(
        receipts.receipt(connection, receipt),
        logouts=ended.logouts,
        notices=ended.notices,
        revocations=(revocation,),
    )


def _owe(
    connection: Connection, request: RevokeUserCall, receipt: UUID, watermark: datetime
) -> UUID:
    """Write down that Mosaic must end what it knows of the user, and that it was asked for."""
    now, revocation = request.opened_at, new_id()
    connection.execute(
        insert(UserRevocation).values(
            id=revocation,
            logout_request_id=receipt,
            user_id=request.command.user_id,
            requested_by=request.app.app_id,
            began_before=watermark,
            frontend=request.command.frontend,
            created_at=now,
            # By then whatever began before has expired at Mosaic by itself.
            give_up_at=now + request.app.mosaic.session_lifetime,
            next_attempt_at=now,
            woken_at=now,
        )
    )
    row = audit.event(
        audit.USER_REVOKED, at=now, session=None, user_id=request.command.user, by=request.by
    )
    audit.record(connection, [row])
    return revocation
