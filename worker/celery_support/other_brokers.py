"""Brokers that are no Redis: whether they answer and, of RabbitMQ, how much waits in a queue."""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from amqp.exceptions import AMQPError
from kombu import Connection, pools
from kombu.exceptions import OperationalError

from session_client import broker
from worker.celery_support.queue_heads import Waiting
from worker.errors import BrokerUnavailable
from worker.settings.validators import is_amqp

# What publishing raises. RabbitMQ's refusals (no right, no such exchange) kombu passes on as they
# are.
NOT_SENT: Final = (OperationalError, AMQPError)
_TIMEOUT_SECONDS: Final = 2
_NOT_FOUND: Final = 404


def check(url: str) -> None:
    """Raise `BrokerUnavailable` unless the broker at *url* can be connected to."""
    with connected(url):
        pass


def depths(url: str, queues: Iterable[str]) -> dict[str, int]:
    """Return how many messages lie in each of *queues* and were not sent to a consumer yet.

    No process has declared a queue that does not exist, so nothing waits in it: 0. A queue that the
    broker does not let us ask about is left out. Raises `BrokerUnavailable`.
    """
    with connected(url) as connection:
        counts = {queue: _depth(connection, queue) for queue in queues}
    return {queue: count for queue, count in counts.items() if count is not None}


def waiting_in(url: str, queue: str) -> Waiting | None:
    """Return what lies in one queue, or None where the broker at *url* does not say it.

    For a caller that asks often: the connection is kept. Raises `BrokerUnavailable`.
    """
    if not is_amqp(url):
        return None
    with pools.connections[_unconnected(url)].acquire(block=True) as connection:
        count = _asked_again_if_broken(connection, queue)
    return None if count is None else Waiting(count, None, is_head_shown=False)


def _asked_again_if_broken(connection: Connection, queue: str) -> int | None:
    # It may have died unnoticed since it was last used.
    try:
        with _in_our_words(connection):
            return _depth(connection, queue)
    except BrokerUnavailable:
        connection.collect()
    with _in_our_words(connection):
        return _depth(connection, queue)


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
def connected(url: str) -> Iterator[Connection]:
    """Give a connection to the broker at *url*. Raises `BrokerUnavailable`, within as well."""
    with _unconnected(url) as connection, _in_our_words(connection):
        yield connection


def _unconnected(url: str) -> Connection:
    # Without them a broker that hangs after the connection was made would be awaited for ever.
    patience = {"read_timeout": _TIMEOUT_SECONDS, "write_timeout": _TIMEOUT_SECONDS}
    return Connection(
        broker.kombu_url(url),
        connect_timeout=_TIMEOUT_SECONDS,
        transport_options=patience if is_amqp(url) else {},
        ssl=broker.tls_options(url) or False,
    )


@contextmanager
def _in_our_words(connection: Connection) -> Iterator[None]:
    refusals = (*connection.connection_errors, *connection.channel_errors)
    try:
        connection.ensure_connection(max_retries=1, timeout=_TIMEOUT_SECONDS)
        yield
    except (OSError, OperationalError) as error:
        raise BrokerUnavailable(
            f"the broker does not answer{_cause(error)}: is it running, and is CELERY_BROKER_URL "
            "right?"
        ) from None
    except refusals as refusal:  # its own words may quote what was sent
        raise BrokerUnavailable(
            f"the broker refuses us ({type(refusal).__name__}): are user, password and "
            "virtual host in CELERY_BROKER_URL right?"
        ) from None


def _cause(error: BaseException | None) -> str:
    """Say what is wrong with TLS or with a file of its; nothing of anything else."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f", its certificate is not accepted ({error.verify_message})"
        if isinstance(error, ssl.SSLError):
            return f", TLS fails ({error.reason or type(error).__name__})"
        if isinstance(error, FileNotFoundError | PermissionError):
            return f", a file that CELERY_BROKER_URL names cannot be read ({error.strerror})"
        error = error.__cause__ or error.__context__
    return ""
