"""HTTP with Mosaic: bounded in time and size, nothing kept between calls, no httpx type outside.

Not retried here: a call that was sent may have worked, and only the caller knows whether asking
again is safe.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final
from urllib.parse import urlencode

import httpcore
import httpx

from worker.errors import MosaicContractBroken, MosaicUnavailable
from worker.mosaic.deadline import Deadline

MAX_BODY_BYTES: Final = 1024 * 1024
CONNECT_SECONDS: Final = 3.0  # of each address; a host that is there answers in far less
KEEP_IDLE_SECONDS: Final = 4.0  # shorter than servers keep idle connections (5 s and more)
MOST_RETRY_AFTER_SECONDS: Final = 3600.0
_MOST_IDLE_CONNECTIONS: Final = 64  # one for each thread a worker may have


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A status and a body, read in full; *body* is None when it is longer than we read."""

    status: int
    body: bytes | None = field(default=b"", repr=False)
    retry_after: float | None = None  # seconds from now, if Mosaic said so


class MosaicHttp:
    """The process's connections to Mosaic. Make it after the fork; safe for all threads."""

    def __init__(self) -> None:
        # With an upper limit on connections, httpx's sync pool loses slots under contention until
        # an idle client fails for ever. So: no limit (threads are the limit), no pool timeout.
        self._client = httpx.Client(
            transport=_BoundedTransport(),
            trust_env=False,  # a proxy variable must not carry client secrets elsewhere
            follow_redirects=False,
            # One jar for all users' calls would hand one user's cookies to another.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            headers={"Accept": "application/json", "Accept-Encoding": "identity"},
        )

    def close(self) -> None:
        """Close every connection."""
        self._client.close()

    def get(self, url: str, deadline: Deadline) -> HttpAnswer:
        """Fetch *url*. Raises `MosaicUnavailable` and `MosaicContractBroken`."""
        return self._send("GET", url, {}, b"", deadline)

    def post_form(self, url: str, fields: Mapping[str, str], deadline: Deadline) -> HttpAnswer:
        """Send a form. Raises as `get` does."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._send("POST", url, headers, urlencode(fields).encode(), deadline)

    def post_json(
        self, url: str, payload: Mapping[str, Any], bearer: str, deadline: Deadline
    ) -> HttpAnswer:
        """Send JSON with a client access token. Raises as `get` does."""
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {bearer}"}
        return self._send("POST", url, headers, json.dumps(payload).encode(), deadline)

    def _send(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes, deadline: Deadline
    ) -> HttpAnswer:
        deadline.require()
        # Raised outside the handlers: httpx's errors hold the request with its secrets, and would
        # travel along as the context of ours.
        error: Exception
        try:
            return self._exchange(method, url, headers, content, deadline)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError):  # a host too long
            error = MosaicContractBroken("mosaic: an address of this app is not an http(s) URL")
        except httpx.HTTPError as failure:
            error = MosaicUnavailable(f"mosaic: {type(failure).__name__}")
        raise error

    def _exchange(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes, deadline: Deadline
    ) -> HttpAnswer:
        left = deadline.remaining()
        timeout = httpx.Timeout(left, connect=min(CONNECT_SECONDS, left), pool=None)
        marker = _deadline.set(deadline)
        try:
            with self._client.stream(
                method, url, headers=headers, content=content, timeout=timeout
            ) as response:
                body = _read_bounded(response)
                return HttpAnswer(response.status_code, body, _retry_after(response.headers))
        finally:
            _deadline.reset(marker)


def _read_bounded(response: httpx.Response) -> bytes | None:
    """Return the body as sent: we ask for no compression, so a small body stays small."""
    body = bytearray()
    for chunk in response.iter_raw():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            return None
    return bytes(body)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Read ``Retry-After``, seconds or a date (RFC 9110 section 10.2.3)."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        seconds = float(text)
    elif (until := _http_date(text)) is not None:
        # Measured by the sender's own clock, which may differ from ours.
        seconds = (
            until - (_http_date(headers.get("Date", "")) or datetime.now(UTC))
        ).total_seconds()
    else:
        return None
    return min(max(seconds, 0.0), MOST_RETRY_AFTER_SECONDS)


def _http_date(text: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


# httpx's timeouts bound each read, so a server that drips a byte now and then would hold a worker
# thread for ever. Below, every read and write also stops at the deadline of the call under way.

_deadline: ContextVar[Deadline] = ContextVar("mosaic_deadline")


def _bounded(timeout: float | None) -> float:
    left = _deadline.get().remaining()
    if left <= 0:
        raise httpcore.ReadTimeout("past the deadline")
    return left if timeout is None else min(timeout, left)


class _BoundedStream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _bounded(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, _bounded(timeout))

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
    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        timeout = _bounded(timeout)
        inner = super().connect_tcp(host, port, timeout, local_address, socket_options)
        return _BoundedStream(inner)


class _BoundedTransport(httpx.HTTPTransport):
    def __init__(self) -> None:
        # In place of the parent's pool, which takes no network backend.
        self._pool = httpcore.ConnectionPool(
            ssl_context=httpx.create_ssl_context(trust_env=False),
            max_connections=None,
            max_keepalive_connections=_MOST_IDLE_CONNECTIONS,
            keepalive_expiry=KEEP_IDLE_SECONDS,
            network_backend=_BoundedBackend(),
        )
