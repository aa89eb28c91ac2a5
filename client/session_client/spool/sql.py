"""Spooled logouts in one table: of a SQLite file, or of the app's own PostgreSQL."""

from __future__ import annotations

import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final

from session_client.spool.store import Settlement, SpoolCounts, SpooledLogout

_BUSY_SECONDS: Final = 10.0
_LOOK_AGAIN_SECONDS: Final = 0.01
_COLUMNS: Final = "request_id, envelope, refused, attempts"


class _SqlSpool(ABC):
    """The statements, for either database. Times are seconds by the database's own clock.

    Two write transactions a batch, each over before the spool waits for the network: an insert of
    the app's own never waits long.
    """

    _MARK: ClassVar[str]
    _NOW: ClassVar[str]
    _ID: ClassVar[str]
    _FOR_UPDATE: ClassVar[str] = ""

    @abstractmethod
    def _transaction(self, within: float | None = None) -> AbstractContextManager[Any]:
        """Give a cursor whose work is committed at the end.

        It waits for others no longer than *within* seconds, and raises then.
        """

    def _reading(self) -> AbstractContextManager[Any]:
        """Give a cursor that only reads."""
        return self._transaction()

    def _create(self, cursor: Any) -> None:
        cursor.execute(
            "CREATE TABLE IF NOT EXISTS spooled_logouts ("
            f" id {self._ID}, request_id TEXT NOT NULL UNIQUE, envelope TEXT NOT NULL,"
            " attempts INTEGER NOT NULL DEFAULT 0,"
            " not_before DOUBLE PRECISION NOT NULL DEFAULT 0,"
            " claimed_by TEXT, claimed_until DOUBLE PRECISION, refused TEXT)"
        )

    def add(
        self, logout: SpooledLogout, connection: Any = None, *, within: float | None = None
    ) -> None:
        """See `SpoolStore.add`."""
        if connection is not None:
            with closing(connection.cursor()) as cursor:
                self._add(cursor, logout)
        else:
            with self._transaction(within) as cursor:
                self._add(cursor, logout)

    def _add(self, cursor: Any, logout: SpooledLogout) -> None:
        self._execute(
            cursor,
            "INSERT INTO spooled_logouts (request_id, envelope, refused) VALUES (?, ?, ?)"
            " ON CONFLICT (request_id) DO UPDATE SET envelope = excluded.envelope,"
            " refused = excluded.refused, not_before = 0, claimed_by = NULL, claimed_until = NULL",
            (logout.request_id, logout.envelope, logout.refused),
        )

    def claim(self, by: str, limit: int, lease_seconds: float) -> list[SpooledLogout]:
        """See `SpoolStore.claim`."""
        statement = (
            f"UPDATE spooled_logouts SET claimed_by = ?, claimed_until = {self._NOW} + ?,"  # noqa: S608 - our own words
            " attempts = attempts + 1 WHERE id IN (SELECT id FROM spooled_logouts"
            f" WHERE refused IS NULL AND not_before <= {self._NOW}"
            f" AND (claimed_until IS NULL OR claimed_until < {self._NOW})"
            f" ORDER BY id LIMIT ? {self._FOR_UPDATE}) RETURNING id, {_COLUMNS}"
        )
        with self._transaction() as cursor:
            self._execute(cursor, statement, (by, lease_seconds, limit))
            rows = sorted(cursor.fetchall())
        return [SpooledLogout(*row[1:]) for row in rows]

    def settle(self, by: str, settlement: Settlement) -> None:
        """See `SpoolStore.settle`."""
        held = "WHERE request_id = ? AND claimed_by = ?"
        free = "claimed_by = NULL, claimed_until = NULL"
        with self._transaction() as cursor:
            for request_id in settlement.acknowledged:
                self._execute(cursor, f"DELETE FROM spooled_logouts {held}", (request_id, by))  # noqa: S608
            for request_id, why in settlement.refused.items():
                update = f"UPDATE spooled_logouts SET refused = ?, {free} {held}"  # noqa: S608
                self._execute(cursor, update, (why, request_id, by))
            for request_id, seconds in settlement.released.items():
                update = f"UPDATE spooled_logouts SET not_before = {self._NOW} + ?, {free} {held}"  # noqa: S608
                self._execute(cursor, update, (seconds, request_id, by))
            for request_id, anew in settlement.replaced.items():
                update = (
                    "UPDATE spooled_logouts SET request_id = ?, envelope = ?, not_before = 0,"  # noqa: S608
                    f" {free} {held}"
                )
                self._execute(cursor, update, (anew.request_id, anew.envelope, request_id, by))

    def counts(self) -> SpoolCounts:
        """See `SpoolStore.counts`."""
        with self._reading() as cursor:
            self._execute(cursor, "SELECT count(*), count(refused) FROM spooled_logouts", ())
            everything, refused = cursor.fetchone()
        return SpoolCounts(waiting=everything - refused, refused=refused)

    def refused(self) -> list[SpooledLogout]:
        """See `SpoolStore.refused`."""
        with self._reading() as cursor:
            statement = (
                f"SELECT {_COLUMNS} FROM spooled_logouts WHERE refused IS NOT NULL ORDER BY id"  # noqa: S608
            )
            self._execute(cursor, statement, ())
            return [SpooledLogout(*row) for row in cursor.fetchall()]

    def _execute(self, cursor: Any, statement: str, values: Sequence[object]) -> None:
        cursor.execute(statement.replace("?", self._MARK), values)


