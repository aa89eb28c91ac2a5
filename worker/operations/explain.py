"""Why a session is alive or ended, who was told of it, and what comes next, in sentences.

Reads only. No session id, token or key is selected.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, select

from models import (
    ALL_APPS,
    App,
    DeviceWatermark,
    IdpSession,
    LogoutRequest,
    LogoutRequestSession,
    UserRevocation,
    UserWatermark,
)
from worker.operations import overview
from worker.operations.session_story import FAILED, PENDING, Story, told_of
from worker.operations.views import Explanation, Fact
from worker.wiring import Services

MAX_SESSIONS: Final = 20


def session(services: Services, ref: UUID) -> Explanation | None:
    """Explain one session; None when there is none."""
    details = overview.session_details(services, ref)
    if details is None:
        return None
    with services.store.read() as connection:
        used = select(IdpSession.last_used_at).where(IdpSession.id == ref)
        last_used_at = connection.execute(used).scalar_one_or_none()
        silent = connection.execute(select(App.app_id).where(App.notice_method.is_(None)))
        untold = set(silent.scalars())
    if last_used_at is None:
        return None  # purged a moment ago
    story = Story(services, details, last_used_at, untold)
    return Explanation(
        about=f"session {ref} of user {details.session.user_id}",
        state=story.state,
        why=tuple(story.why()),
        extended_by=tuple(story.extended_by()),
        shared_by=tuple(story.shared_by()),
        told=tuple(story.told()),
        next=tuple(story.next()),
    )


def user(services: Services, user_id: str) -> Explanation | None:
    """Explain a user's newest sessions and revocations; None when nothing is known of them."""
    with services.store.read() as connection:
        refs = _newest(connection, IdpSession.user_id == user_id)
        marks = connection.execute(
            select(UserWatermark.logged_out_at).where(UserWatermark.user_id == user_id)
        ).scalars()
        why = [
            Fact(at, "logged out everywhere: a login from before, registered later, is ended")
            for at in marks
        ]
        devices = connection.execute(
            select(DeviceWatermark.__table__).where(DeviceWatermark.user_id == user_id)
        )
        why += [Fact(row.logged_out_at, _device(row)) for row in devices]
        revocations = connection.execute(
            select(UserRevocation.__table__)
            .where(UserRevocation.user_id == user_id)
            .order_by(UserRevocation.created_at)
        ).all()
    sessions = _each(services, refs)
    if not (sessions or why or revocations):
        return None
    live = sum(one.state == "alive" for one in sessions)
    ended = len(sessions) - live
    return Explanation(
        about=f"user {user_id}",
        state=f"{live} alive, {ended} ended or expired",
        why=tuple(why),
        told=tuple(map(_revocation, revocations)),
        next=tuple(_next_of(revocations)),
        sessions=sessions,
    )


def _device(row: Row[Any]) -> str:
    of_whom = "all apps" if row.app_id == ALL_APPS else row.app_id
    return (
        f"device {row.device_id} logged out for {of_whom}: a login on it from before, registered "
        "later, is ended"
    )


def receipt(services: Services, receipt_id: UUID) -> Explanation | None:
    """Explain what became of one logout request; None when there is none."""
    linked = LogoutRequestSession.logout_request_id == receipt_id
    with services.store.read() as connection:
        query = select(LogoutRequest.__table__).where(LogoutRequest.id == receipt_id)
        row = connection.execute(query).one_or_none()
        if row is None:
            return None
        in_it = select(LogoutRequestSession.idp_session_id).where(linked)
        refs = _newest(connection, IdpSession.id.in_(in_it))
        of_request = UserRevocation.logout_request_id == receipt_id
        revocations = connection.execute(select(UserRevocation.__table__).where(of_request)).all()
    sessions = _each(services, refs)
    whose = f"user {row.user_id}" if row.user_id else "a browser token that is no session's"
    request = f"{row.app_id} asked to log out {whose} (scope {row.scope})"
    facts = tuple(map(_revocation, revocations))
    what_follows = tuple(_next_of(revocations))
    return Explanation(
        about=f"receipt {receipt_id}",
        state=_state_of([*facts, *(fact for one in sessions for fact in one.told)]),
        why=(
            Fact(row.created_at, request),
            Fact(None, f"{row.sessions_ended} sessions ended by it"),
        ),
        told=facts,
        next=what_follows,
        sessions=sessions,
    )


def _newest(connection: Connection, which: ColumnElement[bool]) -> list[UUID]:
    query = select(IdpSession.id).where(which).order_by(IdpSession.created_at.desc())
    return list(connection.execute(query.limit(MAX_SESSIONS)).scalars())


def _each(services: Services, refs: list[UUID]) -> tuple[Explanation, ...]:
    return tuple(one for ref in refs if (one := session(services, ref)) is not None)


def _state_of(facts: list[Fact]) -> str:
    states = {fact.state for fact in facts}
    return next((state for state in (FAILED, PENDING) if state in states), "done")


def _revocation(row: Row[Any]) -> Fact:
    return told_of("Mosaic, of the whole user,", row.outcome, row)


def _next_of(revocations: Any) -> Iterator[Fact]:
    for row in revocations:
        if row.closed_at is None:
            yield Fact(row.next_attempt_at, "Mosaic is told of the whole user, at the earliest")
