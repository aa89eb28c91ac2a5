"""Notices: a session this app shares has ended. Each kind is proven before it is believed.

Both kinds come at least once, always with the same ``notice_id`` for the same ending.
"""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, cast

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.hashes import SHA256

from session_client import contract, ended, sealing, times
from session_client.errors import InvalidNotice, SealBroken
from session_client.keys import AppKey
from session_client.values import About, LogoutNotice

log = logging.getLogger("session_client")

BACKCHANNEL_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
LOOK_AGAIN_SECONDS: Final = 5.0
_LONGEST_TOKEN: Final = 16 * 1024
_PARTS: Final = 3


def open_notice(envelope: str, *, app_id: str, app_keys: Iterable[AppKey | str]) -> LogoutNotice:
    """Open the sealed notice that came as a Celery message to this app's own queue.

    Args:
        envelope: the task's keyword argument of that name.
        app_id: this app's name at the worker.
        app_keys: its key; while it is rotated, the old and the new one.

    Tell the worker with `SessionClient.confirm` once it is acted on; until then it comes again.
    Raises `InvalidNotice`.
    """
    if not isinstance(envelope, str):
        raise InvalidNotice("no text")
    keys = {key.kid: key for key in map(AppKey.of, app_keys)}
    try:
        content = sealing.unseal(envelope, sealing.Kind.NOTICE, keys.get)
    except SealBroken as error:
        raise InvalidNotice(str(error)) from None
    about = (content.get("v"), content.get("task"), content.get("app_id"))
    if about != (contract.VERSION, contract.LOGOUT_NOTICE_TASK, app_id):
        raise InvalidNotice("it is for another app, or of another version")
    try:
        ended_at = times.from_wire(content["ended_at"])
        texts = {name: str(content[name]) for name in ("notice_id", "user_id", "session_ref")}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InvalidNotice("it has another shape") from None
    return _noticed(cause=content.get("cause"), ended_at=ended_at, **texts)


def taken(item: bytes | None, open_envelope: Callable[[str], LogoutNotice]) -> LogoutNotice | None:
    """Return the notice in a message that was taken from a queue; None if there is none in it."""
    if item is None:
        return None
    try:
        message = json.loads(item)
        _, kwargs, _ = json.loads(base64.b64decode(message["body"]))
        return open_envelope(kwargs["envelope"])
    except (InvalidNotice, KeyError, TypeError, ValueError) as error:
        # Any client of the broker can write there; what is true comes again until it is confirmed.
        log.warning("dropped what lay in the queue and is no notice: %s", type(error).__name__)
        return None


def _noticed(**fields: Any) -> LogoutNotice:
    # From here on no answer of this process, were it on its way already, brings the session back.
    ended.SEEN.add(fields["session_ref"], ended.reason_of(fields.get("cause")))
    return LogoutNotice(**fields)


@dataclass(frozen=True, slots=True)
class SignedToken:
    """A logout token, taken apart; nothing in it is proven."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any] = field(repr=False)
    signed: bytes = field(repr=False)
    signature: bytes = field(repr=False)


def read_token(token: object) -> SignedToken:
    """Take *token* apart. Raises `InvalidNotice`."""
    if not isinstance(token, str):
        raise InvalidNotice("no text")
    if len(token) > _LONGEST_TOKEN:
        raise InvalidNotice("too large")
    try:
        parts = [part.encode("ascii") for part in token.split(".")]
        header, payload, signature = (
            base64.b64decode(part + b"=" * (-len(part) % 4), b"-_", validate=True) for part in parts
        )
        return SignedToken(
            sealing.json_object(header),
            sealing.json_object(payload),
            b".".join(parts[:2]),
            signature,
        )
    except ValueError:
        raise InvalidNotice("its signature does not verify") from None


def names_key_of(token: SignedToken, about: About) -> bool:
    """Whether *about* has the key that *token* names."""
    return _key_of(token, about) is not None


def verified(token: SignedToken, about: About) -> LogoutNotice:
    """Return the notice, once *token* is proven to be the worker's. Raises `InvalidNotice`."""
    key = _key_of(token, about)
    # The one algorithm there is: what the token says of it chooses nothing.
    if key is None or token.header.get("alg") != "RS256" or "crit" in token.header:
        raise InvalidNotice("its signature does not verify")
    try:
        numbers = RSAPublicNumbers(_number(key["e"]), _number(key["n"]))
        numbers.public_key().verify(token.signature, token.signed, PKCS1v15(), SHA256())
    except (InvalidSignature, KeyError, TypeError, ValueError):
        raise InvalidNotice("its signature does not verify") from None
    if str(token.header.get("typ", "")).lower() not in {"logout+jwt", "application/logout+jwt"}:
        raise InvalidNotice("another kind of token")
    claims = token.claims
    _check_claims(claims, about)
    return _noticed(
        notice_id=claims["jti"], user_id=claims.get("sub"), session_ref=claims.get("sid")
    )


def _key_of(token: SignedToken, about: About) -> Mapping[str, str] | None:
    kid = token.header.get("kid")
    return next((key for key in about.notice_keys if key.get("kid") == kid), None)


def _number(text: str) -> int:
    raw = text.encode("ascii")
    return int.from_bytes(base64.urlsafe_b64decode(raw + b"=" * (-len(raw) % 4)), "big")


def _check_claims(claims: Mapping[str, Any], about: About) -> None:
    audiences = claims.get("aud")
    audiences = audiences if isinstance(audiences, list) else [audiences]
    events = claims.get("events")
    checks = {
        "iss": claims.get("iss") == about.notice_issuer,
        "aud": about.notice_audience in audiences,
        "iat": _seconds(claims.get("iat")) <= _now() + _skew(),
        "exp": _seconds(claims.get("exp")) > _now() - _skew(),
        "events": isinstance(events, dict) and isinstance(events.get(BACKCHANNEL_EVENT), dict),
        "nonce": "nonce" not in claims,  # that would be an ID token, sent as a notice
        "jti": isinstance(claims.get("jti"), str) and claims["jti"] != "",
        "sub or sid": {str} <= _types_of(claims, "sub", "sid") <= {str, type(None)},
    }
    wrong = [name for name, is_right in checks.items() if not is_right]
    if wrong:
        raise InvalidNotice(f"wrong {', '.join(wrong)}")


def _types_of(claims: Mapping[str, Any], *names: str) -> set[type]:
    return {type(claims.get(name)) for name in names}


def _seconds(value: object) -> float:
    if type(value) not in {int, float}:
        raise InvalidNotice("a time that is no number")
    try:
        return float(cast("float", value))
    except OverflowError:
        raise InvalidNotice("a time that is no number") from None


def _now() -> float:
    return time.time()


def _skew() -> float:
    return contract.MAX_CLOCK_SKEW.total_seconds()
