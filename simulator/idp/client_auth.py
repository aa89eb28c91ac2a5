"""How an app proves to the token endpoint who it is."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from secrets import compare_digest
from urllib.parse import unquote_plus

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import Key

from simulator.idp.errors import RefusedError, oauth_refused, refused
from simulator.idp.records import Client
from simulator.idp.state import MosaicState

JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_ALGORITHMS = ["RS256", "PS256", "ES256"]


def authenticate_client(
    state: MosaicState, form: Mapping[str, str], authorization: str, token_url: str
) -> Client:
    """The client behind a token request, by assertion, HTTP Basic or a secret in the form."""
    basic = read_basic(authorization)
    ways = [basic is not None, "client_secret" in form, "client_assertion" in form]
    if sum(ways) != 1:  # RFC 6749 section 2.3: one way to authenticate per request
        raise oauth_refused(400, "invalid_request", "authenticate in exactly one way")
    if "client_assertion" in form:
        return _by_assertion(state, form, token_url)
    client_id, secret = basic or (form.get("client_id", ""), form["client_secret"])
    if form.get("client_id", client_id) != client_id:
        raise oauth_refused(400, "invalid_request", "client_id differs from the one in Basic")
    return _by_secret(state, client_id, secret)


def read_basic(authorization: str) -> tuple[str, str] | None:
    """Client id and secret from HTTP Basic, each form encoded (RFC 6749 section 2.3.1)."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        client_id, _, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return unquote_plus(client_id), unquote_plus(secret)


def _by_secret(state: MosaicState, client_id: str, secret: str) -> Client:
    client = state.clients.get(client_id)
    if client is None or client.secret is None:
        raise _invalid_client(state)
    if not compare_digest(client.secret.encode(), secret.encode()):
        raise _invalid_client(state)
    return client


def _by_assertion(state: MosaicState, form: Mapping[str, str], token_url: str) -> Client:
    if form.get("client_assertion_type") != JWT_BEARER:
        raise oauth_refused(400, "invalid_request", "unknown client_assertion_type")
    assertion = form["client_assertion"]
    client = state.clients.get(form.get("client_id") or claimed_client_id(assertion) or "")
    if client is None or client.public_key is None:
        raise _invalid_client(state)
    claims = _verified(state, assertion, client.public_key)
    expected = {"iss": client.client_id, "sub": client.client_id, "aud": token_url}
    wrong = [name for name, value in expected.items() if claims.get(name) != value]
    if wrong or not _is_fresh(state, claims):
        raise _invalid_client(state)
    return client


def claimed_client_id(assertion: str) -> str | None:
    """The `sub` an assertion claims, taken on trust: only to know whose key to try."""
    try:
        payload = assertion.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return str(claims["sub"])
    except (IndexError, KeyError, TypeError, ValueError):
        return None


def _verified(state: MosaicState, assertion: str, key: Key) -> Mapping[str, object]:
    try:
        return jwt.decode(assertion, key, algorithms=ASSERTION_ALGORITHMS).claims
    except JoseError:
        raise _invalid_client(state) from None


def _is_fresh(state: MosaicState, claims: Mapping[str, object]) -> bool:
    expires_at, jti = claims.get("exp"), claims.get("jti")
    is_dated = isinstance(expires_at, int) and expires_at > state.clock.now()
    return is_dated and isinstance(jti, str) and state.clients.use_assertion(jti)


def _invalid_client(state: MosaicState) -> RefusedError:
    if state.policy.wrong_client_answer == "oauth":
        return oauth_refused(401, "invalid_client", "client authentication failed")
    return refused(400, ["Invalid client_id or client_secret"])
