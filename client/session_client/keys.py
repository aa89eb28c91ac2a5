"""The key an app shares with the worker."""

from __future__ import annotations

import base64
import binascii
import re
import secrets
from dataclasses import dataclass, field

from session_client.errors import InvalidAppKeyError

KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class AppKey:
    """256 random bits with a key id (``kid``). Its text form is ``<kid>.<base64url>``."""

    kid: str
    secret: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> AppKey:
        """Return a new random key."""
        return cls(kid=secrets.token_hex(4), secret=secrets.token_bytes(KEY_BYTES))

    @classmethod
    def parse(cls, text: str) -> AppKey:
        """Read the text form. Raises `InvalidAppKeyError`, which never quotes the key."""
        kid, dot, encoded = text.strip().partition(".")
        if not dot or not re.fullmatch(r"[A-Za-z0-9_-]{1,32}", kid):
            raise InvalidAppKeyError
        try:
            secret = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        except (binascii.Error, ValueError):
            raise InvalidAppKeyError from None
        if len(secret) != KEY_BYTES:
            raise InvalidAppKeyError
        return cls(kid=kid, secret=secret)

    def text(self) -> str:
        """Return the text form: a secret, to be shown once and kept in the app's settings."""
        return f"{self.kid}.{base64.urlsafe_b64encode(self.secret).rstrip(b'=').decode()}"
