"""Each fault of the proxy, by what it does to a real Redis and its client."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from sandbox.ports import free_port
from sandbox.processes import poll_until
from sandbox.proxy import FaultProxy
from sandbox.redis_server import RedisServer

Connect = Callable[..., "redis.Redis"]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def direct(server: RedisServer) -> Iterator[redis.Redis]:
    """A client that stands on the far side of the proxy, with an empty database."""
    with redis.Redis.from_url(server.url()) as client:
        client.flushall()
        yield client


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", server.port) as proxy:
        yield proxy


@pytest.fixture
def connect(proxy: FaultProxy, direct: redis.Redis) -> Iterator[Connect]:
    """Clients through the proxy that keep to one connection each."""
    clients: list[redis.Redis] = []

    def make(socket_timeout: float = 30) -> redis.Redis:
        client = redis.Redis(
            host=proxy.host,
            port=proxy.port,
            socket_timeout=socket_timeout,
            socket_connect_timeout=30,
            retry=Retry(NoBackoff(), 0),
            single_connection_client=True,
        )
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


def test_without_faults_everything_passes(connect: Connect, direct: redis.Redis) -> None:
    connect().set("key", b"x" * 1_000_000)

    assert direct.strlen("key") == 1_000_000
    assert connect().get("key") == b"x" * 1_000_000


def test_cutting_ends_present_connections_and_welcomes_new_ones(
    proxy: FaultProxy, connect: Connect
) -> None:
    present = connect()

    proxy.cut()

    with pytest.raises(redis.ConnectionError):
        present.ping()
    assert connect().ping()


def test_refusing_spares_present_connections_and_ends_when_accepting(
    proxy: FaultProxy, connect: Connect
) -> None:
    present = connect()

    proxy.refuse()

    assert present.ping()
    with pytest.raises(redis.ConnectionError, match="refused"):
        connect()
    proxy.accept()
    assert connect().ping()


def test_a_black_hole_swallows_present_connections_while_new_ones_work(
    proxy: FaultProxy, connect: Connect, direct: redis.Redis
) -> None:
    present = connect(socket_timeout=1)

    proxy.black_hole()

    with pytest.raises(redis.TimeoutError):
        present.set("key", "lost on the way there")
    assert direct.get("key") is None
    assert connect().ping()


def test_the_server_believes_in_a_swallowed_connection_after_its_client_is_gone(
    proxy: FaultProxy, connect: Connect, direct: redis.Redis
) -> None:
    present = connect()
    name = present.client_setname("swallowed")
    assert name

    proxy.black_hole()
    present.close()
    assert connect().ping()

    assert "swallowed" in {client["name"] for client in direct.client_list()}
    proxy.heal()
    poll_until(
        lambda: "swallowed" not in {client["name"] for client in direct.client_list()},
        timeout=30,
        what="the server to be told",
    )


def test_a_black_hole_for_all_swallows_new_connections_too_until_healed(
    proxy: FaultProxy, connect: Connect
) -> None:
    proxy.black_hole_all()

    with pytest.raises(redis.TimeoutError):
        connect(socket_timeout=1).ping()
    proxy.heal()
    assert connect().ping()


def test_latency_is_added_each_way(proxy: FaultProxy, connect: Connect) -> None:
    client = connect()
    proxy.latency(0.05)

    started = time.monotonic()
    client.ping()

    assert time.monotonic() - started >= 0.1


def test_a_dropped_reply_happened_at_the_server_and_never_reaches_the_client(
    proxy: FaultProxy, connect: Connect, direct: redis.Redis
) -> None:
    direct.rpush("queue", "harmless", "job-1", "job-2")
    client = connect()
    dropped = proxy.drop_next_reply(containing=b"job-1")

    assert client.lpop("queue") == b"harmless"
    assert not dropped.is_set()
    with pytest.raises(redis.ConnectionError):
        client.lpop("queue")

    assert dropped.wait(timeout=30)
    assert connect().lpop("queue") == b"job-2"


def test_healing_forgets_the_reply_that_was_to_be_dropped(
    proxy: FaultProxy, connect: Connect, direct: redis.Redis
) -> None:
    direct.set("key", "value")
    dropped = proxy.drop_next_reply(containing=b"value")

    proxy.heal()

    assert connect().get("key") == b"value"
    assert not dropped.is_set()


def test_a_server_that_is_down_shows_as_a_closed_connection() -> None:
    with (
        FaultProxy("127.0.0.1", free_port()) as proxy,
        redis.Redis(port=proxy.port, retry=Retry(NoBackoff(), 0)) as client,
        pytest.raises(redis.ConnectionError),
    ):
        client.ping()


def test_closing_ends_swallowed_connections_too(server: RedisServer) -> None:
    with (
        FaultProxy("127.0.0.1", server.port) as proxy,
        redis.Redis(port=proxy.port, single_connection_client=True) as client,
    ):
        client.ping()
        proxy.black_hole()
