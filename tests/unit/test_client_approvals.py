"""What a user can be asked to approve, by which first steps: client and worker refuse the same."""

from __future__ import annotations

from typing import Any

import pytest

from session_client import logins, methods
from session_client.contract import Reason, Task
from session_client.errors import ConfigurationError
from session_client.login_steps import FirstStep
from worker.errors import InvalidRequest
from worker.requests import commands
from worker.requests.login_commands import StartCommand

CANARY = "canary!"
GOOD: dict[str, Any] = {
    "one": {"amount": "12.50"},
    "ten": {f"key_{number}": "x" * 255 for number in range(10)},
    "every character": {"Az09_.-": "Az09_.-"},
}
BAD: dict[str, Any] = {
    "nothing": {},
    "eleven": {f"key_{number}": "x" for number in range(11)},
    "a space": {"payee": f"Ada {CANARY}"},
    "a name with a space": {f"the {CANARY}": "x"},
    "an umlaut": {"payee": "M\u00fcller"},
    "digits of another script": {"amount": "\u0661\u0662"},
    "a line feed at the end": {"amount": "12.50\n"},
    "an empty text": {"amount": ""},
    "an empty name": {"": "12.50"},
    "too long": {"amount": "1" * 256},
    "a number": {"amount": 12.5},
    "null": {"amount": None},
    "an object within": {"amount": {"EUR": "12.50"}},
    "a list": ["amount", "12.50"],
    "a text": "amount",
}
STEPS: list[FirstStep[Any]] = [
    methods.SendOtp("sms"),
    methods.IssueOtp(),
    methods.BeginWebauthn(),
    methods.BeginTotpTransaction(),
]
OTHERS: list[FirstStep[Any]] = [
    methods.SendLink("https://shop.example/back"),
    methods.IssueLink("https://shop.example/back"),
    methods.BeginSocial("google", "https://shop.example/back"),
    methods.VerifySocial("code", "state"),
]


def name_of(step: FirstStep[Any]) -> str:
    return type(step).__name__


def payload_of(step: FirstStep[Any], **more: Any) -> dict[str, Any]:
    payload = {"method": step.method.value, "step": step.step.value, "fields": step.fields()}
    if step.needs_login:
        payload["login"] = "a-handle"
    return payload | more


def refused(payload: dict[str, Any]) -> str | None:
    with pytest.raises(InvalidRequest) as caught:
        commands.parse(Task.START, payload)
    assert caught.value.reason is Reason.INVALID_PAYLOAD
    return caught.value.detail


@pytest.mark.parametrize("step", STEPS, ids=name_of)
@pytest.mark.parametrize("kind", GOOD)
def test_what_the_client_sends_the_worker_takes(step: FirstStep[Any], kind: str) -> None:
    request = logins.Start(step=step, step_up="msb1_x", approval_data=GOOD[kind])

    command = commands.parse(Task.START, request.payload())

    assert isinstance(command, StartCommand)
    assert command.approval_data == GOOD[kind]
    assert "12.50" not in f"{request!r} {command!r}"


@pytest.mark.parametrize("step", STEPS, ids=name_of)
@pytest.mark.parametrize("kind", BAD)
def test_what_mosaic_would_not_take_is_refused_without_quoting_it(
    step: FirstStep[Any], kind: str
) -> None:
    with pytest.raises(ConfigurationError, match=r"^approval_data: 1 to 10 texts") as caught:
        logins.Start(step=step, step_up="msb1_x", approval_data=BAD[kind])
    detail = refused(payload_of(step, step_up="msb1_x", approval_data=BAD[kind]))

    assert detail == "approval_data"
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("step", OTHERS, ids=name_of)
def test_other_steps_approve_nothing(step: FirstStep[Any]) -> None:
    login = "a-handle" if step.needs_login else None
    with pytest.raises(ConfigurationError, match=r"^approval_data: \w+ approves nothing"):
        logins.Start(step=step, login=login, step_up="msb1_x", approval_data=GOOD["one"])

    payload = payload_of(step, step_up="msb1_x", approval_data=GOOD["one"])
    assert refused(payload) == "approval_data"


def test_each_first_step_is_one_or_the_other() -> None:
    first_steps = {step for step in methods.TABLE if issubclass(step, FirstStep)}

    assert {type(step) for step in (*STEPS, *OTHERS)} == first_steps
    assert {step for step in first_steps if step.takes_approval_data} == {type(s) for s in STEPS}


@pytest.mark.parametrize(
    "step",
    [methods.SendOtp("sms", "+1", "phone_number"), methods.BeginWebauthn("ada")],
    ids=name_of,
)
def test_only_who_is_signed_in_approves(step: FirstStep[Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"^approval_data: .* give step_up"):
        logins.Start(step=step, approval_data=GOOD["one"])
    assert refused(payload_of(step, approval_data=GOOD["one"])) == "approval_data"


def test_a_transaction_without_anything_to_approve_is_none() -> None:
    step = methods.BeginTotpTransaction()

    with pytest.raises(ConfigurationError, match=r"^approval_data: BeginTotpTransaction is for"):
        logins.Start(step=step, step_up="msb1_x")
    assert refused(payload_of(step, step_up="msb1_x")) == "approval_data"
    assert refused(payload_of(step, step_up="msb1_x", approval_data=None)) == "approval_data"
