"""Which app asks, and is this a request at all? Nothing is read or changed before that is proven.

The key that opens the envelope proves the app. Everything the message says outside must then
equal what is sealed inside, so that a captured envelope cannot be sent as something else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from session_client import contract, sealing, times
from session_client.contract import Reason, Task
from session_client.errors import SealBroken
from session_client.keys import AppKey
from worker.app_registry import KnownApp
from worker.errors import InvalidRequest, Unauthorized
from worker.requests import commands
from worker.requests.command_fields import Command
from worker.requests.request import OpenedRequest
from worker.storage.encryption import Hashed
from worker.wiring import Services

# No job works longer than this, whatever its deadline: a message still being worked on must not
# come again, so it stays well below the broker's visibility timeout.
JOB_BUDGET: Final = timedelta(seconds=45)
_TIMES: Final = frozenset({"issued_at", "deadline"})
# Made once: json.dumps makes a new one for each call with such options.
_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Message:
    """What the broker delivered: everything in it is the sender's word only."""

    task: Task
    message_id: str
    app_id: str
    envelope: object = field(repr=False)
    queue: str | None  # where it lay; that much the broker knows
    answer_to: str  # names the list the answer goes to: a request's own, or one for many


@dataclass(frozen=True, slots=True)
class Sender:
    """The proven sender of a message, with what it sealed."""

    app: KnownApp
    key: AppKey
    content: dict[str, Any] = field(repr=False)
    # Keyed hash of what is asked for: the same request id must come with the same content.
    digest: bytes = field(repr=False)


def message_of(
    task: Task,
    message_id: object,
    kwargs: Mapping[str, Any],
    queue: str | None,
    answer_to: object = None,
) -> Message | None:
    """Return the message, or None when not even a refusal could be addressed to its sender.

    *answer_to* stands outside the seal, so that the same envelope can be sent again from elsewhere.
    An attacker who could change it there could as well drop the message.
    """
    app_id = kwargs.get("app_id")
    if not contract.is_app_id(app_id) or not contract.is_request_id(message_id):
        return None
    box = answer_to if contract.is_request_id(answer_to) else message_id
    return Message(task, str(message_id), str(app_id), kwargs.get("envelope"), queue, str(box))


def prove_sender(services: Services, message: Message) -> Sender:
    """Open the envelope with a key of the app it names. Raises `Unauthorized`.

    First of all, a task is served from its own queue: those that wait for Mosaic would otherwise
    hold up the logouts among which an app has put them.
    """
    if message.queue != contract.QUEUE_OF[message.task]:
        raise Unauthorized(Reason.WRONG_QUEUE)
    envelope = message.envelope
    if not isinstance(envelope, str):
        raise Unauthorized(Reason.NOT_SEALED)
    if len(envelope) > contract.max_envelope_bytes(message.task):
        raise Unauthorized(Reason.TOO_LARGE)
    kid = _kid_of(envelope)
    app = services.apps.find(message.app_id, kid)
    if app is None:
        raise Unauthorized(Reason.UNKNOWN_APP)
    key = app.keys.get(kid)
    if key is None:
        raise Unauthorized(Reason.WRONG_KEY)
    try:
        content = sealing.unseal(envelope, sealing.Kind.REQUEST, lambda _: key)
    except SealBroken:
        raise Unauthorized(Reason.WRONG_KEY) from None
    return Sender(app, key, content, services.keyring.keyed_hash(Hashed.REQUEST, _asked(content)))


def _kid_of(envelope: str) -> str:
    try:
        return str(sealing.header_of(envelope).get("kid"))
    except SealBroken:
        raise Unauthorized(Reason.NOT_SEALED) from None


def check(message: Message, sender: Sender, now: datetime) -> OpenedRequest[Command]:
    """Return the request of a proven sender. Raises `InvalidRequest` or `Unauthorized`."""
    content = sender.content
    if sender.app.disabled_at is not None:
        raise Unauthorized(Reason.APP_DISABLED)
    if content.get("v") != contract.VERSION:
        raise InvalidRequest(Reason.UNKNOWN_VERSION)
    outside = (message.task.value, message.app_id, message.message_id)
    if (content.get("task"), content.get("app_id"), content.get("request_id")) != outside:
        raise InvalidRequest(Reason.OUTSIDE_MISMATCH)
    deadline = _deadline(content, message.task, now)
    command = commands.parse(message.task, content.get("payload"))
    return OpenedRequest(
        app=sender.app,
        task=message.task,
        request_id=message.message_id,
        command=command,
        opened_at=now,
        deadline=min(deadline, now + JOB_BUDGET),
        valid_until=deadline,
        digest=sender.digest,
    )


def _deadline(content: Mapping[str, Any], task: Task, now: datetime) -> datetime:
    try:
        issued_at = times.from_wire(content.get("issued_at"))
        deadline = times.from_wire(content.get("deadline"))
        lifetime = deadline - issued_at
    except (ValueError, OverflowError):
        raise InvalidRequest(Reason.MALFORMED, "issued_at, deadline") from None
    if not timedelta(0) < lifetime <= contract.MAX_LIFETIME[task]:
        raise InvalidRequest(Reason.MALFORMED, "deadline is too far from issued_at")
    if issued_at > now + contract.MAX_CLOCK_SKEW:
        raise InvalidRequest(Reason.CLOCK_SKEW, "issued_at is in the future: check the clocks")
    if now >= deadline:
        raise InvalidRequest(Reason.DEADLINE_PASSED)
    return deadline


def _asked(content: Mapping[str, Any]) -> str:
    """Return what is asked for, however its JSON was written.

    The times are left out: an app that repeats a request under its id, as `NotAcknowledged` tells
    it to, asks for the same thing at a later time.
    """
    return _CANONICAL.encode({name: content[name] for name in content if name not in _TIMES})
