"""Ending at Mosaic what it knows of a revoked user: one delivery, one lease, few calls."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import structlog
from sqlalchemy import Row, exists, select

from models import IdpSession, UserRevocation
from session_client.contract import Reason
from worker import metrics
from worker.errors import (
    LogoutRefused,
    OperatorMustAct,
    SessionWorkerError,
    TryLater,
    UserRefused,
)
from worker.logs import call_operator
from worker.mosaic.types import MosaicApp, Permit
from worker.outbox import leases
from worker.outbox.leases import CONFIRMED, FAILED, Lease
from worker.outbox.mosaic_logouts import EXPIRED_UNCONFIRMED, note_unconfirmed
from worker.sessions import audit
from worker.sessions.audit import Cause
from worker.wiring import Services

log = structlog.get_logger()

# Mosaic's "end all" also ends what began since. The longer ago the revocation, the likelier the
# user has signed in again.
DELETE_WITHIN: Final = timedelta(minutes=1)
_TOO_LATE: Final = (
    "the front ends' sessions could not be ended before the user may have signed in again: "
    "revoke the user once more"
)


def end_user_at_idp(services: Services, revocation: UUID) -> str | None:
    """End a revoked user's sessions at Mosaic. Returns the outcome when closed, else None.

    Safe to repeat: without the lease nothing is called, and nothing that would end a newer login
    once that is known. One of which no worker knows when Mosaic is asked to end all is ended too.
    """
    with services.store.write() as connection:
        claimed = leases.claim(connection, services, UserRevocation, revocation)
    if claimed is None:
        return None
    attempt = _Attempt(services, *claimed)
    try:
        outcome = attempt.run()
    except SessionWorkerError as error:
        return attempt.put_off(error)
    return attempt.close(outcome)


class _UserUnknown(Exception):  # noqa: N818
    """Mosaic does not know the user, at least not as one of this client's."""


@contextmanager
def _recognising_unknown_user() -> Iterator[None]:
    try:
        yield
    except UserRefused as refusal:
        if refusal.reason is Reason.USER_UNKNOWN:
            raise _UserUnknown from None
        raise


