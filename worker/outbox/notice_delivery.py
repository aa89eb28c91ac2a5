"""Telling one app that a session has ended: one delivery, one lease, one receiver.

An app is told in the way its operator chose: by OpenID Connect Back-Channel Logout to its URL,
which confirms by its answer, or by a sealed message to its own queue, which the app confirms with
a request. Until then it is told again, always with the same notice id. A message that still lies
unread in the queue is not joined by another: of an app that is dead they would fill the broker.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import redis
import structlog
from sqlalchemy import (
    Connection,
    Row,
    select,
)

from models import App, IdpSession, Notice, NoticeMethod
from session_client import contract, sealing, times
from worker import metrics
from worker.celery_support import other_brokers
from worker.celery_support.queue_heads import Waiting, look
from worker.errors import (
    BrokerUnavailable,
    NoticeRefused,
    NoticeUndelivered,
    OperatorMustAct,
    SessionWorkerError,
    StoreUnavailable,
)
from worker.outbox import leases
from worker.outbox.app_notices import record_outcome
from worker.outbox.leases import Lease
from worker.storage.redis_client import cause_of
from worker.wiring import Services

log = structlog.get_logger()


# Puts one message on an app's queue: queue, task name, arguments. Returns when it did. Raises
# `NoticeUndelivered`.
Publish = Callable[[str, str, dict[str, Any]], datetime]


@dataclass(frozen=True, slots=True)
class _Payload:
    """What a notice says."""

    notice_id: UUID
    session: UUID
    user_id: str
    cause: str
    ended_at: datetime
    published_at: datetime | None = None  # when it was put on the app's queue before


def deliver(services: Services, notice_id: UUID, publish: Publish) -> str | None:
    """Tell one app. Returns the outcome when the delivery is closed, else None.

    Safe to repeat: without the lease the app is not told, and it may be told twice.
    """
    with services.store.write() as connection:
        claimed = leases.claim(connection, services, Notice, notice_id)
        if claimed is None:
            return None
        lease, row = claimed
        payload, app = _read(connection, row)
    if app.notice_method is None:
        why = "the app has no notice address any more"
        return _close(services, lease, payload, app, leases.NO_ADDRESS, why)
    try:
        published_at = _tell(services, app, payload, lease, publish)
    except NoticeRefused as refusal:
        return _close(services, lease, payload, app, leases.FAILED, str(refusal))
    except StoreUnavailable:
        raise
    except SessionWorkerError as error:
        return _put_off(services, lease, payload, app, error)
    if published_at is None:
        return _close(services, lease, payload, app, leases.CONFIRMED, None)
    return _put_off(services, lease, payload, app, None, published_at)


def _read(connection: Connection, row: Row[Any]) -> tuple[_Payload, Row[Any]]:
    session = connection.execute(
        select(IdpSession.user_id, IdpSession.ended_at).where(IdpSession.id == row.idp_session_id)
    ).one()
    payload = _Payload(
        row.id,
        row.idp_session_id,
        session.user_id,
        row.cause,
        session.ended_at,
        row.published_at,
    )
    app = connection.execute(select(App.__table__).where(App.app_id == row.app_id)).one()
    return payload, app


def _tell(
    services: Services, app: Row[Any], payload: _Payload, lease: Lease, publish: Publish
) -> datetime | None:
    """Tell the app. Returns when it was put on its queue; None where its answer confirms it."""
    if app.notice_method == NoticeMethod.BACKCHANNEL:
        services.notices.post_logout_token(
            url=app.notice_address,
            audience=app.client_id,
            user_id=payload.user_id,
            session_ref=str(payload.session),
            notice_id=str(payload.notice_id),
            timeout_seconds=services.settings.notice_timeout_seconds,
        )
        return None
    _check_room(services, app.notice_address, payload.published_at)
    kwargs = {"app_id": app.app_id, "envelope": _sealed(services, app.app_id, payload, lease)}
    return publish(app.notice_address, contract.LOGOUT_NOTICE_TASK, kwargs)


def _check_room(services: Services, queue: str, published_at: datetime | None) -> None:
    """Raise `NoticeUndelivered` where the notice lies in the queue already, or too many do."""
    waiting = _look(services, queue)
    if waiting is None:
        return
    what = f"{waiting.count} messages wait in queue {queue}: does the app's own worker take them?"
    if published_at is not None and waiting.holds(published_at):
        raise NoticeUndelivered(f"not taken yet, {what}")
    if waiting.count >= services.settings.notice_queue_max_messages:
        raise NoticeUndelivered(f"the queue is full, {what}")


def _look(services: Services, queue: str) -> Waiting | None:
    """Return what lies in the app's queue; None where the broker does not tell."""
    try:
        if services.broker is None:
            return other_brokers.waiting_in(services.settings.broker_url.get_secret_value(), queue)
        return look(services.broker, [queue])[0]
    except redis.RedisError as error:
        raise NoticeUndelivered(f"the broker cannot be asked ({cause_of(error)})") from None
    except BrokerUnavailable as error:
        raise NoticeUndelivered(str(error)) from None


def _sealed(services: Services, app_id: str, payload: _Payload, lease: Lease) -> str:
    known = services.apps.find(app_id)
    keys = list(known.keys.values()) if known is not None else []
    if not keys:
        raise NoticeRefused("the app has no live key to seal the notice with")
    content = {
        "v": contract.VERSION,
        "task": contract.LOGOUT_NOTICE_TASK,
        "app_id": app_id,
        "notice_id": str(payload.notice_id),
        "issued_at": times.to_wire(services.now()),
        "user_id": payload.user_id,
        "session_ref": str(payload.session),
        "cause": payload.cause,
        "ended_at": times.to_wire(payload.ended_at),
    }
    # During a rotation the worker cannot know which key the app has: each attempt takes the next.
    key = keys[(lease.attempts - 1) % len(keys)]
    return sealing.seal(key, sealing.Kind.NOTICE, content)


def _put_off(  # noqa: PLR0913, PLR0917 - as `_close`
    services: Services,
    lease: Lease,
    payload: _Payload,
    app: Row[Any],
    error: SessionWorkerError | None,
    published_at: datetime | None = None,
) -> str | None:
    if error is not None:
        _log_failure(lease, app, error)
    if services.now() >= lease.give_up_at:
        why = "not confirmed in time" if error is None else f"{type(error).__name__}: {error}"
        return _close(services, lease, payload, app, leases.FAILED, why)
    with services.store.write() as connection:
        noted = {} if published_at is None else {"published_at": published_at}
        leases.put_off(connection, services, lease, error, noted)
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
    if is_ours:
        metrics.operator_must_act(error, app.app_id)


def _close(  # noqa: PLR0913, PLR0917 - how a delivery ended has many sides
    services: Services,
    lease: Lease,
    payload: _Payload,
    app: Row[Any],
    outcome: str,
    why: str | None,
) -> str | None:
    now = services.now()
    with services.store.write() as connection:
        if not leases.close(connection, lease, now, outcome, why):
            return None  # our lease ended and another worker took over
        record_outcome(connection, payload.session, payload.user_id, app.app_id, outcome, now)
    if outcome == leases.FAILED:
        log.error("notice_failed", notice=str(lease.id), app=app.app_id, why=why)
    return outcome
