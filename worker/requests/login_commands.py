"""What an app may ask of an active login; the table of methods says what their fields may hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal, cast

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from session_client import methods
from session_client.errors import WrongFieldsError
from session_client.login_steps import FirstStep, LoginStep, Proof, Step, approval_complaint
from worker.requests.command_fields import (
    Brought,
    Claims,
    ClientAttributes,
    Command,
    DeviceId,
    MethodName,
    Sealed,
    Text,
)

Fields = dict[str, Any]

WRONG_FIELDS: Final = "login_fields"


def _read_step(method: str, step: str, fields: Mapping[str, Any], *, is_step_up: bool) -> LoginStep:
    """Return the step of the declared table, checked. Raises what pydantic makes a refusal of."""
    declared = methods.step_of(method, step)
    if declared is None:
        raise _wrong(["step"])
    try:
        return declared.from_fields(fields, is_step_up=is_step_up)
    except WrongFieldsError as wrong:
        raise _wrong(wrong.names) from None


def _check_step(step: LoginStep, login: str | None) -> None:
    if step.needs_login != (login is not None):
        raise _wrong(["login"])


def _wrong(names: list[str]) -> PydanticCustomError:
    return PydanticCustomError(WRONG_FIELDS, "wrong fields", {"names": names})


class StartCommand(Command):
    """The first step of an active login."""

    method: MethodName
    step: Literal["start", "verify"] = "start"
    fields: Fields = Field(default_factory=dict, repr=False)
    login: Sealed | None = Field(default=None, repr=False)
    step_up: Brought | None = Field(default=None, repr=False)
    approval_data: Fields | None = Field(default=None, repr=False)
    known_browser: Brought | None = Field(default=None, repr=False)
    device_id: DeviceId | None = None
    client_attributes: ClientAttributes = ClientAttributes()

    @model_validator(mode="after")
    def _check_step(self) -> StartCommand:
        step = self.wanted
        _check_step(step, self.login)
        is_step_up = self.step_up is not None
        if approval_complaint(type(step), self.approval_data, is_step_up=is_step_up) is not None:
            raise _wrong(["approval_data"])
        return self

    @property
    def wanted(self) -> FirstStep[Any]:
        """The step as the declared table has it."""
        step = _read_step(self.method, self.step, self.fields, is_step_up=self.step_up is not None)
        return cast("FirstStep[Any]", step)


class AuthenticateCommand(Command):
    """Complete an active login, or add a factor."""

    method: MethodName
    fields: Fields = Field(default_factory=dict, repr=False)
    login: Sealed | None = Field(default=None, repr=False)
    step_up: Brought | None = Field(default=None, repr=False)
    replaces: Brought | None = Field(default=None, repr=False)
    known_browser: Brought | None = Field(default=None, repr=False)
    device_id: DeviceId | None = None
    resource: Text | None = None
    claims: Claims | None = None
    org_id: Text | None = None
    client_attributes: ClientAttributes = ClientAttributes()

    @model_validator(mode="after")
    def _check_step(self) -> AuthenticateCommand:
        _check_step(self.proof, self.login)
        if self.step_up is not None and self.replaces is not None:
            raise ValueError("a step-up keeps the session")
        return self

    @property
    def proof(self) -> Proof:
        """The proof as the declared table has it."""
        step = _read_step(
            self.method,
            Step.AUTHENTICATE.value,
            self.fields,
            is_step_up=self.step_up is not None,
        )
        return cast("Proof", step)
