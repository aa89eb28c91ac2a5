"""What the journal knows of other calls than the one that is asked for."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import select

from models import CallKind, CallOutcome, LoginCall
from worker.requests.command_fields import Command
from worker.requests.request import OpenedRequest
from worker.wiring import Services

_LONGEST: Final = timedelta(minutes=2)  # no call is open for so long


def is_used_up(services: Services, request: OpenedRequest[Command], handle: UUID) -> bool:
    """Whether another request than this one has used up the handle of a login.

    This one may have been answered since it was looked for, when its message came twice.
    """
    query = select(LoginCall.id).where(
        LoginCall.handle_id == handle,
        LoginCall.outcome == CallOutcome.ANSWERED.value,
        LoginCall.request_id != request.request_id,
    )
    with services.store.read() as connection:
        return connection.execute(query).first() is not None


def has_other_factor(services: Services, call: UUID, subject: bytes, since: datetime) -> bool:
    """Whether another factor of *subject* was under way at any time *since*."""
    query = select(LoginCall.id).where(
        LoginCall.id != call,
        LoginCall.kind == CallKind.FACTOR.value,
        LoginCall.identifier_hash == subject,
        LoginCall.sent_at >= since - _LONGEST,  # by its index
        LoginCall.closed_at.is_(None) | (LoginCall.closed_at >= since),
    )
    with services.store.read() as connection:
        return connection.execute(query.limit(1)).first() is not None


def has_login_under_way(services: Services, subject: bytes) -> bool:
    """Whether a login of *subject*, at any app, may have begun at Mosaic and is not known here."""
    now = services.now()
    query = select(LoginCall.id).where(
        LoginCall.kind == CallKind.LOGIN.value,
        LoginCall.identifier_hash == subject,
        LoginCall.sent_at >= now - _LONGEST,  # by its index
        LoginCall.closed_at.is_(None),
        LoginCall.call_until > now,
    )
    with services.store.read() as connection:
        return connection.execute(query.limit(1)).first() is not None
