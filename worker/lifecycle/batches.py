"""Taking a few rows at a time, beside others who do the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, any_, literal, select
from sqlalchemy.dialects.postgresql import ARRAY


def first_free(rows: Select[Any], limit: int) -> Select[Any]:
    """Return the keys of the first *limit* of *rows* that nobody else is writing to, locked.

    A common table expression, since PostgreSQL evaluates that once: a plain subquery it may run
    again for each row it compares, and then all rows are taken, in one long transaction. SQLite
    knows no FOR UPDATE, and needs none: it has one writer at a time.
    """
    batch = locked(rows, limit).cte("batch")
    (key,) = batch.c
    return select(key)


def locked(rows: Select[Any], limit: int) -> Select[Any]:
    """Return the query for the first *limit* of *rows* that nobody else is writing to, locked."""
    return rows.limit(limit).with_for_update(skip_locked=True)


def one_of(connection: Connection, key: Any, keys: Sequence[Any]) -> ColumnElement[bool]:
    """Return the condition that *key* is among *keys*: PostgreSQL takes them as one value."""
    if connection.dialect.name == "sqlite":
        among: ColumnElement[bool] = key.in_(keys)
    else:
        among = key == any_(literal(list(keys), ARRAY(key.type)))
    return among
