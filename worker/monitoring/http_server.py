"""A small HTTP server for machines: load balancers, Prometheus, apps that want our public keys.

It gives each request a few seconds and a few kilobytes, serves only so many at once, and tells
callers nothing but what was asked for. It has no TLS and no access control.
"""

from __future__ import annotations

import io
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, Final, Self

import structlog

log = structlog.get_logger()

REQUEST_SECONDS: Final = 5.0  # to send all of a request
MAX_REQUEST_BYTES: Final = 8 * 1024
MAX_CONNECTIONS: Final = 32


@dataclass(frozen=True, slots=True)
class Page:
    """What is found under a path."""

    kind: str  # its content type
    body: bytes
    status: int = 200
    cache: str = "no-store"


class Listener(ThreadingHTTPServer):
    """Serves what *find* returns for a path; None is not found. As a context manager it runs."""

    daemon_threads = True
    request_queue_size = MAX_CONNECTIONS

    def __init__(self, host: str, port: int, find: Callable[[str], Page | None]) -> None:
        """Listen at once, so that an OSError tells now what is wrong with the address."""
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.find = find
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__((host, port), _Handler)
        self._serving = threading.Thread(target=self.serve_forever, args=(0.1,), daemon=True)

    def __enter__(self) -> Self:
        self._serving.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
        self._serving.join(timeout=1)

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self.server_address[:2]
        return f"http://[{host!s}]:{port}" if ":" in str(host) else f"http://{host!s}:{port}"

    def server_bind(self) -> None:
        """Bind without asking the name service for our name, as HTTPServer does: that may hang."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve in a thread, while there are few; hang up on further callers."""
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
            log.error("listener_bug", error=type(error).__name__)


class _Handler(BaseHTTPRequestHandler):
    """Answers one request a connection."""

    server: Listener
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
        page = self.server.find(self.path.partition("?")[0])
        if page is None:
            self.send_error(404)
            return
        self.send_response(page.status)
        self.send_header("Content-Type", page.kind)
        self.send_header("Content-Length", str(len(page.body)))
        self.send_header("Cache-Control", page.cache)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page.body)

    do_HEAD = do_GET  # noqa: N815

    def version_string(self) -> str:
        """Do not tell callers which Python this is."""
        return "mosaic-sessions"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as inherited
        """Log no requests: what strangers send does not belong in our log."""

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
