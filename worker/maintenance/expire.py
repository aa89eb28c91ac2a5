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
    update,
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
from worker.sessions.caps import has_caps, last_idle_check, past_a_cap
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
    due = live & (IdpSession.check_expiry_at <= cutoff)
    expired = due & (IdpSession.expires_at <= cutoff)
    with services.store.read() as connection:
        last_check = last_idle_check(connection, services.settings, cutoff)
        capped = live & past_a_cap(services.settings, cutoff, last_check)
        if not (dry_run or override_guard):
            refuse_jumped_clock(connection, services)
            refuse_too_many(connection, services, expired | capped)
    overdue = {"expired": expired}
    if has_caps(services.settings):
        overdue["capped"] = capped & (IdpSession.expires_at > cutoff)
    if dry_run:
        return Counts({name: count(services, IdpSession, which) for name, which in overdue.items()})
    if override_guard:
        with services.store.write() as connection:
            operator_trail.record(connection, Action.GUARD_OVERRIDDEN, at=services.now())
    runs = []
    if has_caps(services.settings):  # first, since a session past a cap may have its turn, too
        ender = _ender(services, overdue["capped"], overdue["capped"], EndCause.CAP_REACHED)
        runs.append(in_batches(services, "capped", ender))
    runs.append(in_batches(services, "expired", _checker(services, due, expired)))
    rows = {name: count for run in runs for name, count in run.rows.items()}
    return Counts(rows, all(run.is_complete for run in runs))


def _checker(services: Services, due: ColumnElement[bool], expired: ColumnElement[bool]) -> Work:
    """Return what ends those of the sessions whose turn it is that have expired.

    The other sessions have been used since they were looked at, and have their turn when they
    expire now.
    """
    limit = services.settings.maintenance_batch
    end_batch = _ender(services, due, expired, EndCause.EXPIRED)
    # Said again beside the batch: a session may end after it was chosen.
    used = _first(services, due) & due & ~expired
    put_off = update(IdpSession).where(used).values(check_expiry_at=IdpSession.expires_at)

    def check_batch(connection: Connection) -> Batch:
        ended = end_batch(connection)
        if not ended.is_last:
            return ended  # the whole batch had expired
        postponed = connection.execute(put_off, {"reached": BEGINNING}).rowcount
        return Batch(ended.rows, is_last=ended.rows + postponed < limit, uncounted=postponed)

    return check_batch


def _ender(
    services: Services,
    among: ColumnElement[bool],
    overdue: ColumnElement[bool],
    cause: EndCause,
) -> Work:
    """Return what ends the *overdue* ones of the first sessions *among* all."""
    limit = services.settings.maintenance_batch
    # Said again beside the batch: a session may be renewed after it was chosen.
    ending = Ending(_first(services, among) & overdue, cause, by=_BY_TIME)
    lifetime = services.settings.session_lifetime
    reached = BEGINNING

    def end_batch(connection: Connection) -> Batch:
        nonlocal reached
        ended = ending.run(connection, services, lifetime=lifetime, reached=reached)
        reached = ended.checked_until or reached
        return Batch(ended.count, is_last=ended.count < limit)

    return end_batch


def _first(services: Services, among: ColumnElement[bool]) -> ColumnElement[bool]:
    """Return the condition to be of the next batch of the sessions *among* all."""
    rest = (
        select(IdpSession.id)
        .where(among, IdpSession.check_expiry_at >= REACHED)
        .order_by(IdpSession.check_expiry_at, IdpSession.id)
    )
    limit = services.settings.maintenance_batch
    return among_first_free(rest, limit, is_sqlite=services.store.is_sqlite)
