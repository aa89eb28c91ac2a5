"""Passwords, passcodes, links and authenticator apps, as Mosaic publishes them."""

from __future__ import annotations

from simulator.idp.contract.fields import (
    APPROVAL_DATA,
    DEVICE_ID,
    IDENTIFIER,
    LOCKED,
    REQUIRED,
    SEND,
    SIGN_IN,
    SIGN_IN_WITHOUT_DEVICE,
    TOKENS,
)
from simulator.idp.contract.model import Caller, Published
from simulator.idp.contract.sessions import AUTH
from simulator.idp.endpoints import Endpoint
from simulator.idp.errors import Dialect
from simulator.idp.shapes import ApprovalData, Flag, Number, Object, Shape, Text

PASSWORD: Shape = {
    "username": REQUIRED,
    "password": REQUIRED,
    # The guide's text adds user_id, which its own list does not have.
    "username_type": Text(choices=frozenset({"username", "email", "phone_number", "user_id"})),
    **SIGN_IN_WITHOUT_DEVICE,
}
OTP_SEND: Shape = {
    "channel": Text(required=True, choices=frozenset({"sms", "email", "direct"})),
    **IDENTIFIER,
    "expires_in": Number(least=0),  # minutes
    "custom_email": Text(),
    "custom_phone_number": Text(),
    "custom_sms_input": Object(
        {
            "custom_message": Text(longest=140, holding=("{otp}", "{app}")),
            "sender_id": Text(longest=11),
        }
    ),
    "approval_data": APPROVAL_DATA,
    **SEND,
}
# The page promises that a request id "is returned" and shows no field for it.
OTP_SENT = Object(
    {"message": REQUIRED, "approval_data": APPROVAL_DATA, "code": Text(), "request_id": Text()}
)
LINK_SEND: Shape = {
    "redirect_uri": REQUIRED,
    "identifier": Text(),
    "identifier_type": Text(),
    "email": Text(),  # deprecated in 2026
    "state": Text(),
    "email_expiration": Number(least=0),  # minutes
    "channel": Text(choices=frozenset({"email", "direct"})),
    **SEND,
}
# What `direct` answers besides the message is on no page: the code, as passcodes have it.
LINK_SENT = Object({"message": REQUIRED, "code": Text(), "request_id": Text()})
TOTP: Shape = {"token": REQUIRED, "identifier": REQUIRED, "identifier_type": Text(), **SIGN_IN}

SEND_SLUGS = {
    400: frozenset({"system_invalid_input", "external_provider_configuration_error"}),
    403: frozenset({"user_not_active", "auth_login_preferences_missing"}),
    404: frozenset(
        {
            "user_not_found",
            "user_email_address_missing",
            "user_phone_number_missing",
            "auth_login_preferences_missing",
        }
    ),
}
PASSCODE_SLUGS = {
    400: frozenset(
        {"system_invalid_input", "auth_invalid_credentials", "auth_otp_passcode_expired"}
    ),
    403: frozenset({"auth_locked"}),
}

CALLS = [
    Published(
        Endpoint.PASSWORD_AUTHENTICATE,
        "POST",
        [f"{AUTH}/password/authenticate"],
        Caller.CLIENT,
        PASSWORD,
        answer=TOKENS,
        slugs=LOCKED,
    ),
    Published(
        Endpoint.OTP_SEND,
        "POST",
        [f"{AUTH}/otp/send"],
        Caller.CLIENT,
        OTP_SEND,
        answer=OTP_SENT,
        dialect=Dialect.SLUG,
        malformed="system_invalid_input",
        slugs=SEND_SLUGS,
    ),
    Published(
        Endpoint.OTP_AUTHENTICATE,
        "POST",
        [f"{AUTH}/otp/authenticate"],
        Caller.CLIENT,
        {"passcode": REQUIRED, **IDENTIFIER, "request_id": Text(), **SIGN_IN},
        answer=TOKENS,
        dialect=Dialect.SLUG,
        malformed="system_invalid_input",
        slugs=PASSCODE_SLUGS,
    ),
    Published(
        Endpoint.LINK_SEND,
        "POST",
        [f"{AUTH}/link/email/send"],
        Caller.CLIENT,
        LINK_SEND,
        either=[frozenset({"email"}), frozenset({"identifier", "identifier_type"})],
        answer=LINK_SENT,
        dialect=Dialect.DIGITS,
    ),
    Published(
        Endpoint.LINK_AUTHENTICATE,
        "POST",
        [f"{AUTH}/link/email/authenticate"],
        Caller.CLIENT,
        {"code": REQUIRED, "request_id": Text(), **SIGN_IN},
        answer=TOKENS,
        dialect=Dialect.DIGITS,
    ),
    Published(
        Endpoint.TOTP_AUTHENTICATE,
        "POST",
        [f"{AUTH}/totp/authenticate"],
        Caller.CLIENT,
        TOTP,
        answer=TOKENS,
        slugs=LOCKED,
    ),
    Published(
        Endpoint.TOTP_TRANSACTION_START,
        "POST",
        [f"{AUTH}/totp/transaction/start"],
        Caller.CLIENT,
        {"approval_data": ApprovalData(required=True), **IDENTIFIER, **SIGN_IN},
        answer=Object({"approval_data": ApprovalData(required=True), "challenge": REQUIRED}),
    ),
    Published(
        Endpoint.TOTP_TRANSACTION_AUTHENTICATE,
        "POST",
        [f"{AUTH}/totp/transaction/authenticate"],
        Caller.CLIENT,
        TOTP,
        answer=TOKENS,
        slugs=LOCKED,
    ),
    Published(
        Endpoint.TOTP_REGISTER,
        "POST",
        [f"{AUTH}/totp/register", "/cis/v1/users/me/totp"],  # 2026, 2025
        Caller.USER,
        {"device_id": DEVICE_ID, "label": Text(), "allow_override": Flag()},
        success=201,
        answer=Object({"secret": REQUIRED, "uri": REQUIRED}),
    ),
    Published(
        Endpoint.TOTP_REVOKE_MINE,
        "POST",
        ["/cis/v1/users/me/totp/revoke"],
        Caller.USER,
        success=204,
    ),
    Published(
        Endpoint.TOTP_REVOKE,
        "POST",
        ["/cis/v1/users/{user_id}/totp/revoke"],
        Caller.CLIENT,
        success=204,
    ),
    Published(
        Endpoint.TOTP_UNLOCK,
        "POST",
        ["/cis/v1/users/{user_id}/totp/unlock"],
        Caller.CLIENT,
        success=204,
    ),
]
