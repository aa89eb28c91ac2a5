"""One moment by which a whole conversation with Mosaic must be over."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from worker import http_client
from worker.errors import MosaicTimedOut, SessionWorkerError

_TOO_LATE: Final = "mosaic: no answer within the time allowed"


class Deadline(http_client.Deadline):
    """A deadline that, once passed, means that Mosaic is not available."""

    __slots__ = ()

    def require(self) -> float:
        """Return the seconds left. Raises `MosaicTimedOut` when there are none."""
        remaining = self.remaining()
        if remaining <= 0:
            raise MosaicTimedOut(_TOO_LATE)
        return remaining

    @contextmanager
    def hold(
        self, lock: threading.Lock, instead: SessionWorkerError | None = None
    ) -> Iterator[None]:
        """Hold *lock*. Raises `MosaicTimedOut` if it is not free in time; *instead*, if not now."""
        if not lock.acquire(timeout=self.remaining() if instead is None else 0):
            raise instead or MosaicTimedOut(_TOO_LATE)
        try:
            yield
        finally:
            lock.release()

    def sleep(self, seconds: float) -> None:
        """Wait a little. Raises `MosaicTimedOut` once the deadline has passed."""
        time.sleep(min(seconds, self.require()))
