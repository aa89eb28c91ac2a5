"""Statements that libpq runs in one call each.

psycopg sends, waits, reads and takes the rows over in calls of their own, and at each of them, some
nine a statement, another thread may take the interpreter over: under load that costs more than the
statement. Here a thread lets go of it once. Values are psycopg's to write and to read either way.
The price: no signal is handled before the statement has ended, `statement_timeout` at the latest.

Without it a silent authentication takes 15 % more CPU on threads, 3 % under prefork. Before and
after touching it: `make bench ARGS="--only throughput"`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any, Final, cast

import psycopg
from psycopg import errors
from psycopg.adapt import PyFormat, Transformer
from psycopg.pq import ConnStatus, ExecStatus
from psycopg.pq.abc import PGresult
from sqlalchemy import PoolProxiedConnection

UNKNOWN: Final = 0
BYTEA: Final = psycopg.adapters.types["bytea"].oid
_NOTES: Final = "libpq"  # what a connection's own notes keep ours under
_IS_DONE: Final = frozenset({ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK})
_numbers = count()


class _Notes:
    """What is known of one connection."""

    __slots__ = ("prepared", "values")

    def __init__(self, driver: psycopg.Connection[Any]) -> None:
        self.prepared: set[bytes] = set()
        # Made for each statement, it would look each type of value up anew.
        self.values = Transformer(driver)


class PreparedStatement:
    """One statement, with ``$1`` and so on for its values; prepared on each connection once."""

    def __init__(self, sql: str, types: Sequence[int]) -> None:
        """*types* are the values' oids, `UNKNOWN` where the statement says the type."""
        self.sql = sql
        self._name = b"ours_%d" % next(_numbers)
        self._types = types
        # As text, any value fits its type: in binary an integer's own size would be another type,
        # and another statement to prepare.
        self._formats = [PyFormat.TEXT] * len(types)

    def run(
        self, connection: PoolProxiedConnection, values: Sequence[Any], lock: int | None = None
    ) -> list[list[Any]]:
        """Return the rows; with *lock*, in a transaction that begins once it holds that.

        Raises `psycopg.Error`. The connection must be in no transaction.
        """
        driver = cast("psycopg.Connection[Any]", connection.dbapi_connection)
        notes: _Notes | None = connection.info.get(_NOTES)
        if notes is None:
            notes = connection.info[_NOTES] = _Notes(driver)
        prepared = notes.prepared
        given = notes.values.dump_sequence(values, self._formats)
        was_prepared = self._name in prepared
        try:
            result = self._answer(driver, prepared, given, lock)
        except errors.InvalidSqlStatementName:
            if not was_prepared:
                raise
            # psycopg has a connection that rolls back forget all that was prepared on it. Of the
            # others some may have been prepared again since.
            prepared.remove(self._name)
            driver.rollback()
            result = self._answer(driver, prepared, given, lock)
        notes.values.set_pgresult(result)
        rows = notes.values.load_rows(0, result.ntuples, list)
        if lock is not None:
            _done(driver, driver.pgconn.exec_(b"COMMIT"))
        return rows

    def _answer(
        self,
        driver: psycopg.Connection[Any],
        prepared: set[bytes],
        given: Sequence[Any],
        lock: int | None,
    ) -> PGresult:
        pgconn = driver.pgconn
        if lock is not None:  # in one trip
            _done(driver, pgconn.exec_(b"BEGIN; SELECT pg_advisory_xact_lock(%d)" % lock))
        if self._name not in prepared:
            _done(driver, pgconn.prepare(self._name, self.sql.encode(), self._types))
            prepared.add(self._name)
        return _done(driver, pgconn.exec_prepared(self._name, given))


def _done(driver: psycopg.Connection[Any], result: PGresult) -> PGresult:
    if result.status in _IS_DONE:
        return result
    if driver.pgconn.status == ConnStatus.BAD:  # libpq's last words are not the server's
        raise psycopg.OperationalError("the connection is lost")
    raise errors.error_from_result(result)
