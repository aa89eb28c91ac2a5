"""Verifies ID tokens. Nothing about a user is believed that did not pass here.

Sources: OpenID Connect Core 1.0 section 3.1.3.7, RFC 8725 (JWT best practice), and "User tokens"
in the protocol sheet. joserfc checks the signature; every claim is checked here, since its
`decode` looks at none of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeGuard

from joserfc import jws
from joserfc.errors import JoseError

from session_client.contract import MAX_ID_TOKEN_CHARACTERS
from worker.errors import TokenRejected, WrongSubject
from worker.mosaic.deadline import Deadline
from worker.mosaic.faults import NO_ID_TOKEN
from worker.mosaic.jwks import EC_ALGORITHMS, RSA_ALGORITHMS, KeySet, KeySets, VerificationKey
from worker.mosaic.types import Identity, MosaicApp
from worker.storage.texts import MAX_USER_ID_CHARACTERS, is_storable

ALGORITHMS: Final = RSA_ALGORITHMS | EC_ALGORITHMS

# Each of these lets the token say how it wants to be verified.
_FORBIDDEN_HEADERS: Final = frozenset({"jwk", "jku", "x5u", "crit", "b64"})

_ID_TOKEN_TYPES: Final = ("jwt",)
_ACCESS_TOKEN_TYPES: Final = ("jwt", "at+jwt", "application/at+jwt")
_JWS_PARTS: Final = 3
_JWE_PARTS: Final = 5
_LAST_MOMENT: Final = 253_402_300_799.0  # the end of the year 9999, the last a datetime can hold


class _Registry(jws.JWSRegistry):
    # One limit, on the whole token: joserfc's own (512 for a header) are tighter than honest
    # tokens, which may carry a certificate.
    max_header_length = MAX_ID_TOKEN_CHARACTERS
    max_payload_length = MAX_ID_TOKEN_CHARACTERS
    max_signature_length = MAX_ID_TOKEN_CHARACTERS


# Unknown headers are ignored, as RFC 7515 section 4 wants; the dangerous ones are refused above.
_REGISTRY: Final = _Registry(algorithms=sorted(ALGORITHMS), strict_check_header=False)
_UNREADABLE: Final = (JoseError, ValueError, TypeError, AttributeError, RecursionError)


class IdTokenVerifier:
    """Turns an ID token into an `Identity`, or says which check it failed."""

    def __init__(
        self, key_sets: KeySets, now: Callable[[], datetime], clock_skew_seconds: float
    ) -> None:
        self.key_sets = key_sets
        self._now = now
        self._skew = clock_skew_seconds

    def verify(
        self, app: MosaicApp, id_token: str, user_id: str | None, deadline: Deadline
    ) -> Identity:
        """Return what *id_token* says of *user_id*, issued by Mosaic for *app*.

        None is any user: after an active login the token says who it was.

        Raises `TokenRejected`, `WrongSubject` once everything else is right, and
        `MosaicUnavailable` when no keys can be had. An encrypted token (a JWE around the JWT,
        where the client enforces encryption) is not supported yet and rejected as such.
        """
        claims = self._claims(app, _parse(id_token, _ID_TOKEN_TYPES), deadline)
        _check_audience(claims, app.client_id)
        return self._identity_of(user_id, claims, _methods(claims), claims.get("approval_data"))

    def verify_access_token(
        self, app: MosaicApp, access_token: str, user_id: str | None, deadline: Deadline
    ) -> Identity:
        """Return what a user access token of Mosaic's says, where no ID token came with it.

        It proves the subject and nothing of how they logged in. Its audience is the API it is for,
        so the client stands in a claim of its own. Raises as `verify` does.
        """
        try:
            claims = self._claims(app, _parse(access_token, _ACCESS_TOKEN_TYPES), deadline)
            _check_client(claims, app.client_id)
            return self._identity_of(user_id, claims, None)
        except WrongSubject:
            raise
        except TokenRejected as rejected:
            raise TokenRejected(f"{NO_ID_TOKEN}, and the access token's {rejected.check}") from None

    def _claims(
        self, app: MosaicApp, token: jws.CompactSignature, deadline: Deadline
    ) -> Mapping[str, Any]:
        claims = _read_json(self._verified_payload(token, app.jwks_url, deadline))
        if claims.get("iss") != app.issuer:
            raise TokenRejected("iss")
        _check_times(claims, self._now().timestamp(), self._skew)
        return claims

    def _identity_of(
        self,
        user_id: str | None,
        claims: Mapping[str, Any],
        methods: tuple[str, ...] | None,
        approval_data: Any = None,
    ) -> Identity:
        identity = Identity(
            user_id=_subject(claims),
            amr=methods,
            auth_time=_auth_time(claims, self._now().timestamp() + self._skew),
            issued_at=_utc(claims["iat"]),  # both numbers by now: see `_check_times`
            expires_at=_utc(claims["exp"]),
            approval_data=approval_data if isinstance(approval_data, dict) else None,
        )
        if user_id is not None and identity.user_id != user_id:
            raise WrongSubject
        return identity

    def _verified_payload(
        self, token: jws.CompactSignature, jwks_url: str, deadline: Deadline
    ) -> bytes:
        keys = self.key_sets.current(jwks_url, deadline)
        if _is_signed_by(token, keys):
            return token.payload
        # Unknown kid or bad signature: Mosaic may have changed its keys since.
        renewed = self.key_sets.renewed(jwks_url, keys, deadline)
        if renewed is not None and _is_signed_by(token, renewed):
            return token.payload
        raise TokenRejected("signature" if _candidates(token, renewed or keys) else "kid")


def _parse(id_token: str, types: Collection[str]) -> jws.CompactSignature:
    """Take the token apart and check its header; nothing in it is proven yet."""
    if len(id_token) > MAX_ID_TOKEN_CHARACTERS:
        raise TokenRejected("size")
    parts = id_token.count(".") + 1
    if parts == _JWE_PARTS:
        raise TokenRejected("encrypted")
    token = _extract(id_token) if parts == _JWS_PARTS else None
    if token is None:
        raise TokenRejected("format")
    header = token.headers()
    if header["alg"] not in ALGORITHMS:
        raise TokenRejected("alg")
    if not _FORBIDDEN_HEADERS.isdisjoint(header):
        raise TokenRejected("header")
    if not isinstance(header.get("kid"), str | None):
        raise TokenRejected("kid")
    # A logout token or an access token is signed by the same keys, and says so here.
    if str(header.get("typ", "JWT")).lower() not in types:
        raise TokenRejected("typ")
    return token


def _extract(id_token: str) -> jws.CompactSignature | None:
    # Returns None where it could raise: the errors below quote the token.
    try:
        token = jws.extract_compact(id_token.encode("ascii"), registry=_REGISTRY)
        algorithm = token.headers()["alg"]
    except _UNREADABLE:
        return None
    return token if isinstance(algorithm, str) else None


def _is_signed_by(token: jws.CompactSignature, keys: KeySet) -> bool:
    return any(_is_signed_with(token, key) for key in _candidates(token, keys))


def _candidates(token: jws.CompactSignature, keys: KeySet) -> tuple[VerificationKey, ...]:
    header = token.headers()
    return keys.fitting(header.get("kid"), header["alg"])


def _is_signed_with(token: jws.CompactSignature, key: VerificationKey) -> bool:
    try:
        return jws.validate_compact(token, key.key, registry=_REGISTRY)
    except _UNREADABLE:
        return False


def _read_json(payload: bytes) -> Mapping[str, Any]:
    try:
        claims = json.loads(payload, parse_constant=_refuse_constant)
    except _UNREADABLE:
        claims = None
    if not isinstance(claims, dict):
        raise TokenRejected("payload")
    return claims


def _refuse_constant(_: str) -> None:
    raise ValueError("NaN and Infinity are not JSON")


def _check_times(claims: Mapping[str, Any], now: float, skew: float) -> None:
    # These decide whether the token counts at all, so they must be numbers, as RFC 7519 wants; only
    # nbf may be missing, and null says no more than that.
    if now >= _moment(claims, "exp") + skew:
        raise TokenRejected("exp")
    if _moment(claims, "iat") > now + skew:
        raise TokenRejected("iat")
    if claims.get("nbf") is not None and _moment(claims, "nbf") > now + skew:
        raise TokenRejected("nbf")
    if "events" in claims:
        # Only a logout token has it (OpenID Connect Back-Channel Logout 1.0 section 2.4).
        raise TokenRejected("events")


def _check_audience(claims: Mapping[str, Any], client_id: str) -> None:
    audience = claims.get("aud")
    members = audience if isinstance(audience, list) else [audience]
    if not all(isinstance(member, str) for member in members) or client_id not in members:
        raise TokenRejected("aud")
    # With several audiences the token must say that it was made for this one.
    is_for_several = any(member != client_id for member in members)
    if (is_for_several or "azp" in claims) and claims.get("azp") != client_id:
        raise TokenRejected("azp")


def _check_client(claims: Mapping[str, Any], client_id: str) -> None:
    if claims.get("client_id") != client_id:
        raise TokenRejected("client_id")


def _subject(claims: Mapping[str, Any]) -> str:
    subject = claims.get("sub")
    # Another could be stored by no worker, or named by no app that is to log the user out.
    if not _is_text(subject) or not 0 < len(subject) <= MAX_USER_ID_CHARACTERS:
        raise TokenRejected("sub")
    return subject


def _methods(claims: Mapping[str, Any]) -> tuple[str, ...]:
    """Return ``amr``: a list of texts, or what is seen in its place, one text or null."""
    methods = claims.get("amr")
    if methods is None or methods == "":
        return ()
    listed = [methods] if isinstance(methods, str) else methods
    if not isinstance(listed, list) or not all(map(_is_text, listed)):
        raise TokenRejected("amr")
    return tuple(listed)


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and is_storable(value)


def _auth_time(claims: Mapping[str, Any], latest: float) -> datetime | None:
    """Return ``auth_time``: a number, or what is seen in its place, its digits or null."""
    value = claims.get("auth_time")
    if value is None:
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit():
        claims = {"auth_time": float(value)}
    moment = _moment(claims, "auth_time")
    if moment > latest:
        raise TokenRejected("auth_time")  # a login that lies ahead would pass every maximum age
    return _utc(moment)


def _moment(claims: Mapping[str, Any], name: str) -> float:
    """Return a NumericDate: seconds since 1970 that a datetime can hold."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TokenRejected(name)
    if not 0 <= value <= _LAST_MOMENT:  # also refuses an infinite 1e999
        raise TokenRejected(name)
    return float(value)


def _utc(moment: float) -> datetime:
    return datetime.fromtimestamp(moment, UTC)
