"""What lies in a queue and is no message."""

from __future__ import annotations

from typing import Any, Final

import structlog

from session_client import contract

log = structlog.get_logger()

# What reading JSON raises that is none of ours, and what an item raises that is no message.
UNREADABLE: Final = (ValueError, TypeError, RecursionError)
NOT_A_MESSAGE: Final = (*UNREADABLE, AttributeError, LookupError)


class TooLarge(ValueError):  # noqa: N818 - what is logged of it
    """An item has more bytes than any message needs. It is dropped unread."""


def measured(found: Any) -> tuple[bytes, bytes] | None:
    """Return what BRPOP found, queue and item. Raises `TooLarge`."""
    if not found:
        return None
    queue, item = found
    if len(item) > contract.MAX_MESSAGE_BYTES:
        raise TooLarge
    return queue, item


def is_message(content: Any) -> bool:
    """Whether there is what kombu writes to when it puts a message back."""
    try:
        parts = (content["headers"], content["properties"]["delivery_info"])
    except (TypeError, LookupError):
        return False
    return all(isinstance(part, dict) for part in parts)


def say_rejected(error: Exception | None) -> None:
    """Log it without what it says: items may hold secrets, and errors may quote them."""
    log.error(
        "message_rejected", why="not_a_message", error=type(error).__name__ if error else None
    )
