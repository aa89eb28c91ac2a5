"""Finding a host and connecting to it ends at the deadline, however many addresses it has."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing

import pytest

from tests.integration.mosaic.mosaic_rig import RawServer
from worker.http_client import Deadline, HttpAnswer, HttpClient, HttpRequest, NoAnswer, Resolve

DEAD = ["127.0.0.1"] * 8


@pytest.fixture
def dead_port() -> Iterator[int]:
    """A port at which whoever connects is neither taken nor refused."""
    with ExitStack() as stack:
        listener = stack.enter_context(closing(socket.socket()))
        listener.bind((DEAD[0], 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        while True:
            waiting = stack.enter_context(closing(socket.socket()))
            waiting.settimeout(0.5)
            try:
                waiting.connect((DEAD[0], port))
            except TimeoutError:
                break
        yield port


def ask(resolve: Resolve, port: int, seconds: float) -> HttpAnswer | NoAnswer:
    with closing(HttpClient(max_body_bytes=100, resolve=resolve)) as client:
        request = HttpRequest("GET", f"http://mosaic.example:{port}/")
        return client.send(request, Deadline.after(seconds))


def test_addresses_that_do_not_answer_have_one_deadline_together(dead_port: int) -> None:
    begun_at = time.monotonic()

    answer = ask(lambda _: DEAD, dead_port, seconds=1.0)

    assert time.monotonic() - begun_at < len(DEAD) / 2
    assert isinstance(answer, NoAnswer)
    assert answer.is_timeout


def test_the_next_address_is_tried_when_one_refuses() -> None:
    with RawServer(answer_ok) as server:
        port = int(server.url.rpartition(":")[2])

        answer = ask(lambda _: ["::1", "127.0.0.1"], port, seconds=60)

    assert isinstance(answer, HttpAnswer)


def answer_ok(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")


def test_a_name_server_that_hangs_is_given_up_at_the_deadline() -> None:
    found = threading.Event()

    def hang(_: str) -> Sequence[str]:
        found.wait(60)
        return ["127.0.0.1"]

    begun_at = time.monotonic()
    answer = ask(hang, 80, seconds=0.3)
    elapsed = time.monotonic() - begun_at
    found.set()

    assert elapsed < 10
    assert isinstance(answer, NoAnswer)
    assert answer.is_timeout


def test_a_name_that_nobody_knows_is_no_timeout() -> None:
    def unknown(_: str) -> Sequence[str]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    answer = ask(unknown, 80, seconds=60)

    assert isinstance(answer, NoAnswer)
    assert not answer.is_timeout


def test_the_system_is_asked_where_a_name_leads() -> None:
    with RawServer(answer_ok) as server, closing(HttpClient(max_body_bytes=100)) as client:
        url = server.url.replace("127.0.0.1", "localhost")
        assert isinstance(client.send(HttpRequest("GET", url), Deadline.after(60)), HttpAnswer)
