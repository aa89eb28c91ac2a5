"""The client when the broker is away, silent, or forgets connections: real Redis, real sockets."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, cast
from unittest.mock import Mock

import pytest
import redis

from sandbox.processes import poll_until
from sandbox.proxy import FaultProxy
from sandbox.redis_server import RedisServer
from session_client import (
    AppKey,
    BrokerUnavailable,
    NotAcknowledged,
    NotAnswered,
    SessionClient,
    SessionClientError,
    Status,
    Unavailable,
    new_request_id,
)
from session_client._celery import CeleryPublisher
from session_client._core import message
from session_client._redis import sync_lines
from tests.integration.client.client_rig import KEY, Responder

TIMEOUT = 0.3
# The sockets' own, so that a broken time-out shows as one of these, and what is less is a busy
# machine.
SOCKET_TIMEOUT = 30.0
IN_TIME = 10.0

CALLS: dict[str, Callable[[SessionClient, float], Any]] = {
    "status": lambda client, t: client.status(user_id="ada", timeout=t),
    "silent_auth": lambda client, t: client.silent_auth(user_id="ada", timeout=t),
    "register": lambda client, t: client.register(
        user_id="ada", session_id="s", id_token="t", timeout=t
    ),
    "logout": lambda client, t: client.logout(user_id="ada", everywhere=True, timeout=t),
}


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A Redis of the test's own, to be maltreated."""
    with RedisServer() as server:
        yield server


@pytest.fixture
def proxy(server: RedisServer) -> Iterator[FaultProxy]:
    with FaultProxy("127.0.0.1", server.port) as proxy:
        yield proxy


def client_at(port: int) -> SessionClient:
    return SessionClient(broker_url=f"redis://127.0.0.1:{port}/0", app_id="shop", app_key=KEY)


def seconds_until_error(call: Callable[[], Any]) -> float:
    started = time.monotonic()
    with pytest.raises(SessionClientError):
        call()
    return time.monotonic() - started


def connections(server: RedisServer, name: str | None = None) -> int:
    """Return how many there are, this question's included; or those of this *name* alone."""
    with redis.Redis.from_url(server.url()) as admin:
        return sum(name in {None, known["name"]} for known in admin.client_list())


@pytest.mark.parametrize("fault", ["stopped", "frozen", "black hole"])
def test_a_dead_broker_is_an_error_in_time_for_every_call_on_old_and_new_connections(
    server: RedisServer, proxy: FaultProxy, fault: str
) -> None:
    with client_at(proxy.port) as old, client_at(proxy.port) as new:
        with Responder(server.url()):
            old.status(user_id="ada")
        if fault == "stopped":
            server.stop()
        elif fault == "frozen":
            server.freeze()
        else:
            proxy.black_hole_all()

        calls = [partial(call, each, TIMEOUT) for call in CALLS.values() for each in (old, new)]
        with ThreadPoolExecutor(len(calls)) as threads:
            took = list(threads.map(seconds_until_error, calls))

        assert max(took) < IN_TIME


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("redis://127.0.0.1:1/0", "ConnectionRefusedError"),
        ("redis://:hunter2@nowhere.invalid/0", "gaierror"),
        ("redis://nobody:hunter2@127.0.0.1:{port}/0", "AuthenticationError"),
        ("redis://reader:hunter2@127.0.0.1:{port}/0", "NoPermissionError"),
        ("redis://127.0.0.1:{port}/99", "ResponseError"),
    ],
)
@pytest.mark.parametrize("doing", ["publishing", "waiting for an answer"])
def test_why_the_broker_cannot_be_used_is_named_and_nothing_is_quoted(
    server: RedisServer, url: str, cause: str, doing: str
) -> None:
    with redis.Redis.from_url(server.url()) as admin:
        admin.execute_command(
            "ACL", "SETUSER", "reader", "on", ">hunter2", "+@all", "-lpush", "-blpop", "~*"
        )
    bad, good = url.format(port=server.port), server.url()
    broker_url, reply_url = (bad, good) if doing == "publishing" else (good, bad)

    client = SessionClient(broker_url=broker_url, reply_url=reply_url, app_id="shop", app_key=KEY)
    with client, pytest.raises(BrokerUnavailable) as caught:
        client.status(user_id="ada", timeout=60)

    assert str(caught.value) == f"{doing}: {cause}"
    assert "hunter2" not in repr(caught.value)


def test_an_acknowledgement_that_cannot_come_names_the_request(server: RedisServer) -> None:
    server.stop()

    with client_at(server.port) as client, pytest.raises(NotAcknowledged) as caught:
        client.logout(user_id="ada", everywhere=True, request_id="r" * 16, timeout=TIMEOUT)

    assert caught.value.request_id == "r" * 16
    assert isinstance(caught.value.__cause__, BrokerUnavailable)


