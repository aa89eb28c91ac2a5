"""What a person holds in their hands: a passkey, a phone, a browser. None of it makes a call."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Mapping
from hashlib import sha256
from html.parser import HTMLParser
from secrets import token_bytes
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from simulator.idp.store.totp import totp_code

__all__ = ["PasskeyDevice", "Phone", "totp_code", "visit_provider"]

USER_PRESENT_AND_VERIFIED = 0x05


class NoKeyFoundError(Exception):
    """The browser has found no key to answer with."""


class PasskeyDevice:
    """An authenticator with one ES256 passkey, and the browser it answers through.

    One that is not discoverable answers only a challenge that names it, as older keys do.
    """

    def __init__(
        self,
        domain: str = "apps.example.com",
        origin: str = "https://apps.example.com",
        *,
        is_discoverable: bool = True,
    ) -> None:
        self._is_discoverable = is_discoverable
        self._domain = domain
        self._origin = origin
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._signed = 0
        self.credential_id = _encode(token_bytes(16))

    @property
    def public_key(self) -> str:
        """The public half as COSE, base64url, as `Passkeys.register` takes it."""
        from webauthn.helpers import encode_cbor  # noqa: PLC0415 - slow to import, seldom needed

        numbers = self._key.public_key().public_numbers()
        x, y = (number.to_bytes(32, "big") for number in (numbers.x, numbers.y))
        # RFC 9053: an elliptic curve key (1: 2) for ES256 (3: -7) on P-256 (-1: 1).
        return _encode(encode_cbor({1: 2, 3: -7, -1: 1, -2: x, -3: y}))

    @property
    def private_key(self) -> bytes:
        """The other half as PKCS 8, for a browser's own authenticator."""
        return self._key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())

    def answer(self, started: Mapping[str, Any]) -> str:
        """The `webauthn_encoded_result` for what `webauthn/authenticate/start` answered.

        Raises `NoKeyFoundError` where that names no key, and this one is not discoverable.
        """
        names_keys = bool(started["credential_request_options"].get("allowCredentials"))
        if not (names_keys or self._is_discoverable):
            raise NoKeyFoundError
        self._signed += 1
        client_fields = {
            "type": "webauthn.get",
            "challenge": started["credential_request_options"]["challenge"],
            "origin": self._origin,
        }
        client_data = json.dumps(client_fields).encode()
        data = sha256(self._domain.encode()).digest()
        data += bytes([USER_PRESENT_AND_VERIFIED]) + self._signed.to_bytes(4, "big")
        signature = self._key.sign(data + sha256(client_data).digest(), ec.ECDSA(SHA256()))
        credential = {
            "id": self.credential_id,
            "rawId": self.credential_id,
            "type": "public-key",
            "response": {
                "clientDataJSON": _encode(client_data),
                "authenticatorData": _encode(data),
                "signature": _encode(signature),
            },
        }
        session_id = started["webauthn_session_id"]
        result = {"webauthn_session_id": session_id, "credential": credential}
        return base64.b64encode(json.dumps(result).encode()).decode()


class Phone:
    """A phone with one key behind its fingerprint reader."""

    def __init__(self, key_id: str = "phone-1", *, is_rsa: bool = False) -> None:
        self.key_id = key_id
        self._key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey = (
            rsa.generate_private_key(65537, 2048)
            if is_rsa
            else ec.generate_private_key(ec.SECP256R1())
        )

    @property
    def public_key(self) -> str:
        """The public half, base64 of its DER, as `Biometrics.register` takes it."""
        key = self._key.public_key()
        der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return base64.b64encode(der).decode()

    def sign(self, challenge: str) -> str:
        """The signature of *challenge*, base64."""
        text = challenge.encode()
        if isinstance(self._key, rsa.RSAPrivateKey):
            raw = self._key.sign(text, padding.PKCS1v15(), SHA256())
        else:
            raw = self._key.sign(text, ec.ECDSA(SHA256()))
        return base64.b64encode(raw).decode()


def visit_provider(authorization_url: str, subject: str) -> dict[str, str]:
    """Sign in at the pretend provider as *subject*; what the browser brings back to the app.

    That is `code` and `state`, in the query or, from Apple, in a form. LookupError if no user
    of this name has an account there, or the visit has ended.
    """
    no_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # httpx would load all root certificates
    with httpx.Client(trust_env=False, verify=no_tls) as browser:
        page = browser.get(authorization_url, params=_with_account(authorization_url, subject))
    if page.is_error:
        raise LookupError(page.text)
    if page.is_redirect:
        query = parse_qs(urlsplit(page.headers["location"]).query)
        return {name: values[-1] for name, values in query.items()}
    form = _HiddenFields()
    form.feed(page.text)
    return form.fields


class _HiddenFields(HTMLParser):
    """The hidden fields of a page's form."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the field, if it is one."""
        attributes = dict(attrs)
        if tag == "input" and (name := attributes.get("name")):
            self.fields[name] = attributes.get("value") or ""


def _with_account(url: str, subject: str) -> dict[str, str]:
    query = {name: values[-1] for name, values in parse_qs(urlsplit(url).query).items()}
    return {**query, "account": subject}


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
