"""Brokers that are no Redis: all we ask of them ourselves is whether they answer."""

from __future__ import annotations

from typing import Final

from kombu import Connection
from kombu.exceptions import OperationalError

_TIMEOUT_SECONDS: Final = 2


def answers(url: str) -> bool:
    """Whether the broker at *url* can be connected to."""
    try:
        with Connection(url, connect_timeout=_TIMEOUT_SECONDS) as connection:
            connection.ensure_connection(max_retries=1, timeout=_TIMEOUT_SECONDS)
    except (OSError, OperationalError):
        return False
    return True
