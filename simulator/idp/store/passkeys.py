"""Passkeys: which were registered, which challenges are open, and the check of an answer."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from secrets import token_bytes, token_urlsafe
from typing import Any

from simulator.idp.policy import Policy

CHALLENGE_BYTES = 32


@dataclass
class Passkey:
    """A credential some authenticator holds for a user; binary values are base64url."""

    credential_id: str
    user_id: str
    public_key: str  # COSE
    sign_count: int = 0


@dataclass(frozen=True)
class Challenge:
    """What an authenticator is asked to sign, for one app."""

    client_id: str
    user_id: str | None  # None: any user's passkey may answer
    value: bytes
    expires_at: float
    approval_data: Mapping[str, str] | None = None


class WrongResultError(Exception):
    """What the browser sent proves no user."""


class Passkeys:
    """Every registered credential and every open challenge."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._registered: dict[str, Passkey] = {}
        self._open: dict[str, Challenge] = {}

    def register(
        self, user_id: str, credential_id: str, public_key: str, sign_count: int = 0
    ) -> None:
        """Let an authenticator answer for a user, as after a registration in their browser."""
        passkey = Passkey(credential_id, user_id, public_key, sign_count)
        self._registered[credential_id] = passkey

    def of(self, user_id: str) -> list[Passkey]:
        """The passkeys of one user."""
        return [passkey for passkey in self._registered.values() if passkey.user_id == user_id]

    def start(
        self,
        client_id: str,
        user_id: str | None,
        expires_at: float,
        approval_data: Mapping[str, str] | None = None,
    ) -> tuple[str, Challenge]:
        """Open a challenge; its session id, and itself."""
        value = token_bytes(CHALLENGE_BYTES)
        challenge = Challenge(client_id, user_id, value, expires_at, approval_data)
        session_id = token_urlsafe(24)
        self._open[session_id] = challenge
        return session_id, challenge

    def options(self, challenge: Challenge, timeout_seconds: float) -> dict[str, Any]:
        """What the browser hands to `navigator.credentials.get`."""
        allowed = self.of(challenge.user_id) if challenge.user_id else []
        return {
            "challenge": _encode(challenge.value),
            "rpId": self._policy.passkey_domain,
            "timeout": int(timeout_seconds * 1000),
            "userVerification": "preferred",
            "allowCredentials": [
                {"type": "public-key", "id": passkey.credential_id} for passkey in allowed
            ],
        }

    def redeem(self, encoded_result: str, client_id: str, now: float) -> tuple[str, Challenge]:
        """The user who signed, and what they were asked to sign; WrongResultError otherwise.

        A challenge is used up by the first answer to it, be it right or wrong.
        """
        session_id, credential = _decode_result(encoded_result)
        challenge = self._open.pop(session_id, None)
        passkey = self._registered.get(str(credential.get("id")))
        if challenge is None or challenge.client_id != client_id or now >= challenge.expires_at:
            raise WrongResultError
        if passkey is None or challenge.user_id not in {None, passkey.user_id}:
            raise WrongResultError
        passkey.sign_count = self._verified(credential, challenge, passkey)
        return passkey.user_id, challenge

    def _verified(
        self, credential: Mapping[str, Any], challenge: Challenge, passkey: Passkey
    ) -> int:
        # Here, because the library takes a fifth of a second to import, and most
        # simulators never see a passkey.
        from webauthn import verify_authentication_response  # noqa: PLC0415
        from webauthn.helpers.exceptions import WebAuthnException  # noqa: PLC0415

        try:
            return verify_authentication_response(
                credential=dict(credential),
                expected_challenge=challenge.value,
                expected_rp_id=self._policy.passkey_domain,
                expected_origin=[*self._policy.passkey_origins],
                credential_public_key=_decode(passkey.public_key),
                credential_current_sign_count=passkey.sign_count,
            ).new_sign_count
        except (WebAuthnException, ValueError, KeyError, TypeError):
            raise WrongResultError from None


def _decode_result(encoded_result: str) -> tuple[str, Mapping[str, Any]]:
    """What the vendor's browser code packs together. Its format is on no page; this is ours."""
    try:
        result = json.loads(_decode(encoded_result))
        session_id, credential = result["webauthn_session_id"], result["credential"]
    except (ValueError, KeyError, TypeError):
        raise WrongResultError from None
    if not isinstance(session_id, str) or not isinstance(credential, dict):
        raise WrongResultError
    return session_id, credential


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    """Base64 in either alphabet, padded or not."""
    plain = text.rstrip("=").replace("+", "-").replace("/", "_")
    return base64.urlsafe_b64decode(plain + "=" * (-len(plain) % 4))
