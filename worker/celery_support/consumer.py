"""A consumer that no message can stop.

Celery 5.7 exits on a body that is JSON of another shape, and reconnects for ever on a message
without an id; both are redelivered, so that one bad message stops every worker. Here what cannot
be read is rejected and only its error's type is logged: bodies and headers may hold secrets.
"""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, Final

import structlog
from amqp.exceptions import AccessRefused, NotAllowed, PreconditionFailed
from celery import signals
from celery.utils.threads import bound_open_broker_sockets  # type: ignore[attr-defined]
from celery.worker import loops
from celery.worker.consumer import Consumer
from kombu.common import QoS

from worker.celery_support.malformed import UNREADABLE, open_no_packed_bodies, say_rejected
from worker.celery_support.message_guard import MessageGuard, queues_of
from worker.celery_support.thread_pool import SafeThreadPool
from worker.metrics import Rejection
from worker.settings import model as settings_module

log = structlog.get_logger()

_NO_GLOBAL_QOS: Final = "does not support global qos"  # RabbitMQ's
_FIRST_LOOK_SECONDS: Final = 0.1
# RabbitMQ's, for a user or a queue that somebody must put right.
_REFUSALS: Final = (AccessRefused, NotAllowed, PreconditionFailed)
_REFUSED_SECONDS: Final = 2.0
_FAREWELL_SECONDS: Final = 1.0


def _look_first(connection: Any) -> None:
    """Read what the broker says before the event loop is asked to: Celery's ``_quick_drain``.

    Celery's own swallows what it reads there. A queue that is deleted in that moment the worker
    would not take from again, and nobody would declare it.
    """
    with suppress(TimeoutError):
        connection.drain_events(timeout=_FIRST_LOOK_SECONDS)


def _wait_if_refused(error: Exception) -> None:
    """Give RabbitMQ and the log a rest: kombu waits only where nobody answers."""
    if isinstance(error, _REFUSALS):
        time.sleep(_REFUSED_SECONDS)


loops._quick_drain = _look_first  # type: ignore[attr-defined]  # noqa: SLF001 - called by that name


class SafeConsumer(Consumer):
    """Rejects what it cannot read, and goes on."""

    connection: Any
    connection_errors: tuple[type[BaseException], ...]
    event_dispatcher: Any
    initial_prefetch_count: int
    qos: QoS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # With a fanout consumer (gossip, remote control) the worker exits when Redis goes away
        # while a job is under way; its operator need not remember --without-gossip.
        options = kwargs.pop("worker_options", None) or {}
        kwargs["worker_options"] = {**options, "without_gossip": True, "without_mingle": True}
        super().__init__(*args, **kwargs)
        if isinstance(self.pool, SafeThreadPool):  # prefork sees to it by itself
            self.pool.meanwhile = self._say_alive
        open_no_packed_bodies()
        # Of what is no message at all other transports than ours raise it before a consumer sees
        # it. It has left its queue by then; without this the worker would exit.
        self.connection_errors = (*self.connection_errors, *UNREADABLE)
        self._has_quorum_queues = False
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

    def connect(self) -> Any:
        """Connect to the broker."""
        connection = super().connect()
        if self._has_quorum_queues:
            # As if RabbitMQ counted what a consumer holds, and not a connection: Celery then asks
            # for no more than that.
            transport: Any = connection.transport
            transport.qos_semantics_matches_spec = lambda _: True
        return connection

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Prepare to try again."""
        super().on_connection_error_before_connected(exc)
        _wait_if_refused(exc)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Prepare to connect again; to RabbitMQ's quorum queues in the way that they support."""
        # Whether they are is decided where their host is set up, so the first try tells. Without
        # this the worker would connect, be refused and connect for ever.
        if _NO_GLOBAL_QOS in str(exc):
            self._has_quorum_queues = True
            log.info("broker_has_quorum_queues", error=type(exc).__name__)
        super().on_connection_error_after_connected(exc)
        _wait_if_refused(exc)

    def shutdown(self) -> None:
        """Close the connections, without waiting long for a RabbitMQ that hangs.

        It is asked to agree six times, at the end of a grace that may have gone to the jobs. What
        they had to acknowledge is sent by now.
        """
        for connection in (self.connection, getattr(self.event_dispatcher, "connection", None)):
            if connection is not None and connection.supports_heartbeats:
                bound_open_broker_sockets(connection, _FAREWELL_SECONDS)
        super().shutdown()

    def _say_alive(self) -> None:
        """Have RabbitMQ hear of this worker, if it is due.

        It gives the jobs of one that says nothing for twenty seconds to another.
        """
        connection = self.connection
        # One that is lost is not made anew: the worker is about to end.
        if connection is not None and connection.connected and connection.supports_heartbeats:
            with suppress(*self.connection_errors):
                connection.heartbeat_check()

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
