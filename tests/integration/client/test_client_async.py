"""The asyncio client: two connections for everybody, and nothing left behind by anybody."""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
import redis

from sandbox.processes import poll_until
from sandbox.proxy import FaultProxy
from sandbox.redis_server import RedisServer
from session_client import (
    AsyncSessionClient,
    BrokerUnavailable,
    ConfigurationError,
    InvalidRequest,
    NotAcknowledged,
    NotAnswered,
    SessionClientError,
    SessionInfo,
    Unauthorized,
    Unavailable,
    contract,
)
from session_client._redis.asyncio import Link
from tests.integration.client.client_rig import (
    KEY,
    OTHER_KEY,
    Content,
    Responder,
    answer_to,
    sealed,
)
from tests.integration.client.test_client_broker import connections, proxy, server
from tests.integration.client.test_client_ended import notice_of

__all__ = ["proxy", "server"]  # fixtures
MANY = 300
CALL = "session_client._core.call"


def client_at(url: str, **more: Any) -> AsyncSessionClient:
    return AsyncSessionClient(broker_url=url, app_id="shop", app_key=KEY, **more)


def running(url: str, act: Callable[[AsyncSessionClient], Awaitable[Any]], **more: Any) -> Any:
    """Run *act* with a client in an event loop of its own."""

    async def main() -> Any:
        async with client_at(url, **more) as client:
            return await act(client)

    return asyncio.run(main())


def link_of(client: AsyncSessionClient) -> Link:
    return client._driver._link()


def about_the_asker(request: Content) -> Content:
    """Return an answer that says in whose name it was asked for."""
    session = {
        "session_ref": request["payload"]["user_id"], "apps": [], "amr": [], "device_id": None,
        "authenticated_at": "2026-11-02T08:00:00Z", "expires_at": "2026-11-16T08:00:00Z",
    }  # fmt: skip
    return answer_to(request, data={"sessions": [session]})


