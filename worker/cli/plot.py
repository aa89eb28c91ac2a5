"""A row of small bars, for terminals of every kind."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

_BLOCKS: Final = " ▁▂▃▄▅▆▇█"
_ASCII: Final = " .:-=+*#%"


def bars(values: Iterable[float], columns: int, *, ascii_only: bool) -> str:
    """Return the newest *columns* values as bars, the newest at the right; the largest is full.

    What is more than nothing is never shown as nothing.
    """
    shown = list(values)[-columns:]
    levels = _ASCII if ascii_only else _BLOCKS
    top = max(shown, default=0.0)
    drawn = "".join(levels[_level(value, top, len(levels) - 1)] for value in shown)
    return drawn.rjust(columns)


def _level(value: float, top: float, highest: int) -> int:
    if value <= 0:
        return 0
    return max(1, round(value / top * highest))
