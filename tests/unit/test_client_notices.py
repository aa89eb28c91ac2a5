"""What the client believes of a notice: only what the worker signed or sealed, for this app."""

from __future__ import annotations

import base64
import hmac
import json
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc import jws
from joserfc.jwk import RSAKey

from session_client import (
    About,
    AppKey,
    InvalidNotice,
    LogoutNotice,
    notices,
    open_notice,
    sealing,
)
from worker.backchannel.logout_tokens import LogoutTokens

ISSUER, AUDIENCE = "https://sessions.example.com", "client-shop"
EVENTS: dict[str, Any] = {"http://schemas.openid.net/event/backchannel-logout": {}}
KEY = AppKey("k1", bytes(range(32)))
OTHER_KEY = AppKey("k2", bytes(32))


@lru_cache
def rsa_key(name: str = "first") -> RSAKey:
    return RSAKey.import_key(rsa.generate_private_key(65537, 2048))


def jwks(*names: str) -> dict[str, Any]:
    keys = [rsa_key(name) for name in names or ("first",)]
    return {"keys": [key.as_dict(private=False) | {"kid": key.thumbprint()} for key in keys]}


def signed(key: str = "first", *, header: dict[str, Any] | None = None, **changes: Any) -> str:
    """A logout token with *changes* to its claims.

    One that is None is left out, and one that is a duration counts from now, not from when the
    tests were collected.
    """
    now = int(datetime.now(UTC).timestamp())
    claims = {
        "iss": ISSUER, "aud": AUDIENCE, "iat": now, "exp": now + 120, "jti": "n-1",
        "events": EVENTS, "sub": "ada", "sid": "ref-1", **changes,
    }  # fmt: skip
    claims = {name: at(value, now) for name, value in claims.items() if value is not None}
    headers = {"alg": "RS256", "typ": "logout+jwt", "kid": rsa_key(key).thumbprint()}
    headers = {name: value for name, value in (headers | (header or {})).items() if value}
    return jws.serialize_compact(headers, json.dumps(claims), rsa_key(key), algorithms=["RS256"])


def verified(token: Any, **changes: Any) -> LogoutNotice:
    given = {"jwks": jwks(), "issuer": ISSUER, "audience": AUDIENCE} | changes
    about = About(
        app_id="shop",
        capabilities=frozenset(),
        methods=frozenset(),
        clock_offset=0.0,
        notice_issuer=given["issuer"],
        notice_audience=given["audience"],
        notice_keys=tuple(given["jwks"]["keys"]),
    )
    return notices.verified(notices.read_token(token), about)


def by_hand(header: dict[str, Any], claims_of: str, signature: str = "") -> str:
    head = base64.urlsafe_b64encode(json.dumps(header).encode()).decode().rstrip("=")
    return f"{head}.{claims_of.split('.')[1]}.{signature}"


def at(value: Any, now: int) -> Any:
    if not isinstance(value, timedelta):
        return value
    seconds = now + value.total_seconds()
    return int(seconds) if seconds.is_integer() else seconds


# --- back-channel logout


def test_a_token_as_the_worker_signs_it_is_believed() -> None:
    key = rsa.generate_private_key(65537, 2048)
    tokens = LogoutTokens(ISSUER, [key], lambda: datetime.now(UTC))
    token = tokens.sign(audience=AUDIENCE, user_id="ada", session_ref="ref-1", notice_id="n-1")

    notice = verified(token, jwks={"keys": tokens.public_keys()})

    assert notice == LogoutNotice(notice_id="n-1", user_id="ada", session_ref="ref-1")


def test_a_token_for_all_sessions_of_a_user_names_none() -> None:
    assert verified(signed(sid=None)).session_ref is None


def test_a_token_may_name_only_the_session() -> None:
    notice = verified(signed(sub=None))
    assert (notice.user_id, notice.session_ref) == (None, "ref-1")


