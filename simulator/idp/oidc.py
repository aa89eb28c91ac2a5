"""The OpenID Connect endpoints: client access tokens and the JWKS."""

from __future__ import annotations

from simulator.idp.client_auth import authenticate_client
from simulator.idp.errors import oauth_refused
from simulator.idp.incoming import Answer, Incoming


def issue_client_token(call: Incoming) -> Answer:
    """Give an app the access token that authorises its calls."""
    if call.complaints:
        raise oauth_refused(400, "invalid_request", "; ".join(call.complaints))
    form = call.fields
    if form["grant_type"] != "client_credentials":
        raise oauth_refused(400, "unsupported_grant_type", "only client_credentials")
    client = authenticate_client(call.state, form, call.authorization, call.url)
    body = {
        "access_token": call.state.clients.issue_token(client.client_id),
        "expires_in": call.state.policy.client_token_seconds,
        "token_type": "Bearer",
        "scope": "sessions:read sessions:delete users:read users:create",
    }
    return Answer(200, body, {"Cache-Control": "no-store"})


def publish_jwks(call: Incoming) -> Answer:
    """Show the public keys; no caller has to say who it is."""
    policy = call.state.policy
    algorithms = {"signing": policy.signing_algorithm, "none": None}
    algorithm = algorithms.get(policy.published_algorithm, policy.published_algorithm)
    return Answer(200, call.state.keys.jwks(algorithm))
