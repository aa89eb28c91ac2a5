"""Caps of our own on a session's life.

Mosaic lets a session that is used every thirteen days live for ever. The operator may cap how
long one may lie unused and how long it may live at all; a session past a cap is ended here like
by a logout, since Mosaic would let it live on.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, Connection, false, func, or_, select

from models import IdpSession
from worker.settings.model import Settings

_ALWAYS: Final = datetime.min.replace(tzinfo=UTC)


def has_caps(settings: Settings) -> bool:
    """Whether the operator has set any cap."""
    caps = (settings.session_idle_cap_seconds, settings.session_absolute_cap_seconds)
    return caps != (None, None)


def effective_expiry(
    settings: Settings, *, expires_at: datetime, last_used_at: datetime, created_at: datetime
) -> datetime:
    """Return when a session ends: at Mosaic's expiry, or at a cap before it."""
    ends = [expires_at]
    if settings.session_idle_cap_seconds is not None:
        ends.append(last_used_at + timedelta(seconds=settings.session_idle_cap_seconds))
    if settings.session_absolute_cap_seconds is not None:
        ends.append(created_at + timedelta(seconds=settings.session_absolute_cap_seconds))
    return min(ends)


def is_past_the_absolute_cap(settings: Settings, created_at: datetime, now: datetime) -> bool:
    """Whether a session is so old that no use of it moves its end."""
    cap = settings.session_absolute_cap_seconds
    return cap is not None and created_at + timedelta(seconds=cap) <= now


def reaches_within_caps(settings: Settings, now: datetime) -> tuple[datetime, datetime]:
    """Return after when a session must have been opened, and last used, to be within the caps."""
    caps = (settings.session_absolute_cap_seconds, settings.session_idle_cap_seconds)
    opened, used = (_ALWAYS if cap is None else now - timedelta(seconds=cap) for cap in caps)
    return opened, used


def past_a_cap(
    settings: Settings, now: datetime, last_idle_check: datetime | None = None
) -> ColumnElement[bool]:
    """Return which sessions are past a cap. With *last_idle_check* an index finds them."""
    capped: list[ColumnElement[bool]] = [false()]
    if settings.session_absolute_cap_seconds is not None:
        age = timedelta(seconds=settings.session_absolute_cap_seconds)
        capped.append(IdpSession.created_at <= now - age)
    if settings.session_idle_cap_seconds is not None:
        idle = _idle(now, settings.session_idle_cap_seconds)
        if last_idle_check is not None:
            idle &= IdpSession.check_expiry_at <= last_idle_check  # that has an index
        capped.append(idle)
    return or_(*capped)


def last_idle_check(connection: Connection, settings: Settings, now: datetime) -> datetime | None:
    """Return when expiry looks at the last session past the idle cap; None without such a cap.

    Looked for once a run, among all live sessions: how far use has put an expiry off depends on the
    lifetime of an app as it was then, which is stored nowhere.
    """
    if settings.session_idle_cap_seconds is None:
        return None
    idle = _idle(now, settings.session_idle_cap_seconds)
    query = select(func.max(IdpSession.check_expiry_at)).where(IdpSession.ended_at.is_(None), idle)
    return connection.execute(query).scalar() or _ALWAYS  # there are none


def _idle(now: datetime, cap_seconds: float) -> ColumnElement[bool]:
    return IdpSession.last_used_at <= now - timedelta(seconds=cap_seconds)