@pytest.mark.parametrize(
    "changes",
    [
        {"aud": ["other", AUDIENCE]},
        {"iat": timedelta(seconds=30)},
        {"exp": timedelta(seconds=-30)},
        {"exp": timedelta(seconds=60.5)},
    ],
)
def test_what_the_standard_allows_is_allowed(changes: dict[str, Any]) -> None:
    assert verified(signed(**changes)).notice_id == "n-1"


@pytest.mark.parametrize(
    ("named", "changes"),
    [
        ("iss", {"iss": "https://evil.example.com"}),
        ("iss", {"iss": None}),
        ("aud", {"aud": "client-other"}),
        ("aud", {"aud": ["client-other"]}),
        ("aud", {"aud": None}),
        ("aud", {"aud": {AUDIENCE: 1}}),
        ("exp", {"exp": timedelta(seconds=-300)}),
        ("time", {"exp": None}),
        ("time", {"exp": True}),
        ("time", {"exp": "9999999999"}),
        ("time", {"exp": 10**400}),
        ("iat", {"iat": timedelta(seconds=3600)}),
        ("time", {"iat": None}),
        ("nonce", {"nonce": "n"}),
        ("events", {"events": None}),
        ("events", {"events": {}}),
        ("events", {"events": {"http://schemas.openid.net/event/other": {}}}),
        ("events", {"events": dict.fromkeys(EVENTS, "yes")}),
        ("events", {"events": list(EVENTS)}),
        ("jti", {"jti": None}),
        ("jti", {"jti": ""}),
        ("jti", {"jti": 1}),
        ("sub or sid", {"sub": None, "sid": None}),
        ("sub or sid", {"sub": {"a": 1}}),
        ("sub or sid", {"sid": 1}),
        ("kind", {"header": {"typ": "JWT"}}),
        ("kind", {"header": {"typ": "at+jwt"}}),
        ("kind", {"header": {"typ": None}}),
    ],
)
def test_a_token_that_says_something_else_is_refused(named: str, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidNotice, match=named):
        verified(signed(**changes))


def test_a_token_nobody_signed_is_refused() -> None:
    for alg in ("none", "None", "NONE"):
        with pytest.raises(InvalidNotice, match="signature"):
            verified(by_hand({"alg": alg, "typ": "logout+jwt"}, signed()))


def test_a_token_signed_with_the_public_key_as_a_secret_is_refused() -> None:
    # The classic: who verifies by the token's own alg takes the public key for an HMAC secret.
    public = rsa_key().as_pem(private=False)
    header = {"alg": "HS256", "typ": "logout+jwt", "kid": rsa_key().thumbprint()}
    unsigned = by_hand(header, signed()).rstrip(".")

    for secret in (public, public.strip(), json.dumps(jwks()["keys"][0]).encode()):
        mac = hmac.digest(secret, unsigned.encode(), "sha256")
        with pytest.raises(InvalidNotice, match="signature"):
            verified(f"{unsigned}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}")


def test_a_token_signed_with_another_key_is_refused_whatever_kid_it_names() -> None:
    for header in ({}, {"kid": rsa_key().thumbprint()}, {"kid": None}, {"kid": "../k"}):
        with pytest.raises(InvalidNotice, match="signature"):
            verified(signed("other", header=header))


def test_a_token_that_asks_for_what_is_not_understood_is_refused() -> None:
    """RFC 7515 section 4.1.11: who does not know what `crit` names must not take the token."""
    with pytest.raises(InvalidNotice, match="signature"):
        verified(signed(header={"crit": ["kid"]}))


def test_while_the_worker_changes_its_key_tokens_of_both_are_believed() -> None:
    for key in ("first", "other"):
        assert verified(signed(key), jwks=jwks("first", "other")).notice_id == "n-1"


def test_an_altered_token_is_refused() -> None:
    head, payload, signature = signed().split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    changed = base64.urlsafe_b64encode(json.dumps(claims | {"sub": "eve"}).encode()).decode()

    with pytest.raises(InvalidNotice, match="signature"):
        verified(f"{head}.{changed.rstrip('=')}.{signature}")


