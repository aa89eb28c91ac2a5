"""One request, one answer: bounded in time and size, nothing kept between calls.

No redirect is followed, no proxy variable read and no cookie kept: all three live in httpx's
client, which would also log every URL, query and all. httpx reads the addresses; its engine,
httpcore, does the rest.

Not retried here: a call that was sent may have worked, and only the caller knows whether asking
again is safe.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import httpcore
import httpx

from worker.http_client.bounded_transport import bounded_connections, limits
from worker.http_client.deadline import Deadline
from worker.http_client.dns import Resolve, Resolver, system_addresses
from worker.http_client.headers import (
    Headers,
    by_name,
    charset,
    content_encoding,
    date,
    retry_after,
)
from worker.http_client.proxy import REFUSED, cause_of
from worker.http_client.unpacking import unpacked

CONNECT_SECONDS: Final = 3.0  # of each address; a host that is there answers in far less
_HEADERS: Final = (
    (b"User-Agent", b"mosaic-session-worker"),  # without any, some firewalls answer 403
    (b"Accept", b"application/json"),
    (b"Accept-Encoding", b"identity"),  # see `unpacking`
)
_NO_ANSWER: Final = (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError)
# Nothing is sent before the connection is made.
_NOT_CONNECTED: Final = (httpcore.ConnectError, httpcore.ConnectTimeout)


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What is asked; all but the method may hold a secret."""

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    content: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A status and a body; *body* is None when it was not read to its end, or not unpacked."""

    status: int
    body: bytes | None = field(default=b"", repr=False)
    headers: Headers = field(default_factory=dict, repr=False)
    seconds: float = 0.0  # from the request to the end of the answer

    @property
    def retry_after(self) -> float | None:
        """How many seconds the server asks us to wait, if it does."""
        return retry_after(self.headers)

    @property
    def charset(self) -> str | None:
        """Of the body, if the server said so."""
        return charset(self.headers)

    @property
    def date(self) -> str:
        """When it was sent, by the server's clock, as it said so."""
        return date(self.headers)


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Why there is none: the kind of failure, and nothing of the request."""

    cause: str
    is_url_unusable: bool = False
    is_timeout: bool = False
    is_sent: bool = True  # perhaps: False only where no byte of the request can have left
    seconds: float = 0.0  # that were waited for one


class HttpClient:
    """A process's connections. Make it after the fork; safe for all threads.

    Without *needs_body* the status alone is the answer, even if the body is cut off or too slow.
    The authorities of *ca_certificates* (PEM) are trusted beside the public ones. All calls go by
    way of the proxy at *proxy_url*, if there is one.
    """

    def __init__(
        self,
        *,
        max_body_bytes: int,
        needs_body: bool = True,
        ca_certificates: str | None = None,
        proxy_url: str | None = None,
        resolve: Resolve = system_addresses,
    ) -> None:
        self._connections = bounded_connections(Resolver(resolve), ca_certificates, proxy_url)
        self._has_proxy = proxy_url is not None
        self._max_body_bytes = max_body_bytes
        self._needs_body = needs_body

    def close(self) -> None:
        """Close every connection."""
        self._connections.close()

    def send(
        self,
        request: HttpRequest,
        deadline: Deadline,
        addresses: Sequence[str] | None = None,
    ) -> HttpAnswer | NoAnswer:
        """Return the answer to *request*, or why there is none.

        New connections go to *addresses*, in this order; None: to whatever the host resolves to.
        """
        # A failure is returned, not raised: it would travel along as the context of the caller's
        # own, and its frames hold the request with its secrets.
        begun_at = time.monotonic()
        try:
            with limits(deadline, addresses):
                return self._exchange(request, deadline.remaining(), begun_at)
        except (httpx.InvalidURL, httpcore.UnsupportedProtocol, UnicodeError):  # a host too long
            return NoAnswer("InvalidURL", is_url_unusable=True, is_sent=False)
        except httpcore.ProxyError as failure:
            waited = time.monotonic() - begun_at
            return NoAnswer(cause_of(failure), is_sent=False, seconds=waited)
        except _NO_ANSWER as failure:
            return NoAnswer(
                self._cause(failure),
                is_timeout=isinstance(failure, httpcore.TimeoutException),
                is_sent=not isinstance(failure, _NOT_CONNECTED),
                seconds=time.monotonic() - begun_at,
            )

    def _exchange(self, request: HttpRequest, left: float, begun_at: float) -> HttpAnswer:
        url, host = _parsed(request.url)
        headers = [(b"Host", host), *_HEADERS]
        headers += [
            (name.encode(), value.encode("ascii")) for name, value in request.headers.items()
        ]
        if request.method != "GET":
            headers.append((b"Content-Length", b"%d" % len(request.content)))
        timeout = {"connect": min(CONNECT_SECONDS, left), "read": left, "write": left}
        sent = httpcore.Request(
            request.method,
            url,
            headers=headers,
            content=request.content,
            extensions={"timeout": timeout},
        )
        with self._connections.exchange(sent) as response:
            if self._has_proxy and response.status == REFUSED:
                raise httpcore.ProxyError(str(REFUSED))
            received = by_name(response.headers)
            return HttpAnswer(
                response.status,
                self._read_body(response, received),
                received,
                time.monotonic() - begun_at,
            )

    def _read_body(self, response: httpcore.Response, headers: Headers) -> bytes | None:
        """Return the body, None when there is more of it than we take."""
        body = bytearray()
        try:
            for chunk in response.iter_stream():
                body += chunk
                if len(body) > self._max_body_bytes:
                    return None
        except _NO_ANSWER:
            if self._needs_body:
                raise
            return None
        return unpacked(bytes(body), content_encoding(headers), self._max_body_bytes)

    def _cause(self, failure: Exception) -> str:
        # What is said of a connection that was not made is about the address. Of one that broke it
        # may quote what was sent.
        detail = str(failure) if isinstance(failure, httpcore.ConnectError) else ""
        where = " by way of the proxy" if self._has_proxy else ""
        return f"{type(failure).__name__}{where}" + (f": {detail}" if detail else "")


@lru_cache(maxsize=64)
def _parsed(text: str) -> tuple[httpcore.URL, bytes]:
    """Return where to ask, and what the Host header says."""
    # A handful of addresses, each called a thousand times: parsing costs as much as sending.
    url = httpx.URL(text)
    if url.scheme not in {"http", "https"}:
        raise httpcore.UnsupportedProtocol
    address = httpcore.URL(
        scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path
    )
    return address, url.netloc
