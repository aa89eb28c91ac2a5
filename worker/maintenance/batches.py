"""Repeating a short transaction until nothing is left or the time is up; the next run goes on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from sqlalchemy import (
    ColumnElement,
    Connection,
    func,
    select,
)

from worker.errors import StoreTooSlow
from worker.maintenance.pace import Pace
from worker.wiring import Services

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Counts:
    """What a run did (or would do), and whether it had to stop early."""

    rows: dict[str, int]
    is_complete: bool = True


@dataclass(frozen=True, slots=True)
class Batch:
    """What one short transaction did, and whether it came upon the end."""

    rows: int
    is_last: bool
    uncounted: int = 0  # rows that were written without being what the run counts


Work = Callable[[Connection], Batch]


def ends_at(services: Services) -> float:
    """Return until when, by `time.monotonic`, a run that begins now may go on, with all it does.

    A task that ran for as long as this for each kind of rows would be delivered a second time.
    """
    return time.monotonic() + services.settings.maintenance_budget_seconds


def in_turn(services: Services, works: Mapping[str, Work], until: float) -> Counts:
    """Do a batch of each of *works* in turn, as `each_batch` does them.

    One after the other they would share the time unfairly: as long as there is too much of the
    first, the last would get on by one batch a run, and its table would grow for ever. Raises
    `StoreTooSlow` where the database ended a batch of each.
    """
    going = {name: each_batch(services, name, work, until) for name, work in works.items()}
    rows = dict.fromkeys(works, 0)
    is_complete, too_slow = True, list[StoreTooSlow]()
    while going:
        for name, batches in list(going.items()):
            try:
                done = next(batches, None)
            except StoreTooSlow as error:
                # The other tables must not grow for one whose batches are too much.
                too_slow.append(error)
                log.warning("maintenance_skipped", what=name, rows=rows[name], detail=str(error))
                del going[name]
                continue
            if done is None:
                is_complete = False
                log.warning("maintenance_out_of_time", what=name, rows=rows[name])
            else:
                rows[name] += done.rows
            if done is None or done.is_last:
                del going[name]
    if len(too_slow) == len(works):
        raise too_slow[-1]  # a run of which nothing came must not count as one
    return Counts(rows, is_complete and not too_slow)


def in_batches(services: Services, name: str, work: Work, until: float) -> Counts:
    """Do what `each_batch` does, and return how many rows it was."""
    return in_turn(services, {name: work}, until)


def each_batch(
    services: Services, name: str, work: Work, until: float = math.inf
) -> Iterator[Batch]:
    """Repeat *work*, a short transaction each, until nothing is left or *until* has come.

    Yields what each has done, once it is committed. One is done in any case: a run for which no
    time is left goes on as well. It gives way while users wait (`Pace`),
    and is never faster than `maintenance_rows_per_second`.
    """
    pace = Pace(name, services.settings.maintenance_rows_per_second)
    while True:
        begin = time.monotonic()
        with services.store.write() as connection:
            done = work(connection)
        seconds = time.monotonic() - begin
        yield done
        if done.is_last:
            return
        rest = pace.rest(done.rows + done.uncounted, seconds)
        if time.monotonic() + rest >= until:
            return
        time.sleep(rest)


def count(services: Services, table: Any, where: ColumnElement[bool]) -> int:
    """Return how many rows there are, for a dry run."""
    with services.store.read() as connection:
        query = select(func.count()).select_from(table).where(where)
        return int(connection.execute(query).scalar_one())
