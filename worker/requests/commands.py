"""What an app may ask, as the worker accepts it: strict types, bounded sizes, nothing unknown."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated, Final, Literal, cast
from uuid import UUID

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from session_client import contract, naming
from session_client.contract import LogoutScope, Reason, Task
from worker.errors import InvalidRequest
from worker.policy import Policy, policy_of
from worker.requests.command_fields import (
    Amr,
    AppId,
    Brought,
    Challenge,
    Claims,
    ClientAttributes,
    Command,
    DeviceId,
    IdToken,
    Ref,
    Sealed,
    SessionId,
    Text,
    UserId,
    Verifier,
)
from worker.requests.login_commands import WRONG_FIELDS, AuthenticateCommand, StartCommand


class RegisterCommand(Command):
    """Remember a session after an active login, or again after an added factor."""

    session_id: SessionId = Field(repr=False)
    user_id: UserId
    id_token: IdToken = Field(repr=False)
    device_id: DeviceId | None = None
    replaces: Brought | None = Field(default=None, repr=False)


class SilentAuthCommand(Command):
    """Tokens for a user of the asking app, from a live session that is strong enough."""

    browser_token: Brought | None = Field(default=None, repr=False)
    session_ref: Ref | None = None
    user_id: UserId | None = None
    ticket: Brought | None = Field(default=None, repr=False)
    verifier: Verifier | None = Field(default=None, repr=False)
    replaces: Brought | None = Field(default=None, repr=False)
    device_id: DeviceId | None = None
    amr_all_of: Amr = Field(default_factory=list)
    amr_any_of: Amr = Field(default_factory=list)
    max_age: Annotated[int, Field(ge=0, le=10**9)] | None = None
    resource: Text | None = None
    claims: Claims | None = None
    org_id: Text | None = None
    client_attributes: ClientAttributes = ClientAttributes()

    def strengthen(self, policy: Policy) -> Policy:
        """Return what the session must meet: the app's own policy, and what is asked for now."""
        if not (self.amr_all_of or self.amr_any_of or self.max_age is not None):
            return policy  # as of nearly every request
        return policy.and_also(policy_of(self.amr_all_of, self.amr_any_of, self.max_age))

    @property
    def ref(self) -> UUID:
        """The session's reference as an id, where the app names it so."""
        assert self.session_ref is not None, "named in another way"  # noqa: S101
        return UUID(self.session_ref)

    @property
    def is_by_user(self) -> bool:
        """Whether a user is named, and no browser."""
        return self.browser_token is None and self.ticket is None and self.session_ref is None

    @property
    def user(self) -> str:
        """The user to be signed in, where the app names one."""
        assert self.user_id is not None, "named in another way"  # noqa: S101
        return self.user_id

    @model_validator(mode="after")
    def _check_name(self) -> SilentAuthCommand:
        """It names one session in one way: what it names is tried, and nothing else."""
        names_one = naming.names_one_session(
            browser_token=self.browser_token,
            ticket=self.ticket,
            session_ref=self.session_ref,
            user_id=self.user_id,
        )
        is_alone = self.ticket is not None or self.replaces is None
        if not (names_one and is_alone and (self.ticket is None) == (self.verifier is None)):
            raise ValueError("it must name one session in one way")
        return self


class RefreshCommand(Command):
    """Fresh tokens for a refresh token that the app was given."""

    refresh_token: Sealed = Field(repr=False)


class TicketCommand(Command):
    """Carry a browser's session to an app on another domain."""

    browser_token: Brought = Field(repr=False)
    for_app: AppId
    challenge: Challenge


class StatusCommand(Command):
    """What the store knows of a user's sessions."""

    user_id: UserId
    session_ref: Ref | None = None


