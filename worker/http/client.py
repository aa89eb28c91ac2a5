"""One request, one answer: bounded in time and size, nothing kept between calls.

No redirect is followed, no proxy variable read and no cookie kept: all three live in
`httpx.Client`, which is not used. It would also log every URL, query and all.

Not retried here: a call that was sent may have worked, and only the caller knows whether asking
again is safe.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Final

import httpx

from worker.http.deadline import Deadline
from worker.http.transport import BoundedTransport, limits

CONNECT_SECONDS: Final = 3.0  # of each address; a host that is there answers in far less
MOST_RETRY_AFTER_SECONDS: Final = 3600.0
_HEADERS: Final = {
    "User-Agent": "mosaic-session-worker",  # without any, some firewalls answer 403
    "Accept": "application/json",
    "Accept-Encoding": "identity",  # a small body must not unpack to a large one
}


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What is asked; all but the method may hold a secret."""

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    content: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """A status and a body; *body* is None when it was not read to its end."""

    status: int
    body: bytes | None = field(default=b"", repr=False)
    retry_after: float | None = None  # seconds from now, if the server said so
    seconds: float = 0.0  # from the request to the end of the answer


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Why there is none, in one word: the kind of failure, and nothing of the request."""

    cause: str
    is_url_unusable: bool = False
    seconds: float = 0.0  # that were waited for one


class HttpClient:
    """A process's connections. Make it after the fork; safe for all threads.

    Without *needs_body* the status alone is the answer, even if the body is cut off or too slow.
    The authorities of *ca_certificates* (PEM) are trusted beside the public ones.
    """

    def __init__(
        self, *, max_body_bytes: int, needs_body: bool = True, ca_certificates: str | None = None
    ) -> None:
        self._transport = BoundedTransport(ca_certificates)
        self._max_body_bytes = max_body_bytes
        self._needs_body = needs_body

    def close(self) -> None:
        """Close every connection."""
        self._transport.close()

    def send(
        self,
        request: HttpRequest,
        deadline: Deadline,
        addresses: Sequence[str] | None = None,
    ) -> HttpAnswer | NoAnswer:
        """Return the answer to *request*, or why there is none.

        New connections go to *addresses*, in this order; None: to whatever the host resolves to.
        """
        # A failure is returned, not raised: httpx's errors hold the request with its secrets, and
        # would travel along as the context of the caller's own.
        begun_at = time.monotonic()
        try:
            with limits(deadline, addresses):
                answer = self._exchange(request, deadline.remaining())
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, UnicodeError):  # a host too long
            return NoAnswer("InvalidURL", is_url_unusable=True)
        except httpx.HTTPError as failure:
            return NoAnswer(type(failure).__name__, seconds=time.monotonic() - begun_at)
        return replace(answer, seconds=time.monotonic() - begun_at)

    def _exchange(self, request: HttpRequest, left: float) -> HttpAnswer:
        timeout = httpx.Timeout(left, connect=min(CONNECT_SECONDS, left), pool=None)
        sent = httpx.Request(
            request.method,
            _parsed(request.url),
            headers={**_HEADERS, **request.headers},
            content=request.content,
            extensions={"timeout": timeout.as_dict()},
        )
        with closing(self._transport.handle_request(sent)) as response:
            body = self._read_body(response)
            return HttpAnswer(response.status_code, body, _retry_after(response.headers))

    def _read_body(self, response: httpx.Response) -> bytes | None:
        """Return the body as sent: we ask for no compression, and unpack none."""
        body = bytearray()
        try:
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > self._max_body_bytes:
                    return None
        except httpx.HTTPError:
            if self._needs_body:
                raise
            return None
        return bytes(body)


@lru_cache(maxsize=64)
def _parsed(url: str) -> httpx.URL:
    # A handful of addresses, each called a thousand times: parsing costs as much as sending.
    return httpx.URL(url)


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
