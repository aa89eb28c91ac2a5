"""The handles of logins that have begun, in cookies of this host alone: one each, three at most.

They are sealed by the worker, and larger than a signed cookie session has room for. Without its
handle nobody completes a login: it ends in the browser where it began.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Final

from session_client import browser_cookie
from session_client.begun import Begun
from session_client.browser_cookie import CookieHeader
from session_client.login_steps import LoginStep
from session_client.web.outcome import Header, host_cookie

_MOST: Final = 3
_NAME: Final = re.compile(r"(?:__Host-)?mosaic-login-[0-9a-f]{8}")
_VALUE: Final = re.compile(r"([ls])([0-9]{1,12})\.([A-Za-z0-9_=-]{1,3000})")


@dataclass(frozen=True, slots=True)
class Handle:
    """One login, or step-up, that this browser has begun. ``until`` is in seconds."""

    name: str
    login: str = field(repr=False)
    is_step_up: bool
    until: float


def read(cookies: CookieHeader, now: float) -> list[Handle]:
    """Return what this browser has begun, the newest last. A name that came twice is none."""
    found: dict[str, Handle | None] = {}
    for name, value in browser_cookie.pairs(cookies):
        if not _NAME.fullmatch(name):
            continue
        match = _VALUE.fullmatch(value)
        if match is None or float(match[2]) <= now or name in found:
            found[name] = None
        else:
            found[name] = Handle(name, match[3], match[1] == "s", float(match[2]))
    return sorted((known for known in found.values() if known), key=lambda known: known.until)


def to_go_on_with(handles: list[Handle], step: LoginStep) -> Handle | None:
    """Return the one that *step* goes on with: by its ``state``, else the newest."""
    state = getattr(step, "state", None)
    if state is None:
        return handles[-1] if handles else None
    return next((known for known in handles if known.name.endswith(_digest(state))), None)


def write(
    begun: Begun, handles: list[Handle], *, is_step_up: bool, is_secure: bool, now: float
) -> list[Header]:
    """Return the headers that keep *begun* beside the newest of *handles*."""
    until = int(now + begun.expires_in)
    digest = _digest(str(getattr(begun, "state", begun.login)))
    name = f"{'__Host-' if is_secure else ''}mosaic-login-{digest}"
    value = f"{'s' if is_step_up else 'l'}{until}.{begun.login}"
    others = [known for known in handles if known.name != name]
    forgotten = [forget(known, is_secure=is_secure) for known in others[: -(_MOST - 1)]]
    return [host_cookie(name, value, int(begun.expires_in), is_secure=is_secure), *forgotten]


def forget(handle: Handle, *, is_secure: bool) -> Header:
    """Return the header that deletes one."""
    return host_cookie(handle.name, "", 0, is_secure=is_secure)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
