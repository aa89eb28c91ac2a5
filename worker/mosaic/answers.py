"""What each answer of Mosaic means, as one table.

The status decides first. Only a 400 that says "session not found" ends a session: any other 400
is our own fault, and ending sessions for it would log people out because of our bug.
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
            codes=_words(told.get("error_code"), told.get("error")),
        )

    def says(self, *phrases: str) -> bool:
        """Whether a code is one of *phrases*, or every message is."""
        every_message = bool(self.messages) and all(text in phrases for text in self.messages)
        return every_message or any(code in phrases for code in self.codes)


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


def _is_json_or_empty(content: Content) -> bool:
    return content.is_json or content.is_empty


def _session_not_found(content: Content) -> bool:
    return content.says("session not found")


def _invalid_client(content: Content) -> bool:
    return content.says("invalid client", "unauthorized client", "invalid client credentials")


def _no_such_address(content: Content) -> bool:
    """Whether this 404 is about the path: a wrong base URL, not an unknown session.

    Taken for success it would confirm logouts that never happened.
    """
    is_a_page = not content.is_json and not content.is_empty
    return is_a_page or any(text.startswith("cannot post") for text in content.messages)


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of answer: where it comes from, how it is known, what it means."""

    endpoints: Collection[Endpoint]
    statuses: Collection[int]
    content: Callable[[Content], bool]
    meaning: Meaning
    words: str


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
    Row((_E.LOGOUT,), (200,), _is_json_or_empty, _M.DONE, "the session is ended"),
    Row((_E.LOGOUT,), (400,), _session_not_found, _M.DONE, "it was over already"),
    Row((_E.LOGOUT,), (404,), _no_such_address, _M.CONTRACT_BROKEN, "wrong base URL"),
    Row((_E.LOGOUT,), (404,), _anything, _M.DONE, "it was over already"),
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


def accept(endpoint: Endpoint, answer: HttpAnswer) -> Any:
    """Return the JSON of a success (None without a body), or raise what the table says."""
    content = Content.of(answer)
    row = next(row for row in TABLE if _fits(row, endpoint, answer.status, content))
    metrics.mosaic_call(endpoint, _OUTCOMES[row.meaning], answer.seconds)
    if row.meaning is Meaning.DONE:
        return content.value
    # Mosaic's own words stay out: they may quote what we sent.
    raise _error(row.meaning, f"{endpoint}: {answer.status} {row.words}", answer.retry_after)


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
