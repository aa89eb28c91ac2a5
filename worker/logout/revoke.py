"""Ending sessions by hand, and a guard against ending far too many of them at once."""

from __future__ import annotations

from typing import Final
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement

from models import EndCause
from worker.logout.end_sessions import Ended, end_sessions
from worker.logout.guards import refuse_too_many
from worker.sessions import operator_trail, queries
from worker.sessions.audit import Cause
from worker.sessions.operator_trail import Action
from worker.sessions.watermarks import lock_user, raise_watermark
from worker.wiring import Services

log = structlog.get_logger()

_BY_OPERATOR: Final = "operator"


def by_operator(reason: str) -> Cause:
    """Return what the audit trail says of sessions that an operator ended for this *reason*."""
    return Cause(None, f"{_BY_OPERATOR}: {reason}"[:200])


def revoke(  # noqa: PLR0913 - said by name
    services: Services,
    which: ColumnElement[bool],
    *,
    reason: str,
    override: bool = False,
    all_of_user: str | None = None,
    session: UUID | None = None,
) -> Ended:
    """End the live sessions that match *which*, here and at Mosaic, and tell their apps.

    In one transaction, so that none of a user's is left beside the watermark: for a few. An app's
    may be millions (`worker.operations.revoke_app`). When these are all of one user's, name the
    user: a login from before that is registered later is then recorded as ended. Raises
    `SafetyLimitExceeded` when they are more than a plausible share of all, unless *override*.
    *session* says in the operators' trail what it was that *which* selects.
    """
    with services.store.write() as connection:
        if not override:
            refuse_too_many(connection, services, which)
        if all_of_user is not None:
            lock_user(connection, all_of_user)
            raise_watermark(connection, all_of_user, services.now())
        ended = end_sessions(
            connection,
            services,
            queries.locked_in_order(which),
            EndCause.REVOKED,
            by=by_operator(reason),
            lifetime=services.settings.session_lifetime,
        )
        operator_trail.record(
            connection,
            Action.SESSIONS_REVOKED,
            at=services.now(),
            user_id=all_of_user,
            session=session,
            reason=reason,
            after={"ended": len(ended.sessions), "override_guard": override},
        )
        return ended
