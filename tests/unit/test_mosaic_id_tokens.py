"""Tokens that are not what they claim to be, and a few that are."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import pytest
from joserfc import jwe, jws
from joserfc.jwk import ECKey, Key, OctKey, RSAKey

from session_client.contract import MAX_ID_TOKEN_CHARACTERS
from worker.errors import MosaicContractBroken, MosaicUnavailable, TokenRejected, WrongSubject
from worker.mosaic import ClientSecret, Identity, MosaicApp
from worker.mosaic.asked import Endpoint
from worker.mosaic.deadline import Deadline
from worker.mosaic.faults import Faults
from worker.mosaic.http_calls import HttpAnswer, MosaicHttp
from worker.mosaic.id_tokens import IdTokenVerifier
from worker.mosaic.jwks import MAX_KEYS, KeySets, read_key_set
from worker.storage.redis_client import connect_redis

NOW = datetime(2026, 1, 1, tzinfo=UTC)
T0 = int(NOW.timestamp())
EVERY_ALGORITHM = ["RS256", "PS256", "ES256", "HS256", "RS512", "none"]
APP = MosaicApp(
    app_id="shop",
    client_id="shop",
    credential=ClientSecret(""),
    base_url="",
    token_url="",
    jwks_url="jwks",
    issuer="https://userid.security",
    session_lifetime=timedelta(days=14),
)
CLAIMS: dict[str, Any] = {
    "iss": "https://userid.security",
    "sub": "ada",
    "aud": "shop",
    "exp": T0 + 3600,
    "iat": T0,
    "auth_time": T0 - 600,
    "amr": ["pwd", "sms"],
}


@cache
def rsa(kid: str = "k1") -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": kid})


@cache
def ec() -> ECKey:
    return ECKey.generate_key("P-256", {"kid": "ec"})


def public(key: Key) -> dict[str, Any]:
    return dict(key.as_dict(private=False))


class PretendHttp(MosaicHttp):
    """Serves one JWKS from memory and counts how often it is asked."""

    def __init__(self, *keys: Mapping[str, Any]) -> None:
        self.keys = list(keys)
        self.status = 200
        self.calls = 0

    def get(self, endpoint: Endpoint, url: str, deadline: Deadline) -> HttpAnswer:  # noqa: ARG002
        self.calls += 1
        return HttpAnswer(self.status, json.dumps({"keys": self.keys}).encode())


def verifier(http: MosaicHttp, now: datetime = NOW) -> IdTokenVerifier:
    nobody = connect_redis("redis://127.0.0.1:1")  # what is noted there is lost
    faults = Faults(nobody, lambda: now)
    key_sets = KeySets(http, faults, lambda: now, max_age_seconds=3600, refetch_seconds=60)
    return IdTokenVerifier(key_sets, lambda: now, 60)


def sign(claims: Any, header: Mapping[str, Any] | None = None, key: Key | None = None) -> str:
    protected = {"alg": "RS256", "kid": "k1", **(header or {})}
    protected = {name: value for name, value in protected.items() if value is not None}
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    registry = jws.JWSRegistry(algorithms=EVERY_ALGORITHM, strict_check_header=False)
    return jws.serialize_compact(protected, payload, key or rsa(), registry=registry)


def forge(header: Mapping[str, Any], claims: Any, signature: bytes = b"") -> str:
    parts = (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)


def verify(token: str, *keys: Mapping[str, Any], user_id: str = "ada") -> Identity:
    http = PretendHttp(*(keys or (public(rsa()), public(ec()))))
    return verifier(http).verify(APP, token, user_id, Deadline.after(5))


def without(name: str) -> dict[str, Any]:
    return {claim: value for claim, value in CLAIMS.items() if claim != name}


def hs256_with_the_public_key() -> str:
    pem = rsa().as_pem(private=False)
    header = {"alg": "HS256", "kid": "k1"}
    signing_input = forge(header, CLAIMS).rpartition(".")[0]
    mac = hmac.digest(pem, signing_input.encode(), hashlib.sha256)
    return f"{signing_input}.{base64.urlsafe_b64encode(mac).decode().rstrip('=')}"


def test_an_honest_token_says_who_the_user_is() -> None:
    identity = verify(sign(CLAIMS))

    assert identity == Identity(
        user_id="ada",
        amr=("pwd", "sms"),
        auth_time=NOW - timedelta(minutes=10),
        issued_at=NOW,
        expires_at=NOW + timedelta(hours=1),
    )


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": ["shop"]},
        {"aud": ["shop", "shop"]},
        {"aud": ["shop", "forum"], "azp": "shop"},
        {"azp": "shop"},
        {"nbf": T0 + 60},
        {"iat": T0 + 60},
        {"exp": T0 - 59},
        {"exp": T0 + 0.5},
        {"amr": []},
        {"amr": None},
        {"amr": "pwd"},
        {"auth_time": None},
        {"auth_time": str(T0 - 600)},
        {"auth_time": T0 + 60},
        {"nbf": None},
        {"acr": "1", "tid": "t", "surprise": {}},
    ],
    ids=str,
)
def test_these_honest_variants_pass(claims: dict[str, Any]) -> None:
    assert verify(sign({**CLAIMS, **claims})).user_id == "ada"


def test_a_token_may_carry_all_the_custom_data_mosaic_lets_it() -> None:
    data = {"custom_data": {"a": "x" * 100 * 1024}, "custom_app_data": {"a": "x" * 100 * 1024}}

    assert verify(sign({**CLAIMS, **data})).user_id == "ada"


@pytest.mark.parametrize(
    ("amr", "auth_time", "expected"),
    [
        ("pwd", str(T0 - 600), (("pwd",), NOW - timedelta(minutes=10))),
        ("", None, ((), None)),
        (None, T0, ((), NOW)),
    ],
)
def test_amr_may_be_one_text_and_auth_time_its_digits(
    amr: Any, auth_time: Any, expected: tuple[Any, Any]
) -> None:
    identity = verify(sign({**CLAIMS, "amr": amr, "auth_time": auth_time}))

    assert (identity.amr, identity.auth_time) == expected


def test_amr_and_auth_time_may_be_missing() -> None:
    identity = verify(sign({name: CLAIMS[name] for name in ("iss", "sub", "aud", "exp", "iat")}))

    assert (identity.amr, identity.auth_time) == ((), None)


@pytest.mark.parametrize("algorithm", ["RS256", "PS256"])
@pytest.mark.parametrize("header", [{}, {"typ": "JWT"}, {"typ": "jwt"}, {"x5t": "a", "foo": 1}])
def test_rsa_tokens_pass_whatever_harmless_headers_they_have(
    algorithm: str, header: dict[str, Any]
) -> None:
    assert verify(sign(CLAIMS, {"alg": algorithm, **header})).user_id == "ada"


def test_an_es256_token_passes() -> None:
    assert verify(sign(CLAIMS, {"alg": "ES256", "kid": "ec"}, ec())).user_id == "ada"


def test_a_token_without_kid_passes_only_if_one_key_fits() -> None:
    token = sign(CLAIMS, {"kid": None})

    assert verify(token, public(rsa()), public(ec())).user_id == "ada"
    with pytest.raises(TokenRejected, match="kid"):
        verify(token, public(rsa()), public(rsa("k2")))


def test_a_token_with_a_kid_passes_with_the_only_fitting_key_if_that_has_none() -> None:
    nameless = {name: value for name, value in public(rsa()).items() if name != "kid"}

    assert verify(sign(CLAIMS), nameless, public(ec())).user_id == "ada"
    assert verify(sign(CLAIMS), {**nameless, "use": None, "alg": None}).user_id == "ada"
    with pytest.raises(TokenRejected, match="kid"):
        verify(sign(CLAIMS), nameless, public(rsa("k2")))
    with pytest.raises(TokenRejected, match="kid"):
        verify(sign(CLAIMS), public(rsa("k2")))
    with pytest.raises(TokenRejected, match="signature"):
        verify(sign(CLAIMS, key=rsa("evil")), nameless)


FORGED: dict[str, tuple[str, str]] = {
    # Signature
    "alg none": ("alg", forge({"alg": "none"}, CLAIMS)),
    "alg None": ("alg", forge({"alg": "None", "kid": "k1"}, CLAIMS)),
    "hs256 with the public key": ("alg", hs256_with_the_public_key()),
    "hs256 with a secret": (
        "alg",
        sign(CLAIMS, {"alg": "HS256"}, OctKey.import_key("s" * 32)),
    ),
    "an algorithm not pinned": ("alg", sign(CLAIMS, {"alg": "RS512"})),
    "embedded jwk": ("header", sign(CLAIMS, {"jwk": public(rsa("evil"))}, rsa("evil"))),
    "jku": ("header", sign(CLAIMS, {"jku": "https://evil.example/jwks"})),
    "x5u": ("header", sign(CLAIMS, {"x5u": "https://evil.example/cert"})),
    "crit": ("header", forge({"alg": "RS256", "kid": "k1", "crit": ["exp"]}, CLAIMS)),
    "crit b64": (
        "header",
        forge({"alg": "RS256", "kid": "k1", "crit": ["b64"], "b64": False}, CLAIMS),
    ),
    "b64 alone": ("format", forge({"alg": "RS256", "kid": "k1", "b64": False}, CLAIMS)),
    "unknown kid": ("kid", sign(CLAIMS, {"kid": "k9"})),
    "kid not a string": ("kid", forge({"alg": "RS256", "kid": 1}, CLAIMS)),
    "another key under a known kid": ("signature", sign(CLAIMS, key=rsa("evil"))),
    "rsa kid for an ec token": ("kid", sign(CLAIMS, {"alg": "ES256", "kid": "k1"}, ec())),
    "no signature": ("signature", forge({"alg": "RS256", "kid": "k1"}, CLAIMS)),
    "signature not base64": ("signature", sign(CLAIMS).rpartition(".")[0] + ".!!!"),
    "a header of the wrong type": (
        "signature",
        forge({"alg": "RS256", "kid": "k1", "cty": 7}, CLAIMS, b"x" * 256),
    ),
    "changed claims": (
        "signature",
        forge({"alg": "RS256", "kid": "k1"}, {**CLAIMS, "amr": ["mfa"]}, b"x" * 256),
    ),
    "crit without a list": ("header", forge({"alg": "RS256", "crit": 5}, CLAIMS)),
    # Form
    "empty": ("format", ""),
    "truncated": ("format", sign(CLAIMS).rpartition(".")[0]),
    "cut in its signature": ("signature", sign(CLAIMS)[:-3]),
    "not ascii": ("format", "ä.ö.ü"),
    "header a list": ("format", forge(["alg"], CLAIMS)),  # type: ignore[arg-type]
    "header a number": ("format", forge(7, CLAIMS)),  # type: ignore[arg-type]
    "header nested too deep": (
        "format",
        base64.urlsafe_b64encode(b"[" * 300).decode().rstrip("=") + ".e30.",
    ),
    "alg not a string": ("format", forge({"alg": ["RS256"]}, CLAIMS)),
    "no alg": ("format", forge({"kid": "k1"}, CLAIMS)),
    "huge": ("size", "a" * (MAX_ID_TOKEN_CHARACTERS + 1)),
    "payload a list": ("payload", sign([1])),
    "payload not json": ("payload", sign(b"{")),
    "payload nested too deep": ("payload", sign(b"[" * 5000)),
    "payload with NaN": ("payload", sign(b'{"exp": NaN}')),
    "typ of a logout token": ("typ", sign(CLAIMS, {"typ": "logout+jwt"})),
    "typ of an access token": ("typ", sign(CLAIMS, {"typ": "at+jwt"})),
    # Claims
    "wrong iss": ("iss", sign({**CLAIMS, "iss": "https://userid.security/"})),
    "no iss": ("iss", sign(without("iss"))),
    "wrong aud": ("aud", sign({**CLAIMS, "aud": "forum"})),
    "no aud": ("aud", sign(without("aud"))),
    "aud empty": ("aud", sign({**CLAIMS, "aud": []})),
    "aud with a number": ("aud", sign({**CLAIMS, "aud": ["shop", 7]})),
    "aud with a stranger": ("azp", sign({**CLAIMS, "aud": ["shop", "forum"]})),
    "azp of a stranger": ("azp", sign({**CLAIMS, "aud": ["shop", "forum"], "azp": "forum"})),
    "aud ours, azp of a stranger": ("azp", sign({**CLAIMS, "azp": "forum"})),
    "expired": ("exp", sign({**CLAIMS, "exp": T0 - 60})),
    "no exp": ("exp", sign(without("exp"))),
    "exp a string": ("exp", sign({**CLAIMS, "exp": str(T0 + 60)})),
    "exp true": ("exp", sign({**CLAIMS, "exp": True})),
    "exp without end": ("exp", sign(json.dumps(CLAIMS).replace(str(T0 + 3600), "1e999").encode())),
    "exp huge": ("exp", sign({**CLAIMS, "exp": 10**400})),
    "exp negative": ("exp", sign({**CLAIMS, "exp": -1})),
    "iat ahead": ("iat", sign({**CLAIMS, "iat": T0 + 61})),
    "no iat": ("iat", sign(without("iat"))),
    "nbf ahead": ("nbf", sign({**CLAIMS, "nbf": T0 + 61})),
    "nbf a string": ("nbf", sign({**CLAIMS, "nbf": str(T0)})),
    "a logout token": (
        "events",
        sign({**CLAIMS, "events": {"http://schemas.openid.net/event/backchannel-logout": {}}}),
    ),
    "no sub": ("sub", sign(without("sub"))),
    "sub empty": ("sub", sign({**CLAIMS, "sub": ""})),
    "sub a number": ("sub", sign({**CLAIMS, "sub": 7})),
    "sub of 256 characters": ("sub", sign({**CLAIMS, "sub": "a" * 256})),
    **{
        f"{name} with {text!r}": (name, sign({**CLAIMS, name: value}))
        for text in ("a\x00", "a\nb", "\x1b[2J", "\x85", "\ud800")
        for name, value in (("sub", text), ("amr", [text]), ("amr", text))
    },
    "amr a number": ("amr", sign({**CLAIMS, "amr": 0})),
    "amr of numbers": ("amr", sign({**CLAIMS, "amr": [1]})),
    "auth_time a string": ("auth_time", sign({**CLAIMS, "auth_time": "now"})),
    "auth_time without end": ("auth_time", sign({**CLAIMS, "auth_time": "9" * 400})),
    "auth_time in digits of no number": ("auth_time", sign({**CLAIMS, "auth_time": "²"})),
    "auth_time a fraction in words": ("auth_time", sign({**CLAIMS, "auth_time": f"{T0}.5"})),
    "auth_time ahead in words": ("auth_time", sign({**CLAIMS, "auth_time": str(T0 + 61)})),
    "auth_time ahead": ("auth_time", sign({**CLAIMS, "auth_time": T0 + 61})),
}


@pytest.mark.parametrize(("check", "token"), FORGED.values(), ids=FORGED.keys())
def test_a_forged_token_is_rejected_by_the_check_it_fails(check: str, token: str) -> None:
    with pytest.raises(TokenRejected) as caught:
        verify(token)

    assert caught.value.check == check
    assert type(caught.value) is TokenRejected


@pytest.mark.parametrize("token", [FORGED[name][1] for name in FORGED if name != "empty"])
def test_no_rejection_tells_what_the_token_was(token: str) -> None:
    with pytest.raises(TokenRejected) as caught:
        verify(token)

    told = "".join(traceback.format_exception(caught.value))
    assert token[-40:] not in told
    assert caught.value.__context__ is None


def test_an_encrypted_token_is_rejected_as_not_supported() -> None:
    key = OctKey.generate_key(256)
    token = jwe.encrypt_compact({"alg": "dir", "enc": "A256GCM"}, sign(CLAIMS).encode(), key)

    with pytest.raises(TokenRejected, match="encrypted"):
        verify(token)


def test_a_valid_token_about_somebody_else_is_told_apart() -> None:
    with pytest.raises(WrongSubject):
        verify(sign(CLAIMS), user_id="bob")


def test_a_token_with_any_other_fault_is_not_called_a_wrong_subject() -> None:
    with pytest.raises(TokenRejected) as caught:
        verify(sign({**CLAIMS, "exp": T0 - 3600}), user_id="bob")

    assert caught.value.check == "exp"


def test_no_keys_at_all_means_try_later() -> None:
    http = PretendHttp(public(rsa()))
    http.status = 503

    with pytest.raises(MosaicUnavailable):
        verifier(http).verify(APP, sign(CLAIMS), "ada", Deadline.after(5))


# Where there is no ID token

ACCESS: dict[str, Any] = {**without("amr"), "aud": "userid-api", "client_id": "shop"}


def prove(token: str, user_id: str = "ada") -> Identity:
    http = PretendHttp(public(rsa()))
    return verifier(http).verify_access_token(APP, token, user_id, Deadline.after(5))


@pytest.mark.parametrize("typ", [None, "JWT", "at+jwt", "application/at+jwt"])
def test_an_access_token_proves_the_user_and_no_factor(typ: str | None) -> None:
    identity = prove(sign({**ACCESS, "amr": ["mfa"]}, {"typ": typ}))

    assert (identity.user_id, identity.amr) == ("ada", None)


@pytest.mark.parametrize(
    ("check", "token"),
    [
        ("format", "opaque"),
        ("iss", sign({**ACCESS, "iss": "https://elsewhere.example"})),
        ("client_id", sign({**ACCESS, "client_id": "forum"})),
        ("client_id", sign({**CLAIMS, "aud": "shop"})),
        ("exp", sign({**ACCESS, "exp": T0 - 60})),
        ("signature", sign(ACCESS, key=rsa("evil"))),
        ("sub", sign({**ACCESS, "sub": None})),
        ("typ", sign(ACCESS, {"typ": "logout+jwt"})),
    ],
)
def test_an_access_token_that_proves_nothing_is_rejected(check: str, token: str) -> None:
    with pytest.raises(TokenRejected, match=f"no ID token, and the access token's {check}"):
        prove(token)


def test_an_access_token_about_somebody_else_is_told_apart() -> None:
    with pytest.raises(WrongSubject):
        prove(sign(ACCESS), user_id="bob")


# Key sets


def test_one_bad_key_does_not_spoil_the_others() -> None:
    good = public(rsa())
    bad: list[Any] = [
        None,
        7,
        {},
        {"kty": "RSA"},
        {"kty": "RSA", "n": 7, "e": "AQAB"},
        {"kty": "RSA", "n": "!!", "e": "AQAB"},
        {"kty": "RSA", "n": "_" * 170 + "w", "e": "AQAB"},
        {"kty": "RSA", "n": "_" * 2730 + "w", "e": "AQAB"},
        {"kty": "oct", "k": "c2VjcmV0"},
        {"kty": "EC", "crv": "P-384", "x": "AA", "y": "AA"},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {**good, "use": "enc"},
        {**good, "kid": 7},
        {**good, "alg": "RS512"},
        {**good, "alg": ["RS256"]},
        {**good, "e": "AA"},
        {**good, "e": "AQAAAAAB"},  # of 41 bits
    ]

    assert [key.kid for key in read_key_set({"keys": [*bad, good]}).keys] == ["k1"]


def test_of_a_key_set_without_end_no_more_is_read_than_a_worker_can_hold() -> None:
    good = public(rsa())

    assert len(read_key_set({"keys": [good] * 1000}).keys) == MAX_KEYS


@pytest.mark.parametrize("body", [None, [], {}, {"keys": None}, {"keys": {}}, {"keys": []}])
def test_what_is_no_key_set_has_no_keys(body: Any) -> None:
    assert read_key_set(body).keys == ()


@pytest.mark.parametrize("named", ["RS256", "PS256"])
def test_an_rsa_key_serves_the_algorithms_that_mosaic_signs_with_and_no_other(named: str) -> None:
    key = {**public(rsa()), "alg": named}

    for algorithm in ("RS256", "PS256"):
        assert verify(sign(CLAIMS, {"alg": algorithm}), key).user_id == "ada"
    with pytest.raises(TokenRejected, match="alg"):
        verify(sign(CLAIMS, {"alg": "RS512"}), key)


@pytest.mark.parametrize(("algorithm", "other"), [("RS256", "PS256"), ("PS256", "RS256")])
@pytest.mark.parametrize("own", ["named", "none named"])
def test_of_several_keys_a_token_without_kid_is_signed_with_the_one_for_its_algorithm(
    algorithm: str, other: str, own: str
) -> None:
    key = {**public(rsa()), "alg": algorithm if own == "named" else None}
    others = [{**public(rsa("k2")), "alg": other}, {**public(rsa("k3")), "alg": other}]
    header = {"alg": algorithm, "kid": None}

    assert verify(sign(CLAIMS, header), *others, key).user_id == "ada"
    with pytest.raises(TokenRejected, match="signature"):
        verify(sign(CLAIMS, header, rsa("k2")), *others, key)


def test_a_token_with_a_kid_passes_with_the_only_key_for_its_algorithm_if_that_has_none() -> None:
    nameless = {name: value for name, value in public(rsa()).items() if name != "kid"}
    keys = [{**nameless, "alg": "RS256"}, {**public(rsa("k2")), "alg": "PS256"}]

    assert verify(sign(CLAIMS), *keys).user_id == "ada"


def test_of_two_keys_of_one_kid_a_token_is_signed_with_the_one_for_its_algorithm() -> None:
    ours = {**public(rsa()), "alg": "RS256"}
    keys = [{**public(rsa("k2")), "alg": "PS256", "kid": "k1"}, ours]

    assert verify(sign(CLAIMS), *keys).user_id == "ada"
    with pytest.raises(TokenRejected, match="signature"):
        verify(sign(CLAIMS, key=rsa("k2")), *keys)


def test_two_keys_for_its_algorithm_leave_a_token_without_kid_no_other() -> None:
    ours = [{**public(rsa(kid)), "alg": "RS256"} for kid in ("k2", "k3")]
    other = {**public(rsa()), "alg": "PS256"}

    with pytest.raises(TokenRejected, match="kid"):
        verify(sign(CLAIMS, {"kid": None}), *ours, other)
    assert verify(sign(CLAIMS), *ours, other).user_id == "ada"  # it names the other one


@pytest.mark.parametrize("named", ["RS256", "PS256"])
def test_a_key_on_a_curve_that_names_an_rsa_algorithm_serves_none(named: str) -> None:
    key = {**public(ec()), "alg": named}

    assert read_key_set({"keys": [key]}).keys == ()


def test_a_key_set_without_usable_keys_is_no_key_set() -> None:
    http = PretendHttp({"kty": "oct", "k": "c2VjcmV0"})

    with pytest.raises(MosaicContractBroken, match="no usable"):
        verifier(http).verify(APP, sign(CLAIMS), "ada", Deadline.after(5))