async def outcome(call: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await call
    except SessionClientError as error:
        return type(error)


def test_each_of_many_gets_its_own_answer_over_two_connections(server: RedisServer) -> None:
    async def ask(client: AsyncSessionClient) -> tuple[list[tuple[SessionInfo, ...]], int]:
        calls = [client.status(user_id=f"user-{n}", timeout=60) for n in range(MANY)]
        answers = await asyncio.gather(*calls)
        return answers, connections(server, "app-shop")

    with Responder(server.url(), lambda request: [sealed(about_the_asker(request))]):
        answers, used = running(server.url(), ask)

    assert [answer[0].session_ref for answer in answers] == [f"user-{n}" for n in range(MANY)]
    assert used == 2


def test_many_that_nobody_answers_end_in_time_and_hold_up_nobody(server: RedisServer) -> None:
    async def ask(client: AsyncSessionClient) -> tuple[list[Any], float, int, int]:
        started = time.monotonic()
        calls = [outcome(client.status(user_id="ada", timeout=1.0)) for _ in range(MANY)]
        told = await asyncio.gather(*calls)
        link = link_of(client)
        took = time.monotonic() - started
        return told, took, connections(server, "app-shop"), len(link.calls)

    told, took, used, left = running(server.url(), ask)

    assert told == [NotAnswered] * MANY
    assert took < 5  # a busy machine; a connection each would take more
    assert (used, left) == (2, 0)


def test_a_cancelled_call_leaves_nothing_and_its_answer_is_nobody_elses(
    server: RedisServer,
) -> None:
    async def ask(client: AsyncSessionClient) -> tuple[int, Any]:
        gone = asyncio.create_task(client.status(user_id="gone", timeout=60))
        with redis.Redis.from_url(server.url()) as admin:
            await asyncio.to_thread(poll_until, lambda: admin.llen("sessions"), 30)
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        left = len(link_of(client).calls)
        with Responder(server.url(), lambda request: [sealed(about_the_asker(request))]):
            return left, await client.status(user_id="ada", timeout=60)

    left, answer = running(server.url(), ask)

    assert left == 0
    assert answer[0].session_ref == "ada"


def test_under_one_request_id_nobody_gets_what_another_one_asked_for(server: RedisServer) -> None:
    async def told(client: AsyncSessionClient, user: str, request_id: str, lasts: float) -> Any:
        call = client.status(user_id=user, request_id=request_id, timeout=lasts)
        answer = await outcome(call)
        return answer[0].session_ref if isinstance(answer, tuple) else answer

    async def ask(client: AsyncSessionClient) -> tuple[list[Any], list[Any]]:
        late = [await told(client, "ada", "its-answer-is-late", 0.2)]
        with Responder(server.url(), lambda request: [sealed(about_the_asker(request))]):
            users = ("ada", "bob", "ada")
            at_once = [told(client, user, "thrice-at-once-01", 60) for user in users]
            at_once = await asyncio.gather(*at_once)
            late += [await told(client, user, "its-answer-is-late", 60) for user in ("bob", "ada")]
        return at_once, late

    at_once, late = running(server.url(), ask)

    assert at_once == ["ada", InvalidRequest, "ada"]
    assert late == [NotAnswered, InvalidRequest, "ada"]


def test_what_was_cancelled_before_its_turn_to_be_written_is_not_sent(server: RedisServer) -> None:
    async def ask(client: AsyncSessionClient) -> None:
        calls = [asyncio.create_task(client.status(user_id="ada", timeout=60)) for _ in range(200)]
        await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await link_of(client)._writing  # type: ignore[misc]

    running(server.url(), ask)

    with redis.Redis.from_url(server.url()) as admin:
        assert int(admin.llen("sessions")) < 200


def test_a_link_that_swallows_everything_piles_up_nothing(
    server: RedisServer, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for often in ("REPEAT_AFTER_SECONDS", "REPEAT_AT_MOST_EVERY_SECONDS"):
        monkeypatch.setattr(f"{CALL}.{often}", 0.01)
    proxy.black_hole_all()

    async def ask(client: AsyncSessionClient) -> int:
        link = link_of(client)
        for _ in range(10):
            calls = (client.status(user_id="ada", timeout=0.1) for _ in range(MANY))
            assert set(await asyncio.gather(*map(outcome, calls))) == {NotAnswered}
        await asyncio.to_thread(poll_until, lambda: len(link._outgoing) < MANY, 30)
        await outcome(client.revoke_user("ada", timeout=5))  # again and again, in one message
        return len(link._outgoing)

    assert running(f"redis://127.0.0.1:{proxy.port}/0", ask) < 10


def test_who_finds_too_many_waiting_is_told_at_once(server: RedisServer) -> None:
    async def ask(client: AsyncSessionClient) -> list[Any]:
        calls = [outcome(client.status(user_id="ada", timeout=0.5)) for _ in range(5)]
        told = await asyncio.gather(*calls)
        return [*told, await outcome(client.status(user_id="ada", timeout=0.2))]

    told = running(server.url(), ask, max_waiting=3)

    assert told == [NotAnswered] * 3 + [Unavailable] * 2 + [NotAnswered]


def test_forged_answers_are_dropped_and_refusals_in_clear_believed(server: RedisServer) -> None:
    def answers(request: Content) -> list[bytes]:
        if request["payload"]["user_id"] == "nobody":
            refusal = answer_to(request, verdict="unauthorized", reason="unknown_app")
            return [json.dumps(refusal).encode()]
        forged = sealed(about_the_asker(request), OTHER_KEY)
        return [b"x", b"{}", forged, sealed(about_the_asker(request))]

    async def ask(client: AsyncSessionClient) -> Any:
        with pytest.raises(Unauthorized, match="unknown_app"):
            await client.status(user_id="nobody", timeout=60)
        return await client.status(user_id="ada", timeout=60)

    with Responder(server.url(), answers):
        assert running(server.url(), ask)[0].session_ref == "ada"


@pytest.mark.parametrize("fault", ["stopped", "frozen", "black hole"])
def test_a_dead_broker_is_an_error_in_time_on_old_and_new_connections(
    server: RedisServer, proxy: FaultProxy, fault: str
) -> None:
    url = f"redis://127.0.0.1:{proxy.port}/0"

    async def ask(old: AsyncSessionClient) -> tuple[list[Any], float]:
        with Responder(server.url()):
            await old.status(user_id="ada", timeout=60)
        if fault == "stopped":
            server.stop()
        elif fault == "frozen":
            server.freeze()
        else:
            proxy.black_hole_all()
        started = time.monotonic()
        async with client_at(url) as new:
            told = await asyncio.gather(
                *(outcome(each.status(user_id="ada", timeout=0.3)) for each in (old, new)),
                *(outcome(each.revoke_user("ada", timeout=0.3)) for each in (old, new)),
            )
        return told, time.monotonic() - started

    told, took = running(url, ask)

    assert set(told[:2]) <= {NotAnswered, BrokerUnavailable}
    assert told[2:] == [NotAcknowledged] * 2
    assert took < 10


@pytest.mark.parametrize("fault", ["restarted", "cut", "black hole"])
def test_it_works_again_when_the_broker_does(
    server: RedisServer, proxy: FaultProxy, fault: str
) -> None:
    async def ask(client: AsyncSessionClient) -> Any:
        with Responder(server.url()):
            await client.status(user_id="ada", timeout=60)
        if fault == "restarted":
            server.restart()
        elif fault == "cut":
            proxy.cut()
        else:
            proxy.black_hole()  # only those that are there: a firewall has forgotten them
        with Responder(server.url()):
            return await client.status(user_id="ada", timeout=30)

    assert running(f"redis://127.0.0.1:{proxy.port}/0", ask) == ()


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("redis://127.0.0.1:1/0", "ConnectionRefusedError"),
        ("redis://nobody:hunter2@127.0.0.1:{port}/0", "AuthenticationError"),
        ("redis://127.0.0.1:{port}/99", "ResponseError"),
    ],
)
def test_why_the_broker_cannot_be_used_is_named_and_nothing_is_quoted(
    server: RedisServer, url: str, cause: str
) -> None:
    async def ask(client: AsyncSessionClient) -> str:
        with pytest.raises(BrokerUnavailable, match=cause) as caught:
            await client.status(user_id="ada", timeout=60)
        return repr(caught.value)

    assert "hunter2" not in running(url.format(port=server.port), ask)


