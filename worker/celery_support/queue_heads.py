"""How many messages wait in a queue, and since when the next one does.

A message says in a header when it was published, if its publisher cares to. That is its bare word:
operators are shown it within bounds, and it decides no more than whether a notice is sent again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import redis

from session_client import contract, times
from worker.storage.redis_client import ForeignKey

# No message of an app is valid for longer than this one: what claims to be older is lying or dead.
OLDEST_SECONDS: Final = max(contract.MAX_LIFETIME.values()).total_seconds()

_OTHER_TYPE: Final = "WRONGTYPE"
_NO_LIST: Final = (
    "key {} is no queue: another program writes to this Redis. {}: until then all that is sent "
    "there is refused. Give the broker a Redis of its own"
)
_WORKERS_DELETE: Final = "A living worker that takes the queue deletes it within seconds"
_NOBODY_DELETES: Final = "Delete that key (redis-cli DEL), which no worker does"
_TAKEN_BY_WORKERS: Final = frozenset(queue.value for queue in contract.Queue)


@dataclass(frozen=True, slots=True)
class Head:
    """The message that is next: the oldest of its queue."""

    mark: int  # tells it from other messages, within this process
    published_at: datetime | None

    def age(self, now: datetime) -> float | None:
        """Return its age in seconds, as it claims; None when it claims none."""
        if self.published_at is None:
            return None
        return min(max(0.0, (now - self.published_at).total_seconds()), OLDEST_SECONDS)


@dataclass(frozen=True, slots=True)
class Waiting:
    """What lies in one queue."""

    count: int
    head: Head | None  # None where nothing waits, or where the broker does not show it
    is_head_shown: bool = True  # RabbitMQ shows no message to whom it does not give it

    def holds(self, published_at: datetime) -> bool:
        """Whether a message published then is still among them: none that is older was taken.

        Where the broker shows none of them, any of them may be it.
        """
        if not self.is_head_shown:
            return self.count > 0
        oldest = None if self.head is None else self.head.published_at
        return oldest is not None and oldest <= published_at


# kombu pushes at the head and takes from the tail. What is too large is not read: an attacker who
# may publish could have each look at the queue cost as much as Redis can hold.
_LOOK: Final = """
local raw = redis.call("LINDEX", KEYS[1], -1)
if raw and #raw > tonumber(ARGV[1]) then raw = "" end
return {redis.call("LLEN", KEYS[1]), raw}
"""


def look(client: redis.Redis, queues: Sequence[str]) -> list[Waiting]:
    """Return what lies in each of *queues*. Raises `redis.RedisError`."""
    pipeline = client.pipeline(transaction=False)
    for queue in queues:
        pipeline.eval(_LOOK, 1, queue, contract.max_message_bytes(queue))
    answers: list[Any] = pipeline.execute(raise_on_error=False)
    return [_waiting(queue, answer) for queue, answer in zip(queues, answers, strict=True)]


def _waiting(queue: str, answer: Any) -> Waiting:
    if isinstance(answer, redis.RedisError):
        if _OTHER_TYPE in str(answer):
            what = _WORKERS_DELETE if queue in _TAKEN_BY_WORKERS else _NOBODY_DELETES
            raise ForeignKey(_NO_LIST.format(queue, what))
        raise answer
    count, raw = answer
    return Waiting(count, None if raw is None else Head(hash(raw), _published_at(raw)))


def _published_at(raw: bytes) -> datetime | None:
    try:
        message: Any = json.loads(raw)
        return times.from_wire(message["headers"][contract.PUBLISHED_AT])
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        return None  # it is the consumer's to judge what this is
