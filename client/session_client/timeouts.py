"""How long a call may take: checked when it begins, kept while it waits."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Final

from session_client.errors import ConfigurationError

_LONGEST_TIMEOUT_SECONDS: Final = 24 * 3600.0


def lifetime(timeout: object) -> timedelta:
    """Return *timeout*, in seconds, as a duration. Raises `ConfigurationError`."""
    if not (isinstance(timeout, int | float) and 0 < timeout <= _LONGEST_TIMEOUT_SECONDS):
        raise ConfigurationError("timeout: a positive number of seconds, a day at most")
    return timedelta(seconds=timeout)


def sleep(seconds: float, until: float) -> None:
    """Sleep for *seconds*, but not beyond *until* (`time.monotonic`)."""
    time.sleep(max(0.0, min(seconds, until - time.monotonic())))
