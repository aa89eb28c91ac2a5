"""One request as it travels, and the answer to it: sealed here, opened here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, TypeVar

from session_client import answers, contract, requests, sealing, times
from session_client.contract import Verdict
from session_client.errors import InvalidArgumentError, SealBroken
from session_client.keys import AppKey

AnswerT = TypeVar("AnswerT", bound=answers.Answer)

_LONGEST_REASON: Final = 64


@dataclass(frozen=True, slots=True)
class Message:
    """One request, sealed once: sent again it is the same to the bit."""

    task: contract.Task
    app_id: str
    request_id: str
    envelope: str = field(repr=False)

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
        """The Redis list on which its answer comes."""
        return contract.reply_key(self.app_id, self.request_id)


def seal(
    request: requests.Request,
    *,
    app_id: str,
    key: AppKey,
    request_id: str | None,
    lifetime: timedelta,
) -> Message:
    """Return *request* sealed, under a new request id if none is given.

    Raises `InvalidArgumentError` for what no message can carry.
    """
    request_id = requests.new_request_id() if request_id is None else request_id
    if not contract.is_request_id(request_id):
        raise InvalidArgumentError("request_id: 16 to 64 letters, digits, - and _")
    content = requests.content_of(
        request, app_id=app_id, request_id=request_id, issued_at=times.now(), lifetime=lifetime
    )
    try:
        envelope = sealing.seal(key, sealing.Kind.REQUEST, content)
    except (TypeError, ValueError, RecursionError):
        raise InvalidArgumentError("the request holds something JSON cannot carry") from None
    most = contract.max_envelope_bytes(request.task)
    if len(envelope) > most:
        raise InvalidArgumentError(f"the request is larger than {most // 1024} KiB")
    return Message(request.task, app_id, request_id, envelope)


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


def open_answer(message: Message, raw: bytes, key: AppKey, answer_type: type[AnswerT]) -> AnswerT:
    """Return the answer to *message*. Raises `SealBroken` for anything else."""
    text = raw.decode("ascii", errors="replace")
    if text.startswith("{"):
        return answer_type.from_wire(_refusal_in_clear(text, message.request_id))
    content = sealing.unseal(text, sealing.Kind.ANSWER, lambda kid: key if kid == key.kid else None)
    asked = (message.task.value, message.app_id, message.request_id)
    if (content.get("task"), content.get("app_id"), content.get("request_id")) != asked:
        raise SealBroken("an answer to another request")
    if content.get("v") != contract.VERSION:
        raise SealBroken("an answer of a version this client does not know")
    try:
        return answer_type.from_wire(content)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise SealBroken("an answer of a shape this client does not know") from None


def _refusal_in_clear(text: str, request_id: str) -> dict[str, Any]:
    """Read an answer that could not be sealed because the worker did not know who was asking.

    It can only ever say no: anybody on the broker could have written it.
    """
    if len(text) > contract.MAX_ENVELOPE_BYTES:
        raise SealBroken("too large")
    try:
        content = sealing.json_object(text)
    except ValueError:
        raise SealBroken("not an answer") from None
    if content.get("verdict") != Verdict.UNAUTHORIZED or content.get("request_id") != request_id:
        raise SealBroken("an unsealed answer may only refuse")
    reason = content.get("reason")
    if not (isinstance(reason, str) and len(reason) <= _LONGEST_REASON and reason.isprintable()):
        reason = None  # it may be written to a log, where a line of its own would look like ours
    return {"verdict": Verdict.UNAUTHORIZED, "request_id": request_id, "reason": reason}
