"""Connections kept for the next call, of one thread at a time.

httpcore's own pool looks at every idle connection at each request, in a system call each, and with
an upper limit it loses slots under contention until an idle client fails for ever. Here the one
used last is taken, and looked at; there are as many as threads called at once.

Without it a silent authentication takes 27 % more CPU. Before and after touching it:
`make bench ARGS="--only throughput"`.
"""

from __future__ import annotations

import ssl
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import httpcore

from worker.http_client.proxy import proxy_at

KEEP_IDLE_SECONDS: Final = 4.0  # shorter than servers keep idle connections (5 s and more)

_Origin = tuple[bytes, bytes, int]
_Idle = deque[tuple[httpcore.ConnectionInterface, float]]


class Connections:
    """Safe for all threads. Make it after the fork."""

    def __init__(
        self,
        backend: httpcore.NetworkBackend,
        ssl_context: ssl.SSLContext,
        proxy_url: str | None = None,
    ) -> None:
        self._backend = backend
        self._ssl_context = ssl_context
        self._proxy = (
            None
            if proxy_url is None
            else proxy_at(proxy_url, backend, ssl_context, KEEP_IDLE_SECONDS)
        )
        self._idle: dict[_Origin, _Idle] = {}

    @contextmanager
    def exchange(self, request: httpcore.Request) -> Iterator[httpcore.Response]:
        """Give the response, its body still to be read. Raises httpcore's errors."""
        origin = request.url.origin
        idle = self._idle.setdefault((origin.scheme, origin.host, origin.port), deque())
        connection = _usable(idle) or self._new(origin)
        try:
            response = connection.handle_request(request)
            try:
                yield response
            finally:
                response.close()
        finally:
            _put_back(idle, connection)

    def _new(self, origin: httpcore.Origin) -> httpcore.ConnectionInterface:
        if self._proxy is not None:
            return self._proxy.create_connection(origin)
        return httpcore.HTTPConnection(
            origin,
            ssl_context=self._ssl_context,
            keepalive_expiry=KEEP_IDLE_SECONDS,
            network_backend=self._backend,
        )

    def close(self) -> None:
        """Close the connections that no thread uses."""
        for idle in self._idle.values():
            while idle:
                idle.pop()[0].close()


def _usable(idle: _Idle) -> httpcore.ConnectionInterface | None:
    while idle:
        try:
            connection, _ = idle.pop()
        except IndexError:  # another thread took the last one
            return None
        if not connection.has_expired():
            return connection
        connection.close()
    return None


def _put_back(idle: _Idle, connection: httpcore.ConnectionInterface) -> None:
    now = time.monotonic()
    if connection.is_idle() and not connection.is_closed():
        idle.append((connection, now))
    else:
        connection.close()
    # The oldest first: no thread uses those that a busier hour has left.
    try:
        while now - idle[0][1] > KEEP_IDLE_SECONDS:
            idle.popleft()[0].close()
    except IndexError:
        pass
