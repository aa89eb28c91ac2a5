"""What an app may ask, as the worker accepts it: strict types, bounded sizes, nothing unknown."""

from __future__ import annotations

import json
import unicodedata
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from session_client.contract import LogoutScope, Reason, Task
from worker.errors import InvalidRequest


def _is_storable(text: str) -> str:
    # PostgreSQL refuses NUL and no database takes half a surrogate pair; control characters in
    # an identifier are somebody playing with our logs.
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in text):
        raise ValueError("control characters and lone surrogates are not allowed")
    return text


def _is_sendable(claims: dict[str, Any]) -> dict[str, Any]:
    # Passed on to Mosaic as JSON: half a surrogate pair has no UTF-8, and 1e999 reads as infinity.
    json.dumps(claims, ensure_ascii=False, allow_nan=False).encode()
    return claims


def _is_uuid(text: str) -> str:
    UUID(text)
    return text


_STORABLE: Final = AfterValidator(_is_storable)
_SENDABLE: Final = AfterValidator(_is_sendable)

UserId = Annotated[str, StringConstraints(min_length=1, max_length=255), _STORABLE]
SessionId = Annotated[str, StringConstraints(min_length=1, max_length=4096), _STORABLE]
IdToken = Annotated[str, StringConstraints(min_length=1, max_length=16384), _STORABLE]
DeviceId = Annotated[str, StringConstraints(min_length=1, max_length=80), _STORABLE]
Text = Annotated[str, StringConstraints(min_length=1, max_length=2048), _STORABLE]
Method = Annotated[str, StringConstraints(min_length=1, max_length=64), _STORABLE]
Amr = Annotated[list[Method], Field(max_length=16)]
Ref = Annotated[str, AfterValidator(_is_uuid)]
Claims = Annotated[dict[str, Any], _SENDABLE]


class Command(BaseModel):
    """What all commands share."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)


class ClientAttributes(Command):
    """What the app knows of the user's browser; Mosaic uses it for risk and audit."""

    user_agent: Text | None = None
    ip_address: Text | None = None


class RegisterCommand(Command):
    """Remember a session after an active login, or again after an added factor."""

    session_id: SessionId = Field(repr=False)
    user_id: UserId
    id_token: IdToken = Field(repr=False)
    device_id: DeviceId | None = None


class SilentAuthCommand(Command):
    """Tokens for a user of the asking app, from a live session that is strong enough."""

    user_id: UserId
    device_id: DeviceId | None = None
    amr_all_of: Amr = []
    amr_any_of: Amr = []
    max_age: Annotated[int, Field(ge=0, le=10**9)] | None = None
    resource: Text | None = None
    claims: Claims | None = None
    org_id: Text | None = None
    client_attributes: ClientAttributes = ClientAttributes()


class StatusCommand(Command):
    """What the store knows of a user's sessions."""

    user_id: UserId


class LogoutCommand(Command):
    """End a session, a device's sessions, or all of a user's."""

    user_id: UserId
    scope: Literal["session", "device", "user"] = "session"
    session_ref: Ref | None = None
    session_id: SessionId | None = Field(default=None, repr=False)
    device_id: DeviceId | None = None

    @model_validator(mode="after")
    def _check_scope(self) -> LogoutCommand:
        named = (self.session_ref is not None) + (self.session_id is not None)
        wanted = {"session": (1, False), "device": (0, True), "user": (0, False)}
        if (named, self.device_id is not None) != wanted[self.scope]:
            raise ValueError("the arguments do not fit the scope")
        return self

    @property
    def ref(self) -> UUID | None:
        """The session's reference as an id."""
        return None if self.session_ref is None else UUID(self.session_ref)

    @property
    def logout_scope(self) -> LogoutScope:
        """The scope as a word of the contract."""
        return LogoutScope(self.scope)


class ReceiptCommand(Command):
    """What became of a logout."""

    receipt_id: Ref

    @property
    def receipt(self) -> UUID:
        """The receipt's id."""
        return UUID(self.receipt_id)


class ConfirmNoticeCommand(Command):
    """The receiver of a notice has acted on it."""

    notice_id: Ref

    @property
    def notice(self) -> UUID:
        """The notice's id."""
        return UUID(self.notice_id)


COMMANDS: Final[dict[Task, type[Command]]] = {
    Task.REGISTER: RegisterCommand,
    Task.SILENT_AUTH: SilentAuthCommand,
    Task.STATUS: StatusCommand,
    Task.LOGOUT: LogoutCommand,
    Task.RECEIPT: ReceiptCommand,
    Task.CONFIRM_NOTICE: ConfirmNoticeCommand,
}


def parse(task: Task, payload: object) -> Command:
    """Return *payload* as a command. Raises `InvalidRequest` naming fields, never their content."""
    try:
        return COMMANDS[task].model_validate(payload)
    except ValidationError as error:
        fields = sorted({_where(problem["loc"]) for problem in error.errors(include_input=False)})
        raise InvalidRequest(Reason.INVALID_PAYLOAD, ", ".join(fields)) from None


def _where(location: tuple[int | str, ...]) -> str:
    # Only names we know: an unknown field's name is the sender's text.
    known = {name for command in COMMANDS.values() for name in command.model_fields}
    first = str(location[0]) if location else "payload"
    return first if first in known | {"payload"} else "unknown field"
