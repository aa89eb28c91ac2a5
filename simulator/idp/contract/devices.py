"""Social accounts, passkeys and phones, as Mosaic publishes them."""

from __future__ import annotations

from simulator.idp.contract.fields import (
    APPROVAL_DATA,
    DEVICE_ID,
    LOCKED,
    REQUIRED,
    SIGN_IN,
    SIGN_IN_WITHOUT_DEVICE,
    TOKENS,
)
from simulator.idp.contract.model import Caller, Published
from simulator.idp.contract.sessions import AUTH
from simulator.idp.endpoints import Endpoint
from simulator.idp.errors import Dialect
from simulator.idp.shapes import Anything, Number, Object, Text

SOCIAL = f"{AUTH}/social/{{provider}}"
WEBAUTHN = f"{AUTH}/webauthn"
CROSS_DEVICE = f"{WEBAUTHN}/cross-device"
BIOMETRICS = f"{AUTH}/mobile-biometrics"

TICKET = {"cross_device_ticket_id": REQUIRED}
OPTIONS = Object(
    {"webauthn_session_id": REQUIRED, "credential_request_options": Anything(required=True)}
)
START_SLUGS = {
    400: frozenset({"invalid_request"}),
    401: frozenset({"no_credentials_registered"}),
    404: frozenset({"client_not_found"}),
}
TICKET_SLUGS = {
    400: frozenset({"invalid_request"}),
    404: frozenset({"client_not_found", "cross_device_ticket_not_found"}),
}
REGISTER_SLUGS = {
    400: frozenset(
        {
            "system_invalid_input",
            "auth_max_authenticators_count_exceeded",
            "auth_invalid_attestation",
            "auth_invalid_key_type",
            "auth_invalid_key_encoding",
        }
    ),
    409: frozenset({"auth_authenticator_already_registered"}),
}

CALLS = [
    Published(
        Endpoint.SOCIAL_START,
        "POST",
        [f"{SOCIAL}/start"],
        Caller.CLIENT,
        {"redirect_uri": REQUIRED, "state": Text(longest=50)},
        answer=Object({"authorization_url": REQUIRED}),
    ),
    Published(
        Endpoint.SOCIAL_VERIFY,
        "POST",
        [f"{SOCIAL}/verify"],
        Caller.CLIENT,
        {"code": REQUIRED, "state": REQUIRED},
        answer=Object({"transaction_id": REQUIRED, "claims": Anything(required=True)}),
    ),
    Published(
        Endpoint.SOCIAL_AUTHENTICATE,
        "POST",
        [f"{SOCIAL}/authenticate"],
        Caller.CLIENT,
        {"transaction_id": REQUIRED, "user_id": REQUIRED, **SIGN_IN_WITHOUT_DEVICE},
        answer=TOKENS,
    ),
    Published(
        Endpoint.WEBAUTHN_START,
        "POST",
        [f"{WEBAUTHN}/authenticate/start"],
        Caller.ANYONE,
        {
            "client_id": REQUIRED,
            "username": Text(longest=64),
            "identifier": Text(),  # 2026; whether `username` stayed was not seen
            "timeout": Number(least=30, most=600),  # seconds
            "approval_data": APPROVAL_DATA,
        },
        answer=OPTIONS,
        dialect=Dialect.SLUG,
        malformed="invalid_request",
        slugs=START_SLUGS,
    ),
    Published(
        Endpoint.WEBAUTHN_AUTHENTICATE,
        "POST",
        [f"{WEBAUTHN}/authenticate"],
        Caller.CLIENT,
        {"webauthn_encoded_result": REQUIRED, **SIGN_IN_WITHOUT_DEVICE},
        answer=TOKENS,
        dialect=Dialect.SLUG,
        malformed="webauthn_encoded_result",
        slugs={400: frozenset({"webauthn_encoded_result"})},
    ),
    Published(
        Endpoint.CROSS_DEVICE_INIT,
        "POST",
        [f"{CROSS_DEVICE}/authenticate/init"],
        Caller.ANYONE,
        {"client_id": REQUIRED, "username": Text(longest=64), "approval_data": APPROVAL_DATA},
        answer=Object(TICKET),
        dialect=Dialect.SLUG,
        malformed="invalid_request",
        slugs=TICKET_SLUGS,
    ),
    Published(
        Endpoint.CROSS_DEVICE_ATTACH,
        "POST",
        [f"{CROSS_DEVICE}/attach-device"],
        Caller.ANYONE,
        TICKET,
        answer=Object({"status": REQUIRED}),
        dialect=Dialect.SLUG,
        malformed="invalid_request",
        slugs=TICKET_SLUGS,
    ),
    Published(
        Endpoint.CROSS_DEVICE_START,
        "POST",
        [f"{CROSS_DEVICE}/authenticate/start"],
        Caller.ANYONE,
        TICKET,
        answer=OPTIONS,
        dialect=Dialect.SLUG,
        malformed="invalid_request",
        slugs=TICKET_SLUGS,
    ),
    Published(
        Endpoint.CROSS_DEVICE_STATUS,
        "GET",
        [f"{CROSS_DEVICE}/status"],
        Caller.ANYONE,
        TICKET,
        answer=Object({"status": REQUIRED}),
        dialect=Dialect.SLUG,
        malformed="invalid_request",
        slugs=TICKET_SLUGS,
    ),
    Published(
        Endpoint.CROSS_DEVICE_ABORT,
        "POST",
        [f"{CROSS_DEVICE}/abort"],
        Caller.CLIENT,
        TICKET,
        success=204,
        dialect=Dialect.SLUG,
        malformed="invalid_request",
        slugs=TICKET_SLUGS,
    ),
    Published(
        Endpoint.BIOMETRICS_START,
        "POST",
        [f"{BIOMETRICS}/start"],
        Caller.CLIENT,
        {
            "identifier": Text(),
            "identifier_type": Text(),
            "user_id": Text(),
            "device_id": DEVICE_ID,
            "approval_data": APPROVAL_DATA,
            "timeout": Number(least=0),
        },
        either=[frozenset({"user_id"}), frozenset({"identifier", "identifier_type"})],
        answer=Object({"challenge": REQUIRED}),  # its page was not seen whole
    ),
    Published(
        Endpoint.BIOMETRICS_AUTHENTICATE,
        "POST",
        [f"{BIOMETRICS}/authenticate"],
        Caller.CLIENT,
        {
            "signature": REQUIRED,
            "challenge": REQUIRED,
            "key_id": REQUIRED,
            "user_id": REQUIRED,
            **SIGN_IN,
        },
        answer=TOKENS,
        slugs=LOCKED,
    ),
    Published(
        Endpoint.BIOMETRICS_REGISTER,
        "POST",
        [f"{BIOMETRICS}/register"],
        Caller.USER,
        {
            "publicKey": REQUIRED,
            "publicKeyId": REQUIRED,
            "os": REQUIRED,
            "encryptionType": Text(choices=frozenset({"rsa", "ec"})),
            "device_id": DEVICE_ID,
            "challenge": Text(),
            "attestation_encoded_result": Text(),
            "displayName": Text(),
        },
        success=201,
        dialect=Dialect.BOTH,
        malformed="system_invalid_input",
        slugs=REGISTER_SLUGS,
    ),
    Published(
        Endpoint.BIOMETRICS_DELETE,
        "POST",
        [f"{BIOMETRICS}/delete"],
        Caller.USER,
        {"publicKeyId": REQUIRED},
        success=204,
    ),
]
