"""What waits on the broker: for the workers, and for the apps that take notices from a queue."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import redis
from sqlalchemy import select

from models import App, NoticeMethod
from session_client import contract
from worker.celery_support import other_brokers
from worker.celery_support.queue_heads import Head, Waiting, look
from worker.errors import BrokerUnavailable
from worker.settings.validators import is_amqp, is_redis
from worker.storage.redis_client import connect_redis
from worker.wiring import Services

_UNACKNOWLEDGED: Final = "unacked"  # kombu's hash of jobs taken and not yet done


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits for the workers. A queue of which the broker does not tell it is left out."""

    waiting: dict[str, int]
    heads: dict[str, Head | None]  # None where nothing waits; RabbitMQ tells of no queue
    unacknowledged: int | None  # None where the broker does not tell it


@dataclass(frozen=True, slots=True)
class NoticeQueue:
    """An app's own queue, and the notices that wait in it."""

    app_id: str
    queue: str
    waiting: Waiting


def is_told_by(broker_url: str) -> bool:
    """Whether a broker of this kind tells what waits in its queues."""
    return is_redis(broker_url) or is_amqp(broker_url)


def read(broker_url: str) -> Backlog:
    """Return what waits on the broker. Raises `redis.RedisError` and `BrokerUnavailable`."""
    if is_amqp(broker_url):
        names = [queue.value for queue in contract.Queue]
        return Backlog(other_brokers.depths(broker_url, names), heads={}, unacknowledged=None)
    client = connect_redis(broker_url)
    try:
        return _read(client)
    finally:
        client.close()


def _read(client: redis.Redis) -> Backlog:
    names = [queue.value for queue in contract.Queue]
    found = dict(zip(names, look(client, names), strict=True))
    return Backlog(
        waiting={name: waiting.count for name, waiting in found.items()},
        heads={name: waiting.head for name, waiting in found.items()},
        unacknowledged=int(client.hlen(_UNACKNOWLEDGED)),
    )


def notice_queues(services: Services) -> list[NoticeQueue]:
    """Return the queues of apps, as far as the broker tells what waits in them.

    Raises `StoreUnavailable`, `redis.RedisError` and `BrokerUnavailable`.
    """
    if not is_told_by(services.settings.broker_url.get_secret_value()):
        return []
    with services.store.read() as connection:
        query = select(App.app_id, App.notice_address).where(
            App.notice_method == NoticeMethod.QUEUE, App.notice_address.is_not(None)
        )
        apps = connection.execute(query.order_by(App.app_id)).all()
    if not apps:
        return []
    found = _look(services, [app.notice_address or "" for app in apps])
    return [
        NoticeQueue(app.app_id, app.notice_address, found[app.notice_address])
        for app in apps
        if app.notice_address in found
    ]


def queue_of(services: Services, app_id: str) -> NoticeQueue | None:
    """Return the own queue of one app; None where it has none, or the broker does not tell."""
    with suppress(redis.RedisError, BrokerUnavailable):
        return next((one for one in notice_queues(services) if one.app_id == app_id), None)
    return None


def _look(services: Services, queues: Sequence[str]) -> dict[str, Waiting]:
    if services.broker is not None:
        return dict(zip(queues, look(services.broker, queues), strict=True))
    url = services.settings.broker_url.get_secret_value()
    counts = other_brokers.depths(url, queues)
    return {queue: Waiting(n, None, is_head_shown=False) for queue, n in counts.items()}
