"""What a check of `doctor` is: it says what it found, and raises what is wrong."""

from __future__ import annotations

from collections.abc import Callable

Check = Callable[[], str]


class Hint(Exception):  # noqa: N818 - it is none
    """What may be meant, and may be the cause of trouble."""


class Step:
    """A check that others build on: once it has run they ask whether it was good."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self.is_good = False

    def __call__(self) -> str:
        """Run it."""
        says = self._check()
        self.is_good = True
        return says
