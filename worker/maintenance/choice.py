"""Choosing the rows of a batch: the next ones that no other writer holds, locked.

By a statement of its own. What changes or deletes them then sees what was committed before they
were locked: a delivery that has come to be owed since they were looked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, String, any_, bindparam, cast, func, select
from sqlalchemy.dialects.postgresql import ARRAY

from models import UtcDateTime
from worker.storage.sql import among_keys, locked
from worker.wiring import Services

BEGINNING: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Chosen:
    """The rows of one batch."""

    keys: Any  # the parameter ``keys`` of `among_chosen`
    count: int
    reached: datetime  # the time at which the last of them lies


# Chooses the next rows from a time on. What a run has changed or deleted lies about until a vacuum,
# and each batch would have to pass by all of it again.
Choose = Callable[[Connection, datetime], Chosen]


def choosing(services: Services, key: Any, since: Any, which: ColumnElement[bool]) -> Choose:
    """Return what chooses among the rows that match *which*, by *since*, by their *key*.

    Its statement is put together once for a run: that takes as long as a hundred rows do.
    """
    rest = (
        select(key, since)
        .where(which, since >= bindparam("reached", type_=UtcDateTime()))
        .order_by(since)
    )
    batch = locked(rest, services.settings.maintenance_batch)
    if services.store.is_sqlite:

        def choose(connection: Connection, reached: datetime) -> Chosen:
            rows = connection.execute(batch, {"reached": reached}).all()
            return Chosen([row[0] for row in rows], len(rows), rows[-1][1] if rows else reached)

        return choose

    # As one text: making Python values of the keys takes as long as to delete their rows.
    its_key, its_time = batch.subquery("batch").c
    keys = cast(func.array_agg(its_key, type_=ARRAY(key.type)), String)
    at_once = select(keys, func.count(), func.max(its_time))

    def choose_at_once(connection: Connection, reached: datetime) -> Chosen:
        chosen, count, until = connection.execute(at_once, {"reached": reached}).one()
        return Chosen(chosen, count, until or reached)

    return choose_at_once


def among_chosen(services: Services, key: Any) -> ColumnElement[bool]:
    """Return the condition to be one of those that `choosing` has chosen by *key*."""
    if services.store.is_sqlite:
        return among_keys(key, is_sqlite=True)
    among: ColumnElement[bool] = key == any_(cast(bindparam("keys", type_=String), ARRAY(key.type)))
    return among
