"""What each answer of Mosaic means, as one table.

Success is recognised and never assumed: a logout counts as done by what the answer itself says, or
a gateway's 404 for a wrong base URL would confirm logouts that never happened. Only a 400 that says
"session not found" ends a session: any other 400 is our own fault, and ending sessions for it
would log people out because of our bug. Source: "Errors" in the protocol sheet.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import Enum, StrEnum, auto
from typing import Any, Final

from worker import metrics
from worker.errors import (
    ClientRefused,
    MosaicContractBroken,
    MosaicRateLimited,
    MosaicUnavailable,
    SessionGone,
    SessionWorkerError,
)
from worker.http import HttpAnswer
from worker.metrics import CallOutcome


class Endpoint(StrEnum):
    """The calls the door makes; of the session calls, their path under ``/cis/v1/auth``."""

    TOKEN = "client token"  # noqa: S105 - a name
    JWKS = "jwks"
    AUTHENTICATE = "session/authenticate"
    LOGOUT = "session/logout"


class Meaning(Enum):
    """Who must act on an answer; each but the first is one of our errors."""

    DONE = auto()
    SESSION_GONE = auto()
    CLIENT_REFUSED = auto()
    UNAVAILABLE = auto()
    RATE_LIMITED = auto()
    CONTRACT_BROKEN = auto()


@dataclass(frozen=True, slots=True)
class Content:
    """A body, taken apart: its JSON, and the error it tells of in normalised words."""

    is_json: bool = False
    is_empty: bool = False
    value: Any = None
    messages: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()

    @classmethod
    def of(cls, answer: HttpAnswer) -> Content:
        """Read the body of *answer*, whatever it is."""
        if answer.body is not None and not answer.body.strip():
            return cls(is_empty=True)
        try:
            value = json.loads(answer.body or b"")
        except (ValueError, RecursionError):
            return cls()
        told = value if isinstance(value, dict) else {}
        return cls(
            is_json=True,
            value=value,
            messages=_words(told.get("message"), told.get("error_description")),
            codes=_words(*(told.get(name) for name in _CODES)),
        )

    def says(self, *phrases: str) -> bool:
        """Whether a code is one of *phrases*, or every message is."""
        every_message = bool(self.messages) and all(text in phrases for text in self.messages)
        return every_message or any(code in phrases for code in self.codes)


# A code stands in one of these, depending on the page and its year.
_CODES: Final = ("ts_error_code", "error_code", "error")


def _words(*values: object) -> tuple[str, ...]:
    texts = [text for value in values for text in (value if isinstance(value, list) else [value])]
    return tuple(normalised(text) for text in texts if isinstance(text, str))


def normalised(text: str) -> str:
    """Return *text* in lower case, its words apart by one space: slugs and sentences alike."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    return " ".join(re.findall(r"[^\W_]+", spaced.casefold()))


# The questions a row may ask of the body.


def _anything(_: Content) -> bool:
    return True


def _is_json(content: Content) -> bool:
    return content.is_json


def _session_not_found(content: Content) -> bool:
    return content.says("session not found", "auth session not found", "invalid auth session")


def _invalid_client(content: Content) -> bool:
    return content.says("invalid client", "unauthorized client", "invalid client credentials")


# Where a body tells of an error, whoever wrote it, and what it says there when there is none. A
# success told in other words is not recognised, which costs a second call: that one says that the
# session is not found.
_TOLD_IN: Final = frozenset(
    {"code", "status", "error", "errors", "fault", "exception", "message", "messages", "msg"}
    | {"reason", "title", "type", "detail", "details"}
)
_NO_ERROR: Final = frozenset({"ok", "success", "200", "204"})


def _tells_no_error(content: Content) -> bool:
    """Whether there is no body, or an object without an error anywhere in it."""
    if not isinstance(content.value, dict):
        return content.is_empty
    unread: list[Any] = [content.value]
    while unread:  # not by recursion: a body may be nested deeper than we may call
        value = unread.pop()
        members = value if isinstance(value, list) else list(value.values())
        if isinstance(value, dict) and any(_is_error(*member) for member in value.items()):
            return False
        unread += [member for member in members if isinstance(member, dict | list)]
    return True


