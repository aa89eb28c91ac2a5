"""What SQLAlchemy lacks: rows taken while others are locked, upserts in either dialect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Select, any_, bindparam, case, func, literal
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import Insert as PostgresInsert
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import Insert as SqliteInsert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from models import UtcDateTime

T = TypeVar("T")


def among_first_free(rows: Select[Any], limit: int, *, is_sqlite: bool) -> ColumnElement[bool]:
    """Return the condition to be of the first *limit* of *rows* that no writer holds, locked.

    *rows* select a key. PostgreSQL makes an array of the keys, once, and looks each of them up. Of
    a plain subquery it may think that reading the whole table is quicker, or run it again for each
    row it compares: then all rows are taken, in one long transaction. SQLite knows no FOR UPDATE,
    and needs none: it has one writer at a time.
    """
    (key,) = rows.selected_columns
    batch = locked(rows, limit)
    if is_sqlite:
        return key.in_(batch)
    keys = batch.correlate(None).scalar_subquery()
    return key == any_(func.array(keys, type_=ARRAY(key.type)))


def locked(rows: Select[Any], limit: int) -> Select[Any]:
    """Return the query for the first *limit* of *rows* that no other writer holds, locked."""
    return rows.limit(limit).with_for_update(skip_locked=True)


def among_keys(key: Any, *, is_sqlite: bool) -> ColumnElement[bool]:
    """Return the condition that *key* is in the list bound as ``keys``.

    PostgreSQL takes the list as one value.
    """
    if is_sqlite:
        among: ColumnElement[bool] = key.in_(bindparam("keys", expanding=True))
    else:
        among = key == any_(bindparam("keys", type_=ARRAY(key.type)))
    return among


def not_before(column: Any, moment: datetime | ColumnElement[Any]) -> ColumnElement[datetime]:
    """Return *column* or *moment*, whichever is later, decided by the database.

    Writers that race each other can then only move a time forwards.
    """
    later = literal(moment, UtcDateTime()) if isinstance(moment, datetime) else moment
    return case((column > later, column), else_=later)


def upsert(connection: Connection, table: Any) -> PostgresInsert | SqliteInsert:
    """Return an INSERT that can say ON CONFLICT in this database's dialect."""
    if connection.dialect.name == "sqlite":
        return sqlite_insert(table)
    return postgres_insert(table)


def in_each_dialect(build: Callable[[Any], T]) -> Mapping[str, T]:
    """Return a statement for each dialect, by its name; *build* is handed the dialect's `insert`.

    For statements that are built once: building one takes longer than running it.
    """
    return {"postgresql": build(postgres_insert), "sqlite": build(sqlite_insert)}
