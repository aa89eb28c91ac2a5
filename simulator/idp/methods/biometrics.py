"""Signing in by a key that a phone holds behind a fingerprint or a face."""

from __future__ import annotations

from simulator.idp.incoming import Answer, Incoming
from simulator.idp.methods.sign_in import Proof, require_right, session_to_join, sign_in
from simulator.idp.records import User
from simulator.idp.store.biometrics import PhoneChallenge

AMR = "mobile_biometrics"  # on no page
DEFAULT_TIMEOUT_SECONDS = 300


def start(call: Incoming) -> Answer:
    """Make a challenge for a user's phone to sign."""
    call.client_id()
    fields = call.asked()
    kind, name = ("user_id", fields.get("user_id"))
    if name is None:
        kind, name = fields["identifier_type"], fields["identifier"]
    user = call.state.users.find(kind, name)
    if user is None:
        raise call.refused(404, "User not found")
    seconds = fields.get("timeout", DEFAULT_TIMEOUT_SECONDS)
    expires_at = call.state.clock.now() + seconds
    challenge = PhoneChallenge(user.user_id, expires_at, fields.get("approval_data"))
    return Answer(200, {"challenge": call.state.biometrics.start(challenge)})


def authenticate(call: Incoming) -> Answer:
    """Sign a user in by their phone's signature; a challenge the phone made itself will do."""
    client_id, fields = call.client_id(), call.asked()
    joined = session_to_join(call)
    challenge = call.state.biometrics.challenged(fields["challenge"])
    user = require_right(
        call, call.state.users.get(fields["user_id"]), AMR, lambda user: _is_signed(call, user)
    )
    approved = challenge.approval_data if challenge else None
    return sign_in(call, client_id, Proof(user, AMR, approved), joined)


def register(call: Incoming) -> Answer:
    """Let a phone sign for the user who calls."""
    user, fields = call.user(), call.asked()
    try:
        call.state.biometrics.register(user.user_id, fields["publicKeyId"], fields["publicKey"])
    except LookupError:
        slug = "auth_authenticator_already_registered"
        raise call.refused(409, "Authenticator is already registered", slug) from None
    except TypeError:
        raise call.refused(400, "Invalid key type", "auth_invalid_key_type") from None
    except ValueError:
        raise call.refused(400, "Invalid key encoding", "auth_invalid_key_encoding") from None
    return Answer(201)


def delete(call: Incoming) -> Answer:
    """Forget a key of the user who calls."""
    user, fields = call.user(), call.asked()
    if not call.state.biometrics.delete(user.user_id, fields["publicKeyId"]):
        raise call.refused(404, "Authenticator not found")
    return Answer(204)


def _is_signed(call: Incoming, user: User) -> bool:
    fields, now = call.fields, call.state.clock.now()
    return call.state.biometrics.accepts(
        user.user_id, fields["key_id"], fields["challenge"], fields["signature"], now
    )
