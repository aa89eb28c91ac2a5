"""What waits on the broker: for the workers, and for the apps that take notices from a queue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import redis
from sqlalchemy import select

from models import App, NoticeMethod
from session_client import contract
from worker.celery_support.queue_heads import Head, Waiting, look
from worker.storage.redis_client import connect_redis
from worker.wiring import Services

_UNACKNOWLEDGED: Final = "unacked"  # kombu's hash of jobs taken and not yet done


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits for the workers."""

    waiting: dict[str, int]
    heads: dict[str, Head | None]  # None where nothing waits
    unacknowledged: int


@dataclass(frozen=True, slots=True)
class NoticeQueue:
    """An app's own queue, and the notices that wait in it."""

    app_id: str
    queue: str
    waiting: Waiting


def read(broker_url: str) -> Backlog:
    """Return what waits on the broker, a Redis. Raises `redis.RedisError`."""
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
    """Return the queues of apps, as far as the broker is a Redis.

    Raises `StoreUnavailable` and `redis.RedisError`.
    """
    if services.broker is None:
        return []
    with services.store.read() as connection:
        query = select(App.app_id, App.notice_address).where(
            App.notice_method == NoticeMethod.QUEUE, App.notice_address.is_not(None)
        )
        apps = connection.execute(query.order_by(App.app_id)).all()
    if not apps:
        return []
    found = look(services.broker, [app.notice_address or "" for app in apps])
    return [
        NoticeQueue(app.app_id, app.notice_address or "", waiting)
        for app, waiting in zip(apps, found, strict=True)
    ]
