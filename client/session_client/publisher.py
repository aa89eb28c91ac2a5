"""Putting sealed requests on the broker, in bounded time.

kombu's socket timeout is fixed per connection, so a publish on a half-open connection may take
seconds although the caller has only a fraction of one. Each therefore runs on a thread of its
own, and the caller waits only as long as it wants; the thread ends by the socket's own timeout.
They are daemon threads: one that is stuck must not hold up the end of the interpreter.
"""

from __future__ import annotations

import contextvars
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, Final

from celery import Celery
from celery.loaders.app import AppLoader
from kombu import Connection, Producer, Queue
from kombu.pools import ProducerPool

from session_client import broker, causes, contract, times, urls
from session_client.errors import BrokerUnavailable
from session_client.messages import Message

_MAX_AT_ONCE: Final = 16
_RETRY_ONCE: Final = {"max_retries": 1, "interval_start": 0.0, "interval_max": 0.2}


class Publisher:
    """Sends requests over a pool of connections. Safe to share among threads."""

    def __init__(self, broker_url: str, client_name: str) -> None:
        options = broker.transport_options(
            client_name=client_name, socket_timeout_seconds=2.0, connect_timeout_seconds=1.0
        )
        self._app = _celery_app()
        # A pool of our own: the app's would follow CELERY_BROKER_URL of the process it runs in,
        # which in a Celery-using app is that app's broker and not ours.
        connection = Connection(
            broker_url,
            transport_options=options,
            connect_timeout=1.0,
            ssl=broker.tls_options(broker_url) or False,
        )
        self._connections = connection.Pool(limit=_MAX_AT_ONCE)
        self._producers = ProducerPool(self._connections, limit=_MAX_AT_ONCE)
        # On Redis a queue is a list, there when it is pushed to. To declare one is to write down
        # where its messages go, for all who publish: more than an app should have the right to.
        self._declare: list[Queue] | None = [] if urls.is_redis(broker_url) else None
        # Waiting for a turn counts against the caller's time too: with a frozen broker all turns
        # are taken until the sockets time out.
        self._turns = threading.BoundedSemaphore(_MAX_AT_ONCE)

    def publish(self, message: Message, until: float) -> None:
        """Send one message by *until* (`time.monotonic`). Raises `BrokerUnavailable`.

        What could not be sent in time may still be sent a few seconds later.
        """
        if not self._turns.acquire(timeout=_left(until)):
            raise BrokerUnavailable("the broker takes no messages")
        sending: Future[None] = Future()
        context = contextvars.copy_context()  # tracing hooks of the app find their span there
        thread = threading.Thread(
            target=context.run,
            args=(self._send_and_tell, message, sending),
            name="session-publish",
            daemon=True,
        )
        try:
            thread.start()
        except RuntimeError:
            self._turns.release()
            raise BrokerUnavailable("no thread can be started") from None
        try:
            sending.result(timeout=_left(until))
        except FutureTimeout:
            raise BrokerUnavailable("the broker did not confirm the message in time") from None
        except Exception as error:  # noqa: BLE001 - nobody can foresee what kombu falls over
            raise BrokerUnavailable(f"publishing: {causes.name_of(error)}") from None

    def close(self) -> None:
        """Close the connections; messages under way are given up."""
        self._connections.force_close_all()

    def _send_and_tell(self, message: Message, sending: Future[None]) -> None:
        try:
            self._send(message)
        except BaseException as error:  # noqa: BLE001 - it is raised where somebody waits
            sending.set_exception(error)
        else:
            sending.set_result(None)
        finally:
            self._turns.release()

    def _send(self, message: Message) -> None:
        with self._producers.acquire(block=True) as producer:
            try:
                self._put(message, producer)
            except causes.BROKER_ERRORS:
                raise  # tried twice already
            except Exception:  # noqa: BLE001
                # The pool gave out a connection whose channel broke under an earlier message: kombu
                # falls over it, with an AttributeError, and would over and over.
                connection = producer.connection
                assert connection is not None, "it comes from a pool of them"  # noqa: S101
                connection.collect()
                producer.revive(connection)  # type: ignore[arg-type]  # as the pool does
                self._put(message, producer)

    def _put(self, message: Message, producer: Producer) -> None:
        self._app.send_task(
            message.task.value,
            kwargs=message.kwargs,
            task_id=message.request_id,
            queue=message.queue.value,
            declare=self._declare,
            producer=producer,
            ignore_result=True,
            result_cls=_NoResult,  # type: ignore[arg-type]
            add_to_parent=False,
            retry=True,
            retry_policy=_RETRY_ONCE,
            headers={contract.PUBLISHED_AT: times.to_wire(times.now())},
            argsrepr="-",
            kwargsrepr="-",
        )


class _NoResult:
    """Stands in for Celery's result, which would load the app's own CELERY_RESULT_BACKEND."""

    def __init__(self, _task_id: str) -> None:
        self.ignored = True  # Celery sets and reads it


def _left(until: float) -> float:
    return max(until - time.monotonic(), 0.0)


class _NoConfiguration(AppLoader):
    """Keeps out what CELERY_CONFIG_MODULE and CELERY_LOADER name: they are the app's own Celery."""

    def read_configuration(self, env: str = "") -> dict[str, Any]:
        """Read nothing."""
        del env
        return {}


def _celery_app() -> Celery:
    app = Celery("session_client", loader=_NoConfiguration, set_as_current=False, fixups=[])
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_queues=broker.queues(),
        task_create_missing_queues=False,
        task_ignore_result=True,
        task_send_sent_event=False,
        result_backend=None,
        enable_utc=True,
        timezone="UTC",
    )
    app.finalize()
    _ = app.amqp.router  # made once here, rather than by the first threads at the same time
    return app
