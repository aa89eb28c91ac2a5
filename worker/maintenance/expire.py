"""Forgetting: marking what has expired, and deleting what ended long ago.

Both work in short batches, stop when their time is up, and go on at the next run.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import structlog
from sqlalchemy import (
    ColumnElement,
    Connection,
    select,
)

from models import (
    EndCause,
    IdpSession,
)
from worker.logout.end_sessions import Ending
from worker.logout.guards import refuse_jumped_clock, refuse_too_many
from worker.maintenance.batches import BEGINNING, REACHED, Batch, Counts, Work, count, in_batches
from worker.sessions import operator_trail
from worker.sessions.audit import Cause
from worker.sessions.caps import has_caps, last_idle_expiry, past_a_cap
from worker.sessions.operator_trail import Action
from worker.storage.sql import among_first_free
from worker.wiring import Services

log = structlog.get_logger()

_BY_TIME: Final = Cause(None, "maintenance.expire_sessions")


def expire_sessions(
    services: Services, *, dry_run: bool = False, override_guard: bool = False
) -> Counts:
    """Mark live sessions past their expiry, or past a cap, as ended.

    One statement a batch compares and sets, so a renewal that commits first wins; and sessions
    are left alone until `expire_grace_seconds` after their expiry, so that a renewal that is
    still under way at Mosaic is never beaten to it. Raises `SafetyLimitExceeded` instead of ending
    an implausible share of all sessions, or by a clock that has jumped.
    """
    cutoff = services.now() - timedelta(seconds=services.settings.expire_grace_seconds)
    live = IdpSession.ended_at.is_(None)
    expired = live & (IdpSession.expires_at <= cutoff)
    with services.store.read() as connection:
        last_expiry = last_idle_expiry(connection, services.settings, cutoff)
        capped = live & past_a_cap(services.settings, cutoff, last_expiry)
        if not (dry_run or override_guard):
            refuse_jumped_clock(connection, services)
            refuse_too_many(connection, services, expired | capped)
    passes = [("expired", expired, EndCause.EXPIRED)]
    if has_caps(services.settings):
        passes.append(("capped", capped & ~expired, EndCause.CAP_REACHED))
    if dry_run:
        return Counts({name: count(services, IdpSession, which) for name, which, _ in passes})
    if override_guard:
        with services.store.write() as connection:
            operator_trail.record(connection, Action.GUARD_OVERRIDDEN, at=services.now())
    runs = [in_batches(services, n, _ender(services, which, why)) for n, which, why in passes]
    rows = {name: count for run in runs for name, count in run.rows.items()}
    return Counts(rows, all(run.is_complete for run in runs))


def _ender(services: Services, overdue: ColumnElement[bool], cause: EndCause) -> Work:
    limit = services.settings.maintenance_batch
    rest = (
        select(IdpSession.id)
        .where(overdue, IdpSession.expires_at >= REACHED)
        .order_by(IdpSession.expires_at, IdpSession.id)
    )
    # Said again beside the batch: a session may be renewed after it was chosen.
    batch = among_first_free(rest, limit, is_sqlite=services.store.is_sqlite) & overdue
    ending = Ending(batch, cause, by=_BY_TIME)
    lifetime = services.settings.session_lifetime
    reached = BEGINNING

    def end_batch(connection: Connection) -> Batch:
        nonlocal reached
        ended = ending.run(connection, services, lifetime=lifetime, reached=reached)
        reached = ended.expiring_until or reached
        return Batch(ended.count, is_last=ended.count < limit)

    return end_batch
