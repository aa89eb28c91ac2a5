"""Waking deliveries: a message each, after the commit. The sweep sends another for a lost one.

It does so too when no worker has taken it in time, so the sweep looks first how many wait.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any
from uuid import UUID

import redis
import structlog
from celery import Task

from models import Logout, Notice, UserRevocation
from session_client.contract import Queue
from worker.celery_support import other_brokers
from worker.celery_support.queue_heads import look
from worker.errors import BrokerUnavailable
from worker.logout.end_sessions import Ended
from worker.outbox import leases
from worker.requests.outcomes import Outcome
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


def those_of(outcome: Outcome) -> None:
    """Wake what serving a request has left to be done; call it after the commit.

    Else a delivery could run ahead of the row it reads. No sweep sends another message for orphans:
    the next login does.
    """
    # The whole user first: that one call may end all sessions that the other deliveries are about.
    for task, ids in (
        (end_user_at_idp, outcome.revocations),
        (end_at_idp, outcome.logouts),
        (deliver, outcome.notices),
        (end_orphans, outcome.orphans),
    ):
        if ids:
            _wake(task, ids)


def due(services: Services) -> None:
    """Wake what is due, a batch of each kind, where its queue has room.

    Raises `StoreUnavailable`.
    """
    if has_room(services, Queue.IDP):
        logouts(leases.wake_due(services, Logout))
        revocations(leases.wake_due(services, UserRevocation))
    if has_room(services, Queue.NOTIFY):
        notices(leases.wake_due(services, Notice))


def ended(services: Services, by_hand: Ended) -> bool:
    """Wake what was ended by hand; whether all of it was, or some of it is left to the sweep.

    Not more than a sweep wakes at once: a message for each of a million would fill Redis.
    """
    are_all = [
        _wake_first(services, Queue.IDP, end_at_idp, by_hand.logouts),
        _wake_first(services, Queue.NOTIFY, deliver, by_hand.notices),
    ]
    return all(are_all)


def _wake_first(
    services: Services, queue: Queue, task: Task[Any, Any], ids: Sequence[UUID]
) -> bool:
    """Wake as many as a sweep does, where *queue* has room; whether these were all."""
    if not ids:
        return True
    was_sent = has_room(services, queue) and _wake(task, ids[: leases.SWEEP_BATCH])
    return was_sent and len(ids) <= leases.SWEEP_BATCH


def has_room(services: Services, queue: Queue) -> bool:
    """Whether the sweep may put a batch of wake-ups on *queue*.

    Where no worker takes them, each due delivery would get another one every few seconds, for ever,
    and Redis would be full.
    """
    waiting = _waiting(services, queue)
    if waiting <= leases.SWEEP_BATCH:
        return True
    why = f"no worker takes queue {queue}, or too few do: is a worker with -Q {queue} alive?"
    log.warning("wake_ups_held_back", queue=queue.value, waiting=waiting, detail=why)
    return False


def _waiting(services: Services, queue: Queue) -> int:
    # A broker that cannot be asked stops no sweep: one that waited for it would wake no delivery.
    with suppress(redis.RedisError, BrokerUnavailable):
        if services.broker is not None:
            # Over a connection that is kept. A sweep that made four, each of them after asking a
            # Sentinel, all with TLS, took as long as the pause between two.
            return look(services.broker, [queue.value])[0].count
        url = services.settings.broker_url.get_secret_value()
        return other_brokers.depths(url, [queue.value]).get(queue.value, 0)
    return 0


def _wake(task: Task[Any, Any], ids: Iterable[UUID]) -> bool:
    """Put a message for each on the broker; whether all were."""
    for delivery in ids:
        try:
            task.delay(str(delivery))
        except other_brokers.NOT_SENT as error:
            # Nor will the other wake-ups be sent now; no app waits for them.
            log.warning("wake_up_not_sent", delivery=str(delivery), error=type(error).__name__)
            return False
    return True
