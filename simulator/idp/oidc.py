"""The OpenID Connect endpoints: client access tokens and the JWKS."""

from __future__ import annotations

from simulator.idp import shapes
from simulator.idp.client_auth import authenticate_client
from simulator.idp.errors import RefusedError, oauth_refused
from simulator.idp.incoming import Answer, Incoming


def issue_client_token(call: Incoming) -> Answer:
    """Give an app the access token that authorises its calls."""
    form = _form(call)
    if form["grant_type"] != "client_credentials":
        raise oauth_refused(400, "unsupported_grant_type", "only client_credentials")
    client = authenticate_client(call.state, form, call.authorization, call.url)
    body = {
        "access_token": call.state.clients.issue_token(client.client_id),
        "expires_in": call.state.policy.client_token_seconds,
        "token_type": "Bearer",
        "scope": "",
    }
    return Answer(200, body, {"Cache-Control": "no-store"})


def publish_jwks(call: Incoming) -> Answer:
    """Show the public keys; no caller has to say who it is."""
    return Answer(200, call.state.keys.jwks())


def _form(call: Incoming) -> dict[str, str]:
    try:
        form = call.form()
    except RefusedError as refusal:
        raise oauth_refused(400, "invalid_request", str(refusal.body["message"])) from None
    if found := shapes.complaints(form, shapes.CLIENT_TOKEN):
        raise oauth_refused(400, "invalid_request", "; ".join(found))
    return form
