"""Telling the other apps that a session has ended: one duty, one lease, one receiver.

An app is told in the way its operator chose: by OpenID Connect Back-Channel Logout to its URL,
which confirms by its answer, or by a sealed message to its own queue, which the app confirms with
a request. Until then it is told again, always with the same notice id.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final
from uuid import UUID

import structlog
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    bindparam,
    insert,
    or_,
    select,
    update,
)

from models import App, AppSession, EndCause, IdpSession, Notice, NoticeMethod, new_id
from session_client import contract, sealing, times
from session_client.contract import Verdict
from worker.errors import NoticeRefused, OperatorMustAct, SessionWorkerError, StoreUnavailable
from worker.lifecycle import events, outbox
from worker.lifecycle.batches import among_keys
from worker.lifecycle.commands import ConfirmNoticeCommand
from worker.lifecycle.events import Cause
from worker.lifecycle.outbox import Lease
from worker.lifecycle.outcomes import Outcome
from worker.registry import KnownApp
from worker.wiring import Services

log = structlog.get_logger()

FAILED: Final = "failed"
_SLICE: Final = 10_000

# Puts one message on an app's queue: queue, task name, arguments. Raises `NoticeUndelivered`.
Publish = Callable[[str, str, dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class _Told:
    """What a notice says."""

    notice_id: UUID
    session: UUID
    user_id: str
    cause: str
    ended_at: datetime


def add_notices(
    connection: Connection,
    services: Services,
    ended: Sequence[UUID],
    cause: EndCause,
    informed: str | None,
) -> list[UUID]:
    """Write the duties to tell the apps that share *ended*, but for the one that is *informed*.

    In the caller's transaction. An app without an address is not told; of an expiry only those
    are told that asked for it.
    """
    is_sqlite = connection.dialect.name == "sqlite"
    anybody, sharing = _listeners(
        is_expiry=cause is EndCause.EXPIRED,
        is_one_informed=informed is not None,
        is_sqlite=is_sqlite,
    )
    told = {} if informed is None else {"informed": informed}
    if connection.execute(anybody, told).first() is None:
        return []  # asked first: of many ended sessions it is dear to ask who shares them
    now = services.now()
    rows = [
        _duty(services, row.idp_session_id, row.app_id, cause, now)
        # In slices: SQLite takes no more than 32,766 values, and an operator may end more.
        for start in range(0, len(ended), _SLICE)
        for row in connection.execute(
            sharing, {**told, "keys": list(ended[start : start + _SLICE])}
        )
    ]
    if rows:
        connection.execute(insert(Notice), rows)
    return [row["id"] for row in rows]


@cache  # putting them together takes as long as running them
def _listeners(
    *, is_expiry: bool, is_one_informed: bool, is_sqlite: bool
) -> tuple[Select[str], Select[UUID, str]]:
    """Return who wants to hear at all, and who of them shares the sessions told as ``keys``."""
    wanted: list[ColumnElement[bool]] = [App.notice_method.is_not(None)]
    if is_one_informed:
        wanted.append(App.app_id != bindparam("informed"))
    if is_expiry:
        wanted.append(App.notify_on_expiry.is_(True))
    sharing = (
        select(AppSession.idp_session_id, AppSession.app_id)
        .join(App, App.app_id == AppSession.app_id)
        .where(*wanted, among_keys(AppSession.idp_session_id, is_sqlite=is_sqlite))
    )
    return select(App.app_id).where(*wanted).limit(1), sharing


def _duty(
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


def deliver(services: Services, notice_id: UUID, publish: Publish) -> str | None:
    """Tell one app. Returns the outcome when the duty is closed, else None.

    Safe to repeat: without the lease nobody is told, and the app may be told twice.
    """
    with services.store.write() as connection:
        claimed = outbox.claim(connection, services, Notice, notice_id)
        if claimed is None:
            return None
        lease, row = claimed
        told, app = _read(connection, row)
    try:
        is_confirmed = _tell(services, app, told, lease, publish)
    except NoticeRefused as refusal:
        return _close(services, lease, told, app, FAILED, str(refusal))
    except StoreUnavailable:
        raise
    except SessionWorkerError as error:
        return _put_off(services, lease, told, app, error)
    if is_confirmed:
        return _close(services, lease, told, app, outbox.CONFIRMED, None)
    return _put_off(services, lease, told, app, None)


def _read(connection: Connection, row: Row[Any]) -> tuple[_Told, Row[Any]]:
    session = connection.execute(
        select(IdpSession.user_id, IdpSession.ended_at).where(IdpSession.id == row.idp_session_id)
    ).one()
    told = _Told(row.id, row.idp_session_id, session.user_id, row.cause, session.ended_at)
    app = connection.execute(select(App.__table__).where(App.app_id == row.app_id)).one()
    return told, app


def _tell(services: Services, app: Row[Any], told: _Told, lease: Lease, publish: Publish) -> bool:
    """Tell the app. Returns whether that confirms it already."""
    if app.notice_method == NoticeMethod.BACKCHANNEL:
        services.notices.post_logout_token(
            url=app.notice_address,
            audience=app.client_id,
            user_id=told.user_id,
            session_ref=str(told.session),
            notice_id=str(told.notice_id),
            timeout_seconds=services.settings.notice_timeout_seconds,
        )
        return True
    if app.notice_method == NoticeMethod.QUEUE:
        kwargs = {"app_id": app.app_id, "envelope": _sealed(services, app.app_id, told, lease)}
        publish(app.notice_address, contract.LOGOUT_NOTICE_TASK, kwargs)
        return False
    raise NoticeRefused("the app has no notice address any more")


def _sealed(services: Services, app_id: str, told: _Told, lease: Lease) -> str:
    known = services.apps.find(app_id)
    keys = list(known.keys.values()) if known is not None else []
    if not keys:
        raise NoticeRefused("the app has no live key to seal the notice with")
    content = {
        "v": contract.VERSION,
        "task": contract.LOGOUT_NOTICE_TASK,
        "app_id": app_id,
        "notice_id": str(told.notice_id),
        "issued_at": times.to_wire(services.now()),
        "user_id": told.user_id,
        "session_ref": str(told.session),
        "cause": told.cause,
        "ended_at": times.to_wire(told.ended_at),
    }
    # While a key is being rotated nobody knows which one the app has: each attempt takes the next.
    key = keys[(lease.attempts - 1) % len(keys)]
    return sealing.seal(key, sealing.Kind.NOTICE, content)


def _put_off(
    services: Services,
    lease: Lease,
    told: _Told,
    app: Row[Any],
    error: SessionWorkerError | None,
) -> str | None:
    if error is not None:
        _log_failure(lease, app, error)
    if services.now() >= lease.give_up_at:
        why = "not confirmed in time" if error is None else f"{type(error).__name__}: {error}"
        return _close(services, lease, told, app, FAILED, why)
    with services.store.write() as connection:
        outbox.put_off(connection, services, lease, error)
    return None


def _log_failure(lease: Lease, app: Row[Any], error: SessionWorkerError) -> None:
    is_ours = isinstance(error, OperatorMustAct)  # no patience of the app's will help
    log.log(
        logging.ERROR if is_ours else logging.WARNING,
        "operator_must_act" if is_ours else "notice_undelivered",
        notice=str(lease.id),
        app=app.app_id,
        attempts=lease.attempts,
        error=type(error).__name__,
        detail=str(error),
    )


def _close(  # noqa: PLR0913, PLR0917 - how a duty ended has many sides
    services: Services, lease: Lease, told: _Told, app: Row[Any], outcome: str, why: str | None
) -> str | None:
    now = services.now()
    with services.store.write() as connection:
        if not outbox.close(connection, lease, now, outcome, why):
            return None  # our lease ended and somebody else took over
        _record(connection, told.session, told.user_id, app.app_id, outcome, now)
    if outcome == FAILED:
        log.error("notice_failed", notice=str(lease.id), app=app.app_id, why=why)
    return outcome


def confirm(services: Services, app: KnownApp, command: ConfirmNoticeCommand) -> Outcome:
    """Close a notice because its receiver says that it acted on it. Safe to repeat."""
    now = services.now()
    with services.store.write() as connection:
        row = connection.execute(
            update(Notice)
            .where(
                Notice.id == command.notice,
                Notice.app_id == app.app_id,
                # Also one that was given up: better late than failed.
                or_(Notice.closed_at.is_(None), Notice.outcome != outbox.CONFIRMED),
            )
            .values(closed_at=now, outcome=outbox.CONFIRMED, lease_token=None, leased_until=None)
            .returning(Notice.idp_session_id)
        ).one_or_none()
        if row is not None:
            user_id = connection.execute(
                select(IdpSession.user_id).where(IdpSession.id == row.idp_session_id)
            ).scalar_one()
            _record(connection, row.idp_session_id, user_id, app.app_id, outbox.CONFIRMED, now)
    return Outcome(Verdict.OK)


def _record(  # noqa: PLR0913, PLR0917 - one row of the trail
    connection: Connection,
    session: UUID,
    user_id: str,
    app_id: str,
    outcome: str,
    now: datetime,
) -> None:
    name = events.APP_CONFIRMED if outcome == outbox.CONFIRMED else events.APP_GIVEN_UP
    row = events.event(name, at=now, session=session, user_id=user_id, by=Cause(app_id, None))
    events.record(connection, [row])


def replay_failed(services: Services, app_id: str | None = None) -> int:
    """Open failed notices again, of one app or of all; returns how many."""
    failed: ColumnElement[bool] = Notice.outcome.in_((FAILED, outbox.DEAD))
    if app_id is not None:
        failed &= Notice.app_id == app_id
    horizon = timedelta(seconds=services.settings.notice_horizon_seconds)
    return outbox.reopen(services, Notice, failed, horizon)
