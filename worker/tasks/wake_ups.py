"""Waking deliveries: a message each, after the commit. The sweep sends another for a lost one.

It does so too when nobody has taken it in time, so the sweep looks first how many wait.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any
from uuid import UUID

import structlog
from celery import Task
from kombu.exceptions import OperationalError

from models import Logout, Notice, UserRevocation
from session_client.contract import Queue
from worker.app import app
from worker.logout.end_sessions import Ended
from worker.outbox import leases
from worker.tasks.logouts import end_at_idp, end_orphans, end_user_at_idp
from worker.tasks.notices import deliver
from worker.wiring import Services

log = structlog.get_logger()


def logouts(ids: Iterable[UUID]) -> None:
    """Put a message for each delivery to Mosaic on the broker."""
    _wake(end_at_idp, ids)


def revocations(ids: Iterable[UUID]) -> None:
    """Put a message for each delivery that ends a whole user at Mosaic on the broker."""
    _wake(end_user_at_idp, ids)


def notices(ids: Iterable[UUID]) -> None:
    """Put a message for each delivery to an app on the broker."""
    _wake(deliver, ids)


def orphans(ids: Iterable[UUID]) -> None:
    """Put a message for each login on the broker that lets sessions nobody heard of be found.

    No sweep sends another: the next login does.
    """
    _wake(end_orphans, ids)


def due(services: Services) -> None:
    """Wake what is due, a batch of each kind, where its queue has room.

    Raises `StoreUnavailable`.
    """
    if has_room(Queue.IDP):
        logouts(leases.wake_due(services, Logout))
        revocations(leases.wake_due(services, UserRevocation))
    if has_room(Queue.NOTIFY):
        notices(leases.wake_due(services, Notice))


def ended(by_hand: Ended) -> bool:
    """Wake what was ended by hand; whether all of it was, or some of it is left to the sweep.

    Not more than a sweep wakes at once: a message for each of a million would fill Redis.
    """
    if has_room(Queue.IDP):
        logouts(by_hand.logouts[: leases.SWEEP_BATCH])
    if has_room(Queue.NOTIFY):
        notices(by_hand.notices[: leases.SWEEP_BATCH])
    return max(len(by_hand.logouts), len(by_hand.notices)) <= leases.SWEEP_BATCH


def has_room(queue: Queue) -> bool:
    """Whether the sweep may put a batch of wake-ups on *queue*.

    Where nobody takes them each due delivery would get another one every few seconds, for ever, and
    Redis would be full.
    """
    waiting = _waiting(queue)
    if waiting <= leases.SWEEP_BATCH:
        return True
    why = f"nobody takes queue {queue}, or too few do: is a worker with -Q {queue} alive?"
    log.warning("wake_ups_held_back", queue=queue.value, waiting=waiting, detail=why)
    return False


def _waiting(queue: Queue) -> int:
    # Not one of the pool's, which may be closed, or dead without anybody having noticed.
    with app.connection_for_write() as connection:
        failures = (*connection.connection_errors, *connection.channel_errors)
        with suppress(OperationalError, *failures):
            connection.ensure_connection(max_retries=1, interval_start=0)
            channel: Any = connection.channel()
            return int(channel.queue_declare(queue.value, passive=True).message_count)
    # There is no such queue: to Redis, that is an empty one. Or the broker cannot be asked, and the
    # sweep goes on: one that waited for an answer would wake nobody.
    return 0


def _wake(task: Task[Any, Any], ids: Iterable[UUID]) -> None:
    for delivery in ids:
        try:
            task.delay(str(delivery))
        except OperationalError as error:
            # Nor will the others be sent now; no app waits for that.
            log.warning("wake_up_not_sent", delivery=str(delivery), error=type(error).__name__)
            return
