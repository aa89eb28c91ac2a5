"""What a request body may hold. Mosaic's pages are vague; here nothing unexpected passes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from simulator.idp.errors import refused


@dataclass(frozen=True)
class Text:
    """A string that is not empty."""

    required: bool = False
    longest: int | None = None
    choices: frozenset[str] | None = None

    def complaint(self, value: object) -> str | None:
        """What is wrong with *value*."""
        if not isinstance(value, str) or not value:
            return "must be a non-empty string"
        if self.longest is not None and len(value) > self.longest:
            return f"must be at most {self.longest} characters"
        if self.choices is not None and value not in self.choices:
            return f"must be one of {', '.join(sorted(self.choices))}"
        return None


@dataclass(frozen=True)
class Anything:
    """An object whose inside is not ours to judge."""

    required: bool = False

    def complaint(self, value: object) -> str | None:
        """What is wrong with *value*."""
        return None if isinstance(value, dict) else "must be an object"


Shape = Mapping[str, "Text | Anything | Shape"]

REQUIRED = Text(required=True)
TOKEN_WISHES: Shape = {
    "resource": Text(),
    "claims": {"id_token": Anything(), "access_token": Anything()},
    "org_id": Text(),
    "client_attributes": {"user_agent": Text(), "ip_address": Text()},
    "device_id": Text(longest=80),
}
IDENTIFIER: Shape = {
    "identifier": REQUIRED,
    "identifier_type": Text(
        required=True, choices=frozenset({"email", "phone_number", "user_id", "username"})
    ),
}

AUTHENTICATE_SESSION: Shape = {"session_id": REQUIRED, **TOKEN_WISHES}
LOG_OUT_SESSION: Shape = {"session_id": REQUIRED}
REFRESH_TOKEN: Shape = {"refresh_token": REQUIRED}
PASSWORD: Shape = {
    "username": REQUIRED,
    "password": REQUIRED,
    "session_id": Text(),
    **TOKEN_WISHES,
}
OTP_SEND: Shape = {
    "channel": Text(required=True, choices=frozenset({"email", "sms"})),
    **IDENTIFIER,
}
OTP: Shape = {"passcode": REQUIRED, "session_id": Text(), **IDENTIFIER, **TOKEN_WISHES}
LINK_SEND: Shape = {"email": REQUIRED, "redirect_uri": REQUIRED}
LINK: Shape = {"code": REQUIRED, "session_id": Text(), **TOKEN_WISHES}
CLIENT_TOKEN: Shape = {
    "grant_type": REQUIRED,
    "client_id": Text(),
    "client_secret": Text(),
    "client_assertion": Text(),
    "client_assertion_type": Text(),
    "resource": Text(),
}


def read_json(content_type: str, body: bytes, shape: Shape) -> dict[str, Any]:
    """The JSON object in *body*, if it has exactly this shape; 400 otherwise."""
    require_content_type(content_type, "application/json")
    try:
        value = json.loads(body)
    except ValueError:
        raise refused(400, "body is not JSON") from None
    if not isinstance(value, dict):
        raise refused(400, "body must be an object")
    if found := complaints(value, shape):
        raise refused(400, found)
    return value


def read_form(content_type: str, body: bytes) -> dict[str, str]:
    """The fields of a form; 400 if one of them comes twice."""
    require_content_type(content_type, "application/x-www-form-urlencoded")
    pairs = parse_qsl(body.decode("latin-1"), keep_blank_values=True)
    form = dict(pairs)
    if len(form) < len(pairs):
        raise refused(400, "a parameter is repeated")
    return form


def require_content_type(content_type: str, wanted: str) -> None:
    """Refuse a body of any other type with 400."""
    if content_type.partition(";")[0].strip().lower() != wanted:
        raise refused(400, f"content type must be {wanted}")


def complaints(value: Mapping[str, object], shape: Shape, within: str = "") -> list[str]:
    """Everything about *value* that is not of this *shape*, a sentence each."""
    unknown = [f"{within}{name} is unknown" for name in value if name not in shape]
    return unknown + [
        sentence
        for name, expected in shape.items()
        for sentence in _field_complaints(value, name, expected, within)
    ]


def _field_complaints(
    value: Mapping[str, object], name: str, expected: Text | Anything | Shape, within: str
) -> list[str]:
    path, inner = f"{within}{name}", value.get(name)
    if name not in value:
        return [f"{path} is required"] if getattr(expected, "required", False) else []
    if not isinstance(expected, Mapping):
        complaint = expected.complaint(inner)
        return [f"{path} {complaint}"] if complaint else []
    if not isinstance(inner, dict):
        return [f"{path} must be an object"]
    return complaints(inner, expected, f"{path}.")