class LogoutCommand(Command):
    """End a session, a device's sessions, or all of a user's."""

    user_id: UserId | None = None
    scope: Literal["session", "device", "user"] = "session"
    browser_token: Brought | None = Field(default=None, repr=False)
    session_ref: Ref | None = None
    session_id: SessionId | None = Field(default=None, repr=False)
    device_id: DeviceId | None = None

    @model_validator(mode="after")
    def _check_scope(self) -> LogoutCommand:
        if not naming.names_what_to_end(
            self.logout_scope,
            user_id=self.user_id,
            browser_token=self.browser_token,
            session_ref=self.session_ref,
            session_id=self.session_id,
            device_id=self.device_id,
        ):
            raise ValueError("the arguments do not fit the scope")
        return self

    @property
    def user(self) -> str:
        """The user whose sessions end. A browser token names a session, and no user yet."""
        assert self.user_id is not None, "only a browser token comes without"  # noqa: S101
        return self.user_id

    @property
    def ref(self) -> UUID | None:
        """The session's reference as an id."""
        return None if self.session_ref is None else UUID(self.session_ref)

    @property
    def logout_scope(self) -> LogoutScope:
        """The scope as a word of the contract."""
        return LogoutScope(self.scope)


class RevokeUserCommand(Command):
    """End everything of a user."""

    user_id: UserId
    frontend: bool = False

    @field_validator("user_id")
    @classmethod
    def _check_user(cls, user_id: str) -> str:
        """Refuse what would lead a path of Mosaic's elsewhere once a proxy has tidied it up."""
        if not {".", ".."}.isdisjoint(re.split(r"[/\\]", user_id)):
            raise ValueError("a step in a path is no user id")
        return user_id

    @property
    def user(self) -> str:
        """Whose sessions."""
        return self.user_id

    @property
    def scope(self) -> str:
        """The scope as a logout would have it."""
        return self.logout_scope.value

    @property
    def logout_scope(self) -> LogoutScope:
        """The scope as a word of the contract."""
        return LogoutScope.USER


class ReceiptCommand(Command):
    """What became of a logout."""

    receipt_id: Ref

    @property
    def receipt(self) -> UUID:
        """The receipt's id."""
        return UUID(self.receipt_id)


class AboutCommand(Command):
    """What the app may do, and what its notices are proven by."""


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
    Task.START: StartCommand,
    Task.AUTHENTICATE: AuthenticateCommand,
    Task.REFRESH: RefreshCommand,
    Task.TICKET: TicketCommand,
    Task.STATUS: StatusCommand,
    Task.LOGOUT: LogoutCommand,
    Task.REVOKE_USER: RevokeUserCommand,
    Task.RECEIPT: ReceiptCommand,
    Task.CONFIRM_NOTICE: ConfirmNoticeCommand,
    Task.ABOUT: AboutCommand,
}


def parse(task: Task, payload: object) -> Command:
    """Return *payload* as a command. Raises `InvalidRequest` naming fields, never their content."""
    if _has_too_many_fields(payload):
        raise InvalidRequest(Reason.INVALID_PAYLOAD, f"more than {contract.MAX_FIELDS} fields")
    fields = payload
    if isinstance(payload, dict):  # an optional field may be left out, or null
        fields = {name: value for name, value in payload.items() if value is not None}
    try:
        return COMMANDS[task].model_validate(fields)
    except ValidationError as error:
        problems = error.errors(include_input=False, include_url=False)
        names = sorted({name for problem in problems for name in _where(problem)})
        raise InvalidRequest(Reason.INVALID_PAYLOAD, ", ".join(names)) from None


def _has_too_many_fields(payload: object) -> bool:
    left, values = contract.MAX_FIELDS, [payload]
    for value in values:
        if isinstance(value, (dict, list)):
            left -= len(value)
            if left < 0:
                return True
            values.extend(value.values() if isinstance(value, dict) else value)
    return False


def _where(problem: ErrorDetails) -> Sequence[str]:
    if problem["type"] == WRONG_FIELDS:
        return cast("Sequence[str]", problem["ctx"]["names"])
    # Only names we know: an unknown field's name is the sender's text.
    known = {name for command in COMMANDS.values() for name in command.model_fields}
    location = problem["loc"]
    first = str(location[0]) if location else "payload"
    return [first if first in known | {"payload"} else "unknown field"]
