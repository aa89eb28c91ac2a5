"""Where spooled logouts are kept: the form of a store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class SpooledLogout:
    """One logout that is not acknowledged yet, sealed. ``refused`` says why it never will be.

    ``attempts`` counts how often it was claimed.
    """

    request_id: str
    envelope: str = field(repr=False)
    refused: str | None = None
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class SpoolCounts:
    """How much lies in a spool.

    ``waiting`` counts what the worker has not acknowledged yet; when it grows, worker or broker is
    down. ``refused`` counts what the worker refused for good; when it is not 0, the app's
    team must look.
    """

    waiting: int
    refused: int


@dataclass(slots=True)
class Settlement:
    """What became of the logouts that one drainer has claimed, by request id.

    What is in none of these stays claimed until the lease is over.
    """

    acknowledged: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)  # why
    replaced: dict[str, SpooledLogout] = field(default_factory=dict)  # by this one, due at once
    released: dict[str, float] = field(default_factory=dict)  # due in so many seconds


class SpoolStore(Protocol):
    """Where spooled logouts are kept: a file, or a table in the app's own database.

    Each method takes effect durably before it returns, in one transaction. Several processes may
    share one store: what one has claimed no other gets until its lease is over.
    """

    def add(
        self, logout: SpooledLogout, connection: Any = None, *, within: float | None = None
    ) -> None:
        """Keep *logout*, due at once; one with the same request id is replaced.

        With *connection*, the app's own open one, it is part of the app's transaction. *within* so
        many seconds the store raises, where it is locked.
        """
        ...

    def claim(self, by: str, limit: int, lease_seconds: float) -> list[SpooledLogout]:
        """Return the oldest that are due and that no process holds, held by *by* from now on."""
        ...

    def settle(self, by: str, settlement: Settlement) -> None:
        """Write down what became of them, as far as *by* still holds them."""
        ...

    def counts(self) -> SpoolCounts:
        """Return how many wait, and how many were refused."""
        ...

    def refused(self) -> list[SpooledLogout]:
        """Return those that the worker refused, the oldest first."""
        ...
