"""What refuses to end an implausible share of all live sessions, or by a clock that has jumped."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select
from sqlalchemy.orm import InstrumentedAttribute

from models import IdpSession
from worker.errors import SafetyLimitExceeded
from worker.wiring import Services


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
    live = IdpSession.ended_at.is_(None)
    # Counted only as far as needed: a usual run ends few, and must not count millions for that.
    some = select(IdpSession.id).where(live, which).limit(settings.guard_count + 1)
    if found_by is not None:
        some = some.order_by(found_by)
    counting = select(func.count()).select_from(some.subquery())
    if _count(connection, counting) <= settings.guard_count:
        return
    ending = _count(connection, select(func.count(IdpSession.id)).where(live, which))
    total = _count(connection, select(func.count(IdpSession.id)).where(live))
    if ending > settings.guard_share * total:
        raise SafetyLimitExceeded(
            f"this would end {ending} of {total} live sessions, more than "
            f"{settings.guard_share:.0%}: has a clock jumped? If it is meant, say so "
            "(mosaic-sessions prune --override-guard, or sessions revoke --override-guard)"
        )


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