@dataclass(slots=True)
class _Attempt:
    services: Services
    lease: Lease
    row: Row[Any]
    # What is done of it, also when the rest fails.
    backend_ended_at: datetime | None = None
    is_user_unknown: bool = False  # to all clients, from the start
    # The lease outlives two of Mosaic's timeouts.
    end_at: float = field(init=False)

    def __post_init__(self) -> None:
        self.backend_ended_at = self.row.backend_ended_at
        self.end_at = time.monotonic() + 2 * self.services.settings.mosaic_timeout_seconds

    def run(self) -> str:
        """Make the calls that are left, and return the outcome. Raises `SessionWorkerError`."""
        for app in self._clients():
            try:
                return self._end_all(app)
            except _UserUnknown:
                continue
        self.is_user_unknown = self.backend_ended_at is None
        return CONFIRMED

    def _end_all(self, app: MosaicApp) -> str:
        if self.backend_ended_at is None:
            self._end_backend_sessions(app)
            self.backend_ended_at = self.services.now()
        if not self.row.frontend:
            return CONFIRMED
        permit = self._permit(app)
        if not self._may_delete():
            with permit.observe():  # no call is made by it
                return FAILED  # there is no list to tell the newer ones by
        with _recognising_unknown_user():
            self.services.mosaic.delete_frontend_sessions(
                permit, app, self.row.user_id, timeout_seconds=self._seconds_left()
            )
        return CONFIRMED

    def _clients(self) -> Iterator[MosaicApp]:
        """Return the client of the app that revoked the user, then of those that signed them in.

        Whether Mosaic knows a user to a client of whom they are none is not documented: only who is
        unknown to all of them has no sessions.
        """
        apps, requested_by = self.services.apps, self.row.requested_by
        app = apps.find(requested_by)
        if app is None:
            raise OperatorMustAct("the app that revoked the user cannot be used: register it anew")
        yield app.mosaic
        query = select(IdpSession.registered_by).where(IdpSession.user_id == self.row.user_id)
        with self.services.store.read() as connection:
            others = set(connection.execute(query.distinct()).scalars()) - {requested_by}
        for other_id in sorted(others):
            other = apps.find(other_id)
            if other is None:
                raise OperatorMustAct(
                    "Mosaic does not know the user to the clients that could be asked, and the app "
                    f"{other_id}, which has signed them in, cannot be used: register it anew"
                )
            if apps.is_of_same_mosaic(app, other_id):
                yield other.mosaic

    def _end_backend_sessions(self, app: MosaicApp) -> None:
        # Whether, or when, an earlier attempt has reached Mosaic is unknown: a login since
        # may be the user's own, though no app has registered it yet.
        permit = self._permit(app)
        # Looked at last: the user may sign in while the call waits for its turn.
        if self.lease.attempts == 1 and self._may_delete():
            with _recognising_unknown_user():
                self.services.mosaic.delete_sessions(
                    permit, app, self.row.user_id, timeout_seconds=self._seconds_left()
                )
        else:
            self._end_listed(app, permit)

    def _may_delete(self) -> bool:
        """Whether nothing can have begun since, as far as the worker knows."""
        if self.services.now() - self.row.created_at > DELETE_WITHIN:
            return False
        # All that was live then has ended: what lives now is newer.
        newer = exists().where(
            IdpSession.user_id == self.row.user_id, IdpSession.ended_at.is_(None)
        )
        with self.services.store.read() as connection:
            return not connection.execute(select(newer)).scalar_one()

    def _end_listed(self, app: MosaicApp, permit: Permit) -> None:
        """End one by one what began before the revocation, and nothing else."""
        mosaic = self.services.mosaic
        with _recognising_unknown_user():
            listed = mosaic.list_sessions(
                permit, app, self.row.user_id, timeout_seconds=self._seconds_left()
            )
        refusal: SessionWorkerError | None = None
        for session in listed:
            # As with registrations: within one second the order is unknown; it counts as before.
            if session.started_at >= self.row.began_before:
                continue
            try:
                mosaic.logout_session(
                    self._permit(app),
                    app,
                    session.session_id,
                    timeout_seconds=self._seconds_left(),
                )
            except (OperatorMustAct, UserRefused, LogoutRefused) as error:
                refusal = error  # the other sessions must not live on for it
        if refusal is not None:
            raise refusal

    def _permit(self, app: MosaicApp) -> Permit:
        return self.services.traffic.admit_logout(
            app, str(self.lease.id), is_untried=self.lease.attempts == 1
        )

    def _seconds_left(self) -> float:
        left = self.end_at - time.monotonic()
        if left <= 0:
            raise TryLater("more sessions than there is time for under one lease: the rest follows")
        return min(left, self.services.settings.mosaic_timeout_seconds)

    def put_off(self, error: SessionWorkerError) -> str | None:
        """Set the next attempt, or give up when all has expired at Mosaic by itself."""
        self._log_failure(error)
        if self.services.now() >= self.lease.give_up_at:
            outcome = self.close(EXPIRED_UNCONFIRMED)
            if outcome is not None:
                note_unconfirmed(self.lease, self.row.requested_by, error)
            return outcome
        noted = {"backend_ended_at": self.backend_ended_at}
        with self.services.store.write() as connection:
            leases.put_off(connection, self.services, self.lease, error, noted)
        return None

    def _log_failure(self, error: SessionWorkerError) -> None:
        is_ours = isinstance(error, OperatorMustAct | UserRefused | LogoutRefused)
        log.log(
            logging.ERROR if is_ours else logging.WARNING,
            "operator_must_act" if is_ours else "idp_revocation_failed",
            revocation=str(self.lease.id),
            app=self.row.requested_by,
            attempts=self.lease.attempts,
            error=type(error).__name__,
            detail=str(error),
        )
        if is_ours:
            metrics.operator_must_act(error, self.row.requested_by)

    def close(self, outcome: str) -> str | None:
        """Close the delivery if the lease is still ours."""
        now = self.services.now()
        is_confirmed = outcome == CONFIRMED
        why = _TOO_LATE if outcome == FAILED else None
        with self.services.store.write() as connection:
            if not leases.close(connection, self.lease, now, outcome, why):
                return None  # our lease ended and another process took over
            row = audit.event(
                audit.IDP_CONFIRMED if is_confirmed else audit.IDP_GIVEN_UP,
                at=now,
                session=None,
                user_id=self.row.user_id,
                by=Cause(self.row.requested_by, None),
                detail=Reason.USER_UNKNOWN.value if self.is_user_unknown else why,
            )
            audit.record(connection, [row])
        if why is not None:
            # Closed, it is never tried again: without this only the receipt would say so.
            app_id = self.row.requested_by
            call_operator(OperatorMustAct(why), app_id, app=app_id, revocation=str(self.lease.id))
        return outcome


def replay_dead_lettered(services: Services) -> int:
    """Open dead-lettered revocations again; returns how many."""
    dead_lettered = UserRevocation.outcome == leases.DEAD
    return leases.reopen(
        services, UserRevocation, dead_lettered, services.settings.session_lifetime
    )
