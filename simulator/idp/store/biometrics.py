"""Keys that phones hold behind a fingerprint or a face, and the check of their signatures."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from secrets import token_urlsafe

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key, load_pem_public_key

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


@dataclass(frozen=True)
class PhoneKey:
    """A public key whose other half never leaves a phone."""

    key_id: str
    user_id: str
    key: PublicKey


@dataclass(frozen=True)
class PhoneChallenge:
    """A challenge Mosaic made, for one user."""

    user_id: str
    expires_at: float
    approval_data: Mapping[str, str] | None


class Biometrics:
    """Every registered key, and every challenge made or used."""

    def __init__(self) -> None:
        self._keys: dict[str, PhoneKey] = {}
        self._open: dict[str, PhoneChallenge] = {}
        self._used: set[str] = set()

    def register(self, user_id: str, key_id: str, public_key: str) -> None:
        """Let a phone sign for a user; *public_key* is base64 of its DER, or PEM.

        ValueError if it is no key, TypeError if neither RSA nor EC, LookupError if the id is
        taken.
        """
        if key_id in self._keys:
            raise LookupError("this key is registered already")
        self._keys[key_id] = PhoneKey(key_id, user_id, _read_key(public_key))

    def delete(self, user_id: str, key_id: str) -> bool:
        """Forget a user's key; whether there was one."""
        held = self._keys.get(key_id)
        if held is None or held.user_id != user_id:
            return False
        del self._keys[key_id]
        return True

    def start(self, challenge: PhoneChallenge) -> str:
        """Make a challenge."""
        value = token_urlsafe(24)
        self._open[value] = challenge
        return value

    def challenged(self, challenge: str) -> PhoneChallenge | None:
        """What Mosaic made *challenge* for; None if the phone made it up itself."""
        return self._open.get(challenge)

    def accepts(
        self, user_id: str, key_id: str, challenge: str, signature: str, now: float
    ) -> bool:
        """Whether the user's phone signed *challenge*. Any challenge works once."""
        held, issued = self._keys.get(key_id), self._open.get(challenge)
        if held is None or held.user_id != user_id or challenge in self._used:
            return False
        if issued is not None and (issued.user_id != user_id or now >= issued.expires_at):
            return False
        if not _is_signed(held.key, challenge, signature):
            return False
        self._used.add(challenge)
        self._open.pop(challenge, None)
        return True


def _read_key(text: str) -> PublicKey:
    try:
        is_pem = text.lstrip().startswith("-----")
        der = b"" if is_pem else base64.b64decode(text)
        key = load_pem_public_key(text.encode()) if is_pem else load_der_public_key(der)
    except (ValueError, binascii.Error, UnsupportedAlgorithm):
        raise ValueError("no public key") from None
    if not isinstance(key, PublicKey):
        raise TypeError("neither RSA nor EC")
    return key


def _is_signed(key: PublicKey, challenge: str, signature: str) -> bool:
    try:
        raw = base64.b64decode(signature)
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(raw, challenge.encode(), padding.PKCS1v15(), SHA256())
        else:
            key.verify(raw, challenge.encode(), ec.ECDSA(SHA256()))
    except (InvalidSignature, ValueError, binascii.Error):
        return False
    return True
