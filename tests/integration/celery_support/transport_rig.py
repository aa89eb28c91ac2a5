"""Consumers on kombu's own level, ours and kombu's, and messages as they lie in Redis."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any, Final, Self

import redis
from kombu import Connection, Consumer, Queue

from session_client import broker
from tests.stage import redis_client

OURS: Final = "worker.celery_support.transport:Transport"
STOCKS: Final = "redis"
QUEUE: Final = "jobs"
LOOK_SECONDS: Final = 0.05


def connection_to(url: str, transport: str = OURS, **options: Any) -> Connection:
    """Return a connection with our options, but for *options*."""
    defaults = broker.transport_options(client_name="test")
    # How long it listens at once: closing a channel waits for the end of that.
    chosen = {**defaults, "polling_interval": 0.05, **options}
    return Connection(url, transport=transport, transport_options=chosen)


class Taker:
    """A consumer that keeps what it got. It works when the test looks."""

    def __init__(
        self,
        url: str,
        *queues: str | Queue,
        slots: int = 0,
        transport: str = OURS,
        no_ack: bool = False,
        on_message: Any = None,
        **options: Any,
    ) -> None:
        self.got: list[Any] = []
        self._url = url
        self.connection = connection_to(url, transport, **options)
        channel: Any = self.connection.channel()
        channel.basic_qos(0, slots, False)
        self.channel = channel
        wanted = [Queue(queue) if isinstance(queue, str) else queue for queue in queues or [QUEUE]]
        self._consumer = Consumer(
            self.channel, wanted, no_ack=no_ack, on_message=on_message or self.got.append
        )
        self._consumer.consume()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(redis.RedisError):
            self.connection.release()

    def look(self) -> list[Any]:
        """Take and listen until nothing comes any more; return the bodies it has got."""
        with suppress(TimeoutError):
            while True:
                try:
                    self.connection.drain_events(timeout=LOOK_SECONDS)
                except TimeoutError:
                    # Nothing came, or Redis had no time yet: it answers what it was asked first.
                    with redis_client(self._url) as client:
                        client.ping()
                    self.connection.drain_events(timeout=LOOK_SECONDS)
        return [message.payload for message in self.got]

    def die(self) -> None:
        """End without giving back what was taken, as a killed process does."""
        self.channel.do_restore = False
        self.connection.release()


def sweep(url: str, transport: str = OURS) -> None:
    """Put back what anybody has taken, as a consumer does when the visibility timeout has passed.

    A `Taker` with a short timeout would do so too, but to its own jobs as well on a slow machine.
    """
    with connection_to(url, transport, visibility_timeout=0) as connection:
        qos: Any = connection.default_channel.qos  # type: ignore[attr-defined]
        qos.restore_visible(num=None, interval=1)


def publish(url: str, *bodies: Any, queue: str | Queue = QUEUE, **options: Any) -> None:
    """Publish as any stock producer does."""
    queue = Queue(queue) if isinstance(queue, str) else queue
    with connection_to(url, STOCKS) as connection, connection.Producer() as producer:
        for body in bodies:
            producer.publish(
                body,
                exchange=queue.exchange,
                routing_key=queue.routing_key if queue.exchange.name else queue.name,
                declare=[queue],
                **options,
            )


def item(
    *,
    tag: Any = "a-tag",
    body: str = "e30=",
    headers: Any = ...,
    delivery_info: Any = ...,
    more: str = "",
) -> bytes:
    """Return a queue item by hand; *more* is text for its JSON."""
    properties = {"delivery_tag": tag, "body_encoding": "base64", "priority": 0}
    properties["delivery_info"] = (
        {"exchange": "", "routing_key": QUEUE} if delivery_info is ... else delivery_info
    )
    message = {
        "body": body,
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {} if headers is ... else headers,
        "properties": properties,
    }
    return (json.dumps(message)[:-1] + more + "}").encode()


def records(client: redis.Redis) -> dict[str, Any]:
    """Return what is noted as taken, by delivery tag."""
    found: Any = client.hgetall("unacked")
    return {tag.decode(): json.loads(record) for tag, record in found.items()}


def taken_at(client: redis.Redis) -> dict[str, float]:
    """Return when it was taken, by delivery tag."""
    found: Any = client.zrange("unacked_index", 0, -1, withscores=True)
    return {tag.decode(): score for tag, score in found}