class SqliteSpool(_SqlSpool):
    """One SQLite file (3.35 or newer), the app's own or one for this alone.

    Args:
        path: made if it is not there, for its owner alone.
    """

    _MARK = "?"
    _NOW = "((julianday('now') - 2440587.5) * 86400.0)"
    _ID = "INTEGER PRIMARY KEY AUTOINCREMENT"

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        if not self._path.exists():
            # SQLite would make it readable for all, if only for a moment.
            self._path.touch(mode=0o600)
        with self._transaction() as cursor:
            self._create(cursor)

    def _transaction(self, within: float | None = None) -> AbstractContextManager[sqlite3.Cursor]:
        return self._between("BEGIN IMMEDIATE", within)

    def _reading(self) -> AbstractContextManager[sqlite3.Cursor]:
        # Waits for no process that writes.
        return self._between("BEGIN")

    @contextmanager
    def _between(self, begin: str, within: float | None = None) -> Iterator[sqlite3.Cursor]:
        # A connection each time: the spool is used rarely, and from any thread and process.
        wait = _BUSY_SECONDS if within is None else within
        connection = sqlite3.connect(self._path, timeout=wait, isolation_level=None)
        with closing(connection):
            _write_ahead(connection, time.monotonic() + wait)
            connection.execute("PRAGMA synchronous=FULL")
            cursor = connection.cursor()
            cursor.execute(begin)
            try:
                yield cursor
            except BaseException:
                connection.rollback()
                raise
            connection.commit()


def _write_ahead(connection: sqlite3.Connection, until: float) -> None:
    """Have it write ahead, as the file does once one connection has said so.

    Until then SQLite waits for no writer: of an app's processes that begin at once, on a new file,
    one would fail.
    """
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:  # noqa: PERF203 - each try may fail
            if "locked" not in str(error) or time.monotonic() >= until:
                raise
            time.sleep(_LOOK_AGAIN_SECONDS)
        else:
            return


class PostgresSpool(_SqlSpool):
    """A table in the app's own PostgreSQL.

    Args:
        connect: returns a new connection of psycopg or psycopg2, e.g.
            ``lambda: psycopg.connect(DSN)``. Each is used for one short transaction, and closed.
        create: make the table, if it is not there; else the app's own migrations must have.
    """

    _MARK = "%s"
    _NOW = "extract(epoch FROM clock_timestamp())"
    _ID = "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
    _FOR_UPDATE = "FOR UPDATE SKIP LOCKED"

    def __init__(self, connect: Callable[[], Any], *, create: bool = True) -> None:
        self._connect = connect
        if create:
            with self._transaction() as cursor:
                # Two that begin at once would both find no table, and one would fail.
                cursor.execute("SELECT pg_advisory_xact_lock(hashtext('spooled_logouts'))")
                self._create(cursor)

    @contextmanager
    def _transaction(self, within: float | None = None) -> Iterator[Any]:
        with closing(self._connect()) as connection, closing(connection.cursor()) as cursor:
            if within is not None:
                milliseconds = max(1, round(within * 1000))  # 0 would be no limit
                cursor.execute(f"SET LOCAL lock_timeout = {milliseconds}")
            yield cursor
            connection.commit()  # without it, closing the connection takes all back
