"""Signing in by a link in an e-mail."""

from __future__ import annotations

from collections.abc import Mapping
from secrets import token_urlsafe
from typing import Any

from simulator.idp.incoming import Answer, Incoming
from simulator.idp.methods.passcodes import MINUTE_SECONDS
from simulator.idp.methods.sign_in import Proof, require_active, session_to_join, sign_in
from simulator.idp.records import User
from simulator.idp.store.outbox import Message, new_link_code, write_link

AMR = "eml"


def send(call: Incoming) -> Answer:
    """Send a link, or answer its code to the app; it lands in the outbox."""
    client_id, fields = call.client_id(), call.asked()
    require_redirect_uri(call, client_id, fields["redirect_uri"])
    kind, name = _identifiers(fields)
    user = call.state.users.find(kind, name)
    if user is None or not user.email:
        raise call.refused(404, "User not found")
    require_active(call, user)
    message = _write(call, user, (kind, name), fields)
    call.state.outbox.add_link(message)
    return Answer(200, _sent(message))


def authenticate(call: Incoming) -> Answer:
    """Sign a user in by the code their link carried; it works once."""
    client_id, fields = call.client_id(), call.asked()
    joined = session_to_join(call)
    message = call.state.outbox.linked(fields["code"])
    if message is None or call.state.clock.now() >= message.expires_at:
        raise _invalid(call)
    if message.request_id not in {None, fields.get("request_id")}:
        raise _invalid(call)
    user = call.state.users.get(message.user_id)
    if user is None:
        raise call.refused(400, "User not found")
    answer = sign_in(call, client_id, Proof(user, AMR), joined)
    call.state.outbox.use(message, call.state.clock.now())
    return answer


def require_redirect_uri(call: Incoming, client_id: str, redirect_uri: str) -> None:
    """Refuse with 400 to bring a browser where the app is not configured to be."""
    client = call.state.clients.get(client_id)
    if client and client.redirect_uris is not None and redirect_uri not in client.redirect_uris:
        raise call.refused(400, "redirect_uri is not one of the allowed ones")


def _identifiers(fields: Mapping[str, Any]) -> tuple[str, str]:
    if "email" in fields:
        return "email", fields["email"]
    return fields["identifier_type"], fields["identifier"]


def _write(
    call: Incoming, user: User, identifiers: tuple[str, str], fields: Mapping[str, Any]
) -> Message:
    code = new_link_code()
    minutes = fields.get("email_expiration", call.state.policy.message_seconds / MINUTE_SECONDS)
    channel = fields.get("channel", "email")
    return Message(
        user_id=user.user_id,
        channel=channel,
        address=str(user.email) if channel == "email" else "",
        method=AMR,
        code=code,
        identifier_type=identifiers[0],
        identifier=identifiers[1],
        expires_at=call.state.clock.now() + minutes * MINUTE_SECONDS,
        link=write_link(fields["redirect_uri"], code, fields.get("state")),
        request_id=token_urlsafe(16) if fields.get("generate_request_id") else None,
        text=fields.get("email_content", {}),
    )


def _sent(message: Message) -> dict[str, Any]:
    body = {
        "message": "Email sent successfully",
        "request_id": message.request_id,
        "code": message.code if message.channel == "direct" else None,
    }
    return {name: fact for name, fact in body.items() if fact is not None}


def _invalid(call: Incoming) -> Exception:
    return call.refused(400, "Invalid magic link code")
