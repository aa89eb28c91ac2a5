"""What a field of a body may hold, and what is said of one that does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


class Field(Protocol):
    """One field: whether it must be there, and what is wrong with a value."""

    @property
    def required(self) -> bool:
        """Whether a body without it is refused."""
        ...

    def complaints(self, value: object, path: str) -> list[str]:
        """A sentence for each thing wrong with *value*, which stands at *path*."""
        ...


Shape = Mapping[str, Field]


@dataclass(frozen=True)
class Text:
    """A string that is not empty."""

    required: bool = False
    longest: int | None = None
    choices: frozenset[str] | None = None
    holding: tuple[str, ...] = ()  # words that must stand in it

    def complaints(self, value: object, path: str) -> list[str]:
        """See `Field.complaints`."""
        if not isinstance(value, str) or not value:
            return [f"{path} must be a non-empty string"]
        if self.longest is not None and len(value) > self.longest:
            return [f"{path} must be at most {self.longest} characters"]
        if self.choices is not None and value not in self.choices:
            return [f"{path} must be one of {', '.join(sorted(self.choices))}"]
        return [f"{path} must hold {word}" for word in self.holding if word not in value]


@dataclass(frozen=True)
class Moment:
    """A date and time as RFC 3339 writes it, which OpenAPI calls `date-time`."""

    required: bool = False

    def complaints(self, value: object, path: str) -> list[str]:
        """See `Field.complaints`."""
        try:
            at = datetime.fromisoformat(value) if isinstance(value, str) else None
        except ValueError:
            at = None
        return [] if at and at.tzinfo else [f"{path} must be a date and time with its zone"]


@dataclass(frozen=True)
class Number:
    """A number, whole or not."""

    required: bool = False
    least: float | None = None
    most: float | None = None

    def complaints(self, value: object, path: str) -> list[str]:
        """See `Field.complaints`."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return [f"{path} must be a number"]
        if self.least is not None and value < self.least:
            return [f"{path} must be at least {self.least:g}"]
        if self.most is not None and value > self.most:
            return [f"{path} must be at most {self.most:g}"]
        return []


@dataclass(frozen=True)
class Flag:
    """True or false."""

    required: bool = False

    def complaints(self, value: object, path: str) -> list[str]:
        """See `Field.complaints`."""
        return [] if isinstance(value, bool) else [f"{path} must be true or false"]


@dataclass(frozen=True)
class Anything:
    """An object whose inside is not ours to judge."""

    required: bool = False

    def complaints(self, value: object, path: str) -> list[str]:
        """See `Field.complaints`."""
        return [] if isinstance(value, dict) else [f"{path} must be an object"]


@dataclass(frozen=True)
class Object:
    """An object with named fields and no others."""

    fields: Shape
    required: bool = False

    def complaints(self, value: object, path: str) -> list[str]:
        """See `Field.complaints`."""
        if not isinstance(value, dict):
            return [f"{path} must be an object"]
        return complaints(value, self.fields, f"{path}.")


@dataclass(frozen=True)
class ListOf:
    """A list of things of one kind."""

    item: Field = field(default_factory=Text)
    required: bool = False

    def complaints(self, value: object, path: str) -> list[str]:
        """See `Field.complaints`."""
        if not isinstance(value, list):
            return [f"{path} must be a list"]
        return [
            sentence
            for number, item in enumerate(value)
            for sentence in self.item.complaints(item, f"{path}[{number}]")
        ]


@dataclass(frozen=True)
class EitherOf:
    """A value that one of several kinds takes."""

    kinds: Sequence[Field]
    required: bool = False

    def complaints(self, value: object, path: str) -> list[str]:
        """See `Field.complaints`."""
        found = [kind.complaints(value, path) for kind in self.kinds]
        return [] if [] in found else [sentence for sentences in found for sentence in sentences]


MAX_APPROVALS = 10
APPROVAL_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")


@dataclass(frozen=True)
class ApprovalData:
    """What a user approves: a flat object of at most ten keys, in a narrow alphabet."""

    required: bool = False

    def complaints(self, value: object, path: str) -> list[str]:
        """See `Field.complaints`."""
        if not isinstance(value, dict) or len(value) > MAX_APPROVALS:
            return [f"{path} must be an object of at most {MAX_APPROVALS} keys"]
        return [
            f"{path}.{name} may hold letters, digits, _, - and . alone"
            for name, text in value.items()
            if not isinstance(text, str) or not APPROVAL_CHARACTERS.issuperset(name + text)
        ]


def complaints(value: Mapping[str, object], shape: Shape, within: str = "") -> list[str]:
    """Everything about *value* that is not of this *shape*, a sentence each."""
    found = [f"{within}{name} is unknown" for name in value if name not in shape]
    for name, kind in shape.items():
        if name in value:
            found += kind.complaints(value[name], f"{within}{name}")
        elif kind.required:
            found.append(f"{within}{name} is required")
    return found
