"""The private Redis, seen through a real client."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from sandbox import redis_server
from sandbox.leash import children_of, is_running
from sandbox.processes import ManagedProcess, poll_until
from sandbox.redis_server import RedisServer

Connect = Callable[..., "redis.Redis"]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Clients that give up at the first failure, closed after the test."""
    clients: list[redis.Redis] = []

    def make(server: RedisServer, **options: float) -> redis.Redis:
        client = redis.Redis.from_url(server.url(), retry=Retry(NoBackoff(), 0), **options)
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


def test_it_serves_on_a_private_port_of_the_loopback(connect: Connect) -> None:
    with RedisServer() as server:
        assert connect(server).ping()
        assert connect(server).config_get("bind")["bind"] == "127.0.0.1"
        assert server.port != 6379


def test_two_servers_know_nothing_of_each_other(connect: Connect) -> None:
    with RedisServer() as one, RedisServer() as other:
        connect(one).set("key", "value")

        assert connect(other).get("key") is None


@pytest.mark.parametrize("kill", [False, True])
def test_an_append_only_server_keeps_its_keys_over_a_restart(
    connect: Connect, *, kill: bool
) -> None:
    with RedisServer(appendonly=True) as server:
        connect(server).set("key", "value")
        url = server.url()

        server.restart(kill=kill)

        assert server.url() == url
        assert connect(server).get("key") == b"value"


def test_it_comes_back_empty_when_told_to(connect: Connect) -> None:
    with RedisServer(appendonly=True) as server:
        connect(server).set("key", "value")

        server.restart(keep_data=False)

        assert connect(server).get("key") is None


def test_a_stopped_server_refuses_connections(connect: Connect) -> None:
    with RedisServer() as server:
        server.stop()

        with pytest.raises(redis.ConnectionError):
            connect(server).ping()


def test_a_frozen_server_keeps_callers_waiting_until_it_is_thawed(connect: Connect) -> None:
    with RedisServer() as server:
        client = connect(server, socket_timeout=1)
        client.set("key", "value")

        server.freeze()
        with pytest.raises(redis.TimeoutError):
            client.get("key")
        server.thaw()

        assert client.get("key") == b"value"


def test_a_frozen_server_can_still_be_stopped() -> None:
    with RedisServer() as server:
        server.freeze()
        server.stop()


def test_a_server_that_is_killed_while_it_saves_leaves_nothing_behind(connect: Connect) -> None:
    """As it does while it hands a replica its data, by a child that may outlive it."""
    with RedisServer() as server:
        client = connect(server)
        client.set("key", "value")
        client.config_set("rdb-key-save-delay", 60_000_000)
        client.bgsave()
        assert server._process is not None
        (child,) = children_of(server._process.pid)

        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            server.stop(kill=True)

        poll_until(lambda: not is_running(child), timeout=60, what="its child to end")
        assert [str(one.message) for one in said] == []


def test_a_full_server_refuses_writes_by_default(connect: Connect) -> None:
    with RedisServer(maxmemory="3mb") as server:
        client = connect(server)

        with pytest.raises(redis.OutOfMemoryError):
            fill(client)

        assert client.exists("key-0")  # the oldest was not evicted to make room


def fill(client: redis.Redis) -> None:
    for number in range(100):
        client.set(f"key-{number}", b"x" * 100_000)


def test_extra_configuration_reaches_the_server(connect: Connect) -> None:
    with RedisServer(extra_config={"databases": "3"}, maxmemory_policy="allkeys-lru") as server:
        client = connect(server)

        assert client.config_get("databases") == {"databases": "3"}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "allkeys-lru"}


def test_a_server_that_does_not_start_tells_why() -> None:
    with (
        pytest.raises(RuntimeError, match=r"(?i)bad directive"),
        RedisServer(extra_config={"no-such-setting": "1"}),
    ):
        pass


def test_without_any_binary_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    redis_server.find_redis_binary.cache_clear()
    monkeypatch.setattr("shutil.which", lambda _name: None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)

    with pytest.raises(RuntimeError, match=r"install redis-server 6\.2 or newer"):
        redis_server.find_redis_binary()


def test_neither_process_nor_folder_outlives_a_killed_parent(tmp_path: Path) -> None:
    code = """
import time
from sandbox.redis_server import RedisServer
server = RedisServer().start()
server.freeze()
print("started", server._process.pid, server._folder, flush=True)
time.sleep(60)
"""
    parent = ManagedProcess(
        [sys.executable, "-c", code],
        environment={"PATH": os.defpath, "PYTHONPATH": str(Path(__file__).parents[3])},
        log_path=tmp_path / "log",
    )
    with parent:
        _, pid, folder = parent.wait_for_line("started").split()

        parent.kill()

        poll_until(lambda: not is_running(int(pid)), timeout=60, what="Redis to end")
        poll_until(lambda: not Path(folder).exists(), timeout=60, what="its folder to go")
