"""Telling Mosaic that a session has ended: one duty, one lease, one call.

The row in ``logouts`` is the truth; a message only wakes. Whoever works on a row holds its lease,
and writes back only while it still holds it, so that duplicates of a message end quietly and a
worker that was killed delays its row by one lease.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy import Connection, or_, select, update

from models import IdpSession, Logout, new_id
from worker.errors import MosaicUnavailable, OperatorMustAct, SessionWorkerError, TryLater
from worker.lifecycle import events, sessions
from worker.lifecycle.batches import first_free
from worker.lifecycle.events import Cause
from worker.wiring import Services

log = structlog.get_logger()

CONFIRMED: Final = "confirmed"
EXPIRED_UNCONFIRMED: Final = "expired_unconfirmed"
SWEEP_BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class _Claim:
    """A duty that only we may work on until its lease ends."""

    id: UUID
    token: UUID
    session: UUID
    user_id: str
    attempts: int
    give_up_at: datetime
    requested_by: str
    registered_by: str
    sealed_session_id: bytes | None = field(repr=False)


def end_at_idp(services: Services, logout: UUID) -> str | None:
    """Tell Mosaic of one ended session. Returns the outcome when the duty is closed, else None.

    Safe to repeat: without the lease nothing is called, and Mosaic may be told twice.
    """
    claim = _claim(services, logout)
    if claim is None:
        return None
    try:
        _tell_mosaic(services, claim)
    except SessionWorkerError as error:
        return _put_off(services, claim, error)
    return _close(services, claim, CONFIRMED, events.IDP_CONFIRMED)


def wake_due(services: Services) -> list[UUID]:
    """Return the duties that are due and that no recent message woke, marking them woken.

    Two sweeps at once share the work: each row goes to one of them.
    """
    now = services.now()
    woken_before = now - timedelta(seconds=services.settings.logout_wake_again_seconds)
    due = (
        select(Logout.id)
        .where(
            Logout.closed_at.is_(None),
            Logout.next_attempt_at <= now,
            Logout.woken_at <= woken_before,
            or_(Logout.leased_until.is_(None), Logout.leased_until <= now),
        )
        .order_by(Logout.next_attempt_at)
    )
    batch = first_free(due, SWEEP_BATCH)
    with services.store.write() as connection:
        woken = update(Logout).where(Logout.id.in_(batch)).values(woken_at=now)
        return list(connection.execute(woken.returning(Logout.id)).scalars())


def _claim(services: Services, logout: UUID) -> _Claim | None:
    """Take the lease of a duty that is due; None when it is closed, not due, or leased."""
    now = services.now()
    token = new_id()
    with services.store.write() as connection:
        row = connection.execute(
            update(Logout)
            .where(
                Logout.id == logout,
                Logout.closed_at.is_(None),
                Logout.next_attempt_at <= now,
                or_(Logout.leased_until.is_(None), Logout.leased_until <= now),
            )
            .values(
                lease_token=token,
                leased_until=now + timedelta(seconds=services.settings.logout_lease_seconds),
                attempts=Logout.attempts + 1,
            )
            .returning(
                Logout.idp_session_id, Logout.attempts, Logout.give_up_at, Logout.requested_by
            )
        ).one_or_none()
        if row is None:
            return None
        session = sessions.by_id(connection, row.idp_session_id)
    assert session is not None, "a duty goes with its session"  # noqa: S101
    return _Claim(
        id=logout,
        token=token,
        session=session.id,
        user_id=session.user_id,
        attempts=row.attempts,
        give_up_at=row.give_up_at,
        requested_by=row.requested_by,
        registered_by=session.registered_by,
        sealed_session_id=session.sealed_session_id,
    )


def _tell_mosaic(services: Services, claim: _Claim) -> None:
    """Try the client of the app that asked, then that of the app that registered the session."""
    assert claim.sealed_session_id is not None, "kept while the duty is open"  # noqa: S101
    session_id = services.keyring.open(
        claim.sealed_session_id, sessions.session_id_place(claim.session)
    )
    refusal: SessionWorkerError = MosaicUnavailable("no registered app can log this session out")
    for app_id in dict.fromkeys((claim.requested_by, claim.registered_by)):
        try:
            app = services.apps.find(app_id)
            if app is None:
                continue
            services.mosaic.logout_session(
                app.mosaic, session_id, timeout_seconds=services.settings.mosaic_timeout_seconds
            )
        except OperatorMustAct as error:
            refusal = error
        else:
            return
    raise refusal


def _put_off(services: Services, claim: _Claim, error: SessionWorkerError) -> str | None:
    """Set the next attempt, or give up when the session has expired at Mosaic by itself."""
    now = services.now()
    log.warning(
        "idp_logout_failed",
        logout=str(claim.id),
        session=str(claim.session),
        attempts=claim.attempts,
        error=type(error).__name__,
        detail=str(error),
    )
    if now >= claim.give_up_at:
        return _close(services, claim, EXPIRED_UNCONFIRMED, events.IDP_GIVEN_UP)
    pause = pause_before_next(
        claim.attempts,
        services.settings.logout_retry_seconds,
        services.settings.logout_retry_most_seconds,
        error.retry_after if isinstance(error, TryLater) else 0.0,
    )
    with services.store.write() as connection:
        connection.execute(
            update(Logout)
            .where(Logout.id == claim.id, Logout.lease_token == claim.token)
            .values(
                lease_token=None,
                leased_until=None,
                next_attempt_at=now + timedelta(seconds=pause),
                last_error=f"{type(error).__name__}: {error}"[:500],
            )
        )
    return None


def pause_before_next(attempts: int, first: float, most: float, at_least: float) -> float:
    """Return seconds to wait: doubling, with full jitter, and never less than Mosaic asked for."""
    ceiling = min(most, first * 2 ** min(attempts - 1, 30))
    return at_least + random.uniform(ceiling / 10, ceiling)  # noqa: S311 - jitter, no secret


def _close(services: Services, claim: _Claim, outcome: str, event: str) -> str | None:
    """Close the duty if the lease is still ours, and scrub the session id with it."""
    now = services.now()
    with services.store.write() as connection:
        closed = connection.execute(
            update(Logout)
            .where(Logout.id == claim.id, Logout.lease_token == claim.token)
            .values(closed_at=now, outcome=outcome, lease_token=None, leased_until=None)
            .returning(Logout.id)
        ).one_or_none()
        if closed is None:
            return None  # our lease ended and somebody else took over
        _scrub(connection, [claim.session])
        row = events.event(
            event,
            at=now,
            session=claim.session,
            user_id=claim.user_id,
            by=Cause(claim.requested_by, None),
        )
        events.record(connection, [row])
    return outcome


def _scrub(connection: Connection, ended: Sequence[UUID]) -> None:
    connection.execute(
        update(IdpSession).where(IdpSession.id.in_(ended)).values(sealed_session_id=None)
    )
