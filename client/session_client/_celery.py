"""Publishing on a broker that is no Redis, by Celery: an extra (``[celery]``), for `SessionClient`.

kombu's time limits are fixed per connection, so on a broker that accepts connections and does not
answer a publish may take some seconds more than its caller has.
"""

from __future__ import annotations

import time
from typing import Any, Final

from celery import Celery
from celery.loaders.app import AppLoader
from kombu import Connection
from kombu.exceptions import OperationalError
from kombu.pools import ProducerPool

from session_client import broker
from session_client._core.message import Message
from session_client.contract import Queue
from session_client.errors import BrokerUnavailable

_MAX_AT_ONCE: Final = 16
_TRIES: Final = 2
_RETRY_ONCE: Final = {"max_retries": _TRIES - 1, "interval_start": 0.0, "interval_max": 0.2}
_SOCKET_SECONDS: Final = 2.0


class CeleryPublisher:
    """Sends requests over a pool of connections. Safe to share among threads."""

    def __init__(self, broker_url: str, client_name: str) -> None:
        options = broker.transport_options(
            client_name=client_name,
            socket_timeout_seconds=_SOCKET_SECONDS,
            connect_timeout_seconds=1.0,
        )
        self._app = _celery_app()
        # A pool of our own: the app's would follow CELERY_BROKER_URL of the process it runs in,
        # which in a Celery-using app is that app's broker and not ours.
        connection = Connection(
            broker.kombu_url(broker_url),
            # Else what RabbitMQ does not take, or a dead link swallows, counts as published, and so
            # does all that follows on that link.
            transport_options=options | {"confirm_publish": True},
            connect_timeout=1.0,
            ssl=broker.tls_options(broker_url) or False,
        )
        self._connections = connection.Pool(limit=_MAX_AT_ONCE)
        self._producers = ProducerPool(self._connections, limit=_MAX_AT_ONCE)

    def publish(self, message: Message, until: float, answer_to: str | None = None) -> None:
        """Put it on its queue. Raises `BrokerUnavailable`."""
        try:
            with self._producers.acquire(block=True, timeout=_left(until)) as producer:
                # Anew: where RabbitMQ hangs, those before it have taken most of its time.
                self._send(message, answer_to, producer, _left(until))
        except Exception as error:  # noqa: BLE001 - what kombu falls over cannot be foreseen
            raise BrokerUnavailable(f"publishing: {_name_of(error)}") from None

    def _send(self, message: Message, answer_to: str | None, producer: Any, left: float) -> None:
        try:
            self._app.send_task(
                message.task.value,
                kwargs=message.kwargs,
                task_id=message.request_id,
                queue=message.queue.value,
                producer=producer,
                ignore_result=True,
                result_cls=_NoResult,  # type: ignore[arg-type]
                add_to_parent=False,
                retry=True,
                retry_policy=_RETRY_ONCE,
                confirm_timeout=min(left / _TRIES, _SOCKET_SECONDS),
                headers=message.headers(answer_to),
                argsrepr="-",
                kwargsrepr="-",
            )
        except Exception:
            # Kombu would close it in agreement with RabbitMQ, which answers nothing while it takes
            # nothing.
            producer.connection.collect(_SOCKET_SECONDS)
            raise

    def close(self) -> None:
        """Close the connections; messages under way are given up."""
        self._connections.force_close_all()


def publisher(broker_url: str, client_name: str) -> CeleryPublisher:
    """Return a publisher. Raises `BrokerUnavailable` where kombu has no way to that broker."""
    try:
        return CeleryPublisher(broker_url, client_name)
    except Exception as error:  # noqa: BLE001 - some kinds of broker need a library of their own
        raise BrokerUnavailable(f"publishing: {_name_of(error)}") from None


def _left(until: float) -> float:
    return max(until - time.monotonic(), 0.01)


def _name_of(error: BaseException) -> str:
    while type(error) is OperationalError:
        inner = error.__cause__ or error.__context__
        if inner is None:
            break
        error = inner
    return type(error).__name__


class _NoResult:
    """Stands in for Celery's result, which would load the app's own CELERY_RESULT_BACKEND."""

    def __init__(self, _task_id: str) -> None:
        self.ignored = True  # Celery sets and reads it


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
        task_default_queue=Queue.SESSIONS.value,  # never used; Celery 5.3 looks for it all the same
        task_ignore_result=True,
        task_send_sent_event=False,
        result_backend=None,
        enable_utc=True,
        timezone="UTC",
    )
    app.finalize()
    _ = app.amqp.router  # made once here, rather than by the first threads at the same time
    return app
