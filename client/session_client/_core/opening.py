"""What is believed of what lies on a reply list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from session_client import contract, sealing
from session_client._core.message import Message
from session_client.contract import Verdict
from session_client.errors import SealBroken
from session_client.keys import AppKey
from session_client.reading import Answered

_LONGEST_REASON: Final = 64


@dataclass(frozen=True, slots=True)
class Opened:
    """An answer that a known key opened, or a refusal in clear; to which request it says itself."""

    content: Mapping[str, Any] = field(repr=False)
    is_in_clear: bool

    @property
    def request_id(self) -> object:
        """The request that it says it answers."""
        return self.content.get("request_id")


def unsealed(raw: bytes, key: AppKey) -> Opened:
    """Open what lay on a reply list. Raises `SealBroken` for what the client may drop."""
    text = raw.decode("ascii", errors="replace")
    if text.startswith("{"):
        return Opened(_refusal_in_clear(text), is_in_clear=True)
    content = sealing.unseal(text, sealing.Kind.ANSWER, lambda kid: key if kid == key.kid else None)
    return Opened(content, is_in_clear=False)


def answered(message: Message, raw: bytes | Opened, key: AppKey) -> Answered:
    """Return the answer to *message*. Raises `SealBroken` for anything else."""
    opened = raw if isinstance(raw, Opened) else unsealed(raw, key)
    content = opened.content
    asked = (message.task.value, message.app_id, message.request_id)
    if opened.is_in_clear:
        if opened.request_id != message.request_id:
            raise SealBroken("an unsealed answer may only refuse")
    elif (content.get("task"), content.get("app_id"), content.get("request_id")) != asked:
        raise SealBroken("an answer to another request")
    elif content.get("v") != contract.VERSION:
        raise SealBroken("an answer of a version this client does not know")
    try:
        return Answered.from_wire(content)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise SealBroken("an answer of a shape this client does not know") from None


def _refusal_in_clear(text: str) -> dict[str, Any]:
    """Read an answer that could not be sealed because the worker did not know which app asked.

    It can only ever say no: any client of the broker could have written it.
    """
    if len(text) > contract.MAX_ENVELOPE_BYTES:
        raise SealBroken("too large")
    try:
        content = sealing.json_object(text)
    except ValueError:
        raise SealBroken("not an answer") from None
    if content.get("verdict") != Verdict.UNAUTHORIZED:
        raise SealBroken("an unsealed answer may only refuse")
    reason = content.get("reason")
    if not (isinstance(reason, str) and len(reason) <= _LONGEST_REASON and reason.isprintable()):
        reason = None  # it may be written to a log, where a line of its own would look like ours
    return {
        "verdict": Verdict.UNAUTHORIZED,
        "request_id": content.get("request_id"),
        "reason": reason,
    }
