"""What the core decides about a request, and what a framework has to do about it."""

from __future__ import annotations

import string
from collections.abc import Generator, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import quote

from session_client import browser_cookie
from session_client.browser_cookie import CookieHeader
from session_client.errors import OutcomeUnknown, Unavailable
from session_client.values import StepUpRequired
from session_client.web.incoming import Incoming, with_next
from session_client.web.local import Local, SignedIn
from session_client.web.options import Options

Header: TypeAlias = tuple[str, str]

# Pages of a user who is signed in are for no cache, neither a proxy's nor the browser's own.
UNCACHED: Final[tuple[Header, ...]] = (("Cache-Control", "no-store"), ("Vary", "Cookie"))
_RETRY_AFTER_SECONDS: Final = 5


@dataclass(frozen=True, slots=True)
class Ask:
    """To do: call this method of the client, and send what it returns or throw what it raises."""

    call: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Look:
    """To do: look these marks up, and send their times; None if the store cannot be read."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Put:
    """To do: put this mark. What its store raises is thrown."""

    name: str
    at: float


@dataclass(frozen=True, slots=True)
class Keep:
    """To do: give this logout to the spool. What that raises is thrown."""

    request: dict[str, Any]


T = TypeVar("T")
Step: TypeAlias = Ask | Look | Put | Keep
Steps: TypeAlias = Generator[Step, Any, T]


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What to do to the framework's session and to the answer, whatever else it is.

    ``empties``: forget everything in the session first, it is another user's; and give it a new
    id. ``local``: then keep this in it. ``headers``: add these to the answer.
    """

    local: Local | None = None
    empties: bool = False
    headers: tuple[Header, ...] = ()

    def and_headers(self, *headers: Header) -> Changes:
        """Return them with *headers* besides."""
        return replace(self, headers=(*self.headers, *headers))


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """The view runs for *user*."""

    user: SignedIn
    changes: Changes


@dataclass(frozen=True, slots=True, kw_only=True)
class Turned:
    """The view does not run: this is the answer. ``body`` is for JSON if it is no text."""

    status: int
    body: str | dict[str, Any] = ""
    location: str | None = None
    changes: Changes = Changes()


class TurnedAway(Exception):  # noqa: N818 - what happened, and no fault
    """Raised in a view whose login or logout gets another answer than it would give.

    The framework's part catches it; a view need not.
    """

    def __init__(self, turned: Turned) -> None:
        super().__init__(turned.status)
        self.turned = turned


def by_name(headers: tuple[Header, ...]) -> tuple[list[str], dict[str, str]]:
    """Return the cookies to add, and what replaces headers of the same name; but for ``Vary``."""
    others = {name: value for name, value in headers if name not in {"Set-Cookie", "Vary"}}
    return list(_cookies(headers).values()), others


def cookies_after(sent: CookieHeader, headers: Iterable[Header]) -> str:
    """Return what a browser that has sent *sent* will send once it has got *headers*."""
    written = _cookies(headers)
    names = {name for name, _ in written}
    pairs = [pair for pair in browser_cookie.pairs(sent) if pair[0] not in names]
    pairs += browser_cookie.pairs(text.partition(";")[0] for text in written.values())
    return "; ".join(f"{name}={value}" for name, value in pairs if value)


def _cookies(headers: Iterable[Header]) -> dict[tuple[str, str], str]:
    """Return the cookies by name and domain: of two, the later counts (RFC 6265, 4.1.1)."""
    found: dict[tuple[str, str], str] = {}
    for header, text in headers:
        if header == "Set-Cookie":
            pair, *attributes = text.split("; ")
            domain = next((each for each in attributes if each.startswith("Domain=")), "")
            found[pair.partition("=")[0], domain] = text
    return found


def host_cookie(name: str, value: str, lasts: int, *, is_secure: bool) -> Header:
    """Return the header that sets a cookie of this host alone for *lasts* seconds; 0 deletes it."""
    secure = "; Secure" if is_secure else ""
    text = f"{name}={value}; Path=/; Max-Age={lasts}{secure}; HttpOnly; SameSite=Lax"
    return "Set-Cookie", text


def redirect(location: str, changes: Changes | None = None) -> Turned:
    """Return a redirect that makes a GET of whatever it was.

    A header holds no more than ASCII: of a ``next`` with more one framework would make an error,
    after the login, and another one the address of another page.
    """
    written = quote(location, safe=string.punctuation, errors="replace")
    return Turned(status=303, location=written, changes=changes or Changes())


def login_required(request: Incoming, options: Options, reason: str, changes: Changes) -> Turned:
    """Lead a person to the login; tell anything else where it is."""
    if request.is_page:
        return redirect(with_next(options.login, request.way_back), changes)
    login = options.entry or options.login
    body = {"error": "login_required", "reason": reason, "login": login}
    return Turned(status=401, body=body, changes=changes)


def step_up_required(
    request: Incoming,
    options: Options,
    answer: StepUpRequired,
    max_age: int | None,
    changes: Changes,
) -> Turned:
    """Lead a person to the page that adds a factor; tell others what is missing (RFC 9470)."""
    if request.is_page:
        return redirect(with_next(options.step_up, request.way_back), changes)
    body = {
        "error": "insufficient_user_authentication",
        "missing_amr": list(answer.missing_amr),
        "step_up": options.step_up,
        **({"max_age": max_age} if max_age is not None else {}),
    }
    return Turned(status=401, body=body, changes=changes)


def unavailable(request: Incoming, error: Unavailable) -> Turned:
    """Say that it does not work now. No user is sent to a login that could not work either."""
    seconds = max(1, round(error.retry_after or _RETRY_AFTER_SECONDS))
    changes = Changes(headers=(("Retry-After", str(seconds)), *UNCACHED))
    if isinstance(error, OutcomeUnknown):
        text = "Nobody can say whether this worked. Please begin anew."
    else:
        text = f"Signing in does not work just now. Please try again in {seconds} seconds."
    return _answer(request, 503, "temporarily_unavailable", text, changes)


def foreign(request: Incoming) -> Turned:
    """Refuse what another site's page has sent, or what names no site."""
    text = "This was not sent by a page of this site. Please open the page here, and send it again."
    return _answer(request, 403, "foreign_origin", text, Changes(headers=UNCACHED))


def begun_elsewhere(request: Incoming) -> Turned:
    """Refuse to complete a login that did not begin in this browser."""
    text = (
        "This login was begun in another browser, or long ago, or it is complete. "
        "Please open the page that you want once more."
    )
    return _answer(request, 409, "wrong_browser", text, Changes(headers=UNCACHED))


def not_signed_out(request: Incoming, changes: Changes) -> Turned:
    """Say that other apps may still know the user: the cookie stays, to try it again with."""
    text = "You are signed out here, and perhaps not everywhere yet. Please sign out once more."
    changes = changes.and_headers(("Retry-After", str(_RETRY_AFTER_SECONDS)))
    return _answer(request, 503, "not_acknowledged", text, changes)


def wrong_method(allowed: str) -> Turned:
    """Refuse a method; a GET must change nothing."""
    return Turned(status=405, changes=Changes(headers=(("Allow", allowed), *UNCACHED)))


def _answer(request: Incoming, status: int, error: str, text: str, changes: Changes) -> Turned:
    body: str | dict[str, Any] = text if request.is_page else {"error": error, "detail": text}
    return Turned(status=status, body=body, changes=changes)
