"""What refuses to end an implausible share of all live sessions, or by a clock that has jumped."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, func, select
from sqlalchemy.orm import InstrumentedAttribute

from models import IdpSession
from worker.errors import SafetyLimitExceeded
from worker.wiring import Services

MAX_COUNTED: Final = 10_000  # whatever is more, an operator is told that it is no fewer


def refuse_too_many(
    connection: Connection,
    services: Services,
    which: ColumnElement[bool],
    *,
    found_by: InstrumentedAttribute[Any] | None = None,
) -> None:
    """Raise `SafetyLimitExceeded` when *which* matches more than any sane run would end.

    *found_by* is the column by whose index they are found. PostgreSQL knows how many of all rows it
    selects, and nearly all are of sessions that have ended: it would rather look at all that live.
    """
    settings = services.settings
    # Counted only as far as needed: a usual run ends few, and must not count millions for that.
    few = settings.guard_count + 1
    if count_up_to(connection, which, few, found_by=found_by) < few:
        return
    live = IdpSession.ended_at.is_(None)
    total = _count(connection, select(func.count(IdpSession.id)).where(live))
    plausible = settings.guard_share * total
    most = max(MAX_COUNTED, math.floor(plausible) + 1)
    ending = count_up_to(connection, which, most, found_by=found_by)
    if ending > plausible:
        raise SafetyLimitExceeded(
            f"this would end {in_words(ending, most)} of {total} live sessions, more than "
            f"{settings.guard_share:.0%}: has a clock jumped? If it is meant, say so "
            "(mosaic-sessions prune --override-guard, or sessions revoke --override-guard)"
        )


def count_up_to(
    connection: Connection,
    which: ColumnElement[bool],
    most: int,
    *,
    found_by: InstrumentedAttribute[Any] | None = None,
) -> int:
    """Count the live sessions that match *which*, and no further than to *most*.

    To count millions takes longer than the database lets a statement take.
    """
    some = select(IdpSession.id).where(IdpSession.ended_at.is_(None), which).limit(most)
    if found_by is not None:
        some = some.order_by(found_by)
    return _count(connection, select(func.count()).select_from(some.subquery()))


def in_words(count: int, most: int) -> str:
    """Say how many `count_up_to` has counted."""
    return f"at least {count}" if count >= most else str(count)


def refuse_jumped_clock(connection: Connection, services: Services) -> None:
    """Raise `SafetyLimitExceeded` when this machine's clock and the database's differ too much."""
    if connection.dialect.name == "sqlite":
        return  # the same machine's
    theirs = connection.execute(select(func.now())).scalar_one()
    apart = abs(services.now() - theirs)
    if apart > timedelta(seconds=services.settings.guard_clock_seconds):
        raise SafetyLimitExceeded(
            f"this machine's clock and the database's are {apart.total_seconds():.0f} s apart: "
            "nothing is ended until they agree. Synchronise them (NTP)"
        )


def _count(connection: Connection, query: object) -> int:
    return int(connection.execute(query).scalar_one())  # type: ignore[call-overload]
