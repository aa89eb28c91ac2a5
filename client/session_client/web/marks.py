"""Marks: which sessions have ended, for as long as an app's own sessions may not know it yet.

A mark outlives the local session's cookie, so that an old copy of it is worth nothing, with any
session store and with signed cookies too. An app that loses its marks is right again once each
session was checked at the worker: within ``recheck`` seconds.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing
from typing import Any, Final, Protocol

import redis

from session_client import sentinels, urls
from session_client._redis.settings import Place
from session_client.errors import ConfigurationError

_PREFIX: Final = "mosaic-mark:"
# A mark that is slow to read is as good as none: the worker is asked instead.
_TIMEOUT_SECONDS: Final = 0.5
_MAX_REMEMBERED: Final = 100_000


class Marks(Protocol):
    """Where marks are kept: a name and a time in seconds, for some seconds."""

    def put(self, name: str, at: float, lasts: float) -> None:
        """Keep that *name* ended at *at*, for *lasts* seconds. Raises what its store raises."""
        ...

    def look(self, names: Sequence[str]) -> dict[str, float]:
        """Return the times of those of *names* that are marked."""
        ...


class MemoryMarks:
    """Marks of this process alone: for tests, and for apps that are one process."""

    def __init__(self) -> None:
        self._marks: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def put(self, name: str, at: float, lasts: float) -> None:
        """Keep that *name* ended at *at*, for *lasts* seconds."""
        now = time.monotonic()
        with self._lock:
            self._marks.pop(name, None)
            self._marks[name] = (at, now + lasts)
            over = [known for known, (_, until) in self._marks.items() if until <= now]
            too_many = list(self._marks)[: max(0, len(self._marks) - _MAX_REMEMBERED)]
            for known in {*over, *too_many}:
                del self._marks[known]

    def look(self, names: Sequence[str]) -> dict[str, float]:
        """Return the times of those of *names* that are marked."""
        now = time.monotonic()
        with self._lock:
            found = {name: self._marks[name] for name in names if name in self._marks}
        return {name: at for name, (at, until) in found.items() if until > now}


class RedisMarks:
    """Marks in the app's own Redis, under ``mosaic-mark:…``.

    Args:
        url: such as ``redis://localhost:6379/1``, or behind sentinels as the client's.

    Raises `ConfigurationError` for a URL that cannot be used: at its first look it would be taken
    for a store that is away, and the worker asked for each page.
    """

    def __init__(self, url: str) -> None:
        urls.check_redis("url", url)
        Place.of("url", url, "marks", Place.connection)
        pool = redis.ConnectionPool.from_url(
            url, socket_timeout=_TIMEOUT_SECONDS, socket_connect_timeout=_TIMEOUT_SECONDS
        )
        self._redis = redis.Redis(connection_pool=sentinels.follow(pool))

    @classmethod
    def from_env(cls) -> RedisMarks:
        """Make it from ``SESSION_MARKS_URL``. Raises `ConfigurationError` where that is not set."""
        url = os.environ.get("SESSION_MARKS_URL")  # noqa: TID251 - the app's, not the worker's
        if not url:
            raise ConfigurationError("not set: SESSION_MARKS_URL")
        return cls(url)

    def put(self, name: str, at: float, lasts: float) -> None:
        """Keep that *name* ended at *at*, for *lasts* seconds."""
        self._redis.set(_PREFIX + name, repr(at), px=max(1, int(lasts * 1000)))

    def look(self, names: Sequence[str]) -> dict[str, float]:
        """Return the times of those of *names* that are marked, in one question."""
        values: Any = self._redis.mget([_PREFIX + name for name in names])
        return {
            name: float(value)
            for name, value in zip(names, values, strict=True)
            if value is not None
        }


class SqlMarks:
    """Marks in a table of the app's own database, PostgreSQL or SQLite.

    Args:
        connect: returns a new DB-API connection, such as ``lambda: psycopg.connect(url)``.
        placeholder: the driver's: ``%s``, or ``?`` for ``sqlite3``.

    `create_table` makes the table. What is over goes with each new mark.
    """

    def __init__(self, connect: Callable[[], Any], *, placeholder: str = "%s") -> None:
        self._connect = connect
        self._placeholder = placeholder

    def create_table(self) -> None:
        """Make the table ``mosaic_marks``, if it is not there."""
        with self._cursor() as run:
            run(
                "CREATE TABLE IF NOT EXISTS mosaic_marks (name VARCHAR(300) PRIMARY KEY,"
                " at DOUBLE PRECISION NOT NULL, until DOUBLE PRECISION NOT NULL)"
            )

    def put(self, name: str, at: float, lasts: float) -> None:
        """Keep that *name* ended at *at*, for *lasts* seconds."""
        now = time.time()
        with self._cursor() as run:
            run("DELETE FROM mosaic_marks WHERE until <= ?", (now,))
            run(
                "INSERT INTO mosaic_marks (name, at, until) VALUES (?, ?, ?) ON CONFLICT (name)"
                " DO UPDATE SET at = excluded.at, until = excluded.until",
                (name, at, now + lasts),
            )

    def look(self, names: Sequence[str]) -> dict[str, float]:
        """Return the times of those of *names* that are marked."""
        placeholders = ", ".join("?" for _ in names)
        query = f"SELECT name, at FROM mosaic_marks WHERE until > ? AND name IN ({placeholders})"  # noqa: S608 - question marks
        with self._cursor() as run:
            return {str(name): float(at) for name, at in run(query, (time.time(), *names))}

    def _cursor(self) -> AbstractContextManager[Callable[..., list[Any]]]:
        return _Cursor(self._connect(), self._placeholder)


class _Cursor(AbstractContextManager[Callable[..., list[Any]]]):
    """One transaction on a connection of its own: committed, or undone, and closed."""

    def __init__(self, connection: Any, placeholder: str) -> None:
        self._connection = connection
        self._placeholder = placeholder

    def __enter__(self) -> Callable[..., list[Any]]:
        return self._run

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with closing(self._connection):
            if kind is None:
                self._connection.commit()
            else:
                self._connection.rollback()

    def _run(self, statement: str, values: Sequence[object] = ()) -> list[Any]:
        with closing(self._connection.cursor()) as cursor:
            cursor.execute(statement.replace("?", self._placeholder), tuple(values))
            return list(cursor.fetchall()) if cursor.description else []


class NoMarks:
    """None: an ending elsewhere then shows by the browser's cookie, or at the next recheck."""

    def put(self, name: str, at: float, lasts: float) -> None:
        """Keep nothing."""

    def look(self, names: Sequence[str]) -> dict[str, float]:
        """Return nothing."""
        del names
        return {}


def of_session(session_ref: str) -> str:
    """Return the name of the mark of a session that has ended."""
    return f"ended:{session_ref}"


def of_user(user_id: str) -> str:
    """Return the name of the mark of a user all of whose sessions may have ended."""
    return f"ended-user:{user_id}"
