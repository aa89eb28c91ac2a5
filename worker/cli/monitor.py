"""`mosaic-sessions monitor`: our public keys and our health over HTTP, for apps and load balancers.

It asks by itself every few seconds, and a request gets what was found: however many ask, and
whatever hangs, neither the database nor Redis is asked more often, and nobody waits for them.
"""

from __future__ import annotations

import io
import json
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, Final, Self

import click
import redis
import structlog
from kombu import Connection
from kombu.exceptions import OperationalError
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from worker import heartbeat
from worker.cli.door import Failure, services
from worker.errors import StoreUnavailable
from worker.setting_values import is_redis
from worker.wiring import REDIS_TIMEOUT_SECONDS, Services, connect_redis

log = structlog.get_logger()

ASK_EVERY_SECONDS: Final = 2.0
STALE_AFTER_SECONDS: Final = 10.0
REQUEST_SECONDS: Final = 5.0  # to send all of a request
MAX_REQUEST_BYTES: Final = 8 * 1024
MAX_CONNECTIONS: Final = 32
JWKS_MAX_AGE_SECONDS: Final = 300

_ENDINGS: Final = (signal.SIGTERM, signal.SIGINT)
_NO_ANSWER: Final = "does not answer"


@dataclass
class Probe:
    """One thing asked again and again; *ask* returns what is wrong, or None."""

    name: str
    ask: Callable[[], str | None]
    _wrong: str | None = None
    _asked_at: float | None = None
    _is_asked: threading.Event = field(default_factory=threading.Event)

    def run(self, stop: threading.Event) -> None:
        """Ask until *stop*."""
        while True:
            wrong = self._ask()
            if wrong != self._wrong:
                log.warning("health_changed", what=self.name, wrong=wrong)
            self._wrong, self._asked_at = wrong, time.monotonic()
            self._is_asked.set()
            if stop.wait(ASK_EVERY_SECONDS):
                return

    def wrong(self) -> str | None:
        """Return what is wrong. At the very beginning, wait for the first answer."""
        self._is_asked.wait(REQUEST_SECONDS)
        if self._asked_at is None or time.monotonic() - self._asked_at > STALE_AFTER_SECONDS:
            return f"{_NO_ANSWER} in time"
        return self._wrong

    def _ask(self) -> str | None:
        try:
            return self.ask()
        except Exception as error:  # noqa: BLE001 - a probe that ends would say "well" for ever
            # The type alone: a message may quote a URL.
            return f"cannot be asked ({type(error).__name__})"


def probes(services: Services) -> list[Probe]:
    """Return what makes this installation healthy."""
    return [
        Probe("database", lambda: _ask_database(services)),
        Probe("broker", lambda: _ask_broker(services.settings.broker_url.get_secret_value())),
        Probe("workers", lambda: _ask_workers(services)),
    ]


def _ask_database(services: Services) -> str | None:
    try:
        with services.store.read() as connection:
            connection.execute(select(1))
    except (StoreUnavailable, SQLAlchemyError):
        return _NO_ANSWER
    return None


def _ask_broker(url: str) -> str | None:
    if not is_redis(url):
        return _ask_other_broker(url)
    client = connect_redis(url)
    try:
        client.ping()
    except redis.RedisError:
        return _NO_ANSWER
    finally:
        client.close()
    return None


def _ask_other_broker(url: str) -> str | None:
    try:
        with Connection(url, connect_timeout=REDIS_TIMEOUT_SECONDS) as connection:
            connection.ensure_connection(max_retries=1, timeout=int(REDIS_TIMEOUT_SECONDS))
    except (OSError, OperationalError):
        return _NO_ANSWER
    return None


def _ask_workers(services: Services) -> str | None:
    try:
        living = heartbeat.living_workers(services.redis)
    except redis.RedisError:
        return "unknown, since Redis does not answer"
    return None if living else "none is alive"


