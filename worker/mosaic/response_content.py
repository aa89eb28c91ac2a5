"""What the body of an answer says, in normalised words. What that means is the table's business.

Sources: "Errors" in the protocol sheet and in the sheet of methods. A gateway before Mosaic, or
another server behind a wrong address, writes bodies too: nothing is read into them.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from session_client.contract import Reason
from worker.http_client import HttpAnswer

# A code stands in one of these, depending on the page of the vendor and its year.
_CODES: Final = ("ts_error_code", "error_code", "error")


@dataclass(frozen=True, slots=True)
class Content:
    """A body, taken apart: its JSON, and the error it tells of in normalised words."""

    is_json: bool = False
    is_empty: bool = False
    value: Any = None

    @classmethod
    def of(cls, answer: HttpAnswer) -> Content:
        """Read the body of *answer*, whatever it is."""
        if answer.body is not None and not answer.body.strip():
            return cls(is_empty=True)
        try:
            value = json.loads(_text_of(answer))
        except (ValueError, RecursionError):
            return cls()
        return cls(is_json=True, value=value)

    # Not read before a row of the table asks: of a success none does.

    @property
    def messages(self) -> tuple[str, ...]:
        """What it says in sentences."""
        return self._words("message", "error_description")

    @property
    def codes(self) -> tuple[str, ...]:
        """What it says in slugs."""
        return self._words(*_CODES)

    def _words(self, *names: str) -> tuple[str, ...]:
        fields = self.value if isinstance(self.value, dict) else {}
        return _words(*(fields.get(name) for name in names))

    def says(self, *phrases: str) -> bool:
        """Whether a code is one of *phrases*, or every message is."""
        messages = self.messages
        every_message = bool(messages) and all(text in phrases for text in messages)
        return every_message or any(code in phrases for code in self.codes)

    def about_user(self) -> Reason | None:
        """Return what a code, or every message, says of the user; None if nothing does."""
        of_codes = [reason for code in self.codes if (reason := _about_user(code))]
        of_messages = [_about_user(message) for message in self.messages]
        if of_codes:
            return of_codes[0]
        return of_messages[0] if of_messages and all(of_messages) else None


# JSON is UTF-8, 16 or 32, and Python sees which. These are declared all the same, and one cannot be
# told from the other by looking.
_OF_ONE_BYTE: Final = {"iso-8859-1": "cp1252", "latin1": "cp1252", "windows-1252": "cp1252"}


def _text_of(answer: HttpAnswer) -> str | bytes:
    body, charset = answer.body or b"", _OF_ONE_BYTE.get(answer.charset or "")
    return body if charset is None else body.decode(charset)


def _words(*values: object) -> tuple[str, ...]:
    texts = [text for value in values for text in (value if isinstance(value, list) else [value])]
    return tuple(normalised(text) for text in texts if isinstance(text, str))


def normalised(text: str) -> str:
    """Return *text* in lower case, its words apart by one space: slugs and sentences alike."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    return " ".join(re.findall(r"[^\W_]+", spaced.casefold()))


# "user_not_active", "User is not active": the slugs and sentences that are known, and the states of
# a user at Mosaic in the same form.
_USER: Final = re.compile(r"(?:the )?user(?: account)?(?: is| was)? (?P<state>.+)")
_STATES: Final = {
    "not active": Reason.USER_NOT_ACTIVE,
    "inactive": Reason.USER_NOT_ACTIVE,
    "suspended": Reason.USER_NOT_ACTIVE,
    "disabled": Reason.USER_NOT_ACTIVE,
    "deactivated": Reason.USER_NOT_ACTIVE,
    "blocked": Reason.USER_NOT_ACTIVE,
    "locked": Reason.USER_LOCKED,
    "not found": Reason.USER_UNKNOWN,
    "deleted": Reason.USER_UNKNOWN,
}
_LOCKED: Final = frozenset({"auth locked", "account locked", "account is locked"})


def _about_user(text: str) -> Reason | None:
    if text in _LOCKED:
        return Reason.USER_LOCKED
    found = _USER.fullmatch(text)
    return None if found is None else _STATES.get(found["state"])


# Where a body tells of an error, Mosaic's or a gateway's, and what it says there without one. A
# success told in other words is not recognised, which costs a second call: that one says that the
# session is not found.
_ERROR_WORDS: Final = frozenset(
    {"code", "status", "error", "errors", "fault", "exception", "message", "messages", "msg"}
    | {"reason", "title", "type", "detail", "details"}
)
_NO_ERROR: Final = frozenset({"ok", "success", "200", "204"})


def tells_no_error(content: Content) -> bool:
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
    is_about_error = not _ERROR_WORDS.isdisjoint(normalised(name).split())
    if value is False:
        return not is_about_error  # "success": false
    return is_about_error and bool(value) and normalised(str(value)) not in _NO_ERROR
