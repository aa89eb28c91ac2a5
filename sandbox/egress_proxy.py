"""An HTTP proxy, as companies have one before the internet: CONNECT for https, else absolute URLs.

It asks for a user and a password if it was given some, and remembers what it was asked for.
"""

from __future__ import annotations

import base64
import socket
import threading
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit

from sandbox.ports import HOST

CHUNK_BYTES = 65536


class EgressProxy:
    """Listens on a port of its own while it is used as a context manager."""

    def __init__(self, user: str | None = None, password: str = "") -> None:
        self._wanted = None
        if user is not None:
            credentials = base64.b64encode(f"{user}:{password}".encode())
            self._wanted = b"proxy-authorization: basic " + credentials.lower()
        self._socket = socket.create_server((HOST, 0))
        self.port: int = self._socket.getsockname()[1]
        self.requests: list[str] = []  # their first lines
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)  # closing alone wakes no thread in accept()
        self._socket.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(client,), daemon=True).start()

    def _talk(self, client: socket.socket) -> None:
        with suppress(OSError), client:
            while (head := _head(client)) is not None:
                line, _, headers = head.partition(b"\r\n")
                self.requests.append(line.decode())
                if self._wanted is not None and self._wanted not in headers.lower():
                    client.sendall(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")
                    continue
                method, target, _ = line.split(b" ")
                if method == b"CONNECT":
                    self._tunnel(client, target.decode())
                else:
                    self._forward(client, head, target)
                return

    def _tunnel(self, client: socket.socket, target: str) -> None:
        host, _, port = target.rpartition(":")
        with socket.create_connection((host, int(port))) as server:
            client.sendall(b"HTTP/1.1 200 Go ahead\r\n\r\n")
            _both_ways(client, server)

    def _forward(self, client: socket.socket, head: bytes, target: bytes) -> None:
        """Pass one request on; the server ends the connection with its answer."""
        parts = urlsplit(target.decode())
        with socket.create_connection((parts.hostname or "", parts.port or 80)) as server:
            server.sendall(_for_the_server(head, target, parts.path.encode() or b"/"))
            _both_ways(client, server)


def _head(client: socket.socket) -> bytes | None:
    """Return a request up to its empty line, and what came with it."""
    head = b""
    while b"\r\n\r\n" not in head:
        chunk = client.recv(CHUNK_BYTES)
        if not chunk:
            return None
        head += chunk
    return head


def _for_the_server(head: bytes, target: bytes, path: bytes) -> bytes:
    first, *lines = head.split(b"\r\n")
    kept = [line for line in lines if not line.lower().startswith(b"proxy-authorization:")]
    return b"\r\n".join((first.replace(target, path), b"Connection: close", *kept))


def _both_ways(client: socket.socket, server: socket.socket) -> None:
    threading.Thread(target=_pump, args=(client, server), daemon=True).start()
    _pump(server, client)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while chunk := source.recv(CHUNK_BYTES):
            target.sendall(chunk)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
