"""Signs logout tokens.

Source: OpenID Connect Back-Channel Logout 1.0 section 2.4.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from joserfc import jws
from joserfc.jwk import RSAKey

ALGORITHM: Final = "RS256"  # the one every receiver can verify
TYPE: Final = "logout+jwt"  # so that no other kind of token passes for one, nor this for another
EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
LIFETIME_SECONDS: Final = 120  # the most the specification advises


class LogoutTokens:
    """Our name and keys: the first key signs, the public part of each is shown."""

    def __init__(
        self, issuer: str, keys: Sequence[RSAPrivateKey], now: Callable[[], datetime]
    ) -> None:
        self._issuer = issuer
        self._keys = [RSAKey.import_key(key) for key in keys]
        self._now = now

    def sign(self, *, audience: str, user_id: str, session_ref: str | None, notice_id: str) -> str:
        """Return a token made now, for *audience* alone.

        A notice keeps its ``jti`` through all its attempts, so that a receiver who took it but
        could not say so may drop the second one. Its times are new each time: a token from the
        first attempt would have expired by the third.
        """
        issued_at = int(self._now().timestamp())
        claims: dict[str, Any] = {
            "iss": self._issuer,
            "aud": audience,
            "iat": issued_at,
            "exp": issued_at + LIFETIME_SECONDS,
            "jti": notice_id,
            "events": {EVENT: {}},
            "sub": user_id,
        }
        # No nonce, ever: with one it could pass for an ID token.
        if session_ref is not None:
            claims["sid"] = session_ref
        key = self._keys[0]
        header = {"alg": ALGORITHM, "typ": TYPE, "kid": key.thumbprint()}
        return jws.serialize_compact(header, json.dumps(claims), key, algorithms=[ALGORITHM])

    def public_keys(self) -> list[dict[str, Any]]:
        """Return the public keys as members of a JWKS, each named by its RFC 7638 thumbprint."""
        return [
            {
                **key.as_dict(private=False),
                "use": "sig",
                "alg": ALGORITHM,
                "kid": key.thumbprint(),
            }
            for key in self._keys
        ]
