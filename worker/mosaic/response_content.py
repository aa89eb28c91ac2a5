"""What the body of an answer says, in normalised words. What that means is the table's business.

Sources: "Errors" in the protocol sheet and in the sheet of methods. A gateway before Mosaic, or
another server behind a wrong address, writes bodies too: nothing is read into them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from session_client.contract import Reason
from worker.http_client import HttpAnswer

# A code stands in one of these, depending on the page of the vendor and its year.
_CODES: Final = ("ts_error_code", "error_code", "error")
# No passcode, id or token looks like this: it has digits, or one word.
_SLUG: Final = re.compile(r"[a-z]+(?:_[a-z]+)+")
_MAX_SLUG: Final = 64
# No page shows more sentences, or longer ones. Each row of the table looks at all that is read: a
# body as large as may be kept every thread of a worker waiting for some ten seconds.
_MAX_TEXTS: Final = 32
_MAX_TEXT: Final = 1000
# Some servers write their name into `error` whatever the message says: "Password is locked" beside
# "Forbidden" says nothing of the client.
_STATUS_NAMES: Final = frozenset({"bad request", "forbidden", "unauthorized"})


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
        """What it says in slugs; the name of the status is one only where no message says more."""
        codes, messages = self._words(*_CODES), self.messages
        says_more = any(text not in _STATUS_NAMES for text in messages)
        return tuple(code for code in codes if code not in _STATUS_NAMES) if says_more else codes

    def slugs(self, sent: Mapping[str, Any]) -> tuple[str, ...]:
        """Return its slugs as Mosaic writes them, for a log, but for what may quote *sent*."""
        fields = self.value if isinstance(self.value, dict) else {}
        values = [value for value in sent.values() if isinstance(value, str)]
        codes = [code for name in _CODES if isinstance(code := fields.get(name), str)]
        slugs = [code for code in codes if len(code) <= _MAX_SLUG and _SLUG.fullmatch(code)]
        return tuple(dict.fromkeys(it for it in slugs if not any(it in value for value in values)))

    @property
    def texts(self) -> tuple[str, ...]:
        """All that it says in words; names of the status only where it says nothing else."""
        texts = [text for text in (*self.codes, *self.messages) if not text.isdigit()]
        return tuple([text for text in texts if text not in _STATUS_NAMES] or texts)

    def _words(self, *names: str) -> tuple[str, ...]:
        fields = self.value if isinstance(self.value, dict) else {}
        return _words(*(fields.get(name) for name in names))

    def says(self, *phrases: str) -> bool:
        """Whether a code is one of *phrases*, or every message is."""
        return self._tells(lambda text: text in phrases)

    def has_code(self, *codes: str) -> bool:
        """Whether one of *codes* is there; the name of the status counts, too."""
        return not set(codes).isdisjoint(self._words(*_CODES))

    def matches(self, pattern: re.Pattern[str]) -> bool:
        """Whether a code is what *pattern* describes, or every message is."""
        return self._tells(lambda text: pattern.fullmatch(text) is not None)

    def _tells(self, is_meant: Callable[[str], bool]) -> bool:
        messages = self.messages
        every_message = bool(messages) and all(map(is_meant, messages))
        return every_message or any(map(is_meant, self.codes))

    def mentions(self, pattern: re.Pattern[str]) -> bool:
        """Whether *pattern* stands somewhere in what it says."""
        return any(pattern.search(text) for text in self.texts)

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
    return tuple(
        normalised(text[:_MAX_TEXT]) for text in texts[:_MAX_TEXTS] if isinstance(text, str)
    )


def normalised(text: str) -> str:
    """Return *text* in lower case, its words apart by one space: slugs and sentences alike."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    return " ".join(re.findall(r"[^\W_]+", spaced.casefold()))


# "user_not_active", "User is not active": the slugs and sentences that are known, and the states of
# a user at Mosaic in the same form.
HAS_BECOME: Final = "(?: is| was| has been)?(?: currently| temporarily)?"
_USER: Final = re.compile(rf"(?:the )?user(?: account)?{HAS_BECOME} (?P<state>.+)")
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
# That lockout is a setting of each method is documented, its answer only for passcodes.
_METHOD: Final = "account|authenticator|credentials?|login|passcode|password|totp"
_LOCKED: Final = re.compile(
    rf"auth(?: (?:{_METHOD}))? locked|(?:(?:the|your) )?(?:{_METHOD}){HAS_BECOME} locked(?: out)?"
)


def _about_user(text: str) -> Reason | None:
    if _LOCKED.fullmatch(text):
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
