"""Signing in by a passkey (WebAuthn), on this device or with the help of another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simulator.idp.incoming import Answer, Incoming
from simulator.idp.methods.sign_in import Proof, session_to_join, sign_in
from simulator.idp.store.passkeys import WrongResultError

AMR = "webauthn"
DEFAULT_TIMEOUT_SECONDS = 300


def start(call: Incoming) -> Answer:
    """Give a browser the challenge its passkey is to sign."""
    fields = call.asked()
    require_client(call, fields["client_id"])
    user_id = find_user_id(call, fields.get("identifier") or fields.get("username"))
    return Answer(200, options_for(call, fields, user_id))


def authenticate(call: Incoming) -> Answer:
    """Sign in the user whose passkey signed the challenge."""
    client_id, fields = call.client_id(), call.asked()
    joined = session_to_join(call)
    encoded, now = fields["webauthn_encoded_result"], call.state.clock.now()
    try:
        user_id, challenge = call.state.passkeys.redeem(encoded, client_id, now)
    except WrongResultError:
        raise call.refused(400, "Invalid WebAuthn result", "webauthn_encoded_result") from None
    proof = Proof(call.state.users.ensure(user_id), AMR, challenge.approval_data)
    return sign_in(call, client_id, proof, joined)


def require_client(call: Incoming, client_id: str) -> None:
    """Refuse an app that is not registered with 404."""
    if call.state.clients.get(client_id) is None:
        raise call.refused(404, "Client not found", "client_not_found")


def find_user_id(call: Incoming, name: str | None) -> str | None:
    """The user who is named, if one is; 401 unless they have a passkey."""
    if name is None:
        return None
    user = call.state.users.find_by_any(name)
    if user is None or not call.state.passkeys.of(user.user_id):
        raise call.refused(401, "No credentials registered", "no_credentials_registered")
    return user.user_id


def options_for(call: Incoming, fields: Mapping[str, Any], user_id: str | None) -> dict[str, Any]:
    """A new challenge, as the browser takes it."""
    passkeys = call.state.passkeys
    seconds = fields.get("timeout", DEFAULT_TIMEOUT_SECONDS)
    session_id, challenge = passkeys.start(
        fields["client_id"],
        user_id,
        call.state.clock.now() + seconds,
        fields.get("approval_data"),
    )
    options = passkeys.options(challenge, seconds)
    return {"webauthn_session_id": session_id, "credential_request_options": options}
