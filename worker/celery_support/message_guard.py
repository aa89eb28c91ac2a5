"""What a message may tell Celery itself, before the worker has proven which app sent it.

Celery obeys its own fields from any client that can publish: tasks to send when this one is done,
also such as an app may not send; an hour to begin at, until which the worker would hold the
message, beyond the number it may hold; limits of its own. Apps need none of them, so none is
obeyed. It also brings tasks of its own (``celery.group`` and the like), which send what the
message names.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from session_client import contract
from worker.metrics import Rejection

if TYPE_CHECKING:
    from celery import Celery

# kombu trusts text and plain data whatever its consumer accepts, and opens them by the codec that
# the message names: a hundred bytes of bz2 become a hundred megabytes.
_JSON: Final = "application/json"
# All that is needed to run a task, and to run it again a little later.
_HEADERS: Final = ("task", "id", "retries", "expires")
# In place of what the arguments look like, or Celery would look for itself and show it.
_HIDDEN: Final = {"argsrepr": "-", "kwargsrepr": "-"}
_MAX_RETRIES: Final = 100
_OF_APPS: Final = frozenset(task.value for task in contract.Task)
# What Celery always writes beside the arguments, though it is empty.
_AFTERWARDS: Final = frozenset({"callbacks", "errbacks", "chain", "chord"})

# Proves that it is a worker that put the task off, and not an app.
_WAIT_SEAL: Final = "wait_seal"
# Our own retries wait for 30 s at most; the rest is for clocks that differ.
_MAX_WAIT: Final = timedelta(minutes=2)
# What waits is kept in memory, beyond the jobs a worker may take: this many, and none that is
# large. What finds no room is run at once.
MAX_HELD: Final = 1000
_MAX_HELD_BYTES: Final = 64 * 1024


def queues_of(app: Celery) -> dict[str, str]:
    """Return the queue of each task of *app* but Celery's own: the one it is routed to."""
    route: Any = app.amqp.router.route
    return {
        name: route({}, name)["queue"].name for name in app.tasks if not name.startswith("celery.")
    }


def seal_wait(headers: MutableMapping[str, Any], key: bytes) -> None:
    """Prove with the workers' *key* that a worker has put the message with *headers* off."""
    headers[_WAIT_SEAL] = _seal_of(headers, key).decode()


class MessageGuard:
    """Decides what of a message Celery gets to see."""

    def __init__(self, queue_of: Mapping[str, str], key: bytes) -> None:
        """*queue_of* each task this worker has; *key* is what `seal_wait` was given."""
        self._queue_of = queue_of
        self._key = key

    def reduce(self, message: Any, held: int) -> Rejection | None:
        """Leave of the headers what is needed. Return why *message* must not be run, if so.

        *held* is how many wait already. Raises what reading a malformed message raises.
        """
        headers = message.headers
        if not isinstance(headers, dict) or not contract.is_request_id(headers.get("id")):
            return Rejection.NOT_A_TASK  # Celery logs ids as they are
        if why := self._why_not_here(headers.get("task"), message.delivery_info["routing_key"]):
            return why
        if message.content_type != _JSON:
            return Rejection.UNDECODABLE
        if not (_is_patient(headers.get("retries")) and _is_alone(message.payload)):
            return Rejection.ASKS_FOR_MORE
        kept = {name: headers[name] for name in _HEADERS if name in headers}
        if contract.is_request_id(headers.get(contract.ANSWER_TO)):
            kept[contract.ANSWER_TO] = headers[contract.ANSWER_TO]
        if headers.get("eta") is not None and self._may_wait(headers, message.body, held):
            kept["eta"] = headers["eta"]
        message.headers = kept | _HIDDEN
        return None

    def _why_not_here(self, task: Any, queue: str) -> Rejection | None:
        own = self._queue_of.get(task)
        if own is None:
            return Rejection.UNKNOWN_TASK
        # What an app asks for is refused by the task itself, which can tell the app so.
        return None if own == queue or task in _OF_APPS else Rejection.WRONG_QUEUE

    def _may_wait(self, headers: Mapping[str, Any], body: Any, held: int) -> bool:
        seal = headers.get(_WAIT_SEAL)
        if not isinstance(seal, str) or held >= MAX_HELD or len(body) > _MAX_HELD_BYTES:
            return False
        if not hmac.compare_digest(seal.encode(errors="replace"), _seal_of(headers, self._key)):
            return False
        return datetime.fromisoformat(headers["eta"]) <= datetime.now(UTC) + _MAX_WAIT


def _is_patient(retries: Any) -> bool:
    """Whether it was tried before not more often than we would try ourselves."""
    return retries is None or (type(retries) is int and 0 <= retries <= _MAX_RETRIES)


def _seal_of(headers: Mapping[str, Any], key: bytes) -> bytes:
    fields = [headers.get(name) for name in ("task", "id", "retries", "eta")]
    # Named, since session ids are hashed with the same key.
    text = json.dumps(["a task that waits", *fields])
    return hmac.digest(key, text.encode(), "sha256").hex().encode()


def _is_alone(content: Any) -> bool:
    """Whether nothing is to be sent afterwards."""
    if not isinstance(content, list) or len(content) != len(("args", "kwargs", "embed")):
        return False
    embed = content[2]
    return isinstance(embed, dict) and embed.keys() <= _AFTERWARDS and not any(embed.values())
