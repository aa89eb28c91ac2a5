"""Requests for an active login: a first step, and what completes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic

from session_client import reading
from session_client.contract import Task
from session_client.errors import ConfigurationError, WrongFieldsError
from session_client.login_steps import (
    FirstStep,
    Limits,
    LoginStep,
    Proof,
    S,
    approval_complaint,
    limits_of,
)
from session_client.reading import Answered
from session_client.requests.base import LONG_TIMEOUT_SECONDS, Request, given
from session_client.requests.sign_in import Wishes, wished
from session_client.values import Authenticated, Denied, LoginRequired, StepUpRequired


@dataclass(frozen=True, slots=True, kw_only=True)
class Start(Request["S | Denied | LoginRequired"], Generic[S]):
    """Begin a login, or a step-up: send a code or a link, go to a provider, ask for a passkey.

    Args:
        step: what to begin with, such as ``SendOtp("sms", "+44…", "phone_number")``.
        login: for `VerifySocial`, the handle that `BeginSocial` gave.
        step_up: this browser's token, to add a factor to its session. Who that is the worker
            knows: leave the identifier out.
        approval_data: in a step-up by a code, a passkey or `BeginTotpTransaction`, what the user
            approves by it, such as ``{"payee": "DE02…", "amount": "12.50"}``: 10 texts at most, of
            letters, digits, ``_``, ``.`` and ``-``. The answer that completes it has them again.
        known_browser: the mark of this browser, as `BrowserCookie.known` returned it.
        device_id: the app's name for the device.
        wishes: what the app knows of the browser; of the rest nothing is used here.
        timeout: in seconds.
        request_id: the idempotency key; a new one unless given.

    Returns what the step gives, such as a `CodeSent`: the handle, ``login``, and what to show or
    to pass on. It does so for users who do not exist as well: "if we know you, a code is on its
    way". Keep the handle for this browser: what completes the login needs it. `LoginRequired` is
    only for a step-up whose session has ended.
    """

    task: ClassVar[Task] = Task.START
    step: FirstStep[S] = field(kw_only=False)
    login: str | None = field(default=None, repr=False)
    step_up: str | None = field(default=None, repr=False)
    approval_data: Mapping[str, str] | None = field(default=None, repr=False)
    known_browser: str | None = field(default=None, repr=False)
    device_id: str | None = None
    wishes: Wishes | None = None
    timeout: float = field(default=LONG_TIMEOUT_SECONDS, repr=False)

    def _check(self) -> None:
        if not isinstance(self.step, FirstStep):
            raise ConfigurationError("step: a first step, such as SendOtp")
        _check(self.step, login=self.login, step_up=self.step_up)
        complaint = approval_complaint(
            type(self.step), self.approval_data, is_step_up=self.step_up is not None
        )
        if complaint is not None:
            raise ConfigurationError(f"approval_data: {complaint}")

    def payload(self) -> dict[str, Any]:
        """Return the payload on the wire."""
        return given(
            method=self.step.method.value,
            step=self.step.step.value,
            fields=self.step.fields(),
            login=self.login,
            step_up=self.step_up,
            approval_data=None if self.approval_data is None else dict(self.approval_data),
            known_browser=self.known_browser,
            device_id=self.device_id,
            client_attributes=wished(self.wishes).get("client_attributes"),
        )

    def read(self, answer: Answered) -> S | Denied | LoginRequired:
        """Return what the worker answered."""
        return reading.started(answer, self.step)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authenticate(Request["Authenticated | LoginRequired | StepUpRequired | Denied"]):
    """Complete a login, or add a factor to this browser's session.

    Args:
        proof: such as ``Password("ada", "…")`` or ``Code("123456")``.
        login: the handle that this browser's first step gave, where there was one.
        step_up: this browser's token, to add the factor to its session.
        replaces: in a login, the browser token that the browser came with, if it did. The session
            that it names is ended: one browser, one session.
        known_browser: the mark of this browser, as `BrowserCookie.known` returned it.
        device_id: the app's name for the device, if it logs devices out.
        wishes: what the tokens are to be for.
        timeout: in seconds.
        request_id: the idempotency key; a new one unless given. A request that is repeated with
            it, unchanged, gets the same answer: the proof is not used a second time.

    `StepUpRequired` comes with a ``browser_token`` to step up with, `LoginRequired` when the
    session of a step-up has ended meanwhile. The ``reason`` of `Denied` says what may be shown.
    Raises `OutcomeUnknown` when no answer says whether the proof was used: let the user begin anew.
    """

    task: ClassVar[Task] = Task.AUTHENTICATE
    proof: Proof = field(kw_only=False)
    login: str | None = field(default=None, repr=False)
    step_up: str | None = field(default=None, repr=False)
    replaces: str | None = field(default=None, repr=False)
    known_browser: str | None = field(default=None, repr=False)
    device_id: str | None = None
    wishes: Wishes | None = None
    timeout: float = field(default=LONG_TIMEOUT_SECONDS, repr=False)

    def _check(self) -> None:
        if not isinstance(self.proof, Proof):
            raise ConfigurationError("proof: what proves the user, such as Password")
        if self.step_up is not None and self.replaces is not None:
            raise ConfigurationError("replaces: not in a step-up, which keeps the session")
        _check(self.proof, login=self.login, step_up=self.step_up)

    def payload(self) -> dict[str, Any]:
        """Return the payload on the wire."""
        return given(
            method=self.proof.method.value,
            fields=self.proof.fields(),
            login=self.login,
            step_up=self.step_up,
            replaces=self.replaces,
            known_browser=self.known_browser,
            device_id=self.device_id,
            **wished(self.wishes),
        )

    def read(self, answer: Answered) -> Authenticated | LoginRequired | StepUpRequired | Denied:
        """Return what the worker answered."""
        return reading.logged_in(answer)


def _check(step: LoginStep, *, login: str | None, step_up: str | None) -> None:
    if step.needs_login != (login is not None):
        wanted = "needs the handle of" if step.needs_login else "goes without the handle of"
        raise ConfigurationError(f"login: {type(step).__name__} {wanted} a first step")
    try:
        step.from_fields(step.fields(), is_step_up=step_up is not None)
    except WrongFieldsError as wrong:
        limits = limits_of(type(step))
        fields = step.fields()
        wishes = [
            _wish(name, limits[name], is_given=name in fields, is_step_up=step_up is not None)
            for name in wrong.names
        ]
        raise ConfigurationError(f"{type(step).__name__}: {'; '.join(wishes)}") from None
    # Whatever stands in an address's place is mailed to the user, who finds that it leads nowhere:
    # a path alone, or the address of the user.
    if ":/" not in getattr(step, "redirect_uri", ":/"):
        raise ConfigurationError(
            f"{type(step).__name__}: redirect_uri is the whole address that leads back to the app, "
            "such as https://shop.example.com/callback"
        )


def _wish(name: str, limits: Limits, *, is_given: bool, is_step_up: bool) -> str:
    """Say what to do about a field that is wrong, and quote nothing of it."""
    if limits.names_user and is_step_up:
        return f"leave {name} out, a step-up is of the session's own user"
    if not is_given:
        but = ", but in a step-up (step_up=)" if limits.names_user else ""
        return f"{name} is needed{but}"
    if limits.one_of:
        return f"{name} is one of {', '.join(limits.one_of)}"
    which = "" if limits.takes_any_character else ", none of them a control character"
    return f"{name} is text of 1 to {limits.longest} characters{which}"
