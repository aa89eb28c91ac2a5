"""What lies in a queue and is no message."""

from __future__ import annotations

from typing import Final

import structlog

log = structlog.get_logger()

# What reading JSON raises that is none of ours, and what an item raises that is no message.
UNREADABLE: Final = (ValueError, TypeError, RecursionError)
NOT_A_MESSAGE: Final = (*UNREADABLE, AttributeError, LookupError)


def say_rejected(error: Exception | None) -> None:
    """Log it without what it says: items may hold secrets, and errors may quote them."""
    log.error(
        "message_rejected", why="not_a_message", error=type(error).__name__ if error else None
    )
