"""The handles of logins that have begun, in cookies of this host alone: one each, three at most.

They are sealed by the worker, and larger than a signed cookie session has room for. Without its
handle nobody completes a login: it ends in the browser where it began.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from session_client import browser_cookie, contract
from session_client.begun import Begun
from session_client.browser_cookie import CookieHeader
from session_client.login_steps import LoginStep
from session_client.requests import new_request_id
from session_client.web.outcome import Header, host_cookie

_MOST: Final = 3
_LONGEST_SECONDS: Final = contract.LOGIN_LIFETIME.total_seconds()
# Another process of the app may have written a handle, by a clock that is ahead by so much.
_SKEW_SECONDS: Final = 60.0
_DIGEST: Final = re.compile(r"[0-9a-f]{8}")
_VALUE: Final = re.compile(
    r"([ls])([0-9]{1,12})\.([A-Za-z0-9_-]{16,64})\.([a-z_.]{1,60})\.([A-Za-z0-9_=-]{1,3000})"
)


@dataclass(frozen=True, slots=True)
class Handle:
    """One login, or step-up, that this browser has begun.

    ``until`` is in seconds. ``next_step`` is the kind of step that goes on with it. ``attempt`` is
    of the requests that go on with it until the browser has heard what came of one: a form that is
    clicked twice is one attempt, and what is typed once more is another.
    """

    name: str
    login: str = field(repr=False)
    is_step_up: bool
    until: float
    attempt: str
    next_step: str

    @property
    def purpose(self) -> tuple[str, bool]:
        """What it is good for: its next step, of a login or of a step-up."""
        return self.next_step, self.is_step_up

    def request_id_of(self, payload: Mapping[str, Any]) -> str:
        """Return the request id of *payload*: the same where a browser sends the same twice.

        The worker then answers both alike. A proof that came twice as two requests was refused the
        second time, which is what the person saw who had clicked twice, and was signed in.
        """
        said = json.dumps([self.attempt, payload], sort_keys=True, default=repr)
        return _hash(said)[:32]


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
            found[name] = Handle(
                name=name,
                login=match[5],
                is_step_up=match[1] == "s",
                until=float(match[2]),
                attempt=match[3],
                next_step=match[4],
            )
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
    # The same for the same answer: a provider that leads back twice begins one attempt.
    attempt = _hash(begun.login)[:32]
    written = Handle(name, begun.login, is_step_up, until, attempt, kind)
    others = [known for known in handles if known.name != name]
    # What is begun again and again drives out the older of its kind, and nothing else.
    newest = {known.purpose: known.name for known in others} | {(kind, is_step_up): name}
    others.sort(key=lambda known: (newest[known.purpose] == known.name, known.until))
    forgotten = [forget(known, is_secure=is_secure) for known in others[: -(_MOST - 1)]]
    return [_kept(written, lasts, is_secure=is_secure), *forgotten]


def tried(handle: Handle, *, is_secure: bool, now: float) -> Header:
    """Return the header that keeps one of which the browser hears now: the next attempt is new."""
    again = replace(handle, attempt=new_request_id())
    return _kept(again, int(handle.until - now), is_secure=is_secure)


def forget(handle: Handle, *, is_secure: bool) -> Header:
    """Return the header that deletes one."""
    return host_cookie(handle.name, "", 0, is_secure=is_secure)


def _kept(handle: Handle, lasts: int, *, is_secure: bool) -> Header:
    purpose = "s" if handle.is_step_up else "l"
    value = f"{purpose}{int(handle.until)}.{handle.attempt}.{handle.next_step}.{handle.login}"
    return host_cookie(handle.name, value, lasts, is_secure=is_secure)


def _prefix(*, is_secure: bool) -> str:
    return f"{'__Host-' if is_secure else ''}mosaic-login-"


def _kind(step: type[LoginStep]) -> str:
    return f"{step.method}.{step.step}"


def _is_good(until: float, now: float) -> bool:
    # One from the far future is none of ours, and would be the newest for ever.
    return now < until <= now + _LONGEST_SECONDS + _SKEW_SECONDS


def _digest(text: str) -> str:
    return _hash(text)[:8]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
