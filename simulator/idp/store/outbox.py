"""The passcodes and e-mail links Mosaic sent; here no test has to open a mailbox."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from secrets import token_urlsafe
from urllib.parse import urlencode

KEPT_MESSAGES = 10_000


@dataclass
class Message:
    """One message to a user, as it was sent, and what has become of its code."""

    user_id: str
    channel: str  # email, sms or direct
    address: str  # where it went; empty if the code was answered to the app
    method: str  # the amr value its code proves
    code: str
    identifier_type: str
    identifier: str
    expires_at: float
    link: str | None = None
    request_id: str | None = None
    approval_data: Mapping[str, str] | None = None
    text: Mapping[str, object] = field(default_factory=dict)  # what the app wanted it to say
    wrong_codes: int = 0
    used_at: float | None = None


class Outbox:
    """Every message sent, and the codes that can still be used."""

    def __init__(self) -> None:
        self._sent: deque[Message] = deque(maxlen=KEPT_MESSAGES)
        self._passcodes: dict[tuple[str, str], Message] = {}
        self._links: dict[str, Message] = {}

    def add_passcode(self, message: Message) -> None:
        """Send a passcode. It replaces the one sent before under the same two identifiers."""
        self._sent.append(message)
        self._passcodes[message.identifier_type, message.identifier] = message

    def add_link(self, message: Message) -> None:
        """Send a link; links sent before go on working."""
        self._sent.append(message)
        self._links[message.code] = message

    def passcode(self, identifier_type: str, identifier: str) -> Message | None:
        """The passcode that is waited for under both identifiers."""
        return self._passcodes.get((identifier_type, identifier))

    def linked(self, code: str) -> Message | None:
        """The link that carries *code*, unless it was used."""
        return self._links.get(code)

    def use(self, message: Message, now: float) -> None:
        """Let the code never work again."""
        message.used_at = now
        self._links.pop(message.code, None)
        key = (message.identifier_type, message.identifier)
        if self._passcodes.get(key) is message:
            del self._passcodes[key]

    def sent(self, user_id: str | None = None) -> list[Message]:
        """What was sent to one user, or to all, oldest first."""
        return [message for message in self._sent if user_id in {None, message.user_id}]

    def latest(self, address: str) -> Message:
        """The last unused message to *address*, or to the user of this id; else LookupError."""
        for message in reversed(self._sent):
            if address in {message.address, message.user_id} and message.used_at is None:
                return message
        raise LookupError(f"nothing was sent to {address}")


def write_link(redirect_uri: str, code: str, state: str | None) -> str:
    """*redirect_uri* with what the browser brings back to the app."""
    brought = {"code": code} | ({"state": state} if state is not None else {})
    joint = "&" if "?" in redirect_uri else "?"
    return f"{redirect_uri}{joint}{urlencode(brought)}"


def new_link_code() -> str:
    """A code that no attacker can guess."""
    return token_urlsafe(24)
