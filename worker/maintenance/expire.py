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
    update,
)

from models import (
    EndCause,
    IdpSession,
)
from worker.logout.end_sessions import Ending
from worker.logout.guards import refuse_jumped_clock, refuse_too_many
from worker.maintenance.batches import Batch, Counts, Work, count, ends_at, in_batches
from worker.maintenance.choice import BEGINNING, among_chosen, choosing
from worker.sessions import operator_trail
from worker.sessions.audit import Cause
from worker.sessions.caps import has_caps, last_idle_check, past_a_cap
from worker.sessions.operator_trail import Action
from worker.wiring import Services

log = structlog.get_logger()

_BY_TIME: Final = Cause(None, "maintenance.expire_sessions")


def expire_sessions(
    services: Services,
    *,
    dry_run: bool = False,
    override_guard: bool = False,
    until: float | None = None,
) -> Counts:
    """Mark live sessions past their expiry, or past a cap, as ended.

    A batch ends what it has locked and found past its time, so a renewal that commits first wins.
    Sessions are left alone until `expire_grace_seconds` after their expiry, so that a renewal that
    is still under way at Mosaic is never beaten to it. Raises `SafetyLimitExceeded` instead of
    ending an implausible share of all sessions, or by a clock that has jumped. *until* is
    `batches.ends_at` of the run that this is a part of.
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
            turn = IdpSession.check_expiry_at
            refuse_too_many(connection, services, expired | capped, found_by=turn)
    overdue = {"expired": expired}
    if has_caps(services.settings):
        overdue["capped"] = capped & (IdpSession.expires_at > cutoff)
    if dry_run:
        return Counts({name: count(services, IdpSession, which) for name, which in overdue.items()})
    if override_guard:
        with services.store.write() as connection:
            operator_trail.record(connection, Action.GUARD_OVERRIDDEN, at=services.now())
    until = ends_at(services) if until is None else until
    runs = []
    if "capped" in overdue:  # first, since a session past a cap may have its turn, too
        ender = _ender(services, overdue["capped"], overdue["capped"], EndCause.CAP_REACHED)
        runs.append(in_batches(services, "capped", ender, until))
    ender = _ender(services, due, expired, EndCause.EXPIRED)
    runs.append(in_batches(services, "expired", ender, until))
    rows = {name: count for run in runs for name, count in run.rows.items()}
    return Counts(rows, all(run.is_complete for run in runs))


def _ender(
    services: Services,
    among: ColumnElement[bool],
    overdue: ColumnElement[bool],
    cause: EndCause,
) -> Work:
    """Return what ends the *overdue* ones of the sessions *among* all.

    The others have been used since they were looked at, and have their turn when they expire now.
    """
    limit = services.settings.maintenance_batch
    lifetime = services.settings.session_lifetime
    choose = choosing(services, IdpSession.id, IdpSession.check_expiry_at, among)
    chosen_ones = among_chosen(services, IdpSession.id)
    ending = Ending(chosen_ones & overdue, cause, by=_BY_TIME)
    put_off = (
        update(IdpSession)
        .where(chosen_ones, IdpSession.ended_at.is_(None))
        .values(check_expiry_at=IdpSession.expires_at)
    )
    reached = BEGINNING

    def end_batch(connection: Connection) -> Batch:
        nonlocal reached
        chosen = choose(connection, reached)
        if not chosen.count:
            return Batch(0, is_last=True)
        reached = chosen.reached
        ended = ending.run(connection, services, lifetime=lifetime, keys=chosen.keys).count
        others = chosen.count - ended
        if others:
            connection.execute(put_off, {"keys": chosen.keys})
        return Batch(ended, is_last=chosen.count < limit, uncounted=others)

    return end_batch
