"""Working on deliveries: claim by lease, write back by fencing, wake what is due.

Duplicates of a message end quietly at `claim`; a worker that was killed delays its row by one
lease; one that was only slow finds, when it writes back, that the lease is no longer its own.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

import structlog
from sqlalchemy import ColumnElement, Connection, Row, case, not_, or_, select, update

from models import IdpSession, Logout, LogoutRequest, Notice, UserRevocation, new_id
from worker.errors import BreakerOpen, HeldBack, TryLater
from worker.sessions import operator_trail
from worker.sessions.operator_trail import Action
from worker.storage.sql import among_first_free
from worker.wiring import Services

log = structlog.get_logger()

DeliveryKind = type[Logout] | type[Notice] | type[UserRevocation]

CONFIRMED: Final = "confirmed"
FAILED: Final = "failed"
DEAD: Final = "dead"
# Of a notice: the operator has taken the app's address away. That is no failure.
NO_ADDRESS: Final = "no_address"
SWEEP_BATCH: Final = 500
# Those that failed before keep their own back-off while a breaker is open, or each time it lets a
# delivery through they would be there first. No more of it than this: it may not be their fault,
# and a delivery that is held back must ask several times within the minute in which it is to be
# done.
MAX_HELD_BACK_SECONDS: Final = 10.0
# A row that keeps killing the worker on it must not take all workers down, one by one.
MAX_CRASHES: Final = 10


_REPLAYED: Final[dict[DeliveryKind, Action]] = {
    Logout: Action.LOGOUTS_REPLAYED,
    Notice: Action.NOTICES_REPLAYED,
    UserRevocation: Action.REVOCATIONS_REPLAYED,
}
# What is purged with its deliveries: its key, and what names it there.
_GOES_WITH: Final[dict[DeliveryKind, tuple[Any, Any]]] = {
    Logout: (IdpSession.id, Logout.idp_session_id),
    Notice: (IdpSession.id, Notice.idp_session_id),
    UserRevocation: (LogoutRequest.id, UserRevocation.logout_request_id),
}


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to work on one delivery, until it ends."""

    kind: DeliveryKind
    id: UUID
    token: UUID
    attempts: int
    give_up_at: datetime


def claim(
    connection: Connection, services: Services, kind: DeliveryKind, delivery_id: UUID
) -> tuple[Lease, Row[Any]] | None:
    """Take the lease of a delivery that is due; None when it is closed, not due, or leased."""
    now = services.now()
    token = new_id()
    crashed = kind.lease_token.is_not(None)
    row = connection.execute(
        update(kind)
        .where(kind.id == delivery_id, *_workable(kind, now))
        .values(
            lease_token=token,
            leased_until=now + timedelta(seconds=services.settings.delivery_lease_seconds),
            attempts=kind.attempts + 1,
            crashes=kind.crashes + case((crashed, 1), else_=0),
        )
        .returning(*kind.__table__.columns)
    ).one_or_none()
    if row is None:
        return None
    lease = Lease(kind, delivery_id, token, row.attempts, row.give_up_at)
    if row.crashes > MAX_CRASHES:
        log.error(
            "delivery_dead_lettered",
            delivery=kind.__tablename__,
            id=str(delivery_id),
            crashes=row.crashes,
        )
        why = f"given up after {row.crashes} workers died of it, or of something beside it"
        close(connection, lease, now, DEAD, why)
        return None
    return lease, row


def close(
    connection: Connection, lease: Lease, now: datetime, outcome: str, why: str | None = None
) -> bool:
    """Close the delivery if the lease is still ours. Returns whether it was."""
    error = {} if why is None else {"last_error": why[:500]}
    closed = connection.execute(
        update(lease.kind)
        .where(lease.kind.id == lease.id, lease.kind.lease_token == lease.token)
        .values(closed_at=now, outcome=outcome, lease_token=None, leased_until=None, **error)
        .returning(lease.kind.id)
    ).one_or_none()
    return closed is not None


def put_off(
    connection: Connection,
    services: Services,
    lease: Lease,
    error: Exception | None,
    noted: Mapping[str, Any] | None = None,
) -> None:
    """Set the next attempt, if the lease is still ours; *error* is why there must be one.

    *noted* are columns to write with it.
    """
    now = services.now()
    next_attempt_at = now + _pause(services, lease.attempts, error)
    wake_again = timedelta(seconds=services.settings.delivery_wake_again_seconds)
    # Not even tried: counted, a busy minute would end in pauses meant for long outages.
    not_tried = 1 if isinstance(error, HeldBack) else 0
    connection.execute(
        update(lease.kind)
        .where(lease.kind.id == lease.id, lease.kind.lease_token == lease.token)
        .values(
            lease_token=None,
            leased_until=None,
            attempts=lease.kind.attempts - not_tried,
            # A worker that comes back from it did not die of it: those that did are counted in a
            # row. Over two weeks of tries each deploy may kill one beside a harmless delivery.
            crashes=lease.kind.crashes if not_tried else 0,
            next_attempt_at=next_attempt_at,
            # Its message is spent: the sweep takes it as soon as it is due.
            woken_at=next_attempt_at - wake_again,
            last_error=None if error is None else error_text(error),
            **(noted or {}),
        )
    )


