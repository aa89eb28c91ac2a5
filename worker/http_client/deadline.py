"""One moment by which a whole conversation must be over."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Self


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

    def at_most(self, seconds: float) -> Self:
        """Return this deadline, or one *seconds* from now if that is earlier."""
        return type(self)(min(self.at, time.monotonic() + seconds))
