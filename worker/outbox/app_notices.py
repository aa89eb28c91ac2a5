"""What the other apps must still be told of an ended session: added, confirmed, replayed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final
from uuid import UUID

import structlog
from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    bindparam,
    insert,
    or_,
    select,
    update,
)

from models import App, AppSession, EndCause, IdpSession, Notice, new_id
from session_client.contract import Verdict
from worker.outbox import leases
from worker.requests.commands import ConfirmNoticeCommand
from worker.requests.outcomes import Outcome
from worker.requests.request import OpenedRequest
from worker.sessions import audit
from worker.sessions.audit import Cause
from worker.storage.sql import among_keys
from worker.wiring import Services

log = structlog.get_logger()

_SLICE: Final = 10_000


def add_notices(
    connection: Connection,
    services: Services,
    ended: Sequence[UUID],
    cause: EndCause,
    initiating_app: str | None,
) -> list[UUID]:
    """Write the deliveries to the apps that share *ended*, but for *initiating_app*, which knows.

    In the caller's transaction. An app without an address is not told; of an expiry only apps
    are told that asked for it.
    """
    if not any_app_listens(connection, cause, initiating_app):
        return []  # asked first: of many ended sessions it is dear to ask which apps share them
    _, sharing, parameters = _listeners_to(connection, cause, initiating_app)
    now = services.now()
    rows = [
        _delivery(services, row.idp_session_id, row.app_id, cause, now)
        # In slices: SQLite takes no more than 32,766 values, and an operator may end more.
        for start in range(0, len(ended), _SLICE)
        for row in connection.execute(
            sharing, {**parameters, "keys": list(ended[start : start + _SLICE])}
        )
    ]
    if rows:
        connection.execute(insert(Notice), rows)
    return [row["id"] for row in rows]


def any_app_listens(connection: Connection, cause: EndCause, initiating_app: str | None) -> bool:
    """Whether any app at all wants to hear of such an end, but for *initiating_app*."""
    listening, _, parameters = _listeners_to(connection, cause, initiating_app)
    return connection.execute(listening, parameters).first() is not None


def _listeners_to(
    connection: Connection, cause: EndCause, initiating_app: str | None
) -> tuple[Select[str], Select[UUID, str], dict[str, str]]:
    """Return the statements of `_listeners`, and their parameters."""
    statements = _listeners(
        is_expiry=cause is EndCause.EXPIRED,
        has_initiating_app=initiating_app is not None,
        is_sqlite=connection.dialect.name == "sqlite",
    )
    return (*statements, {} if initiating_app is None else {"initiating_app": initiating_app})


@cache  # putting them together takes as long as running them
def _listeners(
    *, is_expiry: bool, has_initiating_app: bool, is_sqlite: bool
) -> tuple[Select[str], Select[UUID, str]]:
    """Return which apps want to hear at all, and which of them share the sessions in ``keys``."""
    wanted: list[ColumnElement[bool]] = [App.notice_method.is_not(None)]
    if has_initiating_app:
        wanted.append(App.app_id != bindparam("initiating_app"))
    if is_expiry:
        wanted.append(App.notify_on_expiry.is_(True))
    sharing = (
        select(AppSession.idp_session_id, AppSession.app_id)
        .join(App, App.app_id == AppSession.app_id)
        .where(*wanted, among_keys(AppSession.idp_session_id, is_sqlite=is_sqlite))
    )
    return select(App.app_id).where(*wanted).limit(1), sharing


def _delivery(
    services: Services, session: UUID, app_id: str, cause: EndCause, now: datetime
) -> dict[str, Any]:
    return {
        "id": new_id(),
        "idp_session_id": session,
        "app_id": app_id,
        "cause": cause.value,
        "created_at": now,
        "give_up_at": now + timedelta(seconds=services.settings.notice_horizon_seconds),
        "next_attempt_at": now,
        "woken_at": now,
    }


def confirm(services: Services, request: OpenedRequest[ConfirmNoticeCommand]) -> Outcome:
    """Close a notice because its receiver says that it acted on it. Safe to repeat."""
    now = services.now()
    with services.store.write() as connection:
        row = connection.execute(
            update(Notice)
            .where(
                Notice.id == request.command.notice,
                Notice.app_id == request.app.app_id,
                # Also one that was given up: better late than failed.
                or_(Notice.closed_at.is_(None), Notice.outcome != leases.CONFIRMED),
            )
            .values(closed_at=now, outcome=leases.CONFIRMED, lease_token=None, leased_until=None)
            .returning(Notice.idp_session_id)
        ).one_or_none()
        if row is not None:
            user_id = connection.execute(
                select(IdpSession.user_id).where(IdpSession.id == row.idp_session_id)
            ).scalar_one()
            record_outcome(
                connection, row.idp_session_id, user_id, request.app.app_id, leases.CONFIRMED, now
            )
    return Outcome(Verdict.OK)


def record_outcome(  # noqa: PLR0913, PLR0917 - one row of the trail
    connection: Connection,
    session: UUID,
    user_id: str,
    app_id: str,
    outcome: str,
    now: datetime,
) -> None:
    """Write into the audit trail what became of a notice."""
    name = audit.APP_CONFIRMED if outcome == leases.CONFIRMED else audit.APP_GIVEN_UP
    row = audit.event(name, at=now, session=session, user_id=user_id, by=Cause(app_id, None))
    audit.record(connection, [row])


def replay_failed(services: Services, app_id: str | None = None) -> int:
    """Open failed notices again, of one app or of all; returns how many.

    Also those of an app that had no address for a while, and has one again.
    """
    addressed = select(App.app_id).where(App.notice_method.is_not(None))
    failed: ColumnElement[bool] = or_(
        Notice.outcome.in_((leases.FAILED, leases.DEAD)),
        (Notice.outcome == leases.NO_ADDRESS) & Notice.app_id.in_(addressed),
    )
    if app_id is not None:
        failed &= Notice.app_id == app_id
    horizon = timedelta(seconds=services.settings.notice_horizon_seconds)
    return leases.reopen(services, Notice, failed, horizon, app_id)
