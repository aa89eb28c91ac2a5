"""`mosaic-sessions monitor` as a process: its keys verify our tokens, and its end is clean."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from sandbox.ports import free_port
from sandbox.processes import ManagedProcess, poll_until
from sandbox.redis_server import RedisServer
from sandbox.stack import PREFIX, Stack
from tests.integration.backchannel.notices_rig import (
    ISSUER,
    Receiver,
    answer,
    rsa_pem,
    saying,
    token_in,
    verify_logout_token,
)
from tests.stage import redis_client
from worker.backchannel import build_notice_sender
from worker.maintenance import last_runs
from worker.maintenance.last_runs import Run
from worker.monitoring import http_server
from worker.settings import model as settings_module


@pytest.fixture
def stack() -> Iterator[Stack]:
    """A stack of the test's own, whose parts it may break."""
    with whole_stack() as stack:
        yield stack


@pytest.fixture(scope="module")
def shared_stack() -> Iterator[Stack]:
    with whole_stack() as stack:
        yield stack


@pytest.fixture(scope="module")
def shared(shared_stack: Stack) -> tuple[ManagedProcess, str]:
    """One monitor for all that only ask it: it has to outlive every one of them."""
    return monitor(shared_stack)


@contextmanager
def whole_stack() -> Iterator[Stack]:
    settings = {
        "notice_issuer": ISSUER,
        "notice_signing_keys": rsa_pem("first") + rsa_pem("second"),
        "notice_private_addresses": "true",
    }
    with RedisServer() as redis, Stack(redis=redis, settings=settings) as stack:
        stack.migrate()
        yield stack


def monitor(stack: Stack, name: str = "monitor") -> tuple[ManagedProcess, str]:
    """Start the monitor; return it and where it listens."""
    process = stack.start(name, "mosaic-sessions", "monitor", "--port", "0")
    return process, process.wait_for_line("Listening on ", timeout=60).split()[-1]


def health(url: str) -> tuple[int, Any]:
    found = httpx.get(f"{url}/healthz", timeout=60)
    return found.status_code, found.json()


def becomes(url: str, hoped: Callable[[int, Any], bool]) -> Any:
    """Wait until the health is as hoped, and return what it says."""
    poll_until(lambda: hoped(*health(url)), 60, what="the health to change")
    return health(url)[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_at_once_with_exit_code_0(
    shared_stack: Stack, number: signal.Signals
) -> None:
    process, url = monitor(shared_stack, name=number.name)
    assert httpx.get(f"{url}/jwks.json").status_code == 200

    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))):  # says nothing
        process.send(number)
        code = process.wait(timeout=60)

    assert code == 0
    assert "Traceback" not in process.log_text()
    assert "Exception" not in process.log_text()


def test_its_keys_verify_a_token_signed_with_the_workers_settings(
    shared_stack: Stack, shared: tuple[ManagedProcess, str]
) -> None:
    _, url = shared
    found = httpx.get(f"{url}/jwks.json")

    sender = build_notice_sender(
        settings_module.read({k: v for k, v in shared_stack.environment.items() if k.isupper()}),
        lambda: datetime.now(UTC),
    )
    with Receiver(saying(answer())) as receiver:
        sender.post_logout_token(
            url=receiver.url,
            audience="client-shop",
            user_id="ada",
            session_ref="ref",
            notice_id="notice",
            timeout_seconds=5,
        )
    sender.close()

    token = token_in(receiver.requests[0])
    claims = verify_logout_token(
        token, found.json(), issuer=ISSUER, audience="client-shop", now=datetime.now(UTC)
    )
    assert claims["sub"] == "ada"
    assert len(found.json()["keys"]) == 2
    assert found.headers["cache-control"] == "public, max-age=300"
    assert found.headers["content-type"] == "application/jwk-set+json"
    assert found.json() == json.loads(shared_stack.run("mosaic-sessions", "keys", "jwks"))


def test_health_follows_workers_broker_and_database(stack: Stack) -> None:
    _, url = monitor(stack)

    alone = health(url)
    stack.beat()
    worker = stack.worker()
    well = becomes(url, lambda code, _: code == 200)
    worker.terminate(timeout=30)
    left = becomes(url, lambda code, _: code == 503)
    stack.redis.stop()
    silent = becomes(url, lambda _, said: "broker" in said["wrong"])

    nobody = {"workers": "no worker is alive: start one"}
    assert alone == (503, {"status": "unhealthy", "wrong": nobody, "warnings": {}})
    assert well == {"status": "ok", "wrong": {}, "warnings": {}}
    assert left["wrong"] == nobody
    assert silent["wrong"].keys() == {"broker"}  # said once, although nothing can be asked there
    assert silent["wrong"]["broker"].startswith("Redis cannot be used (ConnectionError: ")


