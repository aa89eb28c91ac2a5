"""PostgreSQL databases that are handed on from test to test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

from sqlalchemy import Connection, create_engine, delete, text
from sqlalchemy.exc import DBAPIError

from models import Base
from sandbox.postgres_server import PostgresDatabases

_TABLES = Base.metadata.sorted_tables
_NAMES = sorted([*Base.metadata.tables, "alembic_version"])
# What a test that changed more than rows would leave to the next one.
_STRANGE = text(
    """
    SELECT (SELECT array_agg(tablename ORDER BY tablename) FROM pg_tables
            WHERE schemaname = 'public') <> CAST(:tables AS name[])
        OR EXISTS (SELECT FROM pg_db_role_setting AS told JOIN pg_database AS here
                   ON told.setdatabase = here.oid WHERE here.datname = current_database())
    """
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
        engine = create_engine(self._server.url(name), connect_args={"connect_timeout": 60})
        try:
            with engine.begin() as connection:
                return _empty(connection)
        except DBAPIError:  # a table is gone, or whoever is still at it holds a lock
            return False
        finally:
            engine.dispose()


def _empty(connection: Connection) -> bool:
    """Delete all rows; whether the database is as good as new."""
    if connection.execute(_STRANGE, {"tables": _NAMES}).scalar():
        return False
    connection.execute(text("SET LOCAL lock_timeout = '2s'"))
    for table in reversed(_TABLES):  # children first
        connection.execute(delete(table))
    return True
