"""One request as it travels: sealed here once, and written as the contract says."""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from session_client import contract, requests, sealing, times
from session_client.errors import ConfigurationError
from session_client.keys import AppKey


@dataclass(frozen=True, slots=True)
class Message:
    """One request, sealed once: sent again, its envelope is the same to the bit.

    ``answer_to`` names a list of its own, where the app has given the request id. On the id's list
    may lie what another message under it was answered, of a session that has ended since. ``asks``
    is a digest of what is asked under such an id.
    """

    task: contract.Task
    app_id: str
    request_id: str
    envelope: str = field(repr=False)
    answer_to: str | None = None
    asks: bytes | None = field(default=None, repr=False)

    @property
    def kwargs(self) -> dict[str, Any]:
        """The task's keyword arguments."""
        return {"app_id": self.app_id, "envelope": self.envelope}

    @property
    def queue(self) -> contract.Queue:
        """Where it is published."""
        return contract.QUEUE_OF[self.task]

    @property
    def reply_key(self) -> str:
        """The Redis list on which its answer comes, unless the driver names another."""
        return contract.reply_key(self.app_id, self.answer_to or self.request_id)

    def headers(self, answer_to: str | None = None) -> dict[str, str]:
        """Return what the worker reads of the headers, and what keeps Celery from adding more."""
        headers = {
            "task": self.task.value,
            "id": self.request_id,
            contract.PUBLISHED_AT: times.to_wire(times.now()),
            "argsrepr": "-",
            "kwargsrepr": "-",
        }
        box = answer_to or self.answer_to
        return headers if box is None else headers | {contract.ANSWER_TO: box}

    def to_wire(self, answer_to: str | None = None) -> bytes:
        """Return the message as it lies on a queue in Redis, with a delivery tag of its own."""
        # No exchange is named: a job that comes back from a worker that died then goes to the queue
        # its routing key says; with a name to which no queue is bound it would be lost.
        body = json.dumps([[], self.kwargs, {}]).encode()
        return json.dumps(
            {
                "body": base64.b64encode(body).decode(),
                "content-encoding": "utf-8",
                "content-type": "application/json",
                "headers": self.headers(answer_to),
                "properties": {
                    "body_encoding": "base64",
                    "correlation_id": self.request_id,
                    "delivery_info": {"exchange": "", "routing_key": self.queue.value},
                    "delivery_mode": 2,
                    "delivery_tag": str(uuid.uuid4()),
                    "priority": 0,
                },
            }
        ).encode()


def seal(request: requests.Request[Any], *, app_id: str, key: AppKey) -> Message:
    """Return *request* sealed, under a new request id if it has none.

    Raises `ConfigurationError` for what no message can carry.
    """
    request_id = request.request_id or requests.new_request_id()
    content = requests.content_of(
        request,
        app_id=app_id,
        request_id=request_id,
        issued_at=times.now(),
        lifetime=request.lifetime,
    )
    try:
        envelope = sealing.seal(key, sealing.Kind.REQUEST, content)
    except (TypeError, ValueError, RecursionError):
        raise ConfigurationError("the request holds something JSON cannot carry") from None
    most = contract.max_envelope_bytes(request.task)
    if len(envelope) > most:
        raise ConfigurationError(f"the request is larger than {most // 1024} KiB")
    if request.request_id is None:
        return Message(request.task, app_id, request_id, envelope)
    asks, answer_to = _digest(content["payload"]), requests.new_request_id()
    return Message(request.task, app_id, request_id, envelope, answer_to, asks)


def _digest(payload: dict[str, Any]) -> bytes:
    # Read again, as JSON has only texts for keys: others cannot be sorted.
    text = json.dumps(json.loads(json.dumps(payload)), sort_keys=True)
    return hashlib.sha256(text.encode()).digest()


def reseal(envelope: str, *, app_id: str, keys: Sequence[AppKey]) -> Message:
    """Return a request of this app sealed anew: same payload, new request id, issued now.

    Sealed with the first of *keys*. Raises `SealBroken` when *envelope* was not with any of them.
    """
    known = {key.kid: key for key in reversed(keys)}
    content = sealing.unseal(envelope, sealing.Kind.REQUEST, known.get)
    task = contract.Task(content["task"])
    issued_at = times.now()
    request_id = requests.new_request_id()
    content |= {
        "request_id": request_id,
        "issued_at": times.to_wire(issued_at),
        "deadline": times.to_wire(issued_at + contract.MAX_LIFETIME[task]),
    }
    sealed = sealing.seal(keys[0], sealing.Kind.REQUEST, content)
    return Message(task, app_id, request_id, sealed)
