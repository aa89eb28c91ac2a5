"""The mark of a browser in which a user has signed in before.

It grants nothing but a count of its own: without it an attacker who fails often enough under a
user's name would keep that user out (OWASP calls it a device cookie).

A mark counts only for the ways by which its browser has proved the user: else an attacker who
knows a password would begin anew to guess at the second factor with each login.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import timedelta
from typing import Any, Final

from models import new_id
from session_client import times
from worker.requests.command_fields import Command
from worker.requests.request import OpenedRequest
from worker.storage.encryption import SealedValueUnreadable
from worker.wiring import Services

LIFETIME: Final = timedelta(days=180)
# A mark is a cookie: browsers take 4096 characters of one, and servers twice that of all of them.
# A user has an id, a name, an address and a number.
_MAX_NAMES: Final = 5

# The ways by which a browser has proved a name: by the hex of its keyed hash.
_Ways = dict[str, list[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proved:
    """Who has signed in and how. Names are keyed hashes."""

    user: bytes  # of the user id
    name: bytes | None  # the name that the login was begun with
    is_named_by_mosaic: bool  # whether Mosaic has taken the proof for that name's
    way: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mark:
    user: str
    id: str
    names: _Ways = field(default_factory=dict)
    # Names that the user's logins were begun with, whoever they are of.
    unproved: _Ways = field(default_factory=dict)


def make(services: Services, request: OpenedRequest[Command], proved: Proved) -> str:
    """Return a mark of the browser that has proved this, and of what it had proved before."""
    user = proved.user.hex()
    mark = _earlier(services, request, user) or _Mark(user=user, id=str(new_id()))
    names, unproved = _with(mark.names, user, proved.way), mark.unproved
    if proved.name is not None and proved.is_named_by_mosaic:
        names = _with(names, proved.name.hex(), proved.way)
    elif proved.name is not None:
        unproved = _with(unproved, proved.name.hex(), proved.way)
    new = replace(mark, names=names, unproved=unproved)
    content = {**asdict(new), "at": times.to_wire(services.now())}
    text = json.dumps(content, separators=(",", ":"))
    sealed = services.keyring.seal(text, _place(request.app.app_id))
    return base64.urlsafe_b64encode(sealed).decode()


def find(
    services: Services, request: OpenedRequest[Command], mark: str | None, name: bytes, way: str
) -> str | None:
    """Return what the browser's own count goes by; None if its mark, or none, gives it none.

    Of a name that Mosaic did not take the proof for all browsers of the user who signed in have one
    count: it may be another's name, and each login would begin a new one.
    """
    known = _open(services, request, mark)
    if known is None:
        return None
    if way in known.names.get(name.hex(), ()):
        return known.id
    return known.user if way in known.unproved.get(name.hex(), ()) else None


def _earlier(services: Services, request: OpenedRequest[Any], user: str) -> _Mark | None:
    """Return the mark that the browser has brought, if it is of *user*."""
    known = _open(services, request, request.command.known_browser)
    return None if known is None or known.user != user else known


def _open(services: Services, request: OpenedRequest[Command], mark: str | None) -> _Mark | None:
    if mark is None:
        return None
    try:
        raw = base64.urlsafe_b64decode(mark.encode("ascii"))
        content: dict[str, Any] = json.loads(
            services.keyring.open_bytes(raw, _place(request.app.app_id))
        )
        at = times.from_wire(content["at"])
        known = _Mark(**{each.name: content[each.name] for each in fields(_Mark)})
    except (SealedValueUnreadable, binascii.Error, ValueError, LookupError):
        return None  # also one of an earlier form: cookies keep it for half a year
    return None if services.now() - at > LIFETIME else known


def _with(ways: Mapping[str, list[str]], name: str, way: str) -> _Ways:
    """Return *ways* with one more, the latest names last; the oldest are forgotten."""
    others = {known: by for known, by in ways.items() if known != name}
    kept = dict(list(others.items())[-(_MAX_NAMES - 1) :])
    return {**kept, name: sorted({*ways.get(name, ()), way})}


def _place(app_id: str) -> str:
    return f"known_browser:{app_id}"
