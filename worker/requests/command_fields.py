"""What the fields of commands may hold: strict types, bounded sizes."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from session_client import contract
from session_client.contract import Method
from worker.storage.texts import MAX_USER_ID_CHARACTERS, is_storable


def _is_storable(text: str) -> str:
    if not is_storable(text):
        raise ValueError("control characters and lone surrogates are not allowed")
    return text


_CLAIMED: Final = frozenset({"id_token", "access_token", "userinfo"})


def _is_sendable(claims: dict[str, Any]) -> dict[str, Any]:
    # As OpenID Connect Core 1.0 section 5.5 has it: of anything else Mosaic would refuse the whole
    # request, a call later.
    if not claims.keys() <= _CLAIMED or not all(isinstance(c, dict) for c in claims.values()):
        raise ValueError("claims are asked for by token, each as an object")
    # Passed on to Mosaic as JSON: half a surrogate pair has no UTF-8, and 1e999 reads as infinity.
    json.dumps(claims, ensure_ascii=False, allow_nan=False).encode()
    return claims


def _is_uuid(text: str) -> str:
    UUID(text)
    return text


def _is_app_id(text: str) -> str:
    if not contract.is_app_id(text):
        raise ValueError("an app's name at the worker")
    return text


def _is_verifier(text: str) -> str:
    if not contract.is_verifier(text):
        raise ValueError("43 to 128 unreserved characters")
    return text


def _is_challenge(text: str) -> str:
    if not contract.is_challenge(text):
        raise ValueError("base64url of a SHA-256")
    return text


_STORABLE: Final = AfterValidator(_is_storable)
_SENDABLE: Final = AfterValidator(_is_sendable)

UserId = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_USER_ID_CHARACTERS), _STORABLE
]
SessionId = Annotated[str, StringConstraints(min_length=1, max_length=4096), _STORABLE]
IdToken = Annotated[
    str, StringConstraints(min_length=1, max_length=contract.MAX_ID_TOKEN_CHARACTERS), _STORABLE
]
DeviceId = Annotated[str, StringConstraints(min_length=1, max_length=80), _STORABLE]
Text = Annotated[str, StringConstraints(min_length=1, max_length=2048), _STORABLE]
AmrValue = Annotated[str, StringConstraints(min_length=1, max_length=64), _STORABLE]
Amr = Annotated[list[AmrValue], Field(max_length=16)]
Ref = Annotated[str, AfterValidator(_is_uuid)]
AppId = Annotated[str, AfterValidator(_is_app_id)]
Verifier = Annotated[str, AfterValidator(_is_verifier)]
Challenge = Annotated[str, AfterValidator(_is_challenge)]
# What a browser brought along. The use case that reads it takes a garbled one for none: a cookie
# that was tampered with in the browser is no fault of the app's.
Brought = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
# Sealed by the worker, and longer for what is in it.
MAX_SEALED_CHARACTERS: Final = 16384
Sealed = Annotated[str, StringConstraints(min_length=1, max_length=MAX_SEALED_CHARACTERS)]
Claims = Annotated[dict[str, Any], _SENDABLE]


def _is_method(name: str) -> str:
    return Method(name).value


MethodName = Annotated[str, AfterValidator(_is_method)]


class Command(BaseModel):
    """What all commands share."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class ClientAttributes(Command):
    """What the app knows of the user's browser; Mosaic uses it for risk and audit."""

    user_agent: Text | None = None
    ip_address: Text | None = None
