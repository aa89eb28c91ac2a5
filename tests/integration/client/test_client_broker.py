"""The client when the broker is away, silent, or forgets connections: real Redis, real sockets."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis

from sandbox.processes import poll_until
from sandbox.proxy import FaultProxy
from sandbox.redis_server import RedisServer
from session_client import (
    BrokerUnavailable,
    NotAcknowledged,
    NotAnswered,
    SessionClient,
    SessionClientError,
    SessionList,
    Status,
    broker,
    messages,
)
from session_client.inbox import Inbox
from session_client.publisher import _MAX_AT_ONCE, Publisher
from tests.integration.client.client_rig import KEY, Responder
from tests.stage import redis_client

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
    "register until acknowledged": lambda client, t: client.register(
        user_id="ada", session_id="s", id_token="t", until_acknowledged=True, timeout=t
    ),
    "logout": lambda client, t: client.logout(user_id="ada", scope="user", timeout=t),
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


@pytest.fixture
def patient_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    options = broker.transport_options

    def patient(*, client_name: str, **_: float) -> dict[str, Any]:
        return options(
            client_name=client_name,
            socket_timeout_seconds=SOCKET_TIMEOUT,
            connect_timeout_seconds=SOCKET_TIMEOUT,
        )

    monkeypatch.setattr(broker, "transport_options", patient)


def a_message() -> messages.Message:
    return messages.seal(
        Status(user_id="ada"),
        app_id="shop",
        key=KEY,
        request_id=None,
        lifetime=timedelta(seconds=60),
    )


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


@pytest.mark.usefixtures("patient_sockets")
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


@pytest.mark.usefixtures("patient_sockets")
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
        client.logout(user_id="ada", scope="user", request_id="r" * 16, timeout=TIMEOUT)

    assert (caught.value.request_id, caught.value.answer) == ("r" * 16, None)


@pytest.mark.usefixtures("patient_sockets")
def test_more_callers_than_publishing_threads_get_their_error_in_time(server: RedisServer) -> None:
    callers = 3 * _MAX_AT_ONCE
    with client_at(server.port) as client, ThreadPoolExecutor(callers) as threads:
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
            assert client.status(user_id="ada", timeout=60).is_yes


def test_connections_that_a_firewall_forgot_cost_seconds_and_no_answer(
    server: RedisServer, proxy: FaultProxy
) -> None:
    with client_at(proxy.port) as client, Responder(server.url()):
        client.status(user_id="ada", timeout=60)
        proxy.black_hole()

        assert client.status(user_id="ada", timeout=30).is_yes


def test_a_wait_on_a_forgotten_connection_moves_to_a_new_one(
    server: RedisServer, proxy: FaultProxy
) -> None:
    inbox = Inbox(f"redis://127.0.0.1:{proxy.port}/0")
    assert inbox.wait("reply:shop:1", time.monotonic() + 0.05) is None
    proxy.black_hole()
    with redis.Redis.from_url(server.url()) as admin, ThreadPoolExecutor(1) as threads:
        reading = threads.submit(inbox.wait, "reply:shop:1", time.monotonic() + 30)
        # Not before: an answer popped into the hole is lost, as the contract says.
        poll_until(lambda: admin.info("clients")["blocked_clients"] == 1, 30)

        admin.rpush("reply:shop:1", "answer")

        assert reading.result() == b"answer"
    inbox.close()


def test_a_channel_closed_under_the_producer_costs_no_message(server: RedisServer) -> None:
    publisher = Publisher(server.url(), "app-shop")
    with redis.Redis.from_url(server.url()) as admin:
        for sent in (1, 2, 3):
            publisher.publish(a_message(), time.monotonic() + 60)

            assert admin.llen("sessions") == sent
            connection = publisher._connections.acquire()
            connection.default_channel.close()
            connection.release()
    publisher.close()


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
        acknowledged = name in {"logout", "register until acknowledged"}
        with pytest.raises(NotAcknowledged if acknowledged else BrokerUnavailable, match=cause):
            call(client, TIMEOUT if acknowledged else 60.0)


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

        # The one that waits for answers has no name, nor has this question.
        poll_until(lambda: connections(server, "") <= 2, 30)
        # A publish that goes on after its time-out makes the next one open connections of its own.
        assert connections(server, "app-shop") <= 2 * _MAX_AT_ONCE


def test_an_inbox_may_be_reached_by_a_socket_file(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with RedisServer(extra_config={"unixsocket": str(path)}) as server:
        with redis_client(server.url()) as client:
            client.rpush("reply:shop:1", "hello")
        inbox = Inbox(f"unix://{path}")

        assert inbox.wait("reply:shop:1", time.monotonic() + 60) == b"hello"
        inbox.close()


def test_lost_connections_can_be_replaced_without_end(server: RedisServer) -> None:
    inbox = Inbox(server.url())
    for _ in range(110):  # redis-py's own pools end at 100
        assert inbox.wait("reply:shop:1", time.monotonic() + 0.01) is None
        inbox.close()
        inbox._is_closed = False


def test_fifty_waits_at_once_share_no_connection_and_keep_no_more_than_fifty(
    server: RedisServer,
) -> None:
    with client_at(server.port) as client, Responder(server.url()):
        with ThreadPoolExecutor(50) as threads:
            answers = list(
                threads.map(lambda _: client.status(user_id="ada", timeout=60), range(200))
            )

        assert len({answer.request_id for answer in answers}) == 200
        # kombu uses two for each of its own; the responder has one, and so has this question.
        assert connections(server) <= 50 + 2 * _MAX_AT_ONCE + 2


def test_a_closed_client_leaves_no_connection_and_opens_new_ones_on_use(
    server: RedisServer,
) -> None:
    client = client_at(server.port)
    with Responder(server.url()):
        client.status(user_id="ada", timeout=60)
    client.close()
    poll_until(lambda: connections(server) == 1, 30)

    with Responder(server.url()):
        assert client.status(user_id="ada", timeout=60).is_yes
    client.close()
    client.close()

    poll_until(lambda: connections(server) == 1, 30)


def test_a_wait_under_way_when_the_client_closes_ends_and_leaves_no_connection(
    server: RedisServer,
) -> None:
    inbox = Inbox(server.url())
    ended: list[object] = []
    waiting = threading.Thread(
        target=lambda: ended.append(inbox.wait("reply:shop:1", time.monotonic() + 0.3))
    )
    waiting.start()
    poll_until(lambda: connections(server) == 2, 30)
    inbox.close()
    waiting.join()

    assert ended == [None]
    poll_until(lambda: connections(server) == 1, 30)


def test_many_callers_find_the_broker_dead_without_leaving_threads(server: RedisServer) -> None:
    server.stop()
    with client_at(server.port) as client:
        for _ in range(30):
            seconds_until_error(lambda: client.status(user_id="ada", timeout=TIMEOUT))

    def publishing() -> list[threading.Thread]:
        return [t for t in threading.enumerate() if t.name == "session-publish"]

    poll_until(lambda: not publishing(), 60)


@pytest.mark.usefixtures("patient_sockets")
def test_no_answer_is_told_apart_from_no_broker(server: RedisServer) -> None:
    with client_at(server.port) as client:
        asked = client.send(Status(user_id="ada"), SessionList, timeout=60)

        with pytest.raises(NotAnswered, match="no answer in time"):
            asked.wait(TIMEOUT)