def test_health_follows_the_queues_and_the_sweeps(stack: Stack) -> None:
    _, url = monitor(stack)
    queues = "login,sessions,logout,idp,notify,maintenance"
    stack.worker("-Q", queues)

    alone = becomes(url, lambda _, said: "alive" not in json.dumps(said["wrong"]))
    stack.worker("-Q", "auth", name="second")
    beat = stack.beat()
    with redis_client(stack.broker_url) as client:
        key = last_runs.key_of(Run.SWEEP)
        poll_until(lambda: client.exists(key), 60, what="a sweep")
        becomes(url, lambda code, _: code == 200)
        beat.terminate(timeout=30)
        # Nobody waits a minute for a test: this is the sweep as it will be then.
        client.pexpire(key, (last_runs.KEPT_SECONDS - 90) * 1000)
        left = becomes(url, lambda code, _: code == 503)

    assert alone["wrong"]["workers"].startswith("no worker takes queue auth: start one")
    assert left["wrong"].keys() == {"sweep"}


def test_a_dead_database_is_told_without_a_secret(stack: Stack) -> None:
    stack.environment["DATABASE_URL"] = (
        f"postgresql+psycopg://user:pw-canary@127.0.0.1:{free_port()}/sessions"
    )
    process, url = monitor(stack)

    code, said = health(url)

    assert code == 503
    assert said["wrong"].keys() == {"database", "workers"}
    assert "the database does not answer" in said["wrong"]["database"]
    assert "canary" not in json.dumps(said) + process.log_text()


def test_a_broker_that_is_not_redis_is_asked_too(stack: Stack) -> None:
    stack.environment["REDIS_URL"] = stack.broker_url
    stack.environment["CELERY_BROKER_URL"] = f"amqp://user:pw-canary@127.0.0.1:{free_port()}//"
    process, url = monitor(stack)

    code, said = health(url)

    assert code == 503
    assert said["wrong"]["broker"].startswith("the broker does not answer")
    assert "canary" not in json.dumps(said) + process.log_text()


def test_anything_else_is_not_found_and_nothing_is_echoed(
    shared: tuple[ManagedProcess, str],
) -> None:
    process, url = shared

    for path in ("/", "/metrics", "/canary", "/jwks.json/", "//jwks.json/../x", "/HEALTHZ"):
        found = httpx.get(url + path)
        assert (found.status_code, found.json()) == (404, {"error": 404})
    refused = httpx.post(f"{url}/jwks.json", content=b"canary")

    assert refused.status_code == 501
    assert "Python" not in refused.headers["server"]
    assert "canary" not in refused.text + process.log_text()


def test_a_head_request_gets_no_body(shared: tuple[ManagedProcess, str]) -> None:
    _, url = shared

    found = httpx.head(f"{url}/jwks.json?x=1")

    assert (found.status_code, found.content) == (200, b"")
    assert int(found.headers["content-length"]) > 100


def test_requests_that_are_too_long_or_too_slow_are_hung_up_on(
    shared: tuple[ManagedProcess, str],
) -> None:
    _, url = shared
    place = ("127.0.0.1", int(url.rpartition(":")[2]))

    with socket.create_connection(place, timeout=60) as long:
        assert_hung_up(long, [b"GET /jwks.json HTTP/1.1\r\n", *[b"a: " + b"b" * 4000] * 5])
    begun = time.monotonic()
    with socket.create_connection(place, timeout=60) as slow:
        assert_hung_up(slow, [b"G"] * 200, pause=0.2)

    assert 4 < time.monotonic() - begun < 30
    assert httpx.get(f"{url}/jwks.json").status_code == 200


def assert_hung_up(connection: socket.socket, pieces: list[bytes], pause: float = 0) -> None:
    try:
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(pause)
        said = connection.recv(100)
    except ConnectionError:
        said = b""
    assert said == b""


def test_silent_callers_take_no_more_than_their_share(
    shared: tuple[ManagedProcess, str],
) -> None:
    process, url = shared
    place = ("127.0.0.1", int(url.rpartition(":")[2]))

    idle = [socket.create_connection(place, timeout=60) for _ in range(60)]
    last_said = idle[-1].recv(10)
    poll_until(lambda: answers(url), 60, what="the slots to be free again")
    for connection in idle:
        connection.close()

    assert last_said == b""
    assert process.is_alive


def test_who_comes_when_all_slots_are_held_is_hung_up_on_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # So that "at once" is not a matter of seconds: nobody else is hung up on within this hour.
    monkeypatch.setattr(http_server, "REQUEST_SECONDS", 3600.0)
    with ExitStack() as exits:
        listener = exits.enter_context(http_server.Listener("127.0.0.1", 0, lambda _: None))
        place = ("127.0.0.1", listener.server_port)
        callers = [
            exits.enter_context(socket.create_connection(place, timeout=60))
            for _ in range(http_server.MAX_CONNECTIONS + 1)
        ]

        assert callers[-1].recv(10) == b""


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/jwks.json").status_code == 200
    except httpx.HTTPError:
        return False


def test_a_port_that_is_taken_is_one_line_and_exit_code_1(
    shared_stack: Stack, shared: tuple[ManagedProcess, str]
) -> None:
    _, url = shared
    port = url.rpartition(":")[2]

    printed = shared_stack.run("mosaic-sessions", "monitor", "--port", port, expect=1)

    assert printed.startswith(f"Error: cannot listen on 127.0.0.1 port {port}")
    assert "Traceback" not in printed


def test_wrong_settings_are_exit_code_78(stack: Stack) -> None:
    del stack.environment[f"{PREFIX}LOOKUP_KEY"]

    assert "LOOKUP_KEY is missing" in stack.run("mosaic-sessions", "monitor", expect=78)
