"""What the headers of an answer say, as far as the worker reads them.

Honest servers and the proxies before them write these in more ways than the standards know; what
cannot be read counts as missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

MAX_RETRY_AFTER_SECONDS: Final = 3600.0
Headers = Mapping[bytes, Sequence[str]]  # the values of each, by its name in lower case

_SECONDS: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_CHARSET: Final = re.compile(r';\s*charset\s*=\s*"?([A-Za-z0-9_.:+-]+)', re.IGNORECASE)


def by_name(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return *headers* as all below expects them."""
    found: dict[bytes, list[str]] = {}
    for name, value in headers:
        found.setdefault(name.lower(), []).append(value.decode("latin-1").strip())
    return found


def retry_after(headers: Headers) -> float | None:
    """Return the seconds that ``Retry-After`` asks for (RFC 9110 section 10.2.3), if it does.

    Of several the longest: each server or proxy that wrote one serves nothing before it.
    """
    values = headers.get(b"retry-after")
    if values is None:  # as in nearly every answer; reading the date would cost it 10 µs
        return None
    sent_at = http_date(_last(headers, b"date")) or datetime.now(UTC)
    waits = [_seconds(text, sent_at) for text in values]
    known = [wait for wait in waits if wait is not None]
    return min(max(0.0, *known), MAX_RETRY_AFTER_SECONDS) if known else None


def _seconds(text: str, sent_at: datetime) -> float | None:
    numbers = [part.strip() for part in text.split(",")]  # a proxy may put several in one line
    if all(_SECONDS.fullmatch(number) for number in numbers):
        return max(map(float, numbers))
    until = http_date(text)
    # Measured by the sender's own clock, which may differ from ours.
    return None if until is None else (until - sent_at).total_seconds()


def http_date(text: str) -> datetime | None:
    """Return the time that a date of HTTP tells; None for what is none."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, IndexError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def date(headers: Headers) -> str:
    """Return what ``Date`` says, for `http_date` to read where a caller wants to know."""
    return _last(headers, b"date")


def charset(headers: Headers) -> str | None:
    """Return the charset that ``Content-Type`` declares, if it does."""
    found = _CHARSET.search(_last(headers, b"content-type"))
    return None if found is None else found[1].lower()


def content_encoding(headers: Headers) -> str:
    """Return how the body is packed, in lower case; empty when it is not."""
    encodings = ",".join(headers.get(b"content-encoding", ())).lower().replace(" ", "")
    return "" if encodings == "identity" else encodings


def _last(headers: Headers, wanted: bytes) -> str:
    return headers.get(wanted, ("",))[-1]