def error_text(error: Exception) -> str:
    """Return what a delivery keeps of its latest error."""
    return f"{type(error).__name__}: {error}"[:500]


def was_asked(kind: DeliveryKind) -> ColumnElement[bool]:
    """Whether the latest attempt came to ask: no budget and no breaker held it back."""
    names = (kind_of_error.__name__ for kind_of_error in (HeldBack, BreakerOpen))
    held_back = or_(*(kind.last_error.startswith(f"{name}:") for name in names))
    return kind.last_error.is_not(None) & not_(held_back)


def _pause(services: Services, attempts: int, error: Exception | None) -> timedelta:
    at_least = error.retry_after if isinstance(error, TryLater) else 0.0
    settings = services.settings
    first, most = settings.delivery_retry_seconds, settings.delivery_retry_max_seconds
    if isinstance(error, BreakerOpen):
        attempts, most = max(1, attempts - 1), min(most, MAX_HELD_BACK_SECONDS)
    elif isinstance(error, HeldBack):
        attempts = 1
    return timedelta(seconds=pause_before_next(attempts, first, most, at_least))


def pause_before_next(attempts: int, first: float, most: float, at_least: float) -> float:
    """Return seconds to wait: doubling, with full jitter, and never less than was asked for."""
    ceiling = min(most, first * 2 ** min(attempts - 1, 30))
    return at_least + random.uniform(ceiling / 10, ceiling)  # noqa: S311 - jitter, no secret


def wake_due(services: Services, kind: DeliveryKind) -> list[UUID]:
    """Return the deliveries that are due and that no recent message woke, marking them woken.

    Those tried least come first: what always fails must not hold up what was never tried. Two
    sweeps at once share the work: each row goes to one of them.
    """
    now = services.now()
    woken_before = now - timedelta(seconds=services.settings.delivery_wake_again_seconds)
    due = (
        select(kind.id)
        .where(*_workable(kind, now), kind.woken_at <= woken_before)
        .order_by(kind.attempts, kind.next_attempt_at)
    )
    batch = among_first_free(due, SWEEP_BATCH, is_sqlite=services.store.is_sqlite)
    with services.store.write() as connection:
        woken = update(kind).where(batch).values(woken_at=now)
        rows = connection.execute(woken.returning(kind.attempts, kind.next_attempt_at, kind.id))
        return [row.id for row in sorted(rows)]  # an update returns them in any order


def _workable(kind: DeliveryKind, now: datetime) -> tuple[Any, ...]:
    unleased = or_(kind.leased_until.is_(None), kind.leased_until <= now)
    return (kind.closed_at.is_(None), kind.next_attempt_at <= now, unleased)


def reopen(
    services: Services,
    kind: DeliveryKind,
    which: ColumnElement[bool],
    lasts: timedelta,
    app_id: str | None = None,
) -> int:
    """Make closed deliveries due again, for as long as *lasts*; returns how many.

    An operator asks for it, of one app perhaps: it is written in their trail.
    """
    now = services.now()
    closed = kind.closed_at.is_not(None) & which
    with services.store.write() as connection:
        _keep_from_purge(connection, kind, closed)
        opened = connection.execute(
            update(kind)
            .where(closed)
            .values(
                closed_at=None,
                outcome=None,
                crashes=0,
                attempts=0,
                next_attempt_at=now,
                woken_at=now - timedelta(days=1),  # the next sweep takes it
                give_up_at=now + lasts,
            )
            .returning(kind.id)
        )
        count = len(opened.all())
        if count:
            operator_trail.record(
                connection, _REPLAYED[kind], at=now, app_id=app_id, after={"opened": count}
            )
        return count


def _keep_from_purge(
    connection: Connection, kind: DeliveryKind, which: ColumnElement[bool]
) -> None:
    """Lock, in order, what deliveries go with, so that a purge passes it by.

    It takes what is owed by nobody, and deletes the deliveries with it: those that we are about to
    open among them. And it would wait for one of ours, and we for one of its.
    """
    key, of_delivery = _GOES_WITH[kind]
    rows = select(key).where(key.in_(select(of_delivery).where(which))).order_by(key)
    connection.execute(rows.with_for_update(read=True, key_share=True))
