"""Requests for an active login: a first step, and what completes it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from session_client.contract import Task
from session_client.errors import InvalidArgumentError, WrongFieldsError
from session_client.login_steps import FirstStep, LoginStep, Proof
from session_client.requests import Request, given


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a login's tokens are to be for, and what the app knows of the browser."""

    resource: str | None = None
    claims: dict[str, Any] | None = None
    org_id: str | None = None
    user_agent: str | None = None
    ip_address: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Start(Request):
    """Begin a login, or a step-up of this browser's session."""

    task: ClassVar[Task] = Task.START
    step: FirstStep[Any]
    login: str | None = field(default=None, repr=False)
    step_up: str | None = field(default=None, repr=False)
    known_browser: str | None = field(default=None, repr=False)
    device_id: str | None = None
    user_agent: str | None = None
    ip_address: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.step, FirstStep):
            raise InvalidArgumentError("step: a first step, such as SendOtp")
        _check(self.step, login=self.login, step_up=self.step_up)

    def payload(self) -> dict[str, Any]:
        """Return the payload on the wire."""
        client_attributes = given(user_agent=self.user_agent, ip_address=self.ip_address)
        return given(
            method=self.step.method.value,
            step=self.step.step.value,
            fields=self.step.fields(),
            login=self.login,
            step_up=self.step_up,
            known_browser=self.known_browser,
            device_id=self.device_id,
            client_attributes=client_attributes or None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Authenticate(Request):
    """Complete a login, or add a factor to this browser's session."""

    task: ClassVar[Task] = Task.AUTHENTICATE
    proof: Proof
    login: str | None = field(default=None, repr=False)
    step_up: str | None = field(default=None, repr=False)
    replaces: str | None = field(default=None, repr=False)
    known_browser: str | None = field(default=None, repr=False)
    device_id: str | None = None
    wishes: Wishes = Wishes()

    def __post_init__(self) -> None:
        if not isinstance(self.proof, Proof):
            raise InvalidArgumentError("proof: what proves the user, such as Password")
        if self.step_up is not None and self.replaces is not None:
            raise InvalidArgumentError("replaces: not in a step-up, which keeps the session")
        _check(self.proof, login=self.login, step_up=self.step_up)

    def payload(self) -> dict[str, Any]:
        """Return the payload on the wire."""
        wishes = self.wishes
        client_attributes = given(user_agent=wishes.user_agent, ip_address=wishes.ip_address)
        return given(
            method=self.proof.method.value,
            fields=self.proof.fields(),
            login=self.login,
            step_up=self.step_up,
            replaces=self.replaces,
            known_browser=self.known_browser,
            device_id=self.device_id,
            resource=wishes.resource,
            claims=wishes.claims,
            org_id=wishes.org_id,
            client_attributes=client_attributes or None,
        )


def _check(step: LoginStep, *, login: str | None, step_up: str | None) -> None:
    if step.needs_login != (login is not None):
        wanted = "needs the handle of" if step.needs_login else "goes without the handle of"
        raise InvalidArgumentError(f"login: {type(step).__name__} {wanted} a first step")
    try:
        step.from_fields(step.fields(), is_step_up=step_up is not None)
    except WrongFieldsError as wrong:
        raise InvalidArgumentError(f"{type(step).__name__}: {wrong}") from None
