"""What the worker accepts from an app."""

from __future__ import annotations

import dataclasses
from typing import Any
from uuid import UUID

import pytest

from session_client import requests
from session_client.contract import LogoutScope, Reason, Task
from worker.errors import InvalidRequest
from worker.lifecycle import commands
from worker.lifecycle.commands import (
    LogoutCommand,
    RegisterCommand,
    SilentAuthCommand,
    StatusCommand,
    parse,
)

REF = "01a20872-f07c-748e-a5d6-4108532b6f0a"


def refusal(task: Task, payload: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse(task, payload)
    return caught.value


@pytest.mark.parametrize(
    ("request_made", "command"),
    [
        (
            requests.Register(session_id="s", user_id="ada", id_token="t", device_id="phone"),
            RegisterCommand(session_id="s", user_id="ada", id_token="t", device_id="phone"),
        ),
        (requests.SilentAuth(user_id="ada"), SilentAuthCommand(user_id="ada")),
        (
            requests.SilentAuth(
                user_id="ada",
                device_id="phone",
                amr_all_of=("pwd",),
                amr_any_of=["sms", "eml"],
                max_age=0,
                resource="r",
                claims={"id_token": {"email": {"essential": True}}},
                org_id="o",
                user_agent="u",
                ip_address="i",
            ),
            SilentAuthCommand(
                user_id="ada",
                device_id="phone",
                amr_all_of=["pwd"],
                amr_any_of=["sms", "eml"],
                max_age=0,
                resource="r",
                claims={"id_token": {"email": {"essential": True}}},
                org_id="o",
                client_attributes=commands.ClientAttributes(user_agent="u", ip_address="i"),
            ),
        ),
        (requests.Status(user_id="ada"), StatusCommand(user_id="ada")),
        (
            requests.Logout(user_id="ada", session_ref=REF),
            LogoutCommand(user_id="ada", session_ref=REF),
        ),
        (
            requests.Logout(user_id="ada", scope=LogoutScope.DEVICE, device_id="phone"),
            LogoutCommand(user_id="ada", scope="device", device_id="phone"),
        ),
        (
            requests.Logout(user_id="ada", scope=LogoutScope.USER),
            LogoutCommand(user_id="ada", scope="user"),
        ),
    ],
)
def test_what_the_client_sends_is_what_the_worker_accepts(
    request_made: requests.Request, command: commands.Command
) -> None:
    assert parse(request_made.task, request_made.payload()) == command


def test_every_task_of_the_contract_has_its_command() -> None:
    assert set(commands.COMMANDS) == set(Task)


@pytest.mark.parametrize("request_class", requests.Request.__subclasses__())
def test_no_field_of_the_client_is_unknown_to_the_worker(
    request_class: type[requests.Request],
) -> None:
    known = set(commands.COMMANDS[request_class.task].model_fields)
    known |= set(commands.ClientAttributes.model_fields)

    assert {field.name for field in dataclasses.fields(request_class)} <= known


def test_a_logout_names_its_session_as_an_id() -> None:
    command = LogoutCommand(user_id="ada", session_ref=REF)

    assert command.ref == UUID(REF)
    assert command.logout_scope is LogoutScope.SESSION
    assert LogoutCommand(user_id="ada", session_id="s").ref is None


@pytest.mark.parametrize(
    ("payload", "named"),
    [
        ({"session_id": "s", "id_token": "t"}, "user_id"),
        ({"user_id": 7, "session_id": "s"}, "id_token, user_id"),
        ({"user_id": "ada", "session_id": "s", "id_token": "t", "secret": 1}, "unknown field"),
        (["user_id"], "payload"),
    ],
)
def test_a_refusal_names_the_field(payload: Any, named: str) -> None:
    error = refusal(Task.REGISTER, payload)

    assert (error.reason, error.detail) == (Reason.INVALID_PAYLOAD, named)


def test_a_refusal_quotes_nothing_it_was_given() -> None:
    error = refusal(Task.REGISTER, {"user_id": "ada", "session_id": "\0hush", "my secret": "hush"})

    assert "hush" not in f"{error} {error.detail} {error.__cause__} {error.__context__!r}"
    assert "my secret" not in str(error)


def test_secrets_have_no_repr() -> None:
    command = RegisterCommand(session_id="hush", user_id="ada", id_token="hush")

    assert "hush" not in repr(command)
    assert "hush" not in repr(LogoutCommand(user_id="ada", session_id="hush"))


@pytest.mark.parametrize("longest", [("user_id", 255), ("session_id", 4096), ("id_token", 16384)])
def test_sizes_are_bounded(longest: tuple[str, int]) -> None:
    field, size = longest
    payload = {"user_id": "ada", "session_id": "s", "id_token": "t"}

    parse(Task.REGISTER, payload | {field: "x" * size})

    assert refusal(Task.REGISTER, payload | {field: "x" * (size + 1)}).detail == field
