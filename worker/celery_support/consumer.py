"""A consumer that no message can stop.

Celery 5.7 exits on a body that is JSON of another shape, and reconnects for ever on a message
without an id; both are redelivered, so that one bad message stops every worker. Here what cannot
be read is rejected and only its error's type is logged: bodies and headers may hold secrets.
"""

from __future__ import annotations

from typing import Any

import structlog
from celery import signals
from kombu.common import QoS

from worker.celery_support.malformed import UNREADABLE, open_no_packed_bodies, say_rejected
from worker.celery_support.message_guard import MessageGuard, queues_of
from worker.celery_support.rabbitmq_consumer import RabbitMQConsumer
from worker.metrics import Rejection
from worker.settings import model as settings_module

log = structlog.get_logger()


class SafeConsumer(RabbitMQConsumer):
    """Rejects what it cannot read, and goes on."""

    initial_prefetch_count: int
    qos: QoS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # With a fanout consumer (gossip, remote control) the worker exits when Redis goes away
        # while a job is under way; its operator need not remember --without-gossip.
        options = kwargs.pop("worker_options", None) or {}
        kwargs["worker_options"] = {**options, "without_gossip": True, "without_mingle": True}
        super().__init__(*args, **kwargs)
        open_no_packed_bodies()
        # Of what is no message at all other transports than ours raise it before a consumer sees
        # it. It has left its queue by then; without this the worker would exit.
        self.connection_errors = (*self.connection_errors, *UNREADABLE)
        key = settings_module.current().lookup_key_bytes
        self._guard = MessageGuard(queues_of(self.app), key)

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Any:
        """Wrap Celery's handler."""
        handle = super().create_task_handler(*args, **kwargs)

        def on_task_received(message: Any) -> Any:
            try:
                if why := self._guard.reduce(message, self._held):
                    return self._turn_away(message, why, None)
                return handle(message)
            except UNREADABLE as error:
                return self._turn_away(message, Rejection.UNREADABLE, error)

        return on_task_received

    @property
    def _held(self) -> int:
        """How many messages wait for their time: Celery raises the prefetch count by each."""
        return int(self.qos.value) - self.initial_prefetch_count

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Turn away a body that cannot be decoded."""
        self._turn_away(message, Rejection.UNDECODABLE, exc)

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """Turn away what is no task message."""
        del body
        self._turn_away(message, Rejection.NOT_A_TASK, None)

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Turn away a task this worker does not have."""
        del body
        self._turn_away(message, Rejection.UNKNOWN_TASK, exc)

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Turn away a task message with invalid fields."""
        del body
        self._turn_away(message, Rejection.INVALID_TASK, exc)

    def _turn_away(self, message: Any, why: Rejection, error: Exception | None) -> None:
        say_rejected(why, error)
        message.reject_log_error(log, self.connection_errors)
        signals.task_rejected.send(sender=self, message=message, exc=error)
