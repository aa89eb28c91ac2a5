"""PostgreSQL databases that are handed on from test to test, and what SQLAlchemy made for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Engine, event

from migrations.target import head
from models import Base
from sandbox.postgres_server import PostgresDatabases
from worker import wiring
from worker.storage.database import make_engine

_NAMES = sorted([*Base.metadata.tables, "alembic_version"])
# What a test that changed more than rows would leave to the next one.
_STRANGE = """
    SELECT (SELECT array_agg(tablename ORDER BY tablename) FROM pg_tables
            WHERE schemaname = 'public') <> %s::name[]
        OR NOT EXISTS (SELECT FROM alembic_version WHERE version_num = %s)
        OR EXISTS (SELECT FROM pg_db_role_setting AS told JOIN pg_database AS here
                   ON told.setdatabase = here.oid WHERE here.datname = current_database())
"""
# In one trip; children first.
_EMPTY = ";".join(
    [
        "SET LOCAL lock_timeout = '2s'",
        *(f"DELETE FROM {table.name}" for table in reversed(Base.metadata.sorted_tables)),  # noqa: S608 - names of ours
    ]
)


class EmptyDatabases:
    """Lends databases at head, with no rows. Making one anew takes longer than most tests do."""

    def __init__(self, server: PostgresDatabases, template: str) -> None:
        self._server = server
        self._template = template
        self._idle: list[str] = []

    @contextmanager
    def one(self) -> Iterator[str]:
        """Lend the URL of one."""
        name = self._idle.pop() if self._idle else self._create()
        try:
            yield self._server.url(name)
        finally:
            if self._is_emptied(name):
                self._idle.append(name)
            else:
                self._server.drop_database(name)

    def close(self) -> None:
        """Drop them all."""
        while self._idle:
            self._server.drop_database(self._idle.pop())

    def _create(self) -> str:
        name = f"test_{uuid4().hex}"
        self._server.create_database(name, template=self._template)
        return name

    def _is_emptied(self, name: str) -> bool:
        """Delete all rows; whether the database is as good as new."""
        url = self._server.url(name).replace("+psycopg", "")
        try:
            with psycopg.connect(url, connect_timeout=60) as connection:
                is_strange = connection.execute(_STRANGE, [_NAMES, head()]).fetchone()
                if is_strange is None or is_strange[0]:
                    return False
                connection.execute(_EMPTY)
        except psycopg.Error:  # a table is gone, or whoever is still at it holds a lock
            return False
        return True


def set_isolation(url: str, level: str) -> None:
    """Have connections that are made from now on keep transactions apart by *level*."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        name = sql.Identifier(connection.info.dbname)
        statement = sql.SQL("ALTER DATABASE {} SET default_transaction_isolation = {}")
        connection.execute(statement.format(name, sql.Literal(level)))


@contextmanager
def compiled_once() -> Iterator[None]:
    """Let the services of all tests share the statements that SQLAlchemy has compiled.

    It keeps them by engine and dialect. A test has an engine of its own, and compiling took it a
    quarter of its time.
    """
    first: dict[str, Engine] = {}  # of each kind of database, the first that was connected to

    def make(url: str, **how: Any) -> Engine:
        engine = make_engine(url, **how)
        kind = engine.dialect.name
        if kind in first:
            engine.dialect = first[kind].dialect
            engine._compiled_cache = first[kind]._compiled_cache
        else:
            event.listen(engine, "connect", lambda *_: first.setdefault(kind, engine))
        return engine

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wiring, "make_engine", make)
        yield
