"""Putting sealed requests on the broker, in bounded time.

kombu's socket timeout is fixed per connection, so a publish on a half-open connection may take
seconds although the caller has only a fraction of one. It therefore runs on a helper thread, and
the caller waits only as long as it wants; the thread ends by the socket's own timeout.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, Final

from celery import Celery
from kombu import Connection
from kombu.exceptions import KombuError
from kombu.pools import ProducerPool

from session_client import broker, contract
from session_client.errors import BrokerUnavailable

_PUBLISHERS: Final = 16
_RETRY_ONCE: Final = {"max_retries": 1, "interval_start": 0.0, "interval_max": 0.2}


class Publisher:
    """Sends tasks by name over a pool of connections. Safe to share among threads."""

    def __init__(self, broker_url: str, client_name: str) -> None:
        options = broker.transport_options(
            client_name=client_name, socket_timeout_seconds=2.0, connect_timeout_seconds=1.0
        )
        self._app = _celery_app()
        # A pool of our own: the app's would follow CELERY_BROKER_URL of the process it runs in,
        # which in a Celery-using app is that app's broker and not ours.
        connection = Connection(broker_url, transport_options=options, connect_timeout=1.0)
        self._connections = connection.Pool(limit=_PUBLISHERS)
        self._producers = ProducerPool(self._connections, limit=_PUBLISHERS)
        self._threads = ThreadPoolExecutor(_PUBLISHERS, thread_name_prefix="session-publish")

    def publish(
        self, task: contract.Task, request_id: str, kwargs: dict[str, Any], within_seconds: float
    ) -> None:
        """Send one message. Raises `BrokerUnavailable` within *within_seconds*."""
        sending = self._threads.submit(self._send, task, request_id, kwargs)
        try:
            sending.result(timeout=max(within_seconds, 0.0))
        except FutureTimeout:
            _forget(sending)
            raise BrokerUnavailable(f"no reply within {within_seconds:.2f} s") from None
        except (KombuError, OSError) as error:
            raise BrokerUnavailable(f"publishing: {type(error).__name__}") from None

    def close(self) -> None:
        """Close the connections; messages under way are given up."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._connections.force_close_all()

    def _send(self, task: contract.Task, request_id: str, kwargs: dict[str, Any]) -> None:
        with self._producers.acquire(block=True) as producer:
            self._app.send_task(
                task.value,
                kwargs=kwargs,
                task_id=request_id,
                queue=contract.QUEUE_OF[task].value,
                producer=producer,
                ignore_result=True,
                retry=True,
                retry_policy=_RETRY_ONCE,
                argsrepr="-",
                kwargsrepr="-",
            )


def _celery_app() -> Celery:
    app = Celery("session_client", set_as_current=False, fixups=[])
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
    return app


def _forget(sending: Future[None]) -> None:
    # Nobody reads the outcome any more; without a reader an exception would be lost in silence
    # here and that is right: the caller has been told already.
    sending.cancel()