@pytest.mark.parametrize(
    "token",
    ["", ".", "..", "a.b.c", "é.é.é", "\ud800.a.b", "W10.W10.W10", "[" * 12000, None, 5, b"a.b.c"],
)
def test_what_is_no_token_is_refused(token: Any) -> None:
    with pytest.raises(InvalidNotice):
        verified(token)


def test_a_payload_that_is_no_object_or_nested_deep_is_refused() -> None:
    header = {"alg": "RS256", "typ": "logout+jwt", "kid": rsa_key().thumbprint()}
    for payload in ("[]", '"a"', "[" * 5000, "{", "\xff"):
        token = jws.serialize_compact(header, payload, rsa_key(), algorithms=["RS256"])
        with pytest.raises(InvalidNotice):
            verified(token)


def test_a_token_that_is_too_large_is_refused_before_anything_is_computed() -> None:
    with pytest.raises(InvalidNotice, match="too large"):
        verified(signed(extra="x" * 16_000))


def test_no_error_quotes_the_token() -> None:
    token = signed("other")
    with pytest.raises(InvalidNotice) as caught:
        verified(token)

    assert token.split(".")[2] not in repr(caught.value)
    assert caught.value.__cause__ is None


# --- a sealed message


def sealed(key: AppKey = KEY, kind: sealing.Kind = sealing.Kind.NOTICE, **changes: Any) -> str:
    content = {
        "v": 1, "task": "sessions.logged_out", "app_id": "shop", "notice_id": "n-1",
        "issued_at": "2026-11-02T08:00:00Z", "user_id": "ada", "session_ref": "ref-1",
        "cause": "logout", "ended_at": "2026-11-02T08:00:00Z", **changes,
    }  # fmt: skip
    content = {name: value for name, value in content.items() if value is not None}
    return sealing.seal(key, kind, content)


def opened(envelope: Any, *keys: AppKey | str, **given: Any) -> LogoutNotice:
    return open_notice(envelope, app_id="shop", app_keys=keys or (KEY,), **given)


def test_a_sealed_notice_opens_to_what_it_says() -> None:
    assert opened(sealed()) == LogoutNotice(
        notice_id="n-1",
        user_id="ada",
        session_ref="ref-1",
        cause="logout",
        ended_at=datetime(2026, 11, 2, 8, 0, tzinfo=UTC),
    )


def test_while_the_apps_key_is_rotated_notices_under_both_open() -> None:
    for key in (KEY, OTHER_KEY):
        assert opened(sealed(key), KEY.text(), OTHER_KEY).notice_id == "n-1"


@pytest.mark.parametrize(
    "changes",
    [
        {"app_id": "billing"},
        {"v": 2},
        {"task": "sessions.logout"},
        {"notice_id": None},
        {"ended_at": None},
        {"ended_at": "yesterday"},
        {"ended_at": 5},
        {"key": OTHER_KEY},
        {"key": AppKey(KEY.kid, bytes(32))},
        {"kind": sealing.Kind.REQUEST},
        {"kind": sealing.Kind.ANSWER},
    ],
    ids=str,
)
def test_a_notice_for_somebody_else_or_of_another_kind_is_refused(changes: Any) -> None:
    with pytest.raises(InvalidNotice):
        opened(sealed(**changes))


def test_an_altered_notice_is_refused_wherever_it_was_altered() -> None:
    parts = sealed().split(".")
    for number in (0, 2, 3, 4):
        first = "A" if parts[number][0] != "A" else "B"
        changed = [*parts]
        changed[number] = first + parts[number][1:]
        with pytest.raises(InvalidNotice):
            opened(".".join(changed))


@pytest.mark.parametrize("envelope", ["", "....", "\ud800....", "x" * 70_000, None, 5, {"a": 1}])
def test_what_is_no_envelope_is_refused(envelope: Any) -> None:
    with pytest.raises(InvalidNotice):
        opened(envelope)
