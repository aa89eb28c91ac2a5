"""Being told that a session is over: what the address for notices does."""

from __future__ import annotations

from typing import Final

from session_client.errors import InvalidNotice, Unavailable
from session_client.values import LogoutNotice
from session_client.web import marks
from session_client.web.outcome import UNCACHED, Ask, Changes, Put, Steps, Turned

# Bytes of a notice; a logout token has some hundred. What is longer is not read.
LONGEST_NOTICE: Final = 64 * 1024


def take_notice(logout_token: str, *, now: float) -> Steps[Turned]:
    """Take a notice: 200 once its mark is stored, 400 for none of the worker's.

    What the store of marks raises is raised: with any other answer the notice comes again.
    """
    try:
        notice: LogoutNotice = yield Ask("verify_logout_token", {"token": logout_token})
    except InvalidNotice as error:
        body = {"error": "invalid_request", "error_description": str(error)}
        return Turned(status=400, body=body, changes=Changes(headers=UNCACHED))
    except Unavailable:
        return Turned(status=503, changes=Changes(headers=UNCACHED))
    if notice.session_ref is not None:
        yield Put(marks.of_session(notice.session_ref), now)
    else:
        yield Put(marks.of_user(str(notice.user_id)), now)
    return Turned(status=200, changes=Changes(headers=UNCACHED))
