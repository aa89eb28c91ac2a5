"""How a client proves itself: which private keys can be meant, and what they sign."""

from __future__ import annotations

import json
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey, import_key

from models import TokenEndpointAuthMethod
from tests.certificates import make_certificate
from worker.errors import ConfigurationError
from worker.mosaic.client_authentication import (
    ASSERTION_SECONDS,
    ASSERTION_TYPE,
    ClientPrivateKey,
    ClientSecret,
    credential_of,
)

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
TOKEN_URL = "https://mosaic.example/oidc/token"
ALGORITHMS = ["RS256", "PS256", "ES256"]

RSA_2048 = rsa.generate_private_key(65537, 2048)
P256 = ec.generate_private_key(ec.SECP256R1())


def pem(key: Any, form: PrivateFormat = PrivateFormat.PKCS8, password: bytes | None = None) -> str:
    encryption = NoEncryption() if password is None else BestAvailableEncryption(password)
    return str(key.private_bytes(Encoding.PEM, form, encryption).decode())


def jwk(key: Key, **facts: object) -> str:
    return json.dumps(key.as_dict(private=True) | facts)


USABLE: dict[str, tuple[str, Any, dict[str, str]]] = {
    "RSA, PKCS#8": (pem(RSA_2048), RSA_2048, {"alg": "RS256"}),
    "RSA, PKCS#1": (pem(RSA_2048, PrivateFormat.TraditionalOpenSSL), RSA_2048, {"alg": "RS256"}),
    "EC, PKCS#8": (pem(P256), P256, {"alg": "ES256"}),
    "EC, SEC 1": (pem(P256, PrivateFormat.TraditionalOpenSSL), P256, {"alg": "ES256"}),
    "among words": (f"its key:\n{pem(P256)}\n", P256, {"alg": "ES256"}),
    "an RSA JWK": (jwk(RSAKey.import_key(RSA_2048)), RSA_2048, {"alg": "RS256"}),
    "an EC JWK": (f"\n {jwk(ECKey.import_key(P256), kid='1')}", P256, {"alg": "ES256", "kid": "1"}),
    "a JWK for PS256": (
        jwk(RSAKey.import_key(RSA_2048), alg="PS256", kid="2026", use="sig", key_ops=["sign"]),
        RSA_2048,
        {"alg": "PS256", "kid": "2026"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", USABLE)
def test_a_key_signs_that_a_request_is_its_clients_own(name: str) -> None:
    text, native, header = USABLE[name]
    key = ClientPrivateKey.read(text)

    fields = key.proof("client-shop", TOKEN_URL, NOW)

    kind = RSAKey if native is RSA_2048 else ECKey
    signed = jwt.decode(
        fields.pop("client_assertion"), kind.import_key(native.public_key()), algorithms=ALGORITHMS
    )
    assert fields == {"client_assertion_type": ASSERTION_TYPE}
    assert signed.header == header | {"typ": "JWT"}
    assert signed.claims.pop("jti")
    assert signed.claims == {
        "iss": "client-shop",
        "sub": "client-shop",
        "aud": TOKEN_URL,
        "exp": int(NOW.timestamp()) + ASSERTION_SECONDS,
    }


def test_each_request_is_signed_anew() -> None:
    key = ClientPrivateKey.read(USABLE["EC, PKCS#8"][0])

    proofs = {key.proof("c", TOKEN_URL, NOW)["client_assertion"] for _ in range(3)}

    assert len(proofs) == 3


def test_what_is_stored_of_a_key_is_read_again() -> None:
    key = ClientPrivateKey.read(USABLE["a JWK for PS256"][0])

    assert credential_of(key.method, key.value) == key
    assert import_key(json.loads(key.value)).is_private


SMALL = rsa.generate_private_key(65537, 1024)  # noqa: S505 - so that it is refused
with warnings.catch_warnings():
    warnings.simplefilter("ignore", SecurityWarning)
    SMALL_JWK = jwk(RSAKey.import_key(SMALL))
P384 = ec.generate_private_key(ec.SECP384R1())
UNUSABLE = {
    "nothing": "",
    "noise": "canary",
    "no JSON": "{canary",
    "too deep": '{"kty":' * 100_000,
    "no key": "{}",
    "a number for a key": '{"kty": 7}',
    "half a PEM": pem(RSA_2048)[:400],
    "encrypted": pem(RSA_2048, password=b"canary"),
    "RSA too small": pem(SMALL),
    "RSA too small, as JWK": SMALL_JWK,
    "another curve": pem(P384),
    "another curve as JWK": jwk(ECKey.import_key(P384), alg="ES256"),
    "Ed25519": pem(ed25519.Ed25519PrivateKey.generate()),
    "Ed25519 as JWK": jwk(OKPKey.generate_key("Ed25519"), alg="Ed25519"),
    "DSA": pem(dsa.generate_private_key(2048)),
    "a public PEM": RSA_2048.public_key()
    .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    .decode(),
    "a public JWK": json.dumps(RSAKey.import_key(RSA_2048.public_key()).as_dict()),
    "a shared key": jwk(OctKey.generate_key(256), alg="HS256"),
    "a key set": json.dumps({"keys": [RSAKey.import_key(RSA_2048).as_dict(private=True)]}),
    "alg none": jwk(RSAKey.import_key(RSA_2048), alg="none"),
    "alg of a shared key": jwk(RSAKey.import_key(RSA_2048), alg="HS256"),
    "alg of another kind": jwk(RSAKey.import_key(RSA_2048), alg="ES256"),
    "alg a list": jwk(RSAKey.import_key(RSA_2048), alg=["RS256"]),
    "a key to verify": jwk(RSAKey.import_key(RSA_2048), key_ops=["verify"]),
    "a key to encrypt": jwk(RSAKey.import_key(RSA_2048), use="enc"),
    "kid a number": jwk(ECKey.import_key(P256), kid=7),
    "d is noise": jwk(ECKey.import_key(P256), d="canary"),
    "d is a number": jwk(ECKey.import_key(P256), d=7),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_is_no_usable_key_is_refused_without_quoting_it(name: str) -> None:
    text = UNUSABLE[name]

    with pytest.raises(ValueError, match="client key") as refused:
        ClientPrivateKey.read(text)

    assert "one private key, unencrypted, as PEM or JWK" in str(refused.value)
    assert "canary" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.parametrize("with_key", [False, True])
def test_a_certificate_is_refused_with_a_word_of_mutual_tls(
    tmp_path: Path, *, with_key: bool
) -> None:
    both = make_certificate(tmp_path, "client.example").read_text("ascii")
    certificate, begin_key, _ = both.partition("-----BEGIN PRIVATE KEY-----")
    assert certificate
    assert begin_key
    text = both if with_key else certificate

    with pytest.raises(ValueError, match=r"mutual TLS \(tls_client_auth\) is not spoken"):
        ClientPrivateKey.read(text)


@pytest.mark.parametrize("text", ["", " \n", *(usable[0] for usable in USABLE.values())])
def test_a_secret_is_one_line_and_no_key(text: str) -> None:
    with pytest.raises(ValueError, match="client secret"):
        ClientSecret.read(text)


def test_a_secret_is_sent_as_it_is() -> None:
    secret = ClientSecret.read(" s3cr3t\n")

    assert secret.proof("c", TOKEN_URL, NOW) == {"client_secret": "s3cr3t"}


def test_nothing_that_proves_a_client_is_shown_by_what_holds_it() -> None:
    for credential in (ClientSecret("canary"), ClientPrivateKey("canary")):
        assert "canary" not in repr(credential)


def test_every_method_has_its_credential() -> None:
    for method in TokenEndpointAuthMethod:
        assert credential_of(method.value, "x").method is method
    with pytest.raises(ConfigurationError, match="tls_client_auth"):
        credential_of("tls_client_auth", "x")
