"""Hands a message to a thread without making a Celery Request of it.

A Request copies and reads all that a message may say, is entered in four books that remote control
shows, and has the body decoded once more: 0.17 ms of CPU a message where this takes 0.07, of the
two or so of a silent authentication. None of it matters to a task that ends well. One that does not
is given to Celery's own Request, which knows of retries, rejections and lost workers. The task runs
in Celery's tracer either way, which sends the signals, and which libraries wrap (Sentry does).

Before and after touching it: `make bench ARGS="--only throughput"`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Final

from celery import signals
from celery.app import trace
from celery.worker import state, strategy
from kombu.utils.imports import symbol_by_name

from session_client import contract
from worker.celery_support.thread_pool import SafeThreadPool

_Handler = Callable[..., Any]
_FAILED: Final = 1


def hand_over(task: Any, app: Any, consumer: Any) -> _Handler:
    """Return what the consumer does with a message for *task*: a ``Task.Strategy``."""
    by_request: _Handler = strategy.default(task, app, consumer)
    pool = consumer.pool
    is_logged = strategy.logger.isEnabledFor(logging.INFO)
    if not isinstance(pool, SafeThreadPool):
        return by_request

    def handle(message: Any, body: Any, ack: Any, reject: Any, callbacks: Any) -> None:
        if callbacks or _needs_request(message) or _sends_events(task, consumer):
            by_request(message, body, ack, reject, callbacks)
            return
        if is_logged:
            facts = {"id": message.headers["id"], "name": task.name}
            strategy.logger.info(trace.LOG_RECEIVED, facts, extra={"data": facts})
        job = _Job(task, app, consumer, message, ack, reject)
        pool.apply_async(job.run, callback=job.end)

    return handle


def _needs_request(message: Any) -> bool:
    """Whether a signal's receiver takes the Request, or the message asks for more than a run."""
    headers, (_, _, embed) = message.headers, message.payload
    return bool(
        signals.task_received.receivers
        or headers.get("eta")
        or headers.get("expires")
        or headers["id"] in state.revoked
        or any(embed.values())
    )


def _sends_events(task: Any, consumer: Any) -> bool:
    """Whether a monitor hears of each task (``celery worker -E``): Celery's Request tells it."""
    dispatcher = consumer.event_dispatcher
    if not (dispatcher and dispatcher.enabled and task.send_events):
        return False
    # Without -E it still sends the worker's own events, its heartbeat. No groups means all groups.
    return not dispatcher.groups or "task" in dispatcher.groups


class _Job:
    """Stands for its Request while it runs: `state.active_requests` tells what is at work."""

    __slots__ = (
        *("__weakref__", "acknowledged", "eventer", "id", "name", "task", "time_start"),
        *("_ack", "_app", "_consumer", "_message", "_reject"),
    )

    def __init__(  # noqa: PLR0913, PLR0917 - what a Request is made of
        self, task: Any, app: Any, consumer: Any, message: Any, ack: Any, reject: Any
    ) -> None:
        self.task = task
        self.name = task.name
        self.id = message.headers["id"]
        self.acknowledged = False
        self.time_start: float | None = None
        self.eventer = consumer.event_dispatcher  # Celery puts in another when it connects again
        self._app = app
        self._consumer = consumer
        self._message = message
        self._ack = ack
        self._reject = reject

    def run(self) -> tuple[int, Any, float | None]:
        """Run the task in Celery's tracer; return what its own would."""
        self.time_start = time.time()
        state.active_requests.add(self)
        args, kwargs, _ = self._message.payload
        result, failure, seconds, shown = self.task.__trace__(
            self.id, args, kwargs, self._context(args, kwargs)
        )
        return (_FAILED, result, seconds) if failure else (0, shown, seconds)

    def end(self, ended: tuple[int, Any, float | None]) -> None:
        """Acknowledge the message, or let Celery decide what becomes of it."""
        state.active_requests.discard(self)
        if ended[0] == _FAILED:
            self._request().on_success(ended)
        else:
            self._ack(strategy.logger, self._consumer.connection_errors)
        self.acknowledged = True

    def __getattr__(self, name: str) -> Any:
        # To stop it or to show it: seldom, and Celery's own to know.
        return getattr(self._request(), name)

    def _context(self, args: Any, kwargs: Any) -> dict[str, Any]:
        message = self._message
        headers, properties = message.headers, message.properties
        delivery = message.delivery_info
        answer_to = headers.get(contract.ANSWER_TO)
        # Where there are no headers, Celery looks for them among all it knows.
        return {
            **headers,
            "args": args,
            "kwargs": kwargs,
            "headers": {} if answer_to is None else {contract.ANSWER_TO: answer_to},
            "hostname": self._consumer.hostname,
            "is_eager": False,
            "properties": properties,
            "reply_to": properties.get("reply_to"),
            "correlation_id": properties.get("correlation_id"),
            "delivery_info": {
                "exchange": delivery.get("exchange"),
                "routing_key": delivery.get("routing_key"),
                "priority": properties.get("priority"),
                "redelivered": delivery.get("redelivered", False),
            },
        }

    def _request(self) -> Any:
        message, consumer = self._message, self._consumer
        request = symbol_by_name(self.task.Request)(
            message,
            on_ack=self._ack,
            on_reject=self._reject,
            app=self._app,
            hostname=consumer.hostname,
            eventer=self.eventer,
            task=self.task,
            connection_errors=consumer.connection_errors,
            utc=self._app.uses_utc_timezone(),
        )
        request.time_start = self.time_start
        return request
