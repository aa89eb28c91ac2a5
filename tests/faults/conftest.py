"""Real processes, with times short enough to wait for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from sandbox.ports import HOST
from sandbox.rabbitmq import RabbitMQ, find_rabbitmq
from sandbox.redis_server import RedisServer
from sandbox.stack import PREFIX, Stack
from tests.certificates import make_certificates

__all__ = [
    "PATIENT",
    "SHORT_TIMES",
    "own_redis",
    "patient_mosaic",
    "rabbitmq",
    "stack",
]

# Short, so that what comes back after it comes back within a test.
SHORT_TIMES = {
    "log_level": "debug",  # with Celery's own lines, which tell deliveries
    "visibility_timeout_seconds": 6,
    "mosaic_timeout_seconds": 4,
    "delivery_lease_seconds": 9,
    "delivery_retry_seconds": 0.2,
    "delivery_retry_max_seconds": 1,
    "delivery_wake_again_seconds": 2,
    "sweep_every_seconds": 1,
}

# Where calls are counted or held, and no lease need end: one that is slow is not repeated.
PATIENT = {f"{PREFIX}MOSAIC_TIMEOUT_SECONDS": "25", f"{PREFIX}DELIVERY_LEASE_SECONDS": "51"}


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A Redis that this test may break."""
    with RedisServer(appendonly=True) as server:
        yield server


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    """A RabbitMQ, with TLS too, of all tests of a process: it takes long to start."""
    if find_rabbitmq() is None:
        pytest.skip("install rabbitmq-server")
    folder = tmp_path_factory.mktemp("rabbitmq")
    with RabbitMQ(*make_certificates(folder, HOST, "client")) as server:
        yield server


@pytest.fixture
def stack(own_redis: RedisServer) -> Iterator[Stack]:
    """Redis, simulator and a migrated database; the test starts the workers it needs."""
    with Stack(redis=own_redis, settings=SHORT_TIMES) as stack:
        stack.migrate()
        yield stack


@pytest.fixture
def patient_mosaic(stack: Stack) -> None:
    """Waits as `PATIENT` says. Name it before whatever starts a worker."""
    stack.environment |= PATIENT
