"""Adding and replacing the indexes of a table while it is in use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any, Final

import sqlalchemy as sa
from alembic import op

from worker.storage.pooler import is_pooled

# For a transaction that stays open while an index is built beside it. By what it asked last it may
# see the database as it was then, for which the build would wait for ever; and it is not to be
# ended for doing nothing.
SEES_NOTHING: Final = "SET LOCAL idle_in_transaction_session_timeout = 0"
# Whether there is such an index, and whether it is of use: a build that was stopped leaves one that
# is not.
_IS_VALID: Final = (
    "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass('{name}') AND indisready"
    " UNION ALL SELECT false WHERE to_regclass('{name}') IS NOT NULL LIMIT 1"
)


def add_index(name: str, table: str, columns: Sequence[str], *, where: str | None = None) -> None:
    """Have an index *name* of the rows *where*, or of all, of a table that has had none so called.

    Built as `replace_indexes` does: a migration that calls this does nothing before it but to add
    others, and may be stopped at any moment and run again.
    """
    if op.get_context().dialect.name == "sqlite":  # has one writer in any case
        condition = None if where is None else sa.text(where)
        op.create_index(name, table, list(columns), sqlite_where=condition)
        return
    op.execute(SEES_NOTHING)
    _build(name, f"CREATE INDEX CONCURRENTLY {name} ON {_what(table, columns, where)}")


def replace_indexes(
    table: str, wanted: Mapping[str, Sequence[str]], *, where: str, dropped: Sequence[str] = ()
) -> None:
    """Have the indexes *wanted* of the rows *where*, by name, and those *dropped* no more.

    One of a name that is there already is replaced. PostgreSQL builds beside the traffic, for as
    long as it takes: a plain CREATE INDEX keeps all writers waiting, of millions of rows for
    minutes. That is in no transaction, so a migration that calls this does nothing before it, and
    may be stopped at any moment and run again.
    """
    if op.get_context().dialect.name == "sqlite":  # has one writer in any case
        for name in (*wanted, *dropped):
            op.execute(f"DROP INDEX IF EXISTS {name}")
        for name, columns in wanted.items():
            op.create_index(name, table, list(columns), sqlite_where=sa.text(where))
        return
    op.execute(SEES_NOTHING)
    for name, columns in wanted.items():
        what = _what(table, columns, where)
        _build(_new(name), f"CREATE INDEX CONCURRENTLY {_new(name)} ON {what}")
    # All at once, and after the last was built: a build waits for each transaction that has
    # changed the table.
    for name in (*wanted, *dropped):
        op.execute(f"DROP INDEX IF EXISTS {name}")
    for name in wanted:
        op.execute(f"ALTER INDEX {_new(name)} RENAME TO {name}")


def _new(name: str) -> str:
    return f"{name}_new"


def _what(table: str, columns: Sequence[str], where: str | None) -> str:
    condition = "" if where is None else f" WHERE {where}"
    return f"{table} ({', '.join(columns)}){condition}"


def _build(name: str, statement: str) -> None:
    context = op.get_context()
    if context.as_sql:
        with context.autocommit_block():
            op.execute(statement)
        return
    config = context.config
    assert config is not None, "made by env.py"  # noqa: S101
    say = config.attributes["say"]
    engine = op.get_bind().engine
    driver: Any = engine.dialect.loaded_dbapi
    # Another connection, without SQLAlchemy: it would say BEGIN.
    connection = engine.raw_connection()
    connection.detach()  # what is set on it goes with it
    try:
        with closing(connection), closing(connection.cursor()) as cursor:
            if not is_pooled(connection.dbapi_connection):  # else its time-outs are the server's
                # It waits for all who use the table, and none of them waits for it.
                cursor.execute("SET lock_timeout = 0")
            cursor.execute(_IS_VALID.format(name=name))
            found = cursor.fetchone()
            if found and found[0]:
                return
            if found:
                cursor.execute(f"DROP INDEX CONCURRENTLY {name}")
            say(f"building {name} beside the traffic: minutes, where rows are millions")
            cursor.execute(statement)
    except driver.Error as error:
        # As SQLAlchemy raises it: `env` tells an operator what to do about it.
        raise sa.exc.DBAPIError.instance(
            statement, None, error, driver.Error, hide_parameters=True, dialect=engine.dialect
        ) from None
