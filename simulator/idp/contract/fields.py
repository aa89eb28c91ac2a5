"""The fields that many of Mosaic's calls share."""

from __future__ import annotations

from simulator.idp.shapes import Anything, ApprovalData, Flag, Number, Object, Shape, Text

REQUIRED = Text(required=True)

CLIENT_ATTRIBUTES = Object({"user_agent": Text(), "ip_address": Text()})
DEVICE_ID = Text(longest=80)
# device_id is on the pages of codes, links, authenticator apps, phones and silent authentication.
WISHES_WITHOUT_DEVICE: Shape = {
    "resource": Text(),
    "claims": Object(
        # userinfo is gone from the pages of 2026; tenants of 2025 may still send it.
        {"id_token": Anything(), "access_token": Anything(), "userinfo": Anything()}
    ),
    "org_id": Text(),
    "client_attributes": CLIENT_ATTRIBUTES,
}
WISHES: Shape = {**WISHES_WITHOUT_DEVICE, "device_id": DEVICE_ID}
SIGN_IN: Shape = {"session_id": Text(), **WISHES}
SIGN_IN_WITHOUT_DEVICE: Shape = {"session_id": Text(), **WISHES_WITHOUT_DEVICE}

# An enumeration of four in 2025, any text in 2026: tenants may name identifiers of their own.
IDENTIFIER: Shape = {"identifier": REQUIRED, "identifier_type": REQUIRED}

SEND: Shape = {
    "email_content": Object(
        {
            "subject": REQUIRED,
            "primaryColor": Text(),
            "base64logo": Text(longest=20_000),
            "headerText": Text(),
            "bodyText": Text(),
            "linkText": Text(),
            "infoText": Text(),
            "footerText": Text(),
            "senderName": Text(),
        }
    ),
    "client_attributes": CLIENT_ATTRIBUTES,
    "device_id": DEVICE_ID,
    "generate_request_id": Flag(),
}
APPROVAL_DATA = ApprovalData()

# Locks are a setting of passwords, authenticator apps and keys, and what they answer is on no
# page: here it is what passcodes answer.
LOCKED = {403: frozenset({"auth_locked"})}

REFRESHED: Shape = {
    "access_token": REQUIRED,
    "token_type": REQUIRED,
    "expires_in": Number(required=True),
    "id_token": Text(),
    "refresh_token": Text(),
}
TOKENS = Object({**REFRESHED, "session_id": REQUIRED})