def test_what_came_while_the_event_loop_stood_still_is_heard(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("session_client._redis.asyncio_line.SILENCE_SECONDS", 0.5)

    async def ask(client: AsyncSessionClient) -> Any:
        with Responder(server.url()):
            await client.status(user_id="ada", timeout=60)
        call = asyncio.create_task(client.status(user_id="ada", timeout=20))
        with redis.Redis.from_url(server.url()) as admin:
            await asyncio.to_thread(poll_until, lambda: admin.llen("sessions"), 30)
        with Responder(server.url()):
            time.sleep(2.0)  # noqa: ASYNC251 - as a view that computes does
            return await call

    assert running(server.url(), ask) == ()


def test_whoever_waits_when_a_client_is_closed_is_told_and_opens_nothing_anew(
    server: RedisServer,
) -> None:
    async def ask(client: AsyncSessionClient) -> tuple[list[Any], int]:
        calls = [
            asyncio.create_task(outcome(call))
            for call in (
                client.status(user_id="ada", timeout=60),
                client.revoke_user("ada", timeout=60),
                *(client.status(user_id="bob", timeout=60) for _ in range(MANY)),
            )
        ]
        await asyncio.sleep(0)  # some have begun, and the others wait for their turn
        await client.aclose()
        told = await asyncio.wait_for(asyncio.gather(*calls), 30)
        return told, connections(server, "app-shop")

    told, used = running(server.url(), ask)

    assert set(told) == {BrokerUnavailable, NotAcknowledged}
    assert used == 0


def test_a_client_serves_one_event_loop_after_the_other(server: RedisServer) -> None:
    client = client_at(server.url())

    async def ask() -> Any:
        return await client.status(user_id="ada", timeout=60)

    with Responder(server.url()):
        assert [asyncio.run(ask()) for _ in range(3)] == [()] * 3
    # Nobody closed it: each loop's end did.
    poll_until(lambda: connections(server, "app-shop") == 0, 30)


def test_notices_are_taken_from_a_queue_and_what_is_none_is_dropped(server: RedisServer) -> None:
    async def take(client: AsyncSessionClient) -> list[str | None]:
        return [notice.session_ref async for notice in client.notices("desk", timeout=1.0)]

    with redis.Redis.from_url(server.url()) as admin:
        for envelope in ("x", notice_of("one"), notice_of("two", OTHER_KEY), notice_of("three")):
            admin.lpush("desk", message_with(envelope))

    assert running(server.url(), take) == ["one", "three"]


def message_with(envelope: str) -> str:
    body = json.dumps([[], {"app_id": "shop", "envelope": envelope}, {}]).encode()
    return json.dumps({"body": base64.b64encode(body).decode()})


def test_a_broker_that_is_no_redis_is_refused_by_name(server: RedisServer) -> None:
    async def ask(client: AsyncSessionClient) -> None:
        await client.status(user_id="ada")

    with pytest.raises(ConfigurationError, match=r"^broker_url: "):
        running("amqp://127.0.0.1//", ask, reply_url=server.url())


def test_the_list_that_answers_come_on_is_the_loops_own(server: RedisServer) -> None:
    seen: list[str] = []

    async def ask(client: AsyncSessionClient) -> None:
        await outcome(client.status(user_id="ada", timeout=0.2))
        seen.append(link_of(client)._box)

    for _ in range(2):
        running(server.url(), ask)

    assert len(set(seen)) == 2
    assert all(map(contract.is_request_id, seen))


@pytest.mark.parametrize("wait", ["idp", "all"])
@pytest.mark.parametrize("kind", ["logout", "revoke_user"])
def test_a_call_that_waits_for_a_receipt_counts_once_however_often_it_asks(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch, kind: str, wait: str
) -> None:
    monkeypatch.setattr(f"{CALL}.ASK_AGAIN_AFTER_SECONDS", 0.01)
    monkeypatch.setattr(f"{CALL}.ASK_AGAIN_AT_MOST_EVERY_SECONDS", 0.01)

    def still_pending(request: Content) -> list[bytes]:
        receipt = {"receipt_id": "r", "idp_pending": 1, "apps_pending": ["forum"]}
        return [sealed(answer_to(request, data=receipt if "status" not in request["task"] else {}))]

    async def ask(client: AsyncSessionClient) -> tuple[Any, int]:
        more = {"user_id": "ada", "everywhere": True} if kind == "logout" else {"user_id": "ada"}
        waiting = asyncio.create_task(getattr(client, kind)(**more, wait=wait, timeout=60))
        await asyncio.to_thread(poll_until, lambda: len(worker.requests) > 10, 60)
        told = await outcome(client.status(user_id="ada", timeout=60)), len(link_of(client).calls)
        waiting.cancel()
        return told

    with Responder(server.url(), still_pending) as worker:
        assert running(server.url(), ask, max_waiting=2) == ((), 1)


async def asked(client: AsyncSessionClient) -> None:
    await client.status(user_id="ada", timeout=60)


async def asked_in_vain(client: AsyncSessionClient) -> None:
    assert await outcome(client.status(user_id="nobody", timeout=0.05)) is NotAnswered


async def asked_by_a_crowd(client: AsyncSessionClient) -> None:
    calls = [outcome(client.status(user_id="ada", timeout=60)) for _ in range(100)]
    await asyncio.gather(*calls)


async def left_in_the_middle(client: AsyncSessionClient) -> None:
    for _ in range(100):
        asyncio.ensure_future(outcome(client.status(user_id="ada", timeout=60)))  # noqa: RUF006
    await asyncio.sleep(0)


async def closed(client: AsyncSessionClient) -> None:
    async with client:
        await client.status(user_id="ada", timeout=60)


@pytest.mark.parametrize(
    "use", [asked, asked_in_vain, asked_by_a_crowd, left_in_the_middle, closed]
)
def test_of_an_event_loop_that_has_ended_nothing_is_kept(
    server: RedisServer, use: Callable[[AsyncSessionClient], Coroutine[Any, Any, None]]
) -> None:
    client = client_at(server.url())
    loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()

    async def main() -> None:
        loops.add(asyncio.get_running_loop())
        await use(client)

    def answers(request: Content) -> list[bytes]:
        is_known = request["payload"]["user_id"] != "nobody"
        return [sealed(answer_to(request))] if is_known else []

    with Responder(server.url(), answers):
        for _ in range(5):
            asyncio.run(main())
        asyncio.run(asked(client))  # in a new one: then the others are let go of
    gc.collect()

    assert not loops
