"""The store's engine, and transactions that fail in our own words.

We say BEGIN ourselves. On PostgreSQL reads need none, and a driver that opens transactions by
itself would be told so again and again. On SQLite, in WAL with a busy timeout, writers start with
BEGIN IMMEDIATE: pysqlite's own way opens a transaction at the first write only, so that two
read-then-write transactions lose updates without an error.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final, NoReturn

from sqlalchemy import (
    URL,
    BigInteger,
    Connection,
    Engine,
    Select,
    create_engine,
    event,
    func,
    literal,
    make_url,
    select,
)
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from worker.errors import StoreDiskFails, StoreForbids, StoreTooSlow, StoreUnavailable
from worker.storage.pooler import Beginning, connector
from worker.storage.prepared import DriverStatement, refuses_writes

SQLITE_BUSY_TIMEOUT_MS: Final = 5000
POOL_TIMEOUT_SECONDS: Final = 5
# Below the lease of a logout and the longest job: a stuck statement must not outlive either.
# Whatever the database's own default: who has waited for a lock must see what was committed
# meanwhile. Under "repeatable read" a logout of a user would pass by a login that it waited for.
PG_OPTIONS: Final = (
    "-c statement_timeout=15000 -c lock_timeout=5000 "
    "-c idle_in_transaction_session_timeout=30000 -c timezone=UTC "
    r"-c default_transaction_isolation=read\ committed"
)
# The server's own timeouts are of no use once it has gone silent (a failover, a network that drops
# packets): left to the system, every slot would wait a quarter of an hour for a dead connection.
PG_CONNECTION: Final = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,  # milliseconds
    "application_name": "session-worker",
}
_DISK_FULL: Final = "53100"  # SQLSTATEs
_NO_PERMISSION: Final = "42501"
_FORBIDDEN: Final = (
    "the user in DATABASE_URL lacks a right on a table, which mosaic-sessions doctor names"
)
_IO_ERROR: Final = "58030"
_FREE_SPACE: Final = (
    "free space there. No logout that was acknowledged is lost, and workers go on by themselves"
)
# By SQLSTATE. Such a server is there, and has ended one statement.
_TIMED_OUT: Final[dict[object, str]] = {
    "57014": "the database ended a statement that took too long",
    "55P03": "the database ended a statement that waited too long for a lock",
}


def make_engine(url: str, *, pool_size: int = 8, options: str = "") -> Engine:
    """Return an engine for *url*. Make it after the fork: a shared socket mixes up answers.

    PostgreSQL gets *options* after ours and the URL's, so that they win.
    """
    where = make_url(url)
    is_sqlite = where.get_backend_name() == "sqlite"
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=4,
        pool_timeout=POOL_TIMEOUT_SECONDS,
        isolation_level="AUTOCOMMIT",
        # Errors are logged; parameters hold session hashes and sealed ids.
        hide_parameters=True,
        connect_args=_sqlite_arguments() if is_sqlite else _pg_arguments(where),
    )
    if is_sqlite:
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        all_options = " ".join((PG_OPTIONS, *where.normalized_query.get("options", ()), options))
        event.listen(engine, "do_connect", connector(all_options))
        event.listen(engine, "begin", Beginning(all_options).begin)
    event.listen(engine, "handle_error", _give_up_replicas)
    return engine


def _sqlite_arguments() -> dict[str, Any]:
    return {"timeout": SQLITE_BUSY_TIMEOUT_MS / 1000}


def _pg_arguments(url: URL) -> dict[str, Any]:
    # SQLAlchemy lets ours win over the URL's, and it is the operator who knows the network.
    return {name: value for name, value in PG_CONNECTION.items() if name not in url.query}


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={SQLITE_BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode=WAL")
    # As PostgreSQL does: with less, a power cut takes back the commits of the last half a minute,
    # acknowledged logouts and proofs that were sent among them.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    is_read_only = bool(connection.get_execution_options().get("read_only", False))
    connection.exec_driver_sql("BEGIN" if is_read_only else "BEGIN IMMEDIATE")


def _give_up_replicas(context: ExceptionContext) -> None:
    # All other connections of its pool go with it: they lead to the same server.
    if refuses_writes(context.original_exception):
        context.is_disconnect = True


class Store:
    """The database: `read`, `write` and `run` are the only ways in.

    Neither may be open while Mosaic is called: a slow IDP would then hold locks and connections.
    """

    def __init__(
        self, engine: Engine, on_disk_failure: Callable[[StoreDiskFails], None] | None = None
    ) -> None:
        """*on_disk_failure* is told of each time that the database's disk is full or broken."""
        self.engine = engine
        self._on_disk_failure = on_disk_failure
        self.is_sqlite = engine.dialect.name == "sqlite"
        self._reader = engine.execution_options(read_only=True)
        self._ready: dict[Select[Any], DriverStatement] = {}

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Give a connection for reading. Raises `StoreUnavailable`."""
        with self._in_our_words(), self._reader.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Give a connection whose work is committed at the end. Raises `StoreUnavailable`.

        When it raises, the commit may or may not have happened: write only what may be repeated.
        """
        with self._in_our_words(), self.engine.begin() as connection:
            yield connection

    def run(self, statement: Select[Any], parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """Run one statement, a transaction by itself, and return its rows. Raises as `write` does.

        It is kept for ever, so pass one that is built once. On PostgreSQL it may write (in CTEs).
        """
        if self.is_sqlite:
            with self.read() as connection:
                return connection.execute(statement, parameters).all()
        rows = self._run_ready(statement, parameters)
        if rows is not None:
            return rows
        with self.write() as connection:  # behind a pooler, where it needs its time-outs
            return connection.execute(statement, parameters).all()

    def run_in_turn(
        self, lock: int, statement: Select[Any], parameters: Mapping[str, Any]
    ) -> Sequence[Sequence[Any]]:
        """Do as `run` does, on PostgreSQL, once no other transaction holds the advisory *lock*."""
        rows = self._run_ready(statement, parameters, lock)
        if rows is not None:
            return rows
        with self.write() as connection:
            connection.execute(select(func.pg_advisory_xact_lock(literal(lock, BigInteger()))))
            return connection.execute(statement, parameters).all()

    def _run_ready(
        self, statement: Select[Any], parameters: Mapping[str, Any], lock: int | None = None
    ) -> Sequence[Sequence[Any]] | None:
        ready = self._ready.get(statement)
        if ready is None:
            ready = self._ready[statement] = DriverStatement(statement, self.engine.dialect)
        try:
            return ready.run(self.engine, parameters, lock)
        except SQLAlchemyError as error:
            self._raise_in_our_words(error)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    @contextmanager
    def _in_our_words(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            self._raise_in_our_words(error)

    def _raise_in_our_words(self, error: SQLAlchemyError) -> NoReturn:
        try:
            _raise_in_our_words(error)
        except StoreDiskFails as failure:
            if self._on_disk_failure is not None:
                self._on_disk_failure(failure)
            raise


def _raise_in_our_words(error: SQLAlchemyError) -> NoReturn:
    is_away = isinstance(error, OperationalError | InterfaceError | PoolTimeout)
    original = getattr(error, "orig", None)
    state = getattr(original, "sqlstate", None)
    took_too_long = _TIMED_OUT.get(state)
    if took_too_long is not None:
        raise StoreTooSlow(f"{took_too_long} ({_cause_name(error)})") from None
    if state == _NO_PERMISSION:
        raise StoreForbids(f"{_FORBIDDEN} ({_cause_name(error)})") from None
    if disk := _trouble_of_disk(original):
        raise StoreDiskFails(f"{disk} ({_cause_name(error)}): {_FREE_SPACE}") from None
    if is_away or (isinstance(error, DBAPIError) and error.connection_invalidated):
        raise StoreUnavailable(_cause(error)) from None
    raise error


def _trouble_of_disk(error: BaseException | None) -> str | None:
    state = getattr(error, "sqlstate", None)
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # without what it was doing
    if state == _DISK_FULL or code == sqlite3.SQLITE_FULL:
        return "the database's disk is full"
    if state == _IO_ERROR or code == sqlite3.SQLITE_IOERR:
        return "the database's disk fails, or is full"
    return None


def _cause(error: Exception) -> str:
    original = getattr(error, "orig", None) or error
    if refuses_writes(original):
        return f"the database is read-only, a replica perhaps ({_cause_name(error)})"
    if getattr(original, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
        return f"another process keeps the database's file locked ({_cause_name(error)})"
    return f"the database does not answer ({_cause_name(error)})"


def _cause_name(error: Exception) -> str:
    return type(getattr(error, "orig", None) or error).__name__
