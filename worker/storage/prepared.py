"""Statements handed to the database's driver, as SQLAlchemy compiled them.

SQLAlchemy decides anew at each execution what to run and how to read it, which takes longer than
running it: 0.23 ms of CPU where the driver needs 0.08. For the few statements that a
silent authentication needs, and others that run often, that is decided once. Connections still are
the engine's, and errors SQLAlchemy's.

Without it a silent authentication takes 13 % more CPU. Before and after touching it:
`make bench ARGS="--only throughput"`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Dialect, Engine, LargeBinary, Select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import TypeEngine

from worker.storage.libpq import BYTEA, UNKNOWN, PreparedStatement
from worker.storage.pooler import is_pooled

_READ_ONLY_SQL_TRANSACTION: Final = "25006"


def refuses_writes(error: BaseException | None) -> bool:
    """Whether it is the error of a database that is read-only, as a replica after a failover.

    Its connection counts as lost: kept, it would lead to the replica until the next restart.
    """
    if getattr(error, "sqlstate", None) == _READ_ONLY_SQL_TRANSACTION:
        return True
    # The low byte of SQLite's extended codes is the kind of error.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_READONLY


class DriverStatement:
    """One statement, ready to run. It is a transaction by itself, so the engine must autocommit."""

    def __init__(self, statement: Select[Any], dialect: Dialect) -> None:
        kind: Any = type(dialect)
        compiled: Any = statement.compile(dialect=kind(paramstyle="numeric_dollar"))
        names: dict[Any, str] = compiled.bind_names
        self._names: Sequence[str] = compiled.positiontup
        # SQLAlchemy writes the types of all others into the statement.
        binary = {name for bind, name in names.items() if isinstance(bind.type, LargeBinary)}
        types = [BYTEA if name in binary else UNKNOWN for name in self._names]
        self.prepared = PreparedStatement(str(compiled), types)
        self._constants = {
            name: bind.effective_value for bind, name in names.items() if not bind.required
        }
        into = {
            name: _type(bind.type, dialect).bind_processor(dialect) for bind, name in names.items()
        }
        self._into = {name: process for name, process in into.items() if process is not None}
        columns = enumerate(statement.selected_columns)
        out = {at: _type(c.type, dialect).result_processor(dialect, None) for at, c in columns}
        self._out = {at: process for at, process in out.items() if process is not None}

    def run(
        self, engine: Engine, parameters: Mapping[str, Any], lock: int | None = None
    ) -> list[list[Any]] | None:
        """Return the rows. Raises `sqlalchemy.exc.DBAPIError` as SQLAlchemy itself would.

        With *lock* it begins once no other transaction holds that, by what it then finds committed.

        None, and nothing was run, where a pooler stands before the database: a statement by itself
        has no time-outs there.
        """
        values = {**self._constants, **parameters}
        for name, process in self._into.items():
            values[name] = process(values[name])
        rows = self._fetch(engine, [values[name] for name in self._names], lock)
        if rows is None:
            return None
        for row in rows:
            for at, process in self._out.items():
                row[at] = process(row[at])
        return rows

    def _fetch(
        self, engine: Engine, values: Sequence[Any], lock: int | None
    ) -> list[list[Any]] | None:
        # Plain blocks: as context managers they cost a good part of what the statement does.
        driver_error = engine.dialect.loaded_dbapi.Error
        try:
            connection = engine.raw_connection()
        except driver_error as error:
            raise _translated(error, driver_error, is_lost=False) from error
        try:
            if is_pooled(connection.dbapi_connection):
                return None
            rows = self.prepared.run(connection, values, lock)
        except driver_error as error:
            # The driver has read the answer, or lost the connection: then the others are as dead.
            is_lost = refuses_writes(error) or engine.dialect.is_disconnect(
                error, connection.dbapi_connection, None
            )
            if is_lost:
                engine.pool._invalidate(connection, error)  # noqa: SLF001 - as SQLAlchemy does
            raise _translated(error, driver_error, is_lost=is_lost) from error
        except BaseException as error:
            connection.invalidate(error)  # the thread that gets it next must not read our answer
            raise
        else:
            return rows
        finally:
            connection.close()


def _translated(
    error: Exception, driver_error: type[Exception], *, is_lost: bool
) -> DBAPIError | Exception:
    """Return the driver's error in SQLAlchemy's words."""
    return DBAPIError.instance(
        None, None, error, driver_error, hide_parameters=True, connection_invalidated=is_lost
    )


def _type(declared: TypeEngine[Any], dialect: Dialect) -> TypeEngine[Any]:
    return declared.dialect_impl(dialect)
