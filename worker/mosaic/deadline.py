"""One moment by which a whole conversation with Mosaic must be over."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Self

from worker.errors import MosaicUnavailable

_TOO_LATE: Final = "mosaic: no answer within the time allowed"


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point on the monotonic clock, so that a clock change cannot move it."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Self:
        """Return the deadline *seconds* from now."""
        return cls(time.monotonic() + seconds)

    def remaining(self) -> float:
        """Return the seconds left, never less than none."""
        return max(0.0, self.at - time.monotonic())

    def require(self) -> float:
        """Return the seconds left. Raises `MosaicUnavailable` when there are none."""
        remaining = self.remaining()
        if remaining <= 0:
            raise MosaicUnavailable(_TOO_LATE)
        return remaining

    def at_most(self, seconds: float) -> Deadline:
        """Return this deadline, or one *seconds* from now if that is earlier."""
        return Deadline(min(self.at, time.monotonic() + seconds))

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
