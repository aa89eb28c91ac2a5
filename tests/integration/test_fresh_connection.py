"""Redis connections that look for unread data only when there may be some."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from pytest_mock import MockerFixture

from sandbox.redis_server import RedisServer
from worker import fresh_connection
from worker.wiring import connect_redis


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    client = connect_redis(redis_url, connection_class=fresh_connection.connection_class(redis_url))
    yield client
    client.close()


def test_after_an_answer_nobody_looks_for_unread_data(
    client: redis.Redis, mocker: MockerFixture
) -> None:
    client.set("a", "1")
    looked = mocker.spy(redis.Connection, "can_read")

    assert client.get("a") == b"1"

    assert looked.call_count == 0


def test_after_a_while_somebody_looks(client: redis.Redis, mocker: MockerFixture) -> None:
    mocker.patch.object(fresh_connection, "FRESH_SECONDS", 0)
    client.set("a", "1")
    looked = mocker.spy(redis.Connection, "can_read")

    assert client.get("a") == b"1"

    assert looked.call_count == 1


def test_an_answer_nobody_waited_for_is_not_read_as_anothers(
    client: redis.Redis, mocker: MockerFixture
) -> None:
    client.mset({"mine": "1", "theirs": "2"})
    read = mocker.patch.object(
        client, "_send_command_parse_response", side_effect=sent_and_interrupted
    )

    with pytest.raises(KeyboardInterrupt):
        client.get("theirs")
    mocker.stop(read)

    assert client.get("mine") == b"1"


def sent_and_interrupted(connection: Any, _: Any, *arguments: Any, **__: Any) -> None:
    connection.send_command(*arguments)
    raise KeyboardInterrupt


def test_an_answer_nobody_waited_for_is_not_read_after_a_health_check_either(
    client: redis.Redis, mocker: MockerFixture
) -> None:
    client.mset({"mine": "1", "theirs": "2"})
    for connection in client.connection_pool._available_connections:
        connection.next_health_check = 0  # the next command asks first whether Redis is well
    read = mocker.patch.object(
        client, "_send_command_parse_response", side_effect=sent_and_interrupted
    )

    with pytest.raises(KeyboardInterrupt):
        client.get("theirs")
    mocker.stop(read)

    assert client.get("mine") == b"1"


def test_a_restart_costs_a_connection_one_command_at_most() -> None:
    with RedisServer(appendonly=True) as server:
        url = server.url()
        client = connect_redis(url, connection_class=fresh_connection.connection_class(url))
        client.set("a", "1")
        server.restart(keep_data=True, kill=True)

        failures = 0
        for _ in range(5):
            try:
                assert client.get("a") == b"1"
            except redis.ConnectionError:
                failures += 1
        client.close()

    assert failures <= 1


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("redis://host", redis.Connection),
        ("rediss://host", redis.SSLConnection),
        ("unix:///socket", redis.UnixDomainSocketConnection),
    ],
)
def test_every_kind_of_url_has_its_own_connection(url: str, base: type) -> None:
    client = connect_redis(url, connection_class=fresh_connection.connection_class(url))

    assert issubclass(client.connection_pool.connection_class, base)
    client.close()
