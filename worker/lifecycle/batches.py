"""Taking a few rows at a time, beside others who do the same."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, select


def first_free(rows: Select[Any], limit: int) -> Select[Any]:
    """Return the keys of the first *limit* of *rows* that nobody else is writing to, locked.

    A common table expression, since PostgreSQL evaluates that once: a plain subquery it may run
    again for each row it compares, and then all rows are taken, in one long transaction. SQLite
    knows no FOR UPDATE, and needs none: it has one writer at a time.
    """
    batch = rows.limit(limit).with_for_update(skip_locked=True).cte("batch")
    (key,) = batch.c
    return select(key)