def _is_error(name: str, value: object) -> bool:
    is_told_here = not _TOLD_IN.isdisjoint(normalised(name).split())
    if value is False:
        return not is_told_here  # "success": false
    return is_told_here and bool(value) and normalised(str(value)) not in _NO_ERROR


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of answer: where it comes from, how it is known, what it means."""

    endpoints: Collection[Endpoint]
    statuses: Collection[int]
    content: Callable[[Content], bool]
    meaning: Meaning
    words: str


_NO_WORD: Final = (
    "without a word of the session: the path, the app or the client is unknown there. Check the"
    " app's base URL and client id"
)
_E: Final = Endpoint
_M: Final = Meaning
_SESSION_CALLS: Final = (_E.AUTHENTICATE, _E.LOGOUT)
_EVERYWHERE: Final = tuple(Endpoint)
_ANY_STATUS: Final = range(1000)
_5XX: Final = range(500, 600)
_3XX: Final = range(300, 400)

# The first row that fits counts.
TABLE: Final = (
    Row((_E.TOKEN, _E.JWKS, _E.AUTHENTICATE), (200,), _is_json, _M.DONE, "as asked"),
    Row((_E.JWKS,), _ANY_STATUS, _anything, _M.UNAVAILABLE, "no key set"),
    Row((_E.LOGOUT,), (204,), _anything, _M.DONE, "the session is ended"),
    Row((_E.LOGOUT,), (200,), _tells_no_error, _M.DONE, "the session is ended"),
    Row((_E.LOGOUT,), (400, 404), _session_not_found, _M.DONE, "it was over already"),
    Row((_E.LOGOUT,), (404,), _anything, _M.CONTRACT_BROKEN, _NO_WORD),
    Row((_E.AUTHENTICATE,), (400,), _session_not_found, _M.SESSION_GONE, "session not found"),
    Row((_E.TOKEN,), (400,), _invalid_client, _M.CLIENT_REFUSED, "wrong client id or secret"),
    Row((_E.TOKEN,), (401, 403), _anything, _M.CLIENT_REFUSED, "wrong client id or secret"),
    Row(_SESSION_CALLS, (401,), _anything, _M.CLIENT_REFUSED, "client token not accepted"),
    Row(_SESSION_CALLS, (403,), _anything, _M.CLIENT_REFUSED, "client lacks the right"),
    Row(_EVERYWHERE, (429,), _anything, _M.RATE_LIMITED, "rate limited"),
    Row(_EVERYWHERE, (408, *_5XX), _anything, _M.UNAVAILABLE, "temporary failure"),
    Row(_EVERYWHERE, _3XX, _anything, _M.CONTRACT_BROKEN, "redirects are not followed"),
    Row(_EVERYWHERE, (200,), _anything, _M.CONTRACT_BROKEN, "not JSON"),
    Row(_EVERYWHERE, _ANY_STATUS, _anything, _M.CONTRACT_BROKEN, "not in the protocol"),
)


def accept(endpoint: Endpoint, url: str, answer: HttpAnswer) -> Any:
    """Return the JSON of a success (None without a body), or raise what the table says.

    *url* is where it was asked: operators must see which address to put right.
    """
    content = Content.of(answer)
    row = next(row for row in TABLE if _fits(row, endpoint, answer.status, content))
    metrics.mosaic_call(endpoint, _OUTCOMES[row.meaning], answer.seconds)
    if row.meaning is Meaning.DONE:
        return content.value
    # Mosaic's own words stay out: they may quote what we sent.
    told = f"{endpoint} at {url}: {answer.status} {row.words}"
    raise _error(row.meaning, told, answer.retry_after)


_OUTCOMES: Final = {
    Meaning.DONE: CallOutcome.OK,
    Meaning.SESSION_GONE: CallOutcome.SESSION_GONE,
    Meaning.CLIENT_REFUSED: CallOutcome.CLIENT_REFUSED,
    Meaning.UNAVAILABLE: CallOutcome.UNAVAILABLE,
    Meaning.RATE_LIMITED: CallOutcome.RATE_LIMITED,
    Meaning.CONTRACT_BROKEN: CallOutcome.CONTRACT_BROKEN,
}


def _fits(row: Row, endpoint: Endpoint, status: int, content: Content) -> bool:
    return endpoint in row.endpoints and status in row.statuses and row.content(content)


def _error(meaning: Meaning, text: str, retry_after: float | None) -> SessionWorkerError:
    match meaning:
        case Meaning.SESSION_GONE:
            return SessionGone(text)
        case Meaning.CLIENT_REFUSED:
            return ClientRefused(text)
        case Meaning.UNAVAILABLE:
            return MosaicUnavailable(text, **_wait(retry_after))
        case Meaning.RATE_LIMITED:
            return MosaicRateLimited(text, **_wait(retry_after))
        case _:
            return MosaicContractBroken(text)


def _wait(retry_after: float | None) -> dict[str, float]:
    return {} if retry_after is None else {"retry_after": retry_after}
