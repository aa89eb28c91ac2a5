"""Signing in by password."""

from __future__ import annotations

from simulator.idp.incoming import Answer, Incoming
from simulator.idp.methods.sign_in import Proof, is_same, require_right, session_to_join, sign_in
from simulator.idp.records import User

AMR = "pwd"


def authenticate(call: Incoming) -> Answer:
    """Sign a user in by password."""
    client_id, fields = call.client_id(), call.asked()
    joined = session_to_join(call)
    kind = fields.get("username_type", "username")
    user = require_right(
        call,
        call.state.users.find(kind, fields["username"]),
        AMR,
        lambda user: _is_right(user, fields["password"]),
    )
    return sign_in(call, client_id, Proof(user, AMR), joined)


def _is_right(user: User, password: str) -> bool:
    return user.password is not None and is_same(password, user.password)
