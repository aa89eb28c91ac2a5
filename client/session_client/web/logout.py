"""Signing out, here and everywhere, so that a logout is not lost."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any, Final

from session_client.contract import Reason
from session_client.errors import NotAcknowledged, SessionClientError, Unavailable
from session_client.requests import new_request_id
from session_client.web import marks, outcome
from session_client.web.incoming import Incoming
from session_client.web.local import Local, digest_of
from session_client.web.options import Options, Spool
from session_client.web.outcome import UNCACHED, Ask, Changes, Header, Keep, Put, Steps, Turned

log: Final = logging.getLogger(__name__)

# With a spool no browser waits longer: it delivers what the worker has not acknowledged by then.
_SPOOLED_AFTER_SECONDS: Final = 1.0
_LOGOUT_TIMEOUT_SECONDS: Final = 5.0
# Nor for the spool's store, such as a file that another process has locked.
_KEPT_WITHIN_SECONDS: Final = 2.0
_CLEARED: Final[Header] = ("Clear-Site-Data", '"cache"')


def log_out(
    request: Incoming, options: Options, local: Local | None, *, token: str | None, now: float
) -> Steps[Turned]:
    """Sign out here and everywhere. Only a POST of this app's own does."""
    if request.method != "POST":
        return outcome.wrong_method("POST")
    if not request.is_from_here(options.trusted_origins):
        return outcome.foreign(request)
    changes = Changes(empties=True, headers=(_CLEARED, *UNCACHED))
    yield from _mark(local, now)
    is_committed = True
    for named in _sessions(token, local):
        is_committed = (yield from _end(named, options.spool)) and is_committed
    if not is_committed:
        return outcome.not_signed_out(request, changes)
    changes = changes.and_headers(*options.cookie.headers_to_clear())
    if request.is_page:
        return outcome.redirect(options.home, changes)
    return Turned(status=204, changes=changes)


def _sessions(token: str | None, local: Local | None) -> list[dict[str, Any]]:
    """Name what a logout ends: the browser's session, and the local one where it is another."""
    named: list[dict[str, Any]] = []
    if token is not None:
        named.append({"browser_token": token})
    if local is not None and not local.is_over and local.browser != digest_of(token):
        named.append({"user_id": local.user_id, "session_ref": local.session_ref})
    return named


def _end(named: dict[str, Any], spool: Spool | None) -> Steps[bool]:
    """Return whether a logout is committed, or kept so that it cannot be lost."""
    timeout = _LOGOUT_TIMEOUT_SECONDS if spool is None else _SPOOLED_AFTER_SECONDS
    request = {**named, "request_id": new_request_id()}
    try:
        yield Ask("logout", {**request, "timeout": timeout})
    except SessionClientError as error:
        if getattr(error, "reason", None) == Reason.NO_SESSION:
            return True  # the worker has forgotten it: there is nothing to end
        if not isinstance(error, NotAcknowledged | Unavailable):
            log.exception("a logout is refused")
        if spool is None:
            return False
        try:
            yield Keep({**request, "within": _KEPT_WITHIN_SECONDS})
        except Exception:
            # The store is the app's, locked or full: the user is signed out here all the same.
            log.exception("a logout could not be kept")
            return False
    return True


def _mark(local: Local | None, now: float) -> Steps[None]:
    """Let no copy of the local session's cookie sign a user in here again."""
    if local is None or local.is_over:
        return
    with suppress(Exception):  # any store's: the worker is told in any case
        yield Put(marks.of_session(local.session_ref), now)
