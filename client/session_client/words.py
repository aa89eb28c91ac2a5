"""Enums of text, on Python 3.10 too, which has no `enum.StrEnum`."""

from __future__ import annotations

from enum import Enum


class Word(str, Enum):
    """A member is its value, also where it is printed."""

    def __str__(self) -> str:
        return str(self.value)

    def __format__(self, spec: str) -> str:
        return format(str(self.value), spec)
