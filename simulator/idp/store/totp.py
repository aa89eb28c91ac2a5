"""Authenticator apps: the secrets they share with Mosaic, and RFC 6238."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from secrets import token_bytes, token_urlsafe
from urllib.parse import quote, urlencode

STEP_SECONDS = 30
DIGITS = 6
STEPS_OFF = 1  # how many steps a clock may be behind or ahead (RFC 6238 section 5.2)
SECRET_BYTES = 20


def totp_code(secret: str, at: float, challenge: str = "") -> str:
    """What an authenticator app with *secret* (base32) shows at *at*, in Unix seconds.

    A *challenge* makes the code good for one transaction alone: how Mosaic's own apps weave it
    in is on no page, here it is appended to the counter.
    """
    key = base64.b32decode(secret + "=" * (-len(secret) % 8))
    counter = int(at // STEP_SECONDS).to_bytes(8, "big")
    digest = hmac.digest(key, counter + challenge.encode(), "sha1")
    offset = digest[-1] & 0x0F
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF
    return f"{number % 10**DIGITS:0{DIGITS}}"


@dataclass
class Enrolment:
    """One user's authenticator app."""

    secret: str
    uri: str
    used_step: int = -1


@dataclass
class Transaction:
    """What a user is asked to approve with their authenticator app."""

    challenge: str
    approval_data: Mapping[str, str]
    expires_at: float


class AuthenticatorApps:
    """Who has enrolled an authenticator app."""

    def __init__(self, issuer: str = "Mosaic") -> None:
        self._issuer = issuer
        self._enrolled: dict[str, Enrolment] = {}
        self._transactions: dict[str, Transaction] = {}

    def enrol(self, user_id: str, label: str | None = None) -> dict[str, str]:
        """Enrol an app, in place of the one before; the `secret` and the `uri` of its QR code."""
        secret = base64.b32encode(token_bytes(SECRET_BYTES)).decode()
        name = quote(f"{self._issuer}:{label or user_id}")
        uri = f"otpauth://totp/{name}?{urlencode({'secret': secret, 'issuer': self._issuer})}"
        self._enrolled[user_id] = Enrolment(secret, uri)
        return {"secret": secret, "uri": uri}

    def is_enrolled(self, user_id: str) -> bool:
        """Whether the user has an authenticator app."""
        return user_id in self._enrolled

    def revoke(self, user_id: str) -> None:
        """Forget the user's authenticator app."""
        self._enrolled.pop(user_id, None)
        self._transactions.pop(user_id, None)

    def accepts(self, user_id: str, code: str, now: float, challenge: str = "") -> bool:
        """Whether *code* is right now. A right one is used up, and all before it (section 5.2)."""
        enrolment = self._enrolled.get(user_id)
        if enrolment is None:
            return False
        this_step = int(now // STEP_SECONDS)
        for step in range(this_step - STEPS_OFF, this_step + STEPS_OFF + 1):
            right = totp_code(enrolment.secret, step * STEP_SECONDS, challenge)
            if step > enrolment.used_step and right == code:
                enrolment.used_step = step
                return True
        return False

    def begin(
        self, user_id: str, approval_data: Mapping[str, str], expires_at: float
    ) -> Transaction:
        """Ask a user to approve something; it replaces what they were asked before."""
        transaction = Transaction(token_urlsafe(16), approval_data, expires_at)
        self._transactions[user_id] = transaction
        return transaction

    def transaction(self, user_id: str, now: float) -> Transaction | None:
        """What the user is asked to approve, unless it is too late."""
        transaction = self._transactions.get(user_id)
        return transaction if transaction and now < transaction.expires_at else None

    def finish(self, user_id: str) -> None:
        """Let nothing more be approved by the same challenge."""
        self._transactions.pop(user_id, None)
