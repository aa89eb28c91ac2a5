"""Signing in by an authenticator app, and enrolling one."""

from __future__ import annotations

from simulator.idp.errors import refused
from simulator.idp.incoming import Answer, Incoming
from simulator.idp.methods.sign_in import (
    Proof,
    require_right,
    session_to_join,
    sign_in,
    wrong_proof,
)
from simulator.idp.records import User

AMR = "totp"  # on no page
DEFAULT_TYPE = "email"


def authenticate(call: Incoming) -> Answer:
    """Sign a user in by the code their authenticator app shows."""
    client_id, fields = call.client_id(), call.asked()
    joined = session_to_join(call)
    user = _require_code(call, _find(call), fields["token"])
    return sign_in(call, client_id, Proof(user, AMR), joined)


def start_transaction(call: Incoming) -> Answer:
    """Make the challenge with which a user's app may approve something."""
    call.client_id()
    fields, user = call.asked(), _find(call)
    if user is None:
        raise call.refused(404, "User not found")
    expires_at = call.state.clock.now() + call.state.policy.message_seconds
    apps = call.state.authenticator_apps
    transaction = apps.begin(user.user_id, fields["approval_data"], expires_at)
    body = {"approval_data": fields["approval_data"], "challenge": transaction.challenge}
    return Answer(200, body)


def authenticate_transaction(call: Incoming) -> Answer:
    """Sign a user in by a code that approves what they were asked."""
    client_id, fields = call.client_id(), call.asked()
    joined, user = session_to_join(call), _find(call)
    apps, now = call.state.authenticator_apps, call.state.clock.now()
    transaction = apps.transaction(user.user_id, now) if user else None
    if transaction is None:
        raise wrong_proof(call)
    user = _require_code(call, user, fields["token"], transaction.challenge)
    proof = Proof(user, AMR, transaction.approval_data)
    answer = sign_in(call, client_id, proof, joined)
    apps.finish(user.user_id)
    return answer


def register(call: Incoming) -> Answer:
    """Enrol an authenticator app for the user who calls."""
    user, fields = call.user(), call.asked()
    apps = call.state.authenticator_apps
    if apps.is_enrolled(user.user_id) and not fields.get("allow_override"):
        raise refused(400, "TOTP is already registered")
    label = fields.get("label") or user.email or user.username or user.phone
    return Answer(201, apps.enrol(user.user_id, label))


def revoke_mine(call: Incoming) -> Answer:
    """Forget the app of the user who calls."""
    call.state.authenticator_apps.revoke(call.user().user_id)
    return Answer(204)


def revoke(call: Incoming) -> Answer:
    """Forget the app of the user whom the path names."""
    call.client_id()
    call.state.authenticator_apps.revoke(call.user_id())
    return Answer(204)


def unlock(call: Incoming) -> Answer:
    """Let a user try again who sent too many wrong codes."""
    call.client_id()
    call.state.attempts.unlock(call.user_id(), AMR)
    return Answer(204)


def _find(call: Incoming) -> User | None:
    fields = call.asked()
    return call.state.users.find(fields.get("identifier_type", DEFAULT_TYPE), fields["identifier"])


def _require_code(call: Incoming, user: User | None, code: str, challenge: str = "") -> User:
    apps, now = call.state.authenticator_apps, call.state.clock.now()
    return require_right(
        call, user, AMR, lambda user: apps.accepts(user.user_id, code, now, challenge)
    )
