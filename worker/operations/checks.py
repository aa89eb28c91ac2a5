"""What a check of `doctor` is: it says what it found, and raises what is wrong."""

from __future__ import annotations

from collections.abc import Callable

Check = Callable[[], str]


class Hint(Exception):  # noqa: N818 - it is none
    """What may be meant, and may be the cause of trouble."""
