"""The handles of logins that have begun, in cookies of this host alone: one each, three at most.

They are sealed by the worker, and larger than a signed cookie session has room for. Without its
handle nobody completes a login: it ends in the browser where it began.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import Final

from session_client import browser_cookie, contract
from session_client.begun import Begun
from session_client.browser_cookie import CookieHeader
from session_client.login_steps import LoginStep
from session_client.web.outcome import Header, host_cookie

_MOST: Final = 3
_LONGEST_SECONDS: Final = contract.LOGIN_LIFETIME.total_seconds()
# Another process of the app may have written a handle, by a clock that is ahead by so much.
_SKEW_SECONDS: Final = 60.0
_DIGEST: Final = re.compile(r"[0-9a-f]{8}")
_VALUE: Final = re.compile(r"([ls])([0-9]{1,12})\.([a-z_.]{1,60})\.([A-Za-z0-9_=-]{1,3000})")


@dataclass(frozen=True, slots=True)
class Handle:
    """One login, or step-up, that this browser has begun.

    ``until`` is in seconds. ``next_step`` is the kind of step that goes on with it.
    """

    name: str
    login: str = field(repr=False)
    is_step_up: bool
    until: float
    next_step: str

    @property
    def purpose(self) -> tuple[str, bool]:
        """What it is good for: its next step, of a login or of a step-up."""
        return self.next_step, self.is_step_up


def read(cookies: CookieHeader, *, is_secure: bool, now: float) -> list[Handle]:
    """Return what this browser has begun, the newest last. A name that came twice is none.

    Only names that `write` gives count: without the prefix a sibling host can plant its own login,
    and the user would be signed in as another one.
    """
    found: dict[str, Handle | None] = {}
    prefix = _prefix(is_secure=is_secure)
    for name, value in browser_cookie.pairs(cookies):
        if not (name.startswith(prefix) and _DIGEST.fullmatch(name.removeprefix(prefix))):
            continue
        match = _VALUE.fullmatch(value)
        if match is None or name in found or not _is_good(float(match[2]), now):
            found[name] = None
        else:
            found[name] = Handle(name, match[4], match[1] == "s", float(match[2]), match[3])
    return sorted((known for known in found.values() if known), key=lambda known: known.until)


def to_go_on_with(handles: list[Handle], step: LoginStep, *, is_step_up: bool) -> Handle | None:
    """Return the one that *step* goes on with: by its ``state``, else the newest of its kind.

    One of another kind would not do: a passkey that is asked for, and cancelled, must not be in
    the way of a code. Nor would a login do for a step-up: whoever begins one of his own in this
    browser would pass for its user, at a page that has asked for a factor.
    """
    state = getattr(step, "state", None)
    fitting = [
        known
        for known in handles
        if known.next_step == _kind(type(step)) and known.is_step_up == is_step_up
    ]
    if state is not None:
        fitting = [known for known in fitting if known.name.endswith(_digest(state))]
    return next(reversed(fitting), None)


def write(  # noqa: PLR0913 - what is kept, and beside what
    begun: Begun,
    handles: list[Handle],
    *,
    next_step: type[LoginStep],
    is_step_up: bool,
    is_secure: bool,
    now: float,
) -> list[Header]:
    """Return the headers that keep *begun*, for its *next_step*, beside the newest of *handles*."""
    lasts = int(min(begun.expires_in, _LONGEST_SECONDS))
    until = int(now + lasts)
    digest = _digest(str(getattr(begun, "state", begun.login)))
    name = f"{_prefix(is_secure=is_secure)}{digest}"
    kind = _kind(next_step)
    value = f"{'s' if is_step_up else 'l'}{until}.{kind}.{begun.login}"
    others = [known for known in handles if known.name != name]
    # What is begun again and again drives out the older of its kind, and nothing else.
    newest = {known.purpose: known.name for known in others} | {(kind, is_step_up): name}
    others.sort(key=lambda known: (newest[known.purpose] == known.name, known.until))
    forgotten = [forget(known, is_secure=is_secure) for known in others[: -(_MOST - 1)]]
    return [host_cookie(name, value, lasts, is_secure=is_secure), *forgotten]


def forget(handle: Handle, *, is_secure: bool) -> Header:
    """Return the header that deletes one."""
    return host_cookie(handle.name, "", 0, is_secure=is_secure)


def _prefix(*, is_secure: bool) -> str:
    return f"{'__Host-' if is_secure else ''}mosaic-login-"


def _kind(step: type[LoginStep]) -> str:
    return f"{step.method}.{step.step}"


def _is_good(until: float, now: float) -> bool:
    # One from the far future is none of ours, and would be the newest for ever.
    return now < until <= now + _LONGEST_SECONDS + _SKEW_SECONDS


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