class MonitorServer(ThreadingHTTPServer):
    """Serves `/jwks.json` and `/healthz`. As a context manager it asks, serves and stops."""

    daemon_threads = True
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, host: str, port: int, jwks: dict[str, Any], asked: list[Probe]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.jwks = jwks
        self._probes = asked
        self._stop = threading.Event()
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__((host, port), MonitorHandler)
        self._running = [
            threading.Thread(target=probe.run, args=(self._stop,), daemon=True) for probe in asked
        ]
        self._running.append(threading.Thread(target=self.serve_forever, args=(0.1,), daemon=True))

    def __enter__(self) -> Self:
        for thread in self._running:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self.shutdown()
        self.server_close()
        for thread in self._running:
            thread.join(timeout=1)  # a probe that hangs ends with the process

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self.server_address[:2]
        return f"http://[{host!s}]:{port}" if ":" in str(host) else f"http://{host!s}:{port}"

    def health(self) -> dict[str, str]:
        """Return what is wrong, by name."""
        found = {probe.name: probe.wrong() for probe in self._probes}
        return {name: wrong for name, wrong in found.items() if wrong is not None}

    def server_bind(self) -> None:
        """Bind without asking the name service who we are, as HTTPServer does: that may hang."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve in a thread, while there are few; hang up on the others."""
        if not self._slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._slots.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection, and give its slot back."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log a fault of ours; a caller who hangs up is none."""
        del request, client_address  # whose it was says nothing about our fault
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            log.error("monitor_bug", error=type(error).__name__)


class MonitorHandler(BaseHTTPRequestHandler):
    """Answers one request a connection."""

    server: MonitorServer
    timeout = REQUEST_SECONDS
    error_content_type = "application/json"
    error_message_format = '{"error": %(code)d}\n'

    def setup(self) -> None:
        """Read the head of the request, with one deadline and one limit for all of it."""
        super().setup()
        self.rfile.close()
        self.rfile = io.BytesIO(self._head())

    def do_GET(self) -> None:
        """Answer by path."""
        path = self.path.partition("?")[0]
        if path == "/jwks.json":
            cache = f"public, max-age={JWKS_MAX_AGE_SECONDS}"
            self._answer(200, "application/jwk-set+json", cache, self.server.jwks)
        elif path == "/healthz":
            wrong = self.server.health()
            found = {"status": "unhealthy" if wrong else "ok", "wrong": wrong}
            self._answer(503 if wrong else 200, "application/json", "no-store", found)
        else:
            self.send_error(404)

    do_HEAD = do_GET  # noqa: N815

    def version_string(self) -> str:
        """Do not tell callers which Python this is."""
        return "mosaic-sessions"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as inherited
        """Log no requests: what strangers send does not belong in our log."""

    def _answer(self, status: int, kind: str, cache: str, content: object) -> None:
        body = json.dumps(content).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", cache)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self) -> bytes:
        """Return the request up to its empty line; nothing when it is too long or too slow."""
        stop_at = time.monotonic() + REQUEST_SECONDS
        head: bytes = b""
        with suppress(OSError):
            while (left := stop_at - time.monotonic()) > 0 and len(head) <= MAX_REQUEST_BYTES:
                self.connection.settimeout(left)
                chunk: bytes = self.connection.recv(MAX_REQUEST_BYTES)
                head += chunk
                if b"\r\n\r\n" in head or b"\n\n" in head:
                    self.connection.settimeout(REQUEST_SECONDS)
                    return head
                if not chunk:
                    return b""
        return b""


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--port", type=click.IntRange(0, 65535), default=9180, show_default=True)
def monitor(*, host: str, port: int) -> None:
    """Serve /jwks.json and /healthz until SIGTERM. It has no TLS: put a proxy before it."""
    # Before there are threads, which inherit it: the signals then reach `sigwait` alone.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)
    found = services()
    try:
        server = MonitorServer(host, port, found.notices.public_keys(), probes(found))
    except OSError as error:
        raise Failure(f"cannot listen on {host} port {port}: {error.strerror}") from None
    with server:
        click.echo(f"Listening on {server.url}")
        signal.sigwait(_ENDINGS)
