"""Connections on which every read and write stops at the deadline of the call under way.

httpcore's timeouts bound each read, so a server that drips a byte now and then would hold a worker
thread for ever.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import httpcore
import httpx

from worker.http_client.connection_pool import Connections
from worker.http_client.deadline import Deadline
from worker.http_client.dns import Resolver

_deadline: ContextVar[Deadline] = ContextVar("http_deadline")
_addresses: ContextVar[Sequence[str] | None] = ContextVar("http_addresses")


@contextmanager
def limits(deadline: Deadline, addresses: Sequence[str] | None) -> Iterator[None]:
    """Bind this thread's calls to *deadline* and, unless None, new connections to *addresses*."""
    markers = _deadline.set(deadline), _addresses.set(addresses)
    try:
        yield
    finally:
        _deadline.reset(markers[0])
        _addresses.reset(markers[1])


def _bounded(timeout: float | None) -> float:
    left = _deadline.get().at - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("past the deadline")
    return left if timeout is None else min(timeout, left)


class _BoundedStream(httpcore.NetworkStream):
    """Sends head and body of a request together: half the system calls, and one packet."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner
        self._unsent = bytearray()

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._unsent:
            unsent, self._unsent = bytes(self._unsent), bytearray()
            self._inner.write(unsent, _bounded(timeout))
        return self._inner.read(max_bytes, _bounded(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        del timeout  # nothing is sent before `read` asks for the answer
        self._unsent += buffer

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        inner = self._inner.start_tls(ssl_context, server_hostname, _bounded(timeout))
        return _BoundedStream(inner)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


class _BoundedBackend(httpcore.SyncBackend):
    """Tries the addresses of a host one by one, as long as there is time.

    The system's own way gives each of them the whole of it.
    """

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = _addresses.get()
        if addresses is None:
            addresses = self._resolved(host)
        failure: Exception = httpcore.ConnectError("no address to connect to")
        # The name is not asked again where its addresses were checked: a second answer may differ.
        # It still is what TLS verifies and what the Host header says.
        for address in addresses:
            left = _bounded(timeout)
            try:
                inner = super().connect_tcp(address, port, left, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
            else:
                return _BoundedStream(inner)
        raise failure

    def _resolved(self, host: str) -> Sequence[str]:
        try:
            return self._resolver.addresses(host, _deadline.get())
        except TimeoutError:
            raise httpcore.ConnectTimeout("no name server answers") from None
        except OSError:
            raise httpcore.ConnectError("the name does not resolve") from None


def bounded_connections(
    resolver: Resolver, ca_certificates: str | None = None, proxy_url: str | None = None
) -> Connections:
    """Return what keeps a process's connections; use it within `limits`."""
    return Connections(_BoundedBackend(resolver), _trusting(ca_certificates), proxy_url)


@cache
def _trusting(ca_certificates: str | None) -> ssl.SSLContext:
    """Return what trusts these authorities beside the public ones.

    One for all of a process's connections: reading the public authorities takes as long as some
    ten calls.
    """
    context = httpx.create_ssl_context(trust_env=False)
    if ca_certificates is not None:
        context.load_verify_locations(cadata=ca_certificates)
    return context
