"""Sealing: compact JWE (RFC 7516), ``alg`` dir and ``enc`` A256GCM, under the app's key.

One mechanism keeps secrets out of the broker and proves who is speaking. The header's ``typ``
tells requests from answers, so that neither can be sent back as the other.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from session_client.contract import MAX_ENVELOPE_BYTES
from session_client.errors import SealBroken
from session_client.keys import AppKey

_ALGORITHMS: Final = ["dir", "A256GCM"]


class Kind(StrEnum):
    """What a sealed text is; the value is the JWE ``typ``."""

    REQUEST = "session-request"
    ANSWER = "session-answer"
    NOTICE = "logout-notice"


@lru_cache(maxsize=1024)
def _jose_key(secret: bytes) -> OctKey:
    return OctKey.import_key(secret)


def seal(key: AppKey, kind: Kind, content: dict[str, Any]) -> str:
    """Return *content* as JSON sealed under *key*."""
    header = {"alg": "dir", "enc": "A256GCM", "kid": key.kid, "typ": kind.value}
    plaintext = json.dumps(content, separators=(",", ":")).encode()
    return jwe.encrypt_compact(header, plaintext, _jose_key(key.secret), algorithms=_ALGORITHMS)


def header_of(sealed: str) -> dict[str, Any]:
    """Return the header of a sealed text, unproven. Raises `SealBroken` when there is none."""
    try:
        head, _encrypted_key, _iv, _ciphertext, _tag = sealed.split(".")
        return json_object(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except ValueError:
        raise SealBroken("not a compact JWE") from None


def unseal(sealed: str, kind: Kind, find_key: Callable[[str], AppKey | None]) -> dict[str, Any]:
    """Return what is sealed, proven to be by a holder of the key that *find_key* gives for its kid.

    Raises `SealBroken` for anything else: too large, no JWE, other kind, unknown key, a bit
    changed, or content that is no JSON object.
    """
    if len(sealed) > MAX_ENVELOPE_BYTES:
        raise SealBroken("too large")
    header = header_of(sealed)
    kid = header.get("kid")
    if header.get("typ") != kind.value or not isinstance(kid, str):
        raise SealBroken("another kind of message")
    key = find_key(kid)
    if key is None:
        raise SealBroken("unknown key")
    return _decrypt(sealed, key)


def _decrypt(sealed: str, key: AppKey) -> dict[str, Any]:
    try:
        plaintext = jwe.decrypt_compact(
            sealed, _jose_key(key.secret), algorithms=_ALGORITHMS
        ).plaintext
        return json_object(plaintext or b"")
    except (JoseError, ValueError):
        raise SealBroken("it does not open under the key it names") from None


def json_object(text: str | bytes) -> dict[str, Any]:
    """Read a JSON object. Raises ValueError for anything else, however deep it is nested."""
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - one error for one question
    return content
