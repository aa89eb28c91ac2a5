"""`BrowserCookie`: the cookie in which a browser keeps the token that names its session.

All apps below *domain* share it. Without a domain it is one host's own, and other apps get the
session by ticket. Nothing here looks at a framework's parsed cookies: they hide that a cookie was
sent twice, which is how a sibling host plants one.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Final, Protocol, TypeAlias

from session_client import contract
from session_client.errors import ConfigurationError
from session_client.values import Authenticated, Denied, LoginRequired, Registered, StepUpRequired

log = logging.getLogger(__name__)

LONGEST_REMEMBERED: Final = timedelta(days=14)  # a session lives no longer unused
KNOWN_FOR: Final = timedelta(days=180)
WARN_EVERY_SECONDS: Final = 60.0

_NAME: Final = "mosaic-sso"
_KNOWN_NAME: Final = "mosaic-known"
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN: Final = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})+")
# What the worker sealed: nothing in it ends a cookie's value.
_SEALED: Final = re.compile(r"[A-Za-z0-9._~+/=-]{1,4096}")

CookieHeader: TypeAlias = str | bytes | Iterable[str | bytes] | None


class _Adds(Protocol):
    """Headers of werkzeug, and so of Flask."""

    def add(self, name: str, value: str, /) -> object:
        """Add a header beside those that are there."""
        ...


class _Appends(Protocol):
    """Headers of Starlette, and so of FastAPI."""

    def append(self, name: str, value: str, /) -> object:
        """Add a header beside those that are there."""
        ...


Headers: TypeAlias = _Adds | _Appends | list[tuple[str, str]]


class BrowserCookie:
    """Reads and writes the browser token of one host, or of all hosts below one domain.

    Args:
        domain: what all apps that share the cookie are below, and no more than that:
            ``apps.example.com``, not the whole company's. Every host below it receives the cookie.
            None for one host alone (a hub).
        former_domains: after a move, the domains that it had; None among them for a host's own.
            They are cleared with each write: a browser that sends both is taken to have none.
        for_development: without TLS, on localhost alone: no prefix, not ``Secure``.

    Raises `ConfigurationError` for a domain that is none.
    """

    def __init__(
        self,
        *,
        domain: str | None = None,
        former_domains: Sequence[str | None] = (),
        for_development: bool = False,
    ) -> None:
        for each in (domain, *former_domains):
            if each is not None and not _DOMAIN.fullmatch(each):
                raise ConfigurationError("domain: a host name in lower case, such as a.example")
        if for_development and domain is not None:
            raise ConfigurationError("domain: none on localhost, where all ports share cookies")
        self._domain = domain
        self._former = tuple(each for each in former_domains if each != domain)
        self._for_development = for_development
        self._warned_at: float | None = None

    @property
    def name(self) -> str:
        """The cookie's name. Its prefix keeps other hosts, and plain http, from writing it."""
        return self._name_at(self._domain)

    @property
    def known_name(self) -> str:
        """The name of the cookie that marks a browser as known; always the host's own."""
        return _KNOWN_NAME if self._for_development else f"__Host-{_KNOWN_NAME}"

    def is_taken_from(self, host: str) -> bool:
        """Whether a browser takes the cookie from *host*; a port in it means nothing."""
        if self._domain is None:
            return True
        return f".{host.lower().partition(':')[0]}".endswith(f".{self._domain}")

    def read(self, cookie_header: CookieHeader) -> str | None:
        """Return this browser's token from the raw ``Cookie`` header; None if it has none.

        Also None when it is malformed, and when it was sent twice: then a sibling host has planted
        one, or the domain has moved.
        """
        token = self._only(cookie_header, self.name)
        return token if contract.is_browser_token(token) else None

    def known(self, cookie_header: CookieHeader) -> str | None:
        """Return the mark of this browser, for `SessionClient.authenticate`; None if it has none.

        It survives a logout. With it, an attacker who guesses the user's password elsewhere cannot
        lock the user out here.
        """
        mark = self._only(cookie_header, self.known_name)
        return mark if mark is not None and _SEALED.fullmatch(mark) else None

    def write(
        self,
        headers: Headers,
        answer: Authenticated | Registered | LoginRequired | StepUpRequired | Denied,
        *,
        remember: timedelta | None = None,
    ) -> None:
        """Write the token of *answer*, if it holds a new one; else nothing.

        Args:
            headers: of the response: of Flask, Starlette or FastAPI, or a list of pairs.
            answer: of `authenticate`, `register`, or `silent_auth`.
            remember: for how long beyond the browser's end, 14 days at most. It counts from this
                login: a token is never written again to keep it longer.

        An answer without a token writes nothing, a refusal least of all: another tab may have
        signed in meanwhile. Answers with this are for no cache.
        """
        for name, value in self.headers_for(answer, remember=remember):
            _add(headers, name, value)

    def clear(self, headers: Headers) -> None:
        """Delete the cookie: at logout, and nowhere else."""
        for name, value in self.headers_to_clear():
            _add(headers, name, value)

    def headers_for(
        self,
        answer: Authenticated | Registered | LoginRequired | StepUpRequired | Denied,
        *,
        remember: timedelta | None = None,
    ) -> list[tuple[str, str]]:
        """Return what `write` writes, for frameworks that take headers in another way."""
        if remember is not None and not timedelta(0) < remember <= LONGEST_REMEMBERED:
            raise ConfigurationError("remember: 14 days at most")
        cookies = []
        token = getattr(answer, "browser_token", None)
        if contract.is_browser_token(token):
            cookies.append(self._cookie(self._domain, str(token), remember))
            cookies += [self._cookie(former, "", timedelta(0)) for former in self._former]
        mark = getattr(answer, "known_browser", None)
        if mark is not None and _SEALED.fullmatch(mark):
            cookies.append(self._pair(self.known_name, mark, None, KNOWN_FOR))
        return _uncached(cookies)

    def headers_to_clear(self) -> list[tuple[str, str]]:
        """Return what `clear` writes."""
        domains = (self._domain, *self._former)
        return _uncached([self._cookie(domain, "", timedelta(0)) for domain in domains])

    def _name_at(self, domain: str | None) -> str:
        if self._for_development:
            return _NAME
        return f"__Host-{_NAME}" if domain is None else f"__Secure-{_NAME}"

    def _cookie(self, domain: str | None, value: str, lasts: timedelta | None) -> tuple[str, str]:
        return self._pair(self._name_at(domain), value, domain, lasts)

    def _pair(
        self, name: str, value: str, domain: str | None, lasts: timedelta | None
    ) -> tuple[str, str]:
        attributes = [
            f"{name}={value}",
            *([f"Domain={domain}"] if domain else []),
            "Path=/",
            *([f"Max-Age={int(lasts.total_seconds())}"] if lasts is not None else []),
            *([] if self._for_development else ["Secure"]),
            "HttpOnly",
            "SameSite=Lax",
        ]
        return "Set-Cookie", "; ".join(attributes)

    def _only(self, cookie_header: CookieHeader, name: str) -> str | None:
        found = [value for each, value in pairs(cookie_header) if each == name]
        if len(found) > 1:
            self._warn(name)
        return found[0] if len(found) == 1 else None

    def _warn(self, name: str) -> None:
        now = time.monotonic()
        if self._warned_at is None or now - self._warned_at >= WARN_EVERY_SECONDS:
            self._warned_at = now
            log.warning("cookie %s was sent twice and counts as none: see former_domains", name)


def pairs(cookie_header: CookieHeader) -> Iterator[tuple[str, str]]:
    """Split the header at each semicolon, as browsers join it: quotes mean nothing to them."""
    for line in _lines(cookie_header):
        text = line.decode("latin-1") if isinstance(line, bytes) else line
        for pair in text.split(";"):
            name, _, value = pair.partition("=")
            yield name.strip(" \t"), value.strip(" \t")


def _lines(cookie_header: CookieHeader) -> Iterable[str | bytes]:
    if cookie_header is None:
        return ()
    return (cookie_header,) if isinstance(cookie_header, str | bytes) else cookie_header


def _uncached(cookies: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [*cookies, ("Cache-Control", "no-store")] if cookies else []


def _add(headers: Headers, name: str, value: str) -> None:
    if isinstance(headers, list):
        headers.append((name, value))
    elif hasattr(headers, "add"):
        headers.add(name, value)
    else:
        headers.append(name, value)
