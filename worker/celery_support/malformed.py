"""What lies in a queue and is no message, or none that can be run."""

from __future__ import annotations

from typing import Any, Final

import structlog
from kombu import compression
from kombu.exceptions import ContentDisallowed, DecodeError

from session_client import contract
from worker import metrics
from worker.metrics import Rejection

log = structlog.get_logger()

# What reading a malformed message raises. KeyError among them: kombu's Redis transport lists it as
# a connection error, and a consumer would reconnect and meet the message again.
UNREADABLE: Final = (
    *(ValueError, TypeError, AttributeError, LookupError, RecursionError),
    *(DecodeError, ContentDisallowed),
)


class TooLarge(ValueError):  # noqa: N818 - what happened
    """An item has more bytes than any message needs. It is dropped unread."""


class NoQueue(ValueError):  # noqa: N818
    """In the place of a queue lies something else. It is dropped unread."""


def measured(found: Any) -> tuple[bytes, bytes] | None:
    """Return what BRPOP found, queue and item. Raises `TooLarge`."""
    if not found:
        return None
    queue, item = found
    if len(item) > contract.max_message_bytes(queue.decode(errors="replace")):
        raise TooLarge
    return queue, item


def open_no_packed_bodies() -> None:
    """Have kombu refuse each body that is compressed, and compress none, in this process.

    A small body opens to a huge one, and kombu opens it before the worker can measure it. Of such a
    message the consumer hears that it cannot be decoded.
    """
    for kind in compression.encoders():
        compression.register(_refuse_packed, _refuse_packed, kind)


def _refuse_packed(body: bytes) -> bytes:
    del body
    raise DecodeError


def is_message(content: Any) -> bool:
    """Whether there is what kombu writes to when it puts a message back."""
    try:
        parts = (content["headers"], content["properties"]["delivery_info"])
    except (TypeError, LookupError):
        return False
    return all(isinstance(part, dict) for part in parts)


def say_rejected(why: Rejection, error: Exception | None = None) -> None:
    """Log and count it without what it says: it may hold secrets, and errors may quote them."""
    metrics.rejected(why)
    log.error("message_rejected", why=why, error=type(error).__name__ if error else None)


def say_no_message(error: Exception) -> None:
    """Say likewise of what the worker could not read."""
    say_rejected(
        Rejection.TOO_LARGE if isinstance(error, TooLarge) else Rejection.NOT_A_MESSAGE, error
    )
