"""Making users and looking them up, as an app's back end does."""

from __future__ import annotations

from secrets import token_hex
from typing import Any

from simulator.idp.incoming import Answer, Incoming
from simulator.idp.records import User


def create(call: Incoming) -> Answer:
    """Make a user; 409 when an identifier of theirs is taken."""
    call.client_id()
    fields = call.asked()
    # The page wants an e-mail address or a phone number; the vendor's own sample has neither.
    if not fields.keys() & {"email", "phone_number", "username"}:
        raise call.refused(400, ["email, phone_number or username is required"])
    user = User(
        token_hex(12),
        fields.get("credentials", {}).get("password"),
        fields.get("email"),
        fields.get("phone_number"),
        fields.get("username"),
        custom_data=fields.get("custom_data", {}),
        created_at=call.state.clock.now(),
    )
    call.state.users.add(user)
    return Answer(201, {"result": _show(user)})


def show_by_username(call: Incoming) -> Answer:
    """Show the user who has this username."""
    call.client_id()
    user = call.state.users.find("username", call.path["username"])
    if user is None:
        raise call.refused(404, "User not found")
    return Answer(200, {"result": _show(user)})


def _show(user: User) -> dict[str, Any]:
    milliseconds = int(user.created_at * 1000)
    body = {
        "user_id": user.user_id,
        "status": "Active" if user.is_active else "Disabled",
        "created_at": milliseconds,
        "updated_at": milliseconds,
        "username": user.username,
        "email": {"value": user.email} if user.email else None,
        "phone_number": {"value": user.phone} if user.phone else None,
        "custom_data": dict(user.custom_data) or None,
    }
    return {name: fact for name, fact in body.items() if fact is not None}
