"""How to talk to the broker: one function for worker, beat and clients, so they cannot differ.

Every consumer applies *its own* visibility timeout to all unacknowledged jobs that are noted under
the same keys (kombu's Redis transport), so an app with a shorter one would run the workers' jobs a
second time. Workers share kombu's keys; an app that takes notices has keys of its own.
"""

from __future__ import annotations

from typing import Any, Final

from kombu import Exchange, Queue

from session_client import amqps, contract
from session_client.errors import ConfigurationError

# More than twice the longest job (60 s): a job that is still running must never come again.
VISIBILITY_TIMEOUT_SECONDS: Final = 180


def transport_options(
    *,
    client_name: str,
    socket_timeout_seconds: float = 5.0,
    connect_timeout_seconds: float = 2.0,
    visibility_timeout_seconds: float = VISIBILITY_TIMEOUT_SECONDS,
    app_id: str | None = None,
) -> dict[str, Any]:
    """Return Celery's ``broker_transport_options``, for Redis and for RabbitMQ.

    Args:
        client_name: how the connections are called in Redis' ``CLIENT LIST``.
        socket_timeout_seconds: how long a command of Redis may take, and each answer of RabbitMQ.
        connect_timeout_seconds: how long connecting may take.
        visibility_timeout_seconds: how long a job may take before it is given to another worker.
        app_id: the app's name at the worker, for an app whose own Celery worker takes notices from
            a queue. The jobs it has under way are then noted as ``app:<app_id>:unacked…``, and its
            Redis user need not reach those of the session workers (``docs/operations.md``).

    Raises `ConfigurationError` for an *app_id* of another form.
    """
    return {
        **({} if app_id is None else _own_keys(app_id)),
        "visibility_timeout": visibility_timeout_seconds,
        # By default a dead worker's jobs come back up to 100 s late: each tenth look every 10 s.
        "unacked_restore_interval": 5 if visibility_timeout_seconds > 10 else 1,  # noqa: PLR2004
        "unacked_restore_throttle": 1,
        # A sweeper killed while it holds the mutex would block all consumers' sweeps for 300 s.
        "unacked_mutex_expire": 30,
        # Without a socket timeout a half-open connection hangs publishers and consumers for ever.
        "socket_timeout": socket_timeout_seconds,
        "socket_connect_timeout": connect_timeout_seconds,
        "socket_keepalive": True,
        "health_check_interval": 5,
        # A push whose reply got lost would be pushed twice.
        "retry_on_timeout": False,
        # One list a queue: separate queues do what priorities promise.
        "priority_steps": [0],
        "client_name": client_name,
        # RabbitMQ alone. Without them a link that swallows everything is waited on for ever.
        "read_timeout": socket_timeout_seconds,
        "write_timeout": socket_timeout_seconds,
    }


def _own_keys(app_id: str) -> dict[str, str]:
    if not contract.is_app_id(app_id):
        raise ConfigurationError("app_id: lower-case letters, digits, - and _ (64 at most)")
    names = ("unacked", "unacked_index", "unacked_mutex")
    return {f"{name}_key": f"app:{app_id}:{name}" for name in names}


def tls_options(url: str) -> dict[str, Any] | None:
    """Return kombu's options of TLS for the broker at *url*; ``?ssl_…`` in it wins.

    By itself kombu looks at no certificate of a Redis, at no name in one of a RabbitMQ, and knows
    that ``rediss`` means TLS only by the name of its own transport.
    """
    if url.startswith(f"{amqps.SCHEME}://"):
        return amqps.split(url)[1]
    return {"ssl_cert_reqs": "required"} if url.startswith("rediss://") else None


def kombu_url(url: str) -> str:
    """Return what kombu is to take for the broker's URL: without what `tls_options` tells it."""
    return amqps.split(url)[0] if url.startswith(f"{amqps.SCHEME}://") else url


def queues() -> tuple[Queue, ...]:
    """Return the queues of the contract, to declare on both sides."""
    return tuple(
        Queue(name, Exchange(name, type="direct"), routing_key=name)
        for name in (queue.value for queue in contract.Queue)
    )
