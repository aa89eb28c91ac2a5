"""How an app's client proves itself at Mosaic's token endpoint: by a secret, or by a signature.

Sources: RFC 6749 section 2.3.1, RFC 7523 section 2.2, and "Client access token" in the protocol
sheet. `models.TokenEndpointAuthMethod` has the names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import ClassVar, Final
from uuid import uuid4
from warnings import catch_warnings, simplefilter

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from joserfc import jws
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, Key, RSAKey, import_key

from models import TokenEndpointAuthMethod
from worker.errors import ConfigurationError
from worker.mosaic.jwks import EC_ALGORITHMS, RSA_ALGORITHMS

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
# From our clock's now. Mosaic's may be ahead by the minute that clocks are allowed to be apart.
ASSERTION_SECONDS: Final = 120

_ALGORITHMS: Final = sorted(RSA_ALGORITHMS | EC_ALGORITHMS)
_USUAL_ALGORITHM: Final = {"RSA": "RS256", "EC": "ES256"}
_CERTIFICATE: Final = "-----BEGIN CERTIFICATE-----"
_UNREADABLE: Final = (
    *(JoseError, ValueError, TypeError, LookupError, AttributeError, AssertionError),
    *(RecursionError, UnsupportedAlgorithm, SecurityWarning),
)


@dataclass(frozen=True, slots=True)
class ClientSecret:
    """A text that Mosaic knows as well."""

    method: ClassVar = TokenEndpointAuthMethod.CLIENT_SECRET_POST
    value: str = field(repr=False)

    @classmethod
    def read(cls, text: str) -> ClientSecret:
        """Return the secret that an operator's file holds. Raises `ValueError`."""
        secret = text.strip()
        if not secret:
            raise ValueError("the client secret must not be empty")
        if len(secret.splitlines()) > 1 or secret.startswith("{"):
            # As a private key is, in PEM or JWK: Mosaic must never be sent one.
            raise ValueError(
                "a client secret is one line; a private key is given by --client-key-file"
            )
        return cls(secret)

    def proof(self, client_id: str, token_url: str, now: datetime) -> dict[str, str]:
        """Return the fields of a token request that prove it comes from *client_id*."""
        del client_id, token_url, now
        return {"client_secret": self.value}


@dataclass(frozen=True, slots=True)
class ClientPrivateKey:
    """A private key, as a JWK in JSON with its ``alg``; Mosaic knows the public one."""

    method: ClassVar = TokenEndpointAuthMethod.PRIVATE_KEY_JWT
    value: str = field(repr=False)

    @classmethod
    def read(cls, text: str) -> ClientPrivateKey:
        """Return the key that an operator's file holds, as PEM or as JWK.

        A JWK's ``alg`` and ``kid`` are kept; without an ``alg`` an RSA key signs by RS256. Raises
        `ValueError`, which quotes nothing of it.
        """
        if _CERTIFICATE in text:
            # With its key it would be taken, and Mosaic refuse each assertion.
            raise ValueError(
                "this file has a certificate, and mutual TLS (tls_client_auth) is not spoken: have"
                " Mosaic know the client by its public key (private_key_jwt) or by a secret, and"
                " give the private key alone"
            )
        try:
            with catch_warnings():
                simplefilter("error", SecurityWarning)  # of what is too weak
                key = _key_in(text)
            algorithm = key.get("alg") or _USUAL_ALGORITHM[key.key_type]
            found = cls(json.dumps(key.as_dict(private=True) | {"alg": algorithm}))
            found.proof("", "", datetime.now(UTC))  # joserfc refuses what cannot sign
        except _UNREADABLE:  # from None: what they say may quote the key
            raise ValueError(
                "the client key must be one private key, unencrypted, as PEM or JWK: RSA of 2048"
                " bits or more (alg RS256 or PS256), or EC P-256 (ES256)"
            ) from None
        return found

    def proof(self, client_id: str, token_url: str, now: datetime) -> dict[str, str]:
        """Return the fields of a token request that prove it comes from *client_id*.

        Each serves once, at *token_url* alone, and for two minutes.
        """
        claims = {
            "iss": client_id,
            "sub": client_id,
            "aud": token_url,
            "jti": str(uuid4()),
            "exp": int(now.timestamp()) + ASSERTION_SECONDS,
        }
        key = import_key(json.loads(self.value))
        header = {"alg": key["alg"], "typ": "JWT"} | ({} if key.kid is None else {"kid": key.kid})
        signed = jws.serialize_compact(header, json.dumps(claims), key, algorithms=_ALGORITHMS)
        return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": signed}


ClientCredential = ClientSecret | ClientPrivateKey

_KINDS: Final[Mapping[str, type[ClientCredential]]] = {
    kind.method: kind for kind in (ClientSecret, ClientPrivateKey)
}


def credential_of(method: str, value: str) -> ClientCredential:
    """Return what is stored of a client: its *value*, by the *method* that it serves for.

    Raises `ConfigurationError` for a method that a later release has written.
    """
    if method not in _KINDS:
        raise ConfigurationError(f"this release knows no token_endpoint_auth_method {method!r}")
    return _KINDS[method](value)


def _key_in(text: str) -> Key:
    if text.lstrip().startswith("{"):
        return import_key(json.loads(text))
    native = load_pem_private_key(text.encode(), password=None)
    if isinstance(native, RSAPrivateKey):
        return RSAKey.import_key(native)
    if isinstance(native, EllipticCurvePrivateKey):
        return ECKey.import_key(native)
    raise TypeError(type(native).__name__)
