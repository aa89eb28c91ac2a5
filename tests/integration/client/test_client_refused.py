"""The client before a Redis that refuses to write, be it one that its name no longer leads to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis

from sandbox.ports import HOST
from sandbox.proxy import FaultProxy
from sandbox.redis_server import RedisServer
from session_client import AsyncSessionClient, BrokerUnavailable, NotAcknowledged, SessionClient
from session_client.contract import Queue
from tests.integration.client.client_rig import KEY, Responder
from tests.integration.client.test_client_async import outcome, running
from tests.integration.client.test_client_broker import connections, proxy, server

__all__ = ["proxy", "server"]  # fixtures
CALLS = 8


@pytest.fixture
def next_master() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def is_a_replica(admin: Any) -> None:
    admin.replicaof(HOST, 1)


def has_lost_its_master(admin: Any) -> None:
    admin.config_set("replica-read-only", "no")
    admin.config_set("replica-serve-stale-data", "no")
    admin.replicaof(HOST, 1)


def has_lost_its_replicas(admin: Any) -> None:
    admin.config_set("min-replicas-to-write", "1")


# What becomes of a master that stays reachable, and with which error it refuses to write.
DEMOTED: dict[str, Callable[[Any], None]] = {
    "READONLY": is_a_replica,
    "MASTERDOWN": has_lost_its_master,
    "NOREPLICAS": has_lost_its_replicas,
}


def in_threads(url: str, fail_over: Callable[[], None]) -> list[Any]:
    with SessionClient(broker_url=url, app_id="shop", app_key=KEY) as client:
        client.status(user_id="ada", timeout=60)
        fail_over()
        return [client.status(user_id="ada", timeout=60) for _ in range(CALLS)]


def in_an_event_loop(url: str, fail_over: Callable[[], None]) -> list[Any]:
    async def ask(client: AsyncSessionClient) -> list[Any]:
        await client.status(user_id="ada", timeout=60)
        fail_over()
        return [await client.status(user_id="ada", timeout=60) for _ in range(CALLS)]

    told: list[Any] = running(url, ask)
    return told


@pytest.mark.parametrize("refusal", DEMOTED)
@pytest.mark.parametrize("ask", [in_threads, in_an_event_loop])
def test_a_client_follows_a_name_that_has_moved_though_the_old_master_still_talks(
    server: RedisServer,
    proxy: FaultProxy,
    next_master: RedisServer,
    ask: Callable[[str, Callable[[], None]], list[Any]],
    refusal: str,
) -> None:
    exits = ExitStack()

    def fail_over() -> None:
        exits.close()
        proxy.lead_to(next_master.port)  # what is connected stays so
        with redis.Redis.from_url(server.url()) as admin:
            DEMOTED[refusal](admin)
            with pytest.raises(redis.RedisError):
                admin.lpush(Queue.SESSIONS.value, "x")

    with Responder(next_master.url()), exits:
        exits.enter_context(Responder(server.url()))
        assert ask(f"redis://{HOST}:{proxy.port}/0", fail_over) == [()] * CALLS


def without_a_right(admin: Any) -> None:
    admin.acl_setuser(
        "default", enabled=True, nopass=True, keys=["sessions", "reply:*"], commands=["+@all"],
        reset_keys=True,
    )  # fmt: skip


def with_another_thing_in_its_place(admin: Any) -> None:
    admin.set(Queue.LOGOUT.value, "no list")


@pytest.mark.parametrize("refuse", [without_a_right, with_another_thing_in_its_place])
def test_what_is_refused_for_one_queue_is_no_error_of_calls_on_another(
    server: RedisServer, refuse: Callable[[Any], None]
) -> None:
    async def ask(client: AsyncSessionClient) -> tuple[list[Any], int]:
        told: list[Any] = []
        for _ in range(3):
            told += await asyncio.gather(
                outcome(client.status(user_id="ada", timeout=60)),
                outcome(client.logout(user_id="ada", everywhere=True, timeout=0.5)),
                outcome(client.status(user_id="ada", timeout=60)),
            )
        return told, connections(server, "app-shop")

    with Responder(server.url(), queues=[Queue.SESSIONS]):
        with redis.Redis.from_url(server.url()) as admin:
            refuse(admin)
        told, used = running(server.url(), ask)

    assert told == [(), NotAcknowledged, ()] * 3
    assert used <= 2


def is_full(admin: Any) -> None:
    admin.config_set("maxmemory", "1")


def may_not_push(admin: Any) -> None:
    admin.acl_setuser("default", enabled=True, nopass=True, commands=["-lpush"])


@pytest.mark.parametrize(
    ("refuse", "cause"),
    [
        (is_full, "OutOfMemoryError"),
        (may_not_push, "NoPermissionError"),
        (is_a_replica, "ReadOnlyError"),
    ],
)
def test_why_nothing_can_be_published_is_told_each_time(
    server: RedisServer, refuse: Callable[[Any], None], cause: str
) -> None:
    async def ask(client: AsyncSessionClient) -> list[str]:
        with Responder(server.url()):
            await client.status(user_id="ada", timeout=60)
        with redis.Redis.from_url(server.url()) as admin:
            refuse(admin)
        told = []
        for _ in range(3):
            with pytest.raises(BrokerUnavailable) as caught:
                await client.status(user_id="ada", timeout=60)
            told.append(str(caught.value))
        return told

    # Of a replica the other connection may hear it first.
    doing = {"publishing", "waiting for an answer"} if refuse is is_a_replica else {"publishing"}
    assert set(running(server.url(), ask)) <= {f"{each}: {cause}" for each in doing}
