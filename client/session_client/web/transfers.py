"""One login app for all other apps: leave for it, be passed on there, and arrive with a ticket.

The app that signs in is the hub. The others may be on any domain: each keeps a verifier in the
browser that leaves, and a ticket serves that browser alone.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Final
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from session_client import browser_cookie, contract
from session_client.contract import Reason
from session_client.errors import Unauthorized, Unavailable
from session_client.requests import new_verifier
from session_client.values import LoginRequired, SilentAnswer, StepUpRequired, Ticket
from session_client.web import outcome
from session_client.web.gate import admit
from session_client.web.incoming import Incoming, safe_next, with_next
from session_client.web.local import Local
from session_client.web.options import Options
from session_client.web.outcome import UNCACHED, Ask, Changes, Header, Steps, Turned

_LASTS_SECONDS: Final = 600
_LONGEST_WAY_BACK: Final = 500
# Some ten tabs; those that left before begin anew.
_MOST_CHARACTERS: Final = 3000
_SUFFIX: Final = re.compile(r"[A-Za-z0-9_-]{8}")
_VALUE: Final = re.compile(r"([A-Za-z0-9_-]{43})\.([A-Za-z0-9_-]*)")
# A browser must pass the address with the ticket to no other site.
_NO_REFERRER: Final[tuple[Header, ...]] = (("Referrer-Policy", "no-referrer"), *UNCACHED)


def leave(request: Incoming, options: Options) -> Turned:
    """Send a browser to the hub, to come back to the page that it wanted."""
    way_back = _asked(request, "next") or "/"  # looked at when it is followed
    verifier = new_verifier()
    challenge = contract.challenge_of(verifier)
    kept = _encoded(way_back if len(way_back) <= _LONGEST_WAY_BACK else "/")
    cookie = _cookie(options, challenge, f"{verifier}.{kept}", _LASTS_SECONDS)
    hub = str(options.hub)
    location = f"{hub}{'&' if '?' in hub else '?'}challenge={quote(challenge)}"
    headers = (*_forgotten(request, options), cookie, *UNCACHED)
    return outcome.redirect(location, Changes(headers=headers))


def pass_on(request: Incoming, options: Options) -> Steps[Turned]:
    """At the hub: send whoever is signed in back with a ticket, and others to the login first."""
    for_app, challenge = _asked(request, "for_app"), _asked(request, "challenge")
    if not (contract.is_app_id(for_app) and contract.is_challenge(challenge)):
        return _refused(400, "This is not how another site sends you here.")
    token = options.cookie.read(request.cookies)
    nobody = outcome.login_required(
        request, options, Reason.NO_SESSION.value, Changes(headers=UNCACHED)
    )
    if token is None:
        return nobody
    arguments = {"browser_token": token, "for_app": for_app, "challenge": challenge}
    try:
        answer: Ticket | LoginRequired = yield Ask("ticket", arguments)
    except Unavailable as error:
        return outcome.unavailable(request, error)
    except Unauthorized as error:
        if error.reason != Reason.NOT_PERMITTED:
            raise
        return _refused(403, "That site takes nobody from here.")
    if isinstance(answer, LoginRequired):
        return nobody
    query = urlencode({"ticket": answer.ticket, "challenge": str(challenge)})
    there = answer.transfer_url
    location = f"{there}{'&' if '?' in there else '?'}{query}"
    return outcome.redirect(location, Changes(headers=_NO_REFERRER))


def arrive(request: Incoming, options: Options, local: Local | None, now: float) -> Steps[Turned]:
    """Sign in the browser that comes back from the hub, if it is the one that left."""
    ticket, challenge = _asked(request, "ticket"), _asked(request, "challenge")
    kept = _kept(request, options, challenge)
    if not ticket or challenge is None or kept is None:
        return outcome.begun_elsewhere(request)
    verifier, way_back = kept
    token = options.cookie.read(request.cookies)
    arguments = {"ticket": ticket, "verifier": verifier, "replaces": token}
    try:
        answer: SilentAnswer = yield Ask("silent_auth", arguments)
    except Unavailable as error:
        return outcome.unavailable(request, error)
    forgotten = _cookie(options, challenge, "", 0)
    if isinstance(answer, LoginRequired):
        return _refused(
            403, "You are not signed in here. Please go back, and begin anew.", forgotten
        )
    headers = (*options.cookie.headers_for(answer), forgotten, *_NO_REFERRER)
    is_another = local is not None and local.user_id != answer.user_id
    changes = Changes(empties=is_another, headers=headers)
    if isinstance(answer, StepUpRequired):
        return outcome.redirect(with_next(options.step_up, way_back), changes)
    new = yield from admit(answer, options, token=token, asked_at=now)
    if new is None:
        return _refused(403, "You have signed out meanwhile.", forgotten)
    changes = Changes(local=new, empties=is_another, headers=headers)
    return outcome.redirect(way_back, changes)


def _refused(status: int, text: str, *headers: Header) -> Turned:
    return Turned(status=status, body=text, changes=Changes(headers=(*headers, *_NO_REFERRER)))


def _asked(request: Incoming, name: str) -> str | None:
    found = parse_qs(urlsplit(request.path).query).get(name, [])
    return found[0] if len(found) == 1 else None


def _kept(request: Incoming, options: Options, challenge: str | None) -> tuple[str, str] | None:
    """Return the verifier and the way back that this browser left with."""
    name = _name(options, challenge or "")
    found = [value for each, value in browser_cookie.pairs(request.cookies) if each == name]
    match = _VALUE.fullmatch(found[0]) if len(found) == 1 else None
    if match is None or contract.challenge_of(match[1]) != challenge:
        return None
    return match[1], safe_next(_decoded(match[2]))


def _forgotten(request: Incoming, options: Options) -> Iterator[Header]:
    """Yield the headers that delete the oldest of what this browser has left with.

    A browser that is begun again opens all its tabs at once. With a cookie of each of them its
    requests would be too long for proxies, until the cookies are over.
    """
    left = _MOST_CHARACTERS
    # The oldest come first (RFC 6265, 5.4).
    for name, value in reversed(list(browser_cookie.pairs(request.cookies))):
        suffix = name.removeprefix(_name(options, ""))
        if suffix == name or not _SUFFIX.fullmatch(suffix):
            continue
        left -= len(name) + len(value)
        if left < 0:
            yield _cookie(options, suffix, "", 0)


def _name(options: Options, challenge: str) -> str:
    prefix = "__Host-" if options.is_secure else ""
    return f"{prefix}mosaic-transfer-{challenge[:8]}"


def _cookie(options: Options, challenge: str, value: str, lasts: int) -> Header:
    name = _name(options, challenge)
    return outcome.host_cookie(name, value, lasts, is_secure=options.is_secure)


def _encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def _decoded(text: str) -> str | None:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except ValueError:
        return None
