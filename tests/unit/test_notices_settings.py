"""Signing keys are checked when the worker starts, and never quoted."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tests.integration.backchannel.notices_rig import ISSUER, pem_of, rsa_pem
from worker.errors import ConfigurationError
from worker.settings.model import Settings, read
from worker.settings.validators import parse_signing_keys

KEY = base64.b64encode(b"e" * 32).decode()
ENVIRONMENT = {
    "MOSAIC_SESSIONS_ENCRYPTION_KEYS": f"k1:{KEY}",
    "MOSAIC_SESSIONS_LOOKUP_KEY": KEY,
}


def with_keys(pem: str, issuer: str = ISSUER) -> Settings:
    return read(
        {
            **ENVIRONMENT,
            "MOSAIC_SESSIONS_NOTICE_ISSUER": issuer,
            "MOSAIC_SESSIONS_NOTICE_SIGNING_KEYS": pem,
        }
    )


def traditional(pem: str) -> str:
    (key,) = parse_signing_keys(pem)
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    ).decode()


def public(pem: str) -> str:
    (key,) = parse_signing_keys(pem)
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


FIRST, SECOND = rsa_pem("first"), rsa_pem("second")
GOOD = {
    "one": (FIRST, 1),
    "two": (FIRST + SECOND, 2),
    "two on one line": (f"{FIRST.strip()} {SECOND.strip()}", 2),
    "with remarks": (f"Bag Attributes: 2026-03\n{FIRST}\n# old one\n{SECOND}", 2),
    "in OpenSSL's older form": (traditional(FIRST), 1),
    "with the line ends of Windows": (FIRST.replace("\n", "\r\n"), 1),
}
SECRET_LINE = FIRST.splitlines()[2]
BAD = {
    "no PEM": "canary-31",
    "too small": rsa_pem("small", 1024),
    "another kind": pem_of(ec.generate_private_key(ec.SECP256R1())),
    "public": public(FIRST),
    "a good and a small one": FIRST + rsa_pem("small", 1024),
    "a good and a cut one": FIRST + SECOND[:800],
    "a cut and a good one": FIRST[:800] + SECOND,
    "garbage inside": FIRST.replace(SECRET_LINE, "canary" * 8),
    "encrypted": pem_of(
        rsa.generate_private_key(65537, 2048), serialization.BestAvailableEncryption(b"pw")
    ),
    "twice the same": FIRST + FIRST,
}


@pytest.mark.parametrize("name", GOOD)
def test_rsa_keys_in_pem_are_read_in_their_order(name: str) -> None:
    pem, count = GOOD[name]

    keys = with_keys(pem).notice_signing_keys

    assert keys is not None
    found = parse_signing_keys(keys.get_secret_value())
    assert len(found) == count
    assert pem_of(found[0]) == FIRST


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_sign_is_refused_without_quoting_it(name: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        with_keys(BAD[name])

    text = str(caught.value)
    assert text.startswith("MOSAIC_SESSIONS_NOTICE_SIGNING_KEYS: ")
    assert "canary" not in text
    assert SECRET_LINE not in text
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_keys_without_an_issuer_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="MOSAIC_SESSIONS_NOTICE_ISSUER is missing"):
        with_keys(FIRST, issuer="")


def test_an_issuer_may_be_there_before_its_keys() -> None:
    assert with_keys("").notice_signing_keys is None
