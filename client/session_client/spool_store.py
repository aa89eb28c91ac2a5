"""Where spooled logouts are kept: the form of a store, and one in a SQLite file."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

_BUSY_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class SpooledLogout:
    """One logout that is not acknowledged yet, sealed. ``refused`` says why it never will be."""

    request_id: str
    envelope: str = field(repr=False)
    refused: str | None = None


class SpoolStore(Protocol):
    """Where spooled logouts are kept: a file, or a table in the app's own database.

    Each method takes effect durably before it returns. Several processes may share one store: a
    logout that two of them deliver is one logout.
    """

    def add(self, logout: SpooledLogout) -> None:
        """Keep *logout*; one with the same request id is replaced."""
        ...

    def waiting(self, limit: int) -> list[SpooledLogout]:
        """Return the oldest ones that are neither acknowledged nor refused."""
        ...

    def acknowledged(self, request_id: str) -> None:
        """Forget one."""
        ...

    def refuse(self, request_id: str, why: str) -> None:
        """Keep one as refused: somebody must look at it."""
        ...

    def refused(self) -> list[SpooledLogout]:
        """Return those that the worker refused."""
        ...


class SqliteSpool:
    """The default store: one SQLite file."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._path.touch(mode=0o600)  # SQLite would make it readable for all, if only for a moment
        self._path.chmod(0o600)
        with self._connect() as connection:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(
                "CREATE TABLE IF NOT EXISTS spooled_logouts ("
                " request_id TEXT PRIMARY KEY, envelope TEXT NOT NULL, refused TEXT)"
            )

    def add(self, logout: SpooledLogout) -> None:
        """Keep *logout*; one with the same request id is replaced."""
        with self._connect() as connection:
            connection.execute(
                "INSERT OR REPLACE INTO spooled_logouts VALUES (?, ?, ?)",
                (logout.request_id, logout.envelope, logout.refused),
            )

    def waiting(self, limit: int) -> list[SpooledLogout]:
        """Return the oldest ones that are neither acknowledged nor refused."""
        return self._read("WHERE refused IS NULL ORDER BY rowid LIMIT ?", limit)

    def acknowledged(self, request_id: str) -> None:
        """Forget one."""
        with self._connect() as connection:
            connection.execute("DELETE FROM spooled_logouts WHERE request_id = ?", (request_id,))

    def refuse(self, request_id: str, why: str) -> None:
        """Keep one as refused."""
        with self._connect() as connection:
            connection.execute(
                "UPDATE spooled_logouts SET refused = ? WHERE request_id = ?", (why, request_id)
            )

    def refused(self) -> list[SpooledLogout]:
        """Return those that the worker refused."""
        return self._read("WHERE refused IS NOT NULL ORDER BY rowid")

    def _read(self, clause: str, *values: object) -> list[SpooledLogout]:
        with self._connect() as connection:
            query = f"SELECT request_id, envelope, refused FROM spooled_logouts {clause}"  # noqa: S608
            return [SpooledLogout(*row) for row in connection.execute(query, values)]

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        # A connection each time: the spool is used rarely, and from any thread and process.
        with closing(sqlite3.connect(self._path, timeout=_BUSY_SECONDS)) as connection:
            connection.execute("PRAGMA synchronous=FULL")
            with connection:
                yield connection
