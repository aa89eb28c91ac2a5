"""Telling Mosaic that a session has ended: one delivery, one lease, one call."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import structlog
from sqlalchemy import Connection, update

from models import IdpSession, Logout
from worker import metrics
from worker.errors import LogoutRefused, OperatorMustAct, SessionWorkerError, UserRefused
from worker.outbox import leases
from worker.outbox.leases import CONFIRMED, Lease
from worker.sessions import audit, mosaic_ids, queries
from worker.sessions.audit import Cause
from worker.wiring import Services

log = structlog.get_logger()

EXPIRED_UNCONFIRMED: Final = "expired_unconfirmed"


@dataclass(frozen=True, slots=True)
class _Claim:
    """A delivery that only we may work on until its lease ends."""

    lease: Lease
    session: UUID
    user_id: str
    requested_by: str
    registered_by: str
    is_proven: bool  # by a token; else only an app has named it
    sealed_session_id: bytes | None = field(repr=False)


def end_at_idp(services: Services, logout: UUID) -> str | None:
    """Tell Mosaic of one ended session. Returns the outcome when the delivery is closed, else None.

    Safe to repeat: without the lease nothing is called, and Mosaic may be told twice.
    """
    claim = _claim(services, logout)
    if claim is None:
        return None
    try:
        _tell_mosaic(services, claim)
    except SessionWorkerError as error:
        return _put_off(services, claim, error)
    return _close(services, claim, CONFIRMED, audit.IDP_CONFIRMED)


def _claim(services: Services, logout: UUID) -> _Claim | None:
    with services.store.write() as connection:
        claimed = leases.claim(connection, services, Logout, logout)
        if claimed is None:
            return None
        lease, row = claimed
        session = queries.by_id(connection, row.idp_session_id)
    assert session is not None, "a delivery goes with its session"  # noqa: S101
    return _Claim(
        lease=lease,
        session=session.id,
        user_id=session.user_id,
        requested_by=row.requested_by,
        registered_by=session.registered_by,
        is_proven=session.is_proven,
        sealed_session_id=session.sealed_session_id,
    )


def _tell_mosaic(services: Services, claim: _Claim) -> None:
    """Try the client of the app that asked, then that of the app that registered the session."""
    assert claim.sealed_session_id is not None, "kept while the delivery is open"  # noqa: S101
    session_id = services.keyring.open(claim.sealed_session_id, mosaic_ids.place_of(claim.session))
    refusal: SessionWorkerError = OperatorMustAct(
        "no app that is registered for its Mosaic can log this session out: register one anew"
    )
    for app_id in dict.fromkeys((claim.requested_by, claim.registered_by)):
        try:
            app = services.apps.find(app_id)
            if app is None or not services.apps.is_of_same_mosaic(app, claim.registered_by):
                continue
            # Waiting for our turn takes from the call's time: the lease outlives two of these.
            end_at = time.monotonic() + services.settings.mosaic_timeout_seconds
            permit = services.traffic.admit_logout(
                app.mosaic, str(claim.session), is_untried=claim.lease.attempts == 1
            )
            left = max(0.0, end_at - time.monotonic())
            services.mosaic.logout_session(permit, app.mosaic, session_id, timeout_seconds=left)
        except (OperatorMustAct, UserRefused, LogoutRefused) as error:
            refusal = error
        else:
            return
    raise refusal


def _put_off(services: Services, claim: _Claim, error: SessionWorkerError) -> str | None:
    """Set the next attempt, or give up when the session has expired at Mosaic by itself."""
    _log_failure(claim, error)
    if services.now() >= claim.lease.give_up_at:
        outcome = _close(services, claim, EXPIRED_UNCONFIRMED, audit.IDP_GIVEN_UP)
        if outcome is not None and claim.is_proven:  # else an app may have made its id up
            note_unconfirmed(claim.lease, claim.requested_by, error)
        return outcome
    with services.store.write() as connection:
        leases.put_off(connection, services, claim.lease, error)
    return None


def note_unconfirmed(lease: Lease, app_id: str, error: SessionWorkerError) -> None:
    """Tell operators that Mosaic was not told in time: closed, it is late no more."""
    log.error(
        "idp_logout_given_up",
        delivery=lease.kind.__tablename__,
        id=str(lease.id),
        app=app_id,
        attempts=lease.attempts,
        detail=leases.error_text(error),
    )
    metrics.logout_unconfirmed(app_id)


def _log_failure(claim: _Claim, error: SessionWorkerError) -> None:
    # No patience will help: the session lives on, though its user may not use it.
    is_ours = isinstance(error, OperatorMustAct | UserRefused)
    # No operator is called for an id that may be made up: an app could have it done at every
    # attempt.
    is_ours = is_ours or (isinstance(error, LogoutRefused) and claim.is_proven)
    log.log(
        logging.ERROR if is_ours else logging.WARNING,
        "operator_must_act" if is_ours else "idp_logout_failed",
        logout=str(claim.lease.id),
        session=str(claim.session),
        app=claim.requested_by,
        registered_by=claim.registered_by,  # whose client was tried after the other's
        attempts=claim.lease.attempts,
        error=type(error).__name__,
        detail=str(error),
    )
    if is_ours:
        metrics.operator_must_act(error, claim.requested_by)


def _close(services: Services, claim: _Claim, outcome: str, event: str) -> str | None:
    """Close the delivery if the lease is still ours, and scrub the session id with it."""
    now = services.now()
    with services.store.write() as connection:
        # Before its delivery, as by all who write to both: else two of them wait for each other.
        queries.lock_in_order(connection, claim.session)
        if not leases.close(connection, claim.lease, now, outcome):
            return None  # our lease ended and another worker took over
        _scrub(connection, claim.session)
        row = audit.event(
            event,
            at=now,
            session=claim.session,
            user_id=claim.user_id,
            by=Cause(claim.requested_by, None),
        )
        audit.record(connection, [row])
    return outcome


def _scrub(connection: Connection, session: UUID) -> None:
    connection.execute(
        update(IdpSession).where(IdpSession.id == session).values(sealed_session_id=None)
    )


def replay_dead_lettered(services: Services) -> int:
    """Open logouts again that were dead-lettered for killing their workers; returns how many."""
    dead_lettered = Logout.outcome == leases.DEAD
    return leases.reopen(services, Logout, dead_lettered, services.settings.session_lifetime)
