"""The passcodes and e-mail links Mosaic sent; here nobody has to open a mailbox."""

from __future__ import annotations

from dataclasses import dataclass
from secrets import randbelow, token_urlsafe

from simulator.controls.clock import Clock
from simulator.idp.errors import refused
from simulator.idp.policy import Policy

EMAIL_LINK = "eml"


@dataclass(frozen=True)
class Message:
    """One message to a user; its code works once."""

    address: str
    method: str  # the amr value its code proves
    code: str
    link: str | None
    expires_at: float


class Outbox:
    """The latest message to each address, by method."""

    def __init__(self, clock: Clock, policy: Policy) -> None:
        self._clock = clock
        self._policy = policy
        self._messages: dict[tuple[str, str], Message] = {}

    def send_passcode(self, address: str, method: str) -> None:
        """Send six digits."""
        self._send(address, method, f"{randbelow(10**6):06}")

    def send_link(self, address: str, redirect_uri: str) -> None:
        """Send a link that brings a code to *redirect_uri*."""
        code = token_urlsafe(24)
        joint = "&" if "?" in redirect_uri else "?"
        self._send(address, EMAIL_LINK, code, f"{redirect_uri}{joint}code={code}")

    def latest(self, address: str) -> Message:
        """The last unused message to *address*; LookupError if there is none."""
        found = [message for message in self._messages.values() if message.address == address]
        if not found:
            raise LookupError(f"nothing was sent to {address}")
        return found[-1]

    def redeem_passcode(self, address: str, code: str) -> Message:
        """Use a passcode up, or refuse it."""
        for message in [*self._messages.values()]:
            is_passcode = message.method != EMAIL_LINK
            if is_passcode and (message.address, message.code) == (address, code):
                return self._use(message)
        raise refused(400, "Invalid passcode")

    def redeem_link(self, code: str) -> Message:
        """Use an e-mail link's code up, or refuse it."""
        for message in [*self._messages.values()]:
            if message.method == EMAIL_LINK and message.code == code:
                return self._use(message)
        raise refused(400, "Invalid code")

    def _send(self, address: str, method: str, code: str, link: str | None = None) -> None:
        expires_at = self._clock.now() + self._policy.message_seconds
        self._messages.pop((address, method), None)  # so that the newest stands last
        self._messages[address, method] = Message(address, method, code, link, expires_at)

    def _use(self, message: Message) -> Message:
        del self._messages[message.address, message.method]
        if self._clock.now() >= message.expires_at:
            raise refused(400, "Code expired")
        return message
