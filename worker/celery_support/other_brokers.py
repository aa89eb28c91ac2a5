"""Brokers that are no Redis: whether they answer and, of RabbitMQ, how much waits in a queue."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from kombu import Connection
from kombu.exceptions import OperationalError

from worker.errors import BrokerUnavailable
from worker.settings.validators import is_amqp

_TIMEOUT_SECONDS: Final = 2
_NOT_FOUND: Final = 404


def check(url: str) -> None:
    """Raise `BrokerUnavailable` unless the broker at *url* can be connected to."""
    with _connected(url):
        pass


def depths(url: str, queues: Iterable[str]) -> dict[str, int]:
    """Return how many messages lie in each of *queues* and were not sent to a consumer yet.

    Nobody has declared a queue that does not exist, so nothing waits in it: 0. A queue that the
    broker does not let us ask about is left out. Raises `BrokerUnavailable`.
    """
    with _connected(url) as connection:
        asked = {queue: _depth(connection, queue) for queue in queues}
    return {queue: count for queue, count in asked.items() if count is not None}


def _depth(connection: Connection, queue: str) -> int | None:
    # A channel of its own: the broker closes it with a refusal, and the other queues are asked.
    channel: Any = connection.channel()
    try:
        count = int(channel.queue_declare(queue, passive=True).message_count)
    except connection.channel_errors as refusal:
        return 0 if getattr(refusal, "code", None) == _NOT_FOUND else None
    channel.close()
    return count


@contextmanager
def _connected(url: str) -> Iterator[Connection]:
    # Without them a broker that hangs after the connection was made would be awaited for ever.
    patience = {"read_timeout": _TIMEOUT_SECONDS, "write_timeout": _TIMEOUT_SECONDS}
    options = patience if is_amqp(url) else {}
    with Connection(url, connect_timeout=_TIMEOUT_SECONDS, transport_options=options) as connection:
        refusals = (*connection.connection_errors, *connection.channel_errors)
        try:
            connection.ensure_connection(max_retries=1, timeout=_TIMEOUT_SECONDS)
            yield connection
        except (OSError, OperationalError):
            raise BrokerUnavailable(
                "the broker does not answer: is it running, and is CELERY_BROKER_URL right?"
            ) from None
        except refusals as refusal:  # its own words may quote what was sent
            raise BrokerUnavailable(
                f"the broker refuses us ({type(refusal).__name__}): are user, password and "
                "virtual host in CELERY_BROKER_URL right?"
            ) from None
