"""The simulator's own time, which a test may move."""

from __future__ import annotations

import time


class Clock:
    """Real time plus an offset, in Unix seconds."""

    def __init__(self) -> None:
        self._offset = 0.0

    def now(self) -> float:
        """The moment every date in the simulator is measured by."""
        return time.time() + self._offset

    def advance(self, seconds: float) -> float:
        """Move time on, or back when *seconds* is negative, and return the new now."""
        self._offset += seconds
        return self.now()
