"""Connections are kept for the next call, and not longer than servers keep them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from sandbox.processes import poll_until
from worker.http_client import Deadline, HttpAnswer, HttpClient, HttpRequest, connection_pool


class KeepingServer(ThreadingHTTPServer):
    """Answers 200 and keeps connections open; counts them."""

    daemon_threads = True

    def __init__(self) -> None:
        self.made = 0
        self.open = 0
        self.hangs_up = False  # after each answer, without having said so
        self.together: threading.Barrier | None = None
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/"

    def shutdown_request(self, request: Any) -> None:
        super().shutdown_request(request)
        self.count(0, -1)  # now it is closed, and not when its handler has finished

    def count(self, made: int, opened: int) -> None:
        with self._lock:
            self.made += made
            self.open += opened


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: KeepingServer

    def setup(self) -> None:
        self.server.count(1, 1)
        super().setup()

    def do_GET(self) -> None:
        if self.server.together is not None:
            self.server.together.wait(60)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")
        self.close_connection = self.server.hangs_up

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[KeepingServer]:
    with KeepingServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def client() -> Iterator[HttpClient]:
    client = HttpClient(max_body_bytes=100)
    yield client
    client.close()


def get(client: HttpClient, server: KeepingServer) -> None:
    found = client.send(HttpRequest("GET", server.url), Deadline.after(60))
    assert isinstance(found, HttpAnswer)
    assert (found.status, found.body) == (200, b"{}")


def get_at_once(client: HttpClient, server: KeepingServer, count: int) -> None:
    server.together = threading.Barrier(count)
    with ThreadPoolExecutor(count) as threads:
        for done in [threads.submit(get, client, server) for _ in range(count)]:
            done.result()
    server.together = None


def test_calls_after_one_another_take_one_connection(
    client: HttpClient, server: KeepingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_pool, "KEEP_IDLE_SECONDS", 600)
    for _ in range(5):
        get(client, server)

    assert server.made == 1


def test_calls_at_once_take_a_connection_each_and_keep_it(
    client: HttpClient, server: KeepingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_pool, "KEEP_IDLE_SECONDS", 600)
    for _ in range(3):
        get_at_once(client, server, 6)

    assert server.made == 6


def test_a_connection_the_server_has_closed_is_not_used(
    client: HttpClient, server: KeepingServer
) -> None:
    server.hangs_up = True
    for made in (1, 2, 3):
        get(client, server)
        poll_until(lambda: server.open == 0, 60)
        assert server.made == made


def test_a_connection_is_not_kept_longer_than_servers_keep_it(
    client: HttpClient, server: KeepingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_pool, "KEEP_IDLE_SECONDS", 0.05)
    get(client, server)
    time.sleep(0.1)
    get(client, server)

    assert server.made == 2


def test_connections_that_a_busier_hour_has_left_are_closed(
    client: HttpClient, server: KeepingServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_pool, "KEEP_IDLE_SECONDS", 0.1)
    get_at_once(client, server, 6)
    for _ in range(30):  # one is always in use, and never old
        get(client, server)
        time.sleep(0.01)

    poll_until(lambda: server.open == 1, 60)


def test_closing_closes_them_all(client: HttpClient, server: KeepingServer) -> None:
    get_at_once(client, server, 4)

    client.close()

    poll_until(lambda: server.open == 0, 60)
