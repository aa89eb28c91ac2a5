"""What waits on the broker, and for how long.

A message says in a header when it was published, if its publisher cares to. That is anybody's word:
it is shown to operators, within bounds, and decides nothing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import redis

from session_client import contract, times
from worker.storage.redis_client import connect_redis

# No message of an app is valid for longer than this one: what claims to be older is lying or dead.
OLDEST_SECONDS: Final = max(contract.MAX_LIFETIME.values()).total_seconds()

_UNACKNOWLEDGED: Final = "unacked"  # kombu's hash of jobs taken and not yet done
_MAX_READ_BYTES: Final = contract.MAX_MESSAGE_BYTES


@dataclass(frozen=True, slots=True)
class Head:
    """The message that is next: the oldest of its queue."""

    mark: int  # tells it from others, within this process
    published_at: datetime | None

    def age(self, now: datetime) -> float | None:
        """Return its age in seconds, as it claims; None when it claims none."""
        if self.published_at is None:
            return None
        return min(max(0.0, (now - self.published_at).total_seconds()), OLDEST_SECONDS)


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits on the broker."""

    waiting: dict[str, int]
    heads: dict[str, Head | None]  # None where nothing waits
    unacknowledged: int


def read(broker_url: str) -> Backlog:
    """Return what waits on the broker, a Redis. Raises `redis.RedisError`."""
    client = connect_redis(broker_url)
    try:
        return _read(client)
    finally:
        client.close()


def _read(client: redis.Redis) -> Backlog:
    names = [queue.value for queue in contract.Queue]
    pipeline = client.pipeline(transaction=False)
    for name in names:
        pipeline.llen(name)
        pipeline.lindex(name, -1)  # kombu pushes at the head and takes from the tail
    pipeline.hlen(_UNACKNOWLEDGED)
    *found, unacknowledged = pipeline.execute()
    return Backlog(
        waiting=dict(zip(names, found[::2], strict=True)),
        heads={
            name: None if raw is None else Head(hash(raw), _published_at(raw))
            for name, raw in zip(names, found[1::2], strict=True)
        },
        unacknowledged=unacknowledged,
    )


def _published_at(raw: bytes) -> datetime | None:
    if len(raw) > _MAX_READ_BYTES:
        return None
    try:
        message: Any = json.loads(raw)
        return times.from_wire(message["headers"][contract.PUBLISHED_AT])
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        return None  # it is the consumer's to judge what this is
