"""Signing in by a passcode that Mosaic sends, or hands to the app."""

from __future__ import annotations

from collections.abc import Mapping
from secrets import randbelow, token_urlsafe
from typing import Any

from simulator.idp.incoming import Answer, Incoming
from simulator.idp.methods.sign_in import (
    Proof,
    is_same,
    locked,
    require_active,
    session_to_join,
    sign_in,
)
from simulator.idp.records import User
from simulator.idp.store.outbox import Message

AMR_BY_CHANNEL = {"email": "eotp", "sms": "sms", "direct": "otp"}  # the last is on no page
DIGITS = 6
MINUTE_SECONDS = 60


def send(call: Incoming) -> Answer:
    """Send a passcode, or answer it to the app; it lands in the outbox."""
    call.client_id()
    fields = call.asked()
    user = call.state.users.find(fields["identifier_type"], fields["identifier"])
    if user is None:
        raise call.refused(404, "User not found", "user_not_found")
    require_active(call, user)
    message = _write(call, user, fields)
    call.state.outbox.add_passcode(message)
    return Answer(200, _sent(message))


def authenticate(call: Incoming) -> Answer:
    """Sign a user in by the passcode they were sent, under the identifiers it was sent to."""
    client_id, fields = call.client_id(), call.asked()
    joined = session_to_join(call)
    message = call.state.outbox.passcode(fields["identifier_type"], fields["identifier"])
    if message is None:
        raise _invalid(call)
    _require_right(call, message, fields)
    proof = Proof(call.state.users.ensure(message.user_id), message.method, message.approval_data)
    answer = sign_in(call, client_id, proof, joined)
    call.state.outbox.use(message, call.state.clock.now())
    return answer


def _write(call: Incoming, user: User, fields: Mapping[str, Any]) -> Message:
    policy, channel = call.state.policy, fields["channel"]
    minutes = fields.get("expires_in", policy.message_seconds / MINUTE_SECONDS)
    return Message(
        user_id=user.user_id,
        channel=channel,
        address=_address(call, user, fields),
        method=AMR_BY_CHANNEL[channel],
        code=f"{randbelow(10**DIGITS):0{DIGITS}}",
        identifier_type=fields["identifier_type"],
        identifier=fields["identifier"],
        expires_at=call.state.clock.now() + minutes * MINUTE_SECONDS,
        request_id=token_urlsafe(16) if fields.get("generate_request_id") else None,
        approval_data=fields.get("approval_data"),
        text=fields.get("email_content") or fields.get("custom_sms_input") or {},
    )


def _address(call: Incoming, user: User, fields: Mapping[str, Any]) -> str:
    match fields["channel"]:
        case "email":
            address = fields.get("custom_email") or user.email
            missing = ("User has no email address", "user_email_address_missing")
        case "sms":
            address = fields.get("custom_phone_number") or user.phone
            missing = ("User has no phone number", "user_phone_number_missing")
        case _:
            return ""
    if not address:
        raise call.refused(404, *missing)
    return str(address)


def _sent(message: Message) -> dict[str, Any]:
    body = {
        "message": "OTP sent",
        "approval_data": message.approval_data,
        "request_id": message.request_id,
        "code": message.code if message.channel == "direct" else None,
    }
    return {name: fact for name, fact in body.items() if fact is not None}


def _require_right(call: Incoming, message: Message, fields: Mapping[str, Any]) -> None:
    if message.wrong_codes >= call.state.policy.wrong_proofs_allowed:
        raise locked()
    if message.request_id and "request_id" not in fields:
        raise call.refused(400, "request_id is required", "system_invalid_input")
    is_code = is_same(fields["passcode"], message.code)
    if not is_code or message.request_id not in {None, fields.get("request_id")}:
        message.wrong_codes += 1
        raise _invalid(call)
    if call.state.clock.now() >= message.expires_at:
        raise call.refused(400, "Passcode expired", "auth_otp_passcode_expired")


def _invalid(call: Incoming) -> Exception:
    return call.refused(400, "Invalid passcode", "auth_invalid_credentials")
