"""What tests of RabbitMQ share: stacks and services with one as their broker, its own settings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import httpx
from kombu import Connection, Queue
from pydantic import SecretStr

from sandbox.rabbitmq import CLASSIC, RabbitMQ
from sandbox.redis_server import RedisServer
from sandbox.stack import Stack
from session_client import SessionClient, broker
from tests.faults.conftest import SHORT_TIMES
from tests.stage import Stage
from worker import wiring
from worker.wiring import Services


@contextmanager
def stack_on(
    url: str, redis: RedisServer, **variables: str
) -> Iterator[tuple[Stack, SessionClient]]:
    """A stack and an app's client, with queues at *url* and the rest in *redis*."""
    with Stack(redis=redis, broker_url=url, settings=SHORT_TIMES) as stack:
        stack.environment |= {"REDIS_URL": redis.url(), **variables}
        stack.migrate()
        key = stack.add_app("shop")
        with SessionClient(
            broker_url=url, reply_url=redis.url(), app_id="shop", app_key=key
        ) as client:
            yield stack, client


@contextmanager
def brokered_by(url: str, stage: Stage) -> Iterator[Services]:
    """The stage's services with *url* as their broker, and its Redis for the rest."""
    update = {"redis_url": stage.settings.broker_url, "broker_url": SecretStr(url)}
    settings = stage.settings.model_copy(update=update)
    services = replace(stage.services, settings=settings, broker=None)
    with wiring.use(services):
        yield services


def declare_all(url: str) -> None:
    """Declare the workers' queues as they do."""
    with Connection(url) as connection:
        for queue in broker.queues():
            queue(connection.channel()).declare()


def declare(url: str, name: str, **how: Any) -> None:
    """Declare one queue otherwise."""
    with Connection(url) as connection:
        Queue(name, **how)(connection.channel()).declare()


class Api:
    """The management API, as an administrator uses it."""

    def __init__(self, rabbitmq: RabbitMQ) -> None:
        self._url = rabbitmq.api_url

    def put(self, *path: str, **body: object) -> None:
        """Make, or change, what is at *path*."""
        way = "/".join(quote(part, safe="") for part in path)
        httpx.put(f"{self._url}/api/{way}", json=body, timeout=30).raise_for_status()

    def delete(self, *path: str) -> None:
        """Remove it."""
        way = "/".join(quote(part, safe="") for part in path)
        httpx.delete(f"{self._url}/api/{way}", timeout=30).raise_for_status()

    @contextmanager
    def virtual_host(self, name: str, kind: str = CLASSIC) -> Iterator[str]:
        """Have one more for a moment, whose queues are of *kind*; gives its name."""
        # As releases before and after 3.12 spell it.
        self.put("vhosts", name, defaultqueuetype=kind, default_queue_type=kind)
        self.put("permissions", name, "guest", configure=".*", write=".*", read=".*")
        try:
            yield name
        finally:
            self.delete("vhosts", name)
