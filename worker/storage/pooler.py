"""PostgreSQL behind a pooler that may change servers between transactions, as PgBouncer does.

What a connection has set there, its next transaction need not find: it may get another server, and
another client this one. So nothing is prepared, and each transaction sets its time-outs in the
same trip as its BEGIN. A pooler is recognised: the process id that it gives a client at the start
is none of a server's. One that keeps sessions looks the same, and is treated the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any, Final

from sqlalchemy import Connection

from worker.errors import ConfigurationError

# What PgBouncer, as it comes, answers a client that sends ``options``.
_UNSUPPORTED: Final = "unsupported startup parameter"
_OPTION: Final = re.compile(r"\s*(?:-c\s*|--)([A-Za-z_][\w.-]*)=((?:\\.|[^\s\\])*)")


def is_pooled(connection: Any) -> bool:
    """Whether a pooler stands before the server; *connection* is psycopg's own."""
    # Nothing else sets it so, and nothing that asks it may take time.
    return connection is not None and connection.prepare_threshold is None


def connector(options: str) -> Callable[..., Any]:
    """Return what connects for SQLAlchemy (``do_connect``), with *options* for the server."""

    def connect(dialect: Any, _record: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
        parameters = {name: value for name, value in kwargs.items() if name != "options"}
        try:
            connection = dialect.connect(*args, **parameters, options=options)
        except dialect.loaded_dbapi.OperationalError as error:
            if _UNSUPPORTED not in str(error):
                raise
            connection = dialect.connect(*args, **parameters)
        try:
            connection.autocommit = True
            with closing(connection.execute("SELECT pg_backend_pid()")) as found:
                (serving,) = found.fetchone()
        except BaseException:
            connection.close()
            raise
        if serving != connection.info.backend_pid:
            connection.prepare_threshold = None
        return connection

    return connect


class Beginning:
    """Says BEGIN where it is needed."""

    def __init__(self, options: str) -> None:
        self._options = options
        self._statements: str | None = None

    def begin(self, connection: Connection) -> None:
        """Begin a transaction, with its time-outs where the connection could not set them."""
        is_read_only = bool(connection.get_execution_options().get("read_only", False))
        if is_pooled(connection.connection.dbapi_connection):
            mode = " READ ONLY" if is_read_only else ""
            # Once it has begun, the default set with the time-outs comes too late.
            begin = f"BEGIN ISOLATION LEVEL READ COMMITTED{mode}"
            connection.exec_driver_sql(f"{begin}; {self._time_outs()}")
        elif not is_read_only:
            connection.exec_driver_sql("BEGIN")

    def _time_outs(self) -> str:
        if self._statements is None:
            settings = settings_in(self._options)
            self._statements = "; ".join(
                f"SET LOCAL {name} = {_quoted(value)}" for name, value in settings.items()
            )
        return self._statements


def settings_in(options: str) -> dict[str, str]:
    """Return what *options* of a connection (libpq) set; of two values the server takes the later.

    Raises `ConfigurationError` for those that are no settings: a pooler passes none of them on.
    """
    if _OPTION.sub("", options).strip():
        raise ConfigurationError(
            "DATABASE_URL: behind a connection pooler its options may be `-c name=value` alone"
        )
    found = _OPTION.findall(options)
    return {name.replace("-", "_"): re.sub(r"\\(.)", r"\1", value) for name, value in found}


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
