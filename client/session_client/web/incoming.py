"""A request as the frameworks' core sees it: page load or call, sent from where, led back to where.

>>> safe_next("/basket?page=2"), safe_next("//evil.example"), safe_next(None)
('/basket?page=2', '/', '/')
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, urlsplit

from session_client.browser_cookie import CookieHeader

_HARMLESS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
# One slash and then neither slash nor backslash, nowhere a space or a control character: what
# browsers read as the address of another host matches none of it.
_LOCAL: Final = re.compile(r"/(?![/\\])[^\\\s\x00-\x20\x7f]*")
_LONGEST_NEXT: Final = 2000
_PORTS: Final = {"http": ":80", "https": ":443"}
# What a path holds as it is: frameworks hand it out unquoted, and browsers send it like this.
UNQUOTED: Final = "/:@!$&'()*+,;=~"


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """One request, without its body.

    ``path`` holds the query too. ``host`` is what the browser's address bar shows, with the port:
    the framework's answer, which knows what proxies say. ``header`` returns a header's value, or
    None; ``cookies`` is the raw ``Cookie`` header.
    """

    method: str
    path: str
    host: str
    header: Callable[[str], str | None]
    cookies: CookieHeader

    @property
    def has_effects(self) -> bool:
        """Whether it may change something."""
        return self.method not in _HARMLESS

    @property
    def is_page(self) -> bool:
        """Whether a person looks at what comes back: a page load, and no frame, fetch or call."""
        destination = self.header("Sec-Fetch-Dest")
        if destination is not None:
            return destination == "document"
        accepted = self.header("Accept") or ""
        return self.method in {"GET", "HEAD"} and "text/html" in accepted

    @property
    def may_sign_in_silently(self) -> bool:
        """Whether a user may be signed in who was not: on page loads without effects alone."""
        return self.is_page and not self.has_effects

    def is_from_here(self, trusted_origins: Collection[str] = ()) -> bool:
        """Whether one of this app's own pages sent it, or one of *trusted_origins*.

        A request that says nothing of where it comes from is not: every browser of today does.
        """
        origin = self.header("Origin")
        if origin is not None and origin in trusted_origins:
            return True
        site = self.header("Sec-Fetch-Site")
        if site is not None:
            return site in {"same-origin", "none"}
        return origin is not None and _is_at(origin, self.host)

    @property
    def way_back(self) -> str:
        """Return where the user is led after a login: this page, or the one that a form is on."""
        if not self.has_effects:
            return safe_next(self.path)
        referer = self.header("Referer") or ""
        if not _is_at(referer, self.host):
            return "/"
        parts = urlsplit(referer)
        return safe_next(with_query(parts.path, parts.query))


def safe_next(text: str | None) -> str:
    """Return *text* if it leads to a page of this host, else ``/``."""
    if text is None or len(text) > _LONGEST_NEXT or not _LOCAL.fullmatch(text):
        return "/"
    return text


def with_query(path: str, query: str) -> str:
    """Return the address of *path*, with *query* if there is one."""
    return f"{path}?{query}" if query else path


def with_next(page: str, way_back: str) -> str:
    """Return the address of *page* that leads to *way_back* afterwards."""
    return f"{page}{'&' if '?' in page else '?'}next={quote(way_back, safe='/')}"


def _is_at(address: str, host: str) -> bool:
    """Whether *address* is one of *host*. Browsers leave out a port that some proxies add."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    port = _PORTS.get(parts.scheme)
    return port is not None and parts.netloc.lower() == host.lower().removesuffix(port)
