"""What Celery's consumer lacks where the broker is a RabbitMQ; on a Redis it adds nothing."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any, Final

import structlog
from amqp.exceptions import AccessRefused, NotAllowed, PreconditionFailed
from celery.utils.threads import bound_open_broker_sockets  # type: ignore[attr-defined]
from celery.worker import loops
from celery.worker.consumer import Consumer

from worker.celery_support.thread_pool import SafeThreadPool

log = structlog.get_logger()

_NO_GLOBAL_QOS: Final = "does not support global qos"
_FIRST_LOOK_SECONDS: Final = 0.1
# For a user, a right or a queue that an operator must put right.
_REFUSALS: Final = (AccessRefused, NotAllowed, PreconditionFailed)
_REFUSED_SECONDS: Final = 2.0
_CLOSE_SECONDS: Final = 1.0


def _look_first(connection: Any) -> None:
    """Read what the broker says before the event loop is asked to: Celery's ``_quick_drain``.

    Celery's own swallows what it reads there. A queue that is deleted in that moment the worker
    would not declare, nor take from, until it is started again.
    """
    with suppress(TimeoutError):
        connection.drain_events(timeout=_FIRST_LOOK_SECONDS)


def _wait_if_refused(error: Exception) -> None:
    """Wait before the next try: kombu does so only where no RabbitMQ answers."""
    if isinstance(error, _REFUSALS):
        time.sleep(_REFUSED_SECONDS)


loops._quick_drain = _look_first  # type: ignore[attr-defined]  # noqa: SLF001 - called by that name


class RabbitMQConsumer(Consumer):
    """Connects as quorum queues need it, sends heartbeats until the end, and closes in time."""

    connection: Any
    connection_errors: tuple[type[BaseException], ...]
    event_dispatcher: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._has_quorum_queues = False
        if isinstance(self.pool, SafeThreadPool):  # prefork sees to it by itself
            self.pool.while_stopping = self._send_heartbeat

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
                bound_open_broker_sockets(connection, _CLOSE_SECONDS)
        super().shutdown()

    def _send_heartbeat(self) -> None:
        """Send RabbitMQ a heartbeat, if one is due.

        It gives the jobs of a worker that sends nothing for twenty seconds to another.
        """
        connection = self.connection
        # One that is lost is not made anew: the worker is about to end.
        if connection is not None and connection.connected and connection.supports_heartbeats:
            with suppress(*self.connection_errors):
                connection.heartbeat_check()