def test_more_callers_than_may_wait_get_their_error_in_time(server: RedisServer) -> None:
    callers = 48
    client = SessionClient(broker_url=server.url(), app_id="shop", app_key=KEY, max_waiting=8)
    with client, ThreadPoolExecutor(callers) as threads:
        server.freeze()

        def call(_: int) -> float:
            return seconds_until_error(lambda: client.status(user_id="ada", timeout=TIMEOUT))

        took = list(threads.map(call, range(callers)))

        assert max(took) < IN_TIME


@pytest.mark.parametrize("fault", ["restarted", "frozen", "cut", "black hole"])
def test_the_client_works_again_when_the_broker_does(
    server: RedisServer, proxy: FaultProxy, fault: str
) -> None:
    with client_at(proxy.port) as client:
        with Responder(server.url()):
            client.status(user_id="ada", timeout=60)
        if fault == "restarted":
            server.restart()
        elif fault == "frozen":
            server.freeze()
            seconds_until_error(lambda: client.status(user_id="ada", timeout=TIMEOUT))
            server.thaw()
        elif fault == "cut":
            proxy.cut()
        else:
            proxy.black_hole_all()
            seconds_until_error(lambda: client.status(user_id="ada", timeout=TIMEOUT))
            proxy.heal()

        with Responder(server.url()):
            assert client.status(user_id="ada", timeout=60) == ()


def test_connections_that_a_firewall_forgot_cost_seconds_and_no_answer(
    server: RedisServer, proxy: FaultProxy
) -> None:
    with client_at(proxy.port) as client, Responder(server.url()):
        client.status(user_id="ada", timeout=60)
        proxy.black_hole()

        assert client.status(user_id="ada", timeout=30) == ()


def test_many_connections_that_a_firewall_forgot_cost_one_call_no_more_than_one_does(
    server: RedisServer, proxy: FaultProxy
) -> None:
    many = 20
    with client_at(proxy.port) as client, ThreadPoolExecutor(many) as threads:
        calls = [threads.submit(client.status, user_id="ada", timeout=60) for _ in range(many)]
        poll_until(lambda: connections(server, "app-shop") == many, 30)
        with Responder(server.url()):
            assert [call.result() for call in calls] == [()] * many
            proxy.black_hole()

            assert client.status(user_id="ada", timeout=20) == ()


def test_a_broker_that_is_cut_at_random_is_never_an_error_of_somebody_elses(
    server: RedisServer, proxy: FaultProxy
) -> None:
    errors: list[BaseException] = []
    chance, stop = random.Random(7), time.monotonic() + 6  # noqa: S311 - not for secrets

    def call_on_and_on(client: SessionClient, name: str) -> None:
        while time.monotonic() < stop:
            try:
                CALLS[name](client, 1.0)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is what this is about
                errors.append(error)

    with (
        client_at(proxy.port) as client,
        Responder(server.url()),
        ThreadPoolExecutor(5 * len(CALLS)) as threads,
    ):
        for name in 5 * list(CALLS):
            threads.submit(call_on_and_on, client, name)
        while time.monotonic() < stop:
            time.sleep(chance.random() / 10)
            proxy.cut()

    assert errors, "nothing was cut"
    strange = [repr(error) for error in errors if not isinstance(error, SessionClientError)]
    assert strange == []


@pytest.mark.parametrize(
    ("url", "cause"),
    [
        ("sqs://localhost", "ModuleNotFoundError"),  # known when the transport is made
        ("etcd://localhost", "ImportError"),  # known when it connects
        ("filesystem://localhost", "FileNotFoundError"),
        ("amqp://[::1", "ValueError"),
    ],
)
def test_a_broker_that_cannot_even_be_tried_is_an_error_of_ours(
    server: RedisServer, url: str, cause: str
) -> None:
    client = SessionClient(broker_url=url, reply_url=server.url(), app_id="shop", app_key=KEY)

    for name, call in CALLS.items():
        is_repeated = name in {"logout", "register"}
        with pytest.raises(NotAcknowledged if name == "logout" else BrokerUnavailable, match=cause):
            call(client, TIMEOUT if is_repeated else 60.0)


@pytest.mark.parametrize("state", ["full", "read-only", "no permission"])
def test_a_broker_that_refuses_writes_is_an_error_in_time(server: RedisServer, state: str) -> None:
    with redis.Redis.from_url(server.url()) as admin, client_at(server.port) as client:
        if state == "full":
            admin.config_set("maxmemory", "1")
        elif state == "read-only":
            admin.execute_command("REPLICAOF", "127.0.0.1", "1")
        else:
            admin.acl_setuser("default", enabled=True, nopass=True, commands=["-lpush"])

        with pytest.raises(BrokerUnavailable):
            client.status(user_id="ada", timeout=TIMEOUT)


