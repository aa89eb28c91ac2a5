"""How long maintenance rests between two batches, so that users hardly feel it."""

from __future__ import annotations

from typing import Final

# For a second that a batch had to wait for other writers, those get so many more to themselves: no
# run is slowed down to less than a third by it.
_GIVES_WAY: Final = 2.0
# By so much batches differ where no other writer is.
_USUAL: Final = 1.5
# What was quickest yesterday may never be reached again, since tables grow.
_FORGETS: Final = 1.1

_quickest: dict[str, float] = {}  # seconds a row, by what is done, of all runs of this process


class Pace:
    """Tells one run when to go on.

    What makes users wait makes a batch wait as well: processors, disks, locks, the log. So a batch
    that took longer than the quickest ones is followed by a rest. At night there is none.
    """

    def __init__(self, name: str, rows_per_second: float) -> None:
        """*name* is what is done; *rows_per_second* are the most that it may do."""
        self._name = name
        self._seconds_a_row = 1 / rows_per_second
        if name in _quickest:
            _quickest[name] *= _FORGETS

    def rest(self, rows: int, seconds: float) -> float:
        """Return for how many seconds to rest after a batch that took *seconds* for *rows*."""
        if rows == 0:
            return 0.0
        quickest = min(seconds / rows, _quickest.get(self._name, seconds / rows))
        _quickest[self._name] = quickest
        waited = seconds - _USUAL * rows * quickest
        return max(0.0, _GIVES_WAY * waited, rows * self._seconds_a_row - seconds)
