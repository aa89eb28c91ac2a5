"""The key an app shares with the worker."""

from __future__ import annotations

import base64
import re
import secrets
from dataclasses import dataclass, field
from typing import Final

from session_client.errors import ConfigurationError

KEY_BYTES: Final = 32
_FORM: Final = "app_key: <kid>.<43 base64url characters>, as `apps add` printed it"
# Strict on purpose: Python's decoder skips characters it does not know, so that a key with a typo
# would open nothing instead of being refused.
_TEXT: Final = re.compile(r"([A-Za-z0-9_-]{1,32})\.([A-Za-z0-9_-]{43})=?")


@dataclass(frozen=True, slots=True)
class AppKey:
    """256 random bits with a key id (``kid``). Its text form is ``<kid>.<base64url>``.

    Raises `ConfigurationError`, which never quotes the key.
    """

    kid: str
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != KEY_BYTES or not _TEXT.fullmatch(self.text()):
            raise ConfigurationError(_FORM)

    @classmethod
    def generate(cls) -> AppKey:
        """Return a new random key."""
        return cls(kid=secrets.token_hex(4), secret=secrets.token_bytes(KEY_BYTES))

    @classmethod
    def parse(cls, text: str) -> AppKey:
        """Read the text form; white space around it is ignored. Raises `ConfigurationError`."""
        found = _TEXT.fullmatch(str(text).strip())
        if found is None:
            raise ConfigurationError(_FORM)
        return cls(kid=found[1], secret=base64.urlsafe_b64decode(found[2] + "="))

    @classmethod
    def of(cls, given: AppKey | str) -> AppKey:
        """Return a key that may have been given as its text. Raises `ConfigurationError`."""
        return given if isinstance(given, AppKey) else cls.parse(given)

    def text(self) -> str:
        """Return the text form: a secret, to be shown once and kept in the app's settings."""
        return f"{self.kid}.{base64.urlsafe_b64encode(self.secret).rstrip(b'=').decode()}"
