"""How to talk to the broker: one function for worker, beat and clients, so they cannot differ.

Every consumer applies *its own* visibility timeout to everybody's unacknowledged jobs (kombu's
Redis transport), so a stranger with a shorter one would run the others' jobs a second time.
"""

from __future__ import annotations

from typing import Any, Final

from kombu import Exchange, Queue

from session_client import contract

# More than twice the longest job (60 s): a job that is still running must never come again.
VISIBILITY_TIMEOUT_SECONDS: Final = 180


def transport_options(
    *,
    client_name: str,
    socket_timeout_seconds: float = 5.0,
    connect_timeout_seconds: float = 2.0,
    visibility_timeout_seconds: float = VISIBILITY_TIMEOUT_SECONDS,
) -> dict[str, Any]:
    """Return Celery's ``broker_transport_options`` for Redis."""
    return {
        "visibility_timeout": visibility_timeout_seconds,
        # By default a dead worker's jobs come back up to 100 s late: each tenth look every 10 s.
        "unacked_restore_interval": 5 if visibility_timeout_seconds > 10 else 1,  # noqa: PLR2004
        "unacked_restore_throttle": 1,
        # A sweeper killed while it holds the mutex would block everybody's sweeps for 300 s.
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
    }


def tls_options(url: str) -> dict[str, Any] | None:
    """Return what kombu must be told of TLS for the broker at *url*; ``?ssl_…`` in it wins.

    By itself kombu looks at no certificate, and knows that ``rediss`` means TLS only by the name of
    its own transport.
    """
    return {"ssl_cert_reqs": "required"} if url.startswith("rediss://") else None


def queues() -> tuple[Queue, ...]:
    """Return the queues of the contract, to declare on both sides."""
    return tuple(
        Queue(name, Exchange(name, type="direct"), routing_key=name)
        for name in (queue.value for queue in contract.Queue)
    )
