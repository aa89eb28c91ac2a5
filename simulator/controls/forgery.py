"""Tokens that lie, each in one way."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

from joserfc import jwt
from joserfc.jwk import RSAKey

from simulator.controls.faults import FaultKind
from simulator.idp.keys import KeyRing

Claims = Mapping[str, Any]
Header = Mapping[str, str]


def sign(header: Header, claims: Claims, key: RSAKey) -> str:
    """A properly signed token."""
    return jwt.encode(dict(header), dict(claims), key, algorithms=[header["alg"]])


def forge(kind: FaultKind, claims: Claims, keys: KeyRing, algorithm: str) -> str:
    """A token with *claims* that is false in the way *kind* names."""
    header = {"alg": algorithm, "kid": keys.current.kid or ""}
    match kind:
        case FaultKind.WRONG_SIGNATURE:
            return sign(header, claims, keys.rogue)
        case FaultKind.UNKNOWN_KID:
            return sign({**header, "kid": keys.rogue.kid or ""}, claims, keys.rogue)
        case FaultKind.ALG_NONE:
            return f"{_unsigned('none', header, claims)}."
        case FaultKind.HS256_PUBLIC_KEY:
            return _signed_with_public_key(_unsigned("HS256", header, claims), keys.current)
        case _:
            return sign(header, _false_claims(kind, claims), keys.current)


def _false_claims(kind: FaultKind, claims: Claims) -> Claims:
    match kind:
        case FaultKind.WRONG_SUB:
            lie: Claims = {"sub": "somebody-else"}
        case FaultKind.WRONG_AUD:
            lie = {"aud": "another-app"}
        case FaultKind.WRONG_ISS:
            lie = {"iss": "https://issuer.invalid"}
        case FaultKind.EXPIRED:
            lie = {"iat": claims["iat"] - 7200, "exp": claims["iat"] - 3600}
        case _:
            raise ValueError(f"{kind} is not a forgery")
    return {**claims, **lie}


# By hand, because a sound library refuses to make the next two tokens.


def _unsigned(algorithm: str, header: Header, claims: Claims) -> str:
    parts = ({**header, "alg": algorithm, "typ": "JWT"}, claims)
    return ".".join(_base64url(json.dumps(part).encode()) for part in parts)


def _signed_with_public_key(text: str, key: RSAKey) -> str:
    secret = key.as_pem(private=False)
    return f"{text}.{_base64url(hmac.digest(secret, text.encode(), hashlib.sha256))}"


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
