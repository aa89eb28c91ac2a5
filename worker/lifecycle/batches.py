"""Taking a few rows at a time, beside others who do the same."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Select, any_, bindparam, select
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


def among_keys(key: Any, *, is_sqlite: bool) -> ColumnElement[bool]:
    """Return the condition that *key* is in the list told as ``keys``.

    PostgreSQL takes the list as one value.
    """
    if is_sqlite:
        among: ColumnElement[bool] = key.in_(bindparam("keys", expanding=True))
    else:
        among = key == any_(bindparam("keys", type_=ARRAY(key.type)))
    return among