def test_a_wrong_password_is_an_error_without_the_password() -> None:
    with RedisServer(extra_config={"requirepass": "right"}) as server:
        url = f"redis://:hunter2@127.0.0.1:{server.port}/0"
        client = SessionClient(broker_url=url, app_id="shop", app_key=KEY)
        with client, pytest.raises(BrokerUnavailable) as caught:
            client.status(user_id="ada", timeout=1)

    assert "hunter2" not in str(caught.value) + repr(caught.value)


def test_timeouts_leave_no_connections_behind(server: RedisServer) -> None:
    with client_at(server.port) as client:
        for _ in range(50):
            seconds_until_error(lambda: client.status(user_id="ada", timeout=0.03))

        poll_until(lambda: connections(server, "app-shop") <= 1, 30)


def test_answers_may_come_by_a_socket_file(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with RedisServer(extra_config={"unixsocket": str(path)}) as server:
        client = SessionClient(
            broker_url=server.url(), reply_url=f"unix://{path}", app_id="shop", app_key=KEY
        )
        with client, Responder(server.url()):
            assert client.status(user_id="ada", timeout=60) == ()


def test_a_call_that_an_interrupt_ends_closes_its_connection_and_leaves_its_answer_to_nobody(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(BaseException):
        """As a greenlet's time-out, or a signal."""

    with client_at(server.port) as client:
        with monkeypatch.context() as cut:
            cut.setattr(sync_lines.Line, "read", Mock(side_effect=Interrupted))
            with pytest.raises(Interrupted) as caught:
                client.status(user_id="ada", timeout=60)
            # Before the traceback lets go of it: nothing is left to the garbage collector.
            poll_until(lambda: connections(server, "app-shop") == 0, 20)
            del caught
        with Responder(server.url()):
            assert client.status(user_id="ada", timeout=60) == ()


def test_lost_connections_can_be_replaced_without_end(server: RedisServer) -> None:
    with client_at(server.port) as client:
        for _ in range(110):  # redis-py's own pools end at 100
            with pytest.raises(Unavailable, match="in time"):
                client.status(user_id="ada", timeout=0.02)
            client.close()


def test_fifty_waits_at_once_share_no_connection_and_keep_no_more_than_fifty(
    server: RedisServer,
) -> None:
    with client_at(server.port) as client, Responder(server.url()):
        with ThreadPoolExecutor(50) as threads:
            answers = list(
                threads.map(lambda _: client.status(user_id="ada", timeout=60), range(200))
            )

        assert answers == [()] * 200
        # The responder has one, and so has this question.
        assert connections(server) <= 50 + 2


def test_a_closed_client_leaves_no_connection_and_opens_new_ones_on_use(
    server: RedisServer,
) -> None:
    client = client_at(server.port)
    with Responder(server.url()):
        client.status(user_id="ada", timeout=60)
    client.close()
    poll_until(lambda: connections(server) == 1, 30)

    with Responder(server.url()):
        assert client.status(user_id="ada", timeout=60) == ()
    client.close()
    client.close()

    poll_until(lambda: connections(server) == 1, 30)


def test_a_wait_under_way_when_the_client_closes_ends_and_leaves_no_connection(
    server: RedisServer,
) -> None:
    client = client_at(server.port)
    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(seconds_until_error, lambda: client.status(user_id="a", timeout=1))
        poll_until(lambda: connections(server) == 2, 30)
        client.close()
        asking.result()

    poll_until(lambda: connections(server) == 1, 30)


def test_a_call_starts_no_thread(server: RedisServer) -> None:
    before = set(threading.enumerate())
    server.freeze()
    with client_at(server.port) as client:
        for _ in range(3):
            seconds_until_error(lambda: client.status(user_id="ada", timeout=0.1))

        assert set(threading.enumerate()) == before


def test_no_answer_is_told_apart_from_no_broker(server: RedisServer) -> None:
    with client_at(server.port) as client, pytest.raises(NotAnswered, match="no answer in time"):
        client.status(user_id="ada", timeout=TIMEOUT)


def test_by_celery_too_a_message_says_where_its_answer_is_waited_for(redis_url: str) -> None:
    box = new_request_id()
    status = message.seal(Status(user_id="ada"), app_id="shop", key=AppKey.generate())
    publisher = CeleryPublisher(redis_url, "client")
    publisher.publish(status, time.monotonic() + 30, box)
    publisher.close()

    with redis.Redis.from_url(redis_url) as admin:
        (raw,) = cast("list[bytes]", admin.lrange("sessions", 0, -1))
    assert json.loads(raw)["headers"]["answer_to"] == box
