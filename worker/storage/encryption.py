"""Sealing what is stored, and finding a session by its id without storing the id.

AES-256-GCM with a key id; the associated data binds a value to its row and column, so that a
ciphertext copied into another row does not open there.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from worker.errors import ConfigurationError, OperatorMustAct
from worker.settings.model import Settings
from worker.settings.validators import parse_key_ring

_NONCE_BYTES: Final = 12
_VERSION: Final = b"\x01"
_HASH_KEY_BYTES: Final = 32


class Hashed(StrEnum):
    """A kind of value that is found by its keyed hash; the label its key is derived with.

    A key for each kind: were they hashed with one, a browser token would be found by the hash of a
    session id of the same text, and what text a session id is the apps say.
    """

    BROWSER_TOKEN = "browser-token/1"  # noqa: S105 - a label, not a password
    TICKET = "ticket/1"
    IDENTIFIER = "identifier/1"
    REFRESH_TOKEN = "refresh/1"  # noqa: S105
    # A password or an address is part of what is asked. All else that was hashed with it lies
    # beside the hash: without a key, who reads the store or Redis could try guesses.
    REQUEST = "request/1"


class SealedValueUnreadable(OperatorMustAct):
    """A stored secret does not open: its key is missing or another one, or the row was altered."""


class KeyRing:
    """The encryption keys in order: the first seals, all open."""

    def __init__(self, keys: Mapping[str, bytes], lookup_key: bytes) -> None:
        if not keys:
            raise ConfigurationError("the key ring is empty")
        self._ciphers = {kid: AESGCM(key) for kid, key in keys.items()}
        self._sealing_kid = next(iter(keys))
        # Copied for each value: that takes less than half of what hashing the key anew does.
        self._lookup = _keyed(lookup_key)
        self._hashes = {kind: _keyed(_derived(lookup_key, kind)) for kind in Hashed}

    @classmethod
    def from_settings(cls, settings: Settings) -> KeyRing:
        """Build the ring the settings describe."""
        keys = parse_key_ring(settings.encryption_keys.get_secret_value())
        return cls(keys, settings.lookup_key_bytes)

    def __repr__(self) -> str:
        return f"<KeyRing {list(self._ciphers)}>"

    @property
    def kids(self) -> frozenset[str]:
        """The ids of the keys that open."""
        return frozenset(self._ciphers)

    @property
    def sealing_kid(self) -> str:
        """The id of the key that seals."""
        return self._sealing_kid

    def seal(self, plaintext: str | bytes, bound_to: str) -> bytes:
        """Return ``version | kid length | kid | nonce | ciphertext`` that opens for *bound_to*."""
        kid = self._sealing_kid.encode()
        head = _VERSION + bytes([len(kid)]) + kid
        nonce = os.urandom(_NONCE_BYTES)
        data = plaintext.encode() if isinstance(plaintext, str) else plaintext
        sealed = self._ciphers[self._sealing_kid].encrypt(nonce, data, head + bound_to.encode())
        return head + nonce + sealed

    def open_bytes(self, sealed: bytes, bound_to: str) -> bytes:
        """Return what was sealed for *bound_to*. Raises `SealedValueUnreadable`."""
        try:
            kid = kid_of(sealed)
        except SealedValueUnreadable as error:
            raise SealedValueUnreadable(f"{bound_to}: {error}") from None
        cipher = self._ciphers.get(kid)
        if cipher is None:
            raise SealedValueUnreadable(f"{bound_to}: key {kid!r} is not in the ring; add it back")
        start = 2 + len(kid)
        nonce, body = sealed[start : start + _NONCE_BYTES], sealed[start + _NONCE_BYTES :]
        try:
            return cipher.decrypt(nonce, body, sealed[:start] + bound_to.encode())
        except (InvalidTag, ValueError):  # ValueError: cut off within the nonce
            # AES-GCM cannot tell one from the other.
            raise SealedValueUnreadable(
                f"{bound_to}: key {kid!r} does not open it: it was sealed with another key of that "
                "name, or for another row, or altered"
            ) from None

    def open(self, sealed: bytes, bound_to: str) -> str:
        """Return the text that was sealed for *bound_to*. Raises `SealedValueUnreadable`."""
        return self.open_bytes(sealed, bound_to).decode()

    def lookup_hash(self, session_id: str) -> bytes:
        """Return the keyed hash by which a session id is found: HMAC-SHA-256, 32 bytes."""
        return _hashed(self._lookup, session_id)

    def keyed_hash(self, kind: Hashed, value: str) -> bytes:
        """Return the keyed hash by which a value of *kind* is found: HMAC-SHA-256, 32 bytes."""
        return _hashed(self._hashes[kind], value)


def _keyed(key: bytes) -> hmac.HMAC:
    return hmac.new(key, digestmod=hashlib.sha256)


def _hashed(keyed: hmac.HMAC, value: str) -> bytes:
    copy = keyed.copy()
    copy.update(value.encode())
    return copy.digest()


def _derived(lookup_key: bytes, kind: Hashed) -> bytes:
    derivation = HKDF(hashes.SHA256(), _HASH_KEY_BYTES, salt=None, info=kind.value.encode())
    return derivation.derive(lookup_key)


def kid_of(sealed: bytes) -> str:
    """Return the id of the key that sealed a value. Raises `SealedValueUnreadable`."""
    if len(sealed) < 2 or sealed[:1] != _VERSION:  # noqa: PLR2004 - version and length
        raise SealedValueUnreadable("not a sealed value: its row was altered")
    return sealed[2 : 2 + sealed[1]].decode(errors="replace")
