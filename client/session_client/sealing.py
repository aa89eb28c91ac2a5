"""Sealing: compact JWE (RFC 7516), ``alg`` dir and ``enc`` A256GCM, under the app's key.

One mechanism keeps secrets out of the broker and proves who is speaking. The header's ``typ``
tells requests from answers, so that neither can be sent back as the other.

There is one form, and so no choice to make from what a message says: five parts of base64url, of
which the second is empty. A library that knows all forms takes two to three times as long to see
that it is this one, on both sides of each request.
"""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from session_client.contract import (
    MAX_ANSWER_BYTES,
    MAX_ENVELOPE_BYTES,
    MAX_NESTING,
    MAX_REGISTER_BYTES,
)
from session_client.errors import SealBroken
from session_client.keys import AppKey
from session_client.words import Word

# RFC 7518 section 5.3: a nonce of 96 bits, made anew each time, and a tag of 128.
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16


class Kind(Word):
    """What a sealed text is; the value is the JWE ``typ``."""

    REQUEST = "session-request"
    ANSWER = "session-answer"
    NOTICE = "logout-notice"


_MAX_BYTES: Final = {
    Kind.REQUEST: MAX_REGISTER_BYTES,  # the largest; each task has its own limit
    Kind.ANSWER: MAX_ANSWER_BYTES,
    Kind.NOTICE: MAX_ENVELOPE_BYTES,
}


_LONGEST_HEADER: Final = 512


@lru_cache(maxsize=1024)
def _cipher(secret: bytes) -> AESGCM:
    return AESGCM(secret)


def seal(key: AppKey, kind: Kind, content: dict[str, Any]) -> str:
    """Return *content* as JSON sealed under *key*.

    Raises TypeError, ValueError or RecursionError for what JSON cannot carry.
    """
    plaintext = _ENCODER.encode(content).encode()
    _check_nesting(plaintext, content)  # here it can be told to the caller that wrote it
    head, nonce = _head(key.kid, kind), os.urandom(_NONCE_BYTES)
    sealed = _cipher(key.secret).encrypt(nonce, plaintext, head)  # the tag comes last
    parts = (nonce, sealed[:-_TAG_BYTES], sealed[-_TAG_BYTES:])
    return b".".join((head, b"", *map(_encoded, parts))).decode()


def header_of(sealed: str) -> dict[str, Any]:
    """Return the header of a sealed text, unproven. Raises `SealBroken` when there is none."""
    try:
        head, _encrypted_key, _iv, _ciphertext, _tag = sealed.split(".")
        return dict(_read_header(head))
    except ValueError:
        raise SealBroken("not a compact JWE") from None


@lru_cache(maxsize=1024)
def _read_header(head: str) -> dict[str, Any]:
    # All that an app seals under one key has the same.
    if len(head) > _LONGEST_HEADER:
        raise ValueError("longer than any of ours")
    return json_object(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))


def unseal(sealed: str, kind: Kind, find_key: Callable[[str], AppKey | None]) -> dict[str, Any]:
    """Return what is sealed, proven to be by a holder of the key that *find_key* gives for its kid.

    Raises `SealBroken` for anything else: too large, no JWE, other kind, unknown key, a bit
    changed, or content that is no JSON object.
    """
    if len(sealed) > _MAX_BYTES[kind]:
        raise SealBroken("too large")
    header = header_of(sealed)
    kid = header.get("kid")
    # Nothing but what we write: "zip" would let a small text open to a huge one.
    if not isinstance(kid, str) or header != _header(kid, kind):
        raise SealBroken("another kind of message")
    key = find_key(kid)
    if key is None:
        raise SealBroken("unknown key")
    return _decrypt(sealed, key)


def _header(kid: str, kind: Kind) -> dict[str, Any]:
    return {"alg": "dir", "enc": "A256GCM", "kid": kid, "typ": kind.value}


@lru_cache(maxsize=1024)
def _head(kid: str, kind: Kind) -> bytes:
    return _encoded(_ENCODER.encode(_header(kid, kind)).encode())


def _encoded(part: bytes) -> bytes:
    return base64.urlsafe_b64encode(part).rstrip(b"=")


# What only the other alphabet has, and its padding, is refused as anything strange is.
_FROM_URLSAFE: Final = str.maketrans("-_+/=", "+/!!!")


def _decoded(part: str) -> bytes:
    padded = part.translate(_FROM_URLSAFE) + "=" * (-len(part) % 4)
    return base64.b64decode(padded, validate=True)


def _parts(sealed: str) -> tuple[bytes, bytes, bytes]:
    """Return header, nonce, and ciphertext with tag. Raises ValueError for any other form."""
    head, no_key, *parts = sealed.split(".")
    nonce, ciphertext, tag = map(_decoded, parts)
    if no_key or (len(nonce), len(tag)) != (_NONCE_BYTES, _TAG_BYTES):
        raise ValueError("not as we write it")
    return head.encode(), nonce, ciphertext + tag


def _decrypt(sealed: str, key: AppKey) -> dict[str, Any]:
    try:
        head, nonce, ciphertext = _parts(sealed)
        # With the header as it was sent: it is proven with the rest.
        return json_object(_cipher(key.secret).decrypt(nonce, ciphertext, head))
    except (InvalidTag, ValueError):
        raise SealBroken("it does not open under the key it names") from None


def json_object(text: str | bytes) -> dict[str, Any]:
    """Read a JSON object. Raises ValueError for anything else.

    That is also one nested too deep, or with a member that is there twice.
    """
    try:
        content = _DECODER.decode(text if isinstance(text, str) else text.decode())
    except RecursionError:
        raise ValueError("nested too deep") from None
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - one error for one question
    _check_nesting(text.encode() if isinstance(text, str) else text, content)
    return content


def _finite(number: str) -> float:
    value = float(number)
    if not math.isfinite(value):
        raise ValueError("a number that JSON cannot write again")
    return value


def _without_repetition(members: list[tuple[str, Any]]) -> dict[str, Any]:
    # Of two browser tokens under one name, which one is meant? Each reader may take another.
    content = dict(members)
    if len(content) != len(members):
        raise ValueError("a member is there twice")
    return content


# Made once: json.dumps and json.loads make new ones for each call with such options.
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), allow_nan=False)
_DECODER: Final = json.JSONDecoder(
    parse_constant=_finite, parse_float=_finite, object_pairs_hook=_without_repetition
)


def _check_nesting(text: bytes, content: object) -> None:
    """Refuse what a receiver could not rewrite: Python's JSON ends at some depth of the stack."""
    if text.count(b"{") + text.count(b"[") <= MAX_NESTING:
        return  # nothing is nested deeper than there are brackets
    level = [content]
    for _ in range(MAX_NESTING):
        level = [inner for outer in level for inner in _children(outer)]
        if not level:
            return
    raise ValueError("nested too deep")


def _children(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list | tuple) else ()
