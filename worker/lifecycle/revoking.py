"""Ending sessions by hand, and a guard against ending far too many of them at once."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import structlog
from sqlalchemy import ColumnElement, Connection, func, select

from models import EndCause, IdpSession
from worker.errors import Implausible
from worker.lifecycle.ending import Ended, end_sessions
from worker.lifecycle.events import Cause
from worker.lifecycle.watermarks import raise_watermark, take_turns
from worker.wiring import Services

log = structlog.get_logger()

BY_OPERATOR: Final = "operator"


def revoke(
    services: Services,
    which: ColumnElement[bool],
    *,
    reason: str,
    override: bool = False,
    all_of_user: str | None = None,
) -> Ended:
    """End the live sessions that match *which*, here and at Mosaic, and tell their apps.

    When these are all of one user's, name the user: a login from before that is registered later
    is then born ended. Raises `Implausible` when they are more than a plausible share of all,
    unless *override*.
    """
    with services.store.write() as connection:
        if not override:
            refuse_implausible(connection, services, which)
        if all_of_user is not None:
            take_turns(connection, all_of_user)
            raise_watermark(connection, all_of_user, services.now())
        return end_sessions(
            connection,
            services,
            which,
            EndCause.REVOKED,
            by=Cause(None, f"{BY_OPERATOR}: {reason}"[:200]),
            lifetime=services.settings.session_lifetime,
        )


def refuse_implausible(
    connection: Connection, services: Services, which: ColumnElement[bool]
) -> None:
    """Raise `Implausible` when *which* matches more live sessions than any sane run would end."""
    settings = services.settings
    live = IdpSession.ended_at.is_(None)
    # Counted only as far as needed: a usual run ends few, and must not count millions for that.
    some = select(IdpSession.id).where(live, which).limit(settings.guard_count + 1).subquery()
    if _count(connection, select(func.count()).select_from(some)) <= settings.guard_count:
        return
    ending = _count(connection, select(func.count(IdpSession.id)).where(live, which))
    total = _count(connection, select(func.count(IdpSession.id)).where(live))
    if ending > settings.guard_share * total:
        raise Implausible(
            f"this would end {ending} of {total} live sessions, more than "
            f"{settings.guard_share:.0%}: has a clock jumped? If it is meant, say so "
            "(mosaic-sessions prune --override-guard, or sessions revoke --override-guard)"
        )


def refuse_jumped_clock(connection: Connection, services: Services) -> None:
    """Raise `Implausible` when this machine's clock and the database's differ too much."""
    if connection.dialect.name == "sqlite":
        return  # the same machine's
    theirs = connection.execute(select(func.now())).scalar_one()
    apart = abs(services.now() - theirs)
    if apart > timedelta(seconds=services.settings.guard_clock_seconds):
        raise Implausible(
            f"this machine's clock and the database's are {apart.total_seconds():.0f} s apart: "
            "nothing is ended until they agree. Synchronise them (NTP)"
        )


def _count(connection: Connection, query: object) -> int:
    return int(connection.execute(query).scalar_one())  # type: ignore[call-overload]
