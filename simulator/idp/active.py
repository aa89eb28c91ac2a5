"""Active authentication: the user is present and proves who they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simulator.idp import shapes
from simulator.idp.errors import refused
from simulator.idp.incoming import Answer, Incoming
from simulator.idp.records import Session, User, Wishes

AMR_BY_CHANNEL = {"email": "eotp", "sms": "sms"}


def authenticate_password(call: Incoming) -> Answer:
    """Sign a user in by password."""
    client_id = call.client_id()
    fields = call.json(shapes.PASSWORD)
    user = call.state.find_user(fields["username"])
    if user is None or user.password is None or user.password != fields["password"]:
        raise refused(400, "Invalid username or password")
    return _sign_in(call, client_id, user, "pwd", fields)


def send_otp(call: Incoming) -> Answer:
    """Send a passcode to a user; it lands in the outbox."""
    call.client_id()
    fields = call.json(shapes.OTP_SEND)
    _require_user(call, fields["identifier"])
    call.state.outbox.send_passcode(fields["identifier"], AMR_BY_CHANNEL[fields["channel"]])
    return Answer(200, {"message": "OTP sent"})


def authenticate_otp(call: Incoming) -> Answer:
    """Sign a user in by the passcode they were sent."""
    client_id = call.client_id()
    fields = call.json(shapes.OTP)
    message = call.state.outbox.redeem_passcode(fields["identifier"], fields["passcode"])
    return _sign_in(call, client_id, _require_user(call, message.address), message.method, fields)


def send_link(call: Incoming) -> Answer:
    """Send a user a link to sign in with; it lands in the outbox."""
    call.client_id()
    fields = call.json(shapes.LINK_SEND)
    _require_user(call, fields["email"])
    call.state.outbox.send_link(fields["email"], fields["redirect_uri"])
    return Answer(200, {"message": "Email sent"})


def authenticate_link(call: Incoming) -> Answer:
    """Sign a user in by the code their link carried."""
    client_id = call.client_id()
    fields = call.json(shapes.LINK)
    message = call.state.outbox.redeem_link(fields["code"])
    return _sign_in(call, client_id, _require_user(call, message.address), message.method, fields)


def _require_user(call: Incoming, name: str) -> User:
    user = call.state.find_user(name)
    if user is None:
        raise refused(404, "User not found")
    return user


def _sign_in(
    call: Incoming, client_id: str, user: User, method: str, fields: Mapping[str, Any]
) -> Answer:
    session_id = fields.get("session_id")
    if session_id is None:
        session = call.state.sessions.open(user.user_id, client_id, [method])
    else:
        session = _add_factor(call, session_id, user, method)
    return Answer(200, call.state.token_body(session, client_id, Wishes.of(fields), call.plan))


def _add_factor(call: Incoming, session_id: str, user: User, method: str) -> Session:
    session = call.state.sessions.find(session_id)
    if session.user_id != user.user_id:
        raise refused(400, "Session belongs to another user")
    call.state.sessions.add_method(session, method)
    return session
