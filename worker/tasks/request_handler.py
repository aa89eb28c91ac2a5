"""Serves one request of an app: open, check, do, answer.

Every request takes this way, and leaves by exactly one answer.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any, Final

import structlog
from celery import Task as CeleryTask

from session_client import contract
from session_client.contract import Task, Verdict
from worker import metrics, wiring
from worker.errors import (
    LoginRefused,
    OperatorMustAct,
    RequestRefused,
    SessionWorkerError,
    StoreUnavailable,
    TryLater,
    Unauthorized,
    UserRefused,
)
from worker.logs import call_operator
from worker.metrics import UnansweredCause
from worker.requests import envelope, replies
from worker.requests.envelope import Message, Sender
from worker.requests.outcomes import Outcome, failure_of
from worker.requests.request import OpenedRequest
from worker.tasks import wake_ups
from worker.tasks.base import TaskFailed
from worker.wiring import Services

log = structlog.get_logger()

Work = Callable[[Services, OpenedRequest[Any]], Outcome]

_RETRIES: Final = 5
_RETRY_MAX_SECONDS: Final = 30


def serve(task: CeleryTask[Any, Any], kwargs: dict[str, Any], work: Work) -> TryLater | None:
    """Serve the delivery *task* is running for; return the passing failure that kept it from it."""
    services = wiring.current()
    name = Task(str(task.name))
    queue = (task.request.delivery_info or {}).get("routing_key")
    answer_to = task.request.get(contract.ANSWER_TO)
    message = envelope.message_of(name, task.request.id, kwargs, queue, answer_to)
    if message is None:
        metrics.unanswered(name, UnansweredCause.NO_SENDER)
        log.warning("request_dropped", why="no app id or request id to answer to")
        return None
    structlog.contextvars.bind_contextvars(app=message.app_id)
    try:
        sender = envelope.prove_sender(services, message)
    except Unauthorized as refusal:
        log.warning("request_refused", verdict="unauthorized", reason=refusal.reason.value)
        metrics.answered(message.task, Verdict.UNAUTHORIZED, refusal.reason)
        replies.refuse_in_clear(services, message, refusal)
        return None
    except StoreUnavailable as error:
        metrics.unanswered(name, UnansweredCause.STORE_UNAVAILABLE)
        log.warning("request_put_off", error=str(error))
        return error  # without the app's keys there is no way to answer
    except OperatorMustAct as error:  # the ring is not the one the app's keys were sealed with
        metrics.unanswered(name, UnansweredCause.APP_UNREADABLE)
        call_operator(error, message.app_id)
        return TryLater()
    return _answer(services, message, sender, work)


def serve_persistently(task: CeleryTask[Any, Any], kwargs: dict[str, Any], work: Work) -> None:
    """Serve likewise, but try a passing failure again: the app may not be waiting to repeat it."""
    error = serve(task, kwargs, work)
    if error is not None and task.request.retries < _RETRIES:
        # Short of a third of the visibility timeout: a longer countdown would be delivered twice.
        countdown = min(2 ** (task.request.retries + 1), _RETRY_MAX_SECONDS)
        raise task.retry(
            countdown=countdown,
            max_retries=_RETRIES,
            # Celery carries none of the sender's own headers over to the next try.
            headers={contract.ANSWER_TO: task.request.get(contract.ANSWER_TO)},
        )


def _answer(services: Services, message: Message, sender: Sender, work: Work) -> TryLater | None:
    try:
        request = envelope.check(message, sender, services.now())
        earlier = replies.earlier_answer(services, request)
        if earlier is not None and replies.repeat(services, message, earlier):
            metrics.answer_repeated(message.task)
            return None
        outcome = work(services, request)
        wake_ups.those_of(outcome)
    except TryLater as error:
        log.warning("request_put_off", error=type(error).__name__, detail=str(error))
        _reply(services, message, sender, failure_of(error))
        return error
    except (RequestRefused, UserRefused, LoginRefused) as refusal:
        log.info("request_refused", reason=refusal.reason.value, detail=str(refusal))
        outcome = failure_of(refusal)
    except SessionWorkerError as error:
        call_operator(error, message.app_id)
        outcome = failure_of(error)
    except Exception as error:  # noqa: BLE001 - reported, answered, and raised as a failed task
        _report_bug(message.task, error)
        _reply(services, message, sender, failure_of(error))
        raise TaskFailed(type(error).__name__) from None
    _reply(services, message, sender, outcome)
    log.info("request_answered", verdict=outcome.verdict.value, reason=outcome.reason)
    return None


def _reply(services: Services, message: Message, sender: Sender, outcome: Outcome) -> None:
    metrics.answered(message.task, outcome.verdict, outcome.reason)
    replies.answer(services, message, sender, outcome)


def _report_bug(task: Task, error: Exception) -> None:
    # Type and places only: an exception's text may quote what it was given.
    places = [
        f"{frame.filename}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
    ]
    log.error("task_bug", error=type(error).__name__, places=places)
    metrics.task_bug(task)
