"""One moment by which a whole conversation with Mosaic must be over."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from worker import http
from worker.errors import MosaicUnavailable

_TOO_LATE: Final = "mosaic: no answer within the time allowed"


class Deadline(http.Deadline):
    """A deadline that, once passed, means that Mosaic is not available."""

    __slots__ = ()

    def require(self) -> float:
        """Return the seconds left. Raises `MosaicUnavailable` when there are none."""
        remaining = self.remaining()
        if remaining <= 0:
            raise MosaicUnavailable(_TOO_LATE)
        return remaining

    @contextmanager
    def hold(self, lock: threading.Lock) -> Iterator[None]:
        """Hold *lock*. Raises `MosaicUnavailable` if it is not free in time."""
        if not lock.acquire(timeout=self.remaining()):
            raise MosaicUnavailable(_TOO_LATE)
        try:
            yield
        finally:
            lock.release()

    def sleep(self, seconds: float) -> None:
        """Wait a little. Raises `MosaicUnavailable` once the deadline has passed."""
        time.sleep(min(seconds, self.require()))
