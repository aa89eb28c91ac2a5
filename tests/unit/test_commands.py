"""What the worker accepts from an app."""

from __future__ import annotations

import unicodedata
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_client import ConfigurationError, Wishes, contract, requests
from session_client.contract import MAX_ID_TOKEN_CHARACTERS, LogoutScope, Reason, Task
from worker.errors import InvalidRequest
from worker.requests import commands
from worker.requests.command_fields import ClientAttributes, Command
from worker.requests.commands import (
    LogoutCommand,
    RegisterCommand,
    SilentAuthCommand,
    StatusCommand,
    parse,
)

REF = "01a20872-f07c-748e-a5d6-4108532b6f0a"


PAYLOADS: dict[Task, dict[str, Any]] = {
    Task.REGISTER: {"session_id": "s", "user_id": "ada", "id_token": "t"},
    Task.SILENT_AUTH: {"user_id": "ada"},
    Task.START: {"method": "webauthn"},
    Task.AUTHENTICATE: {"method": "password", "fields": {"username": "ada", "password": "p"}},
    Task.REFRESH: {"refresh_token": "r"},
    Task.TICKET: {"browser_token": "b", "for_app": "forum", "challenge": "c" * 43},
    Task.STATUS: {"user_id": "ada"},
    Task.ABOUT: {},
    Task.LOGOUT: {"browser_token": "b"},
    Task.REVOKE_USER: {"user_id": "ada"},
    Task.RECEIPT: {"receipt_id": REF},
    Task.CONFIRM_NOTICE: {"notice_id": REF},
}


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
                wishes=Wishes(
                    resource="r",
                    claims={"id_token": {"email": {"essential": True}}},
                    org_id="o",
                    user_agent="u",
                    ip_address="i",
                ),
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
                client_attributes=ClientAttributes(user_agent="u", ip_address="i"),
            ),
        ),
        (requests.Status(user_id="ada"), StatusCommand(user_id="ada")),
        (
            requests.Logout(user_id="ada", session_ref=REF),
            LogoutCommand(user_id="ada", session_ref=REF),
        ),
        (
            requests.Logout(user_id="ada", device_id="phone"),
            LogoutCommand(user_id="ada", scope="device", device_id="phone"),
        ),
        (
            requests.Logout(user_id="ada", everywhere=True),
            LogoutCommand(user_id="ada", scope="user"),
        ),
    ],
)
def test_what_the_client_sends_is_what_the_worker_accepts(
    request_made: requests.Request[Any], command: Command
) -> None:
    assert parse(request_made.task, request_made.payload()) == command


def test_every_task_of_the_contract_has_its_command() -> None:
    assert set(commands.COMMANDS) == set(Task)


@pytest.mark.parametrize("task", Task)
def test_an_optional_field_may_be_null(task: Task) -> None:
    payload = PAYLOADS[task]
    optional = set(commands.COMMANDS[task].model_fields) - set(payload)

    assert parse(task, payload | dict.fromkeys(optional)) == parse(task, payload)


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


@pytest.mark.parametrize(
    "longest", [("user_id", 255), ("session_id", 4096), ("id_token", MAX_ID_TOKEN_CHARACTERS)]
)
def test_sizes_are_bounded(longest: tuple[str, int]) -> None:
    field, size = longest
    payload = {"user_id": "ada", "session_id": "s", "id_token": "t"}

    parse(Task.REGISTER, payload | {field: "x" * size})

    assert refusal(Task.REGISTER, payload | {field: "x" * (size + 1)}).detail == field


NAMES: dict[str, Any] = {
    "browser_token": "b", "ticket": "t", "session_ref": REF, "user_id": "ada",
}  # fmt: skip
ALONE = ({"browser_token"}, {"ticket"}, {"session_ref", "user_id"}, {"user_id"})


@given(
    names=st.sets(st.sampled_from(sorted(NAMES))),
    with_verifier=st.booleans(),
    replaces=st.booleans(),
)
def test_a_silent_authentication_names_one_session_in_one_way(
    names: set[str], *, with_verifier: bool, replaces: bool
) -> None:
    fields = {name: NAMES[name] for name in names}
    fields |= {"verifier": "v" * 43} if with_verifier else {}
    fields |= {"replaces": "b"} if replaces else {}
    has_ticket = "ticket" in names
    is_right = names in ALONE and with_verifier == has_ticket and (has_ticket or not replaces)

    if is_right:
        parse(Task.SILENT_AUTH, requests.SilentAuth(**fields).payload())
    else:
        assert refusal(Task.SILENT_AUTH, fields).detail == "payload"
        with pytest.raises(ConfigurationError):
            requests.SilentAuth(**fields)


ENDS: dict[str, Any] = {
    "user_id": "ada", "browser_token": "b", "session_ref": REF, "session_id": "s",
    "device_id": "phone",
}  # fmt: skip
WHAT_ENDS: dict[str, tuple[set[str], ...]] = {
    "session": ({"browser_token"}, {"user_id", "session_ref"}, {"user_id", "session_id"}),
    "device": ({"user_id", "device_id"},),
    "user": ({"user_id"},),
}


@given(st.sets(st.sampled_from(sorted(ENDS))), st.sampled_from(sorted(WHAT_ENDS)))
def test_a_logout_says_what_its_scope_needs_and_nothing_else(names: set[str], scope: str) -> None:
    fields = {"scope": scope} | {name: ENDS[name] for name in names}

    if names in WHAT_ENDS[scope]:
        parse(Task.LOGOUT, fields)
    else:
        assert refusal(Task.LOGOUT, fields).detail == "payload"


@given(st.sets(st.sampled_from(sorted(ENDS))), st.booleans())
def test_the_client_refuses_a_logout_that_names_what_ends_in_no_way_or_in_two(
    names: set[str],
    everywhere: bool,  # noqa: FBT001
) -> None:
    fields = {name: ENDS[name] for name in names}
    scope = "user" if everywhere else "device" if "device_id" in names else "session"

    if names in WHAT_ENDS[scope]:
        request = requests.Logout(**fields, everywhere=everywhere)
        assert request.payload() == {"scope": scope} | fields
        parse(Task.LOGOUT, request.payload())
    else:
        with pytest.raises(ConfigurationError):
            requests.Logout(**fields, everywhere=everywhere)


@pytest.mark.parametrize("task", [Task.SILENT_AUTH, Task.TICKET, Task.LOGOUT])
@pytest.mark.parametrize("garbled", ["\x00", "x" * 4096, "msb1_é"])
def test_a_garbled_cookie_is_no_fault_of_the_apps(task: Task, garbled: str) -> None:
    payload = {n: v for n, v in PAYLOADS[task].items() if n != "user_id"}

    parse(task, payload | {"browser_token": garbled})

    assert refusal(task, payload | {"browser_token": "x" * 4097}).detail == "browser_token"


@pytest.mark.parametrize(
    ("task", "wrong"),
    [
        (Task.TICKET, {"for_app": "Forum"}),
        (Task.TICKET, {"challenge": "c" * 42}),
        (Task.TICKET, {"challenge": "c" * 42 + "="}),
        (Task.REVOKE_USER, {"frontend": "yes"}),
        (Task.REVOKE_USER, {"user_id": "u" * 256}),
        (Task.REGISTER, {"replaces": ""}),
    ],
)
def test_a_field_of_another_form_is_named(task: Task, wrong: dict[str, Any]) -> None:
    assert refusal(task, PAYLOADS[task] | wrong).detail == next(iter(wrong))


@pytest.mark.parametrize("verifier", ["v" * 42, "v" * 129, "v" * 42 + "=", "v" * 42 + "\n"])
def test_a_verifier_of_another_form_is_refused(verifier: str) -> None:
    assert refusal(Task.SILENT_AUTH, {"ticket": "t", "verifier": verifier}).detail == "verifier"


MANY = {f"field-{number}": number for number in range(4000)}
CROWDS: dict[str, tuple[Task, dict[str, Any]]] = {
    "unknown fields": (Task.SILENT_AUTH, {"user_id": "ada"} | MANY),
    "unknown attributes": (Task.SILENT_AUTH, {"user_id": "ada", "client_attributes": MANY}),
    "claims": (Task.SILENT_AUTH, {"user_id": "ada", "claims": {"id_token": MANY}}),
    "items": (Task.SILENT_AUTH, {"user_id": "ada", "amr_all_of": list(MANY)}),
    "lists of lists": (Task.AUTHENTICATE, {"method": "password", "fields": [[[]] * 64] * 4}),
}


@pytest.mark.parametrize("name", CROWDS)
def test_more_fields_than_any_request_has_are_not_looked_at(name: str) -> None:
    refused = refusal(*CROWDS[name])

    assert (refused.reason, refused.detail) == (Reason.INVALID_PAYLOAD, "more than 256 fields")


@pytest.mark.parametrize("task", list(Task))
def test_as_many_fields_as_a_request_may_have_are_looked_at(task: Task) -> None:
    known = PAYLOADS[task]
    spare = (
        contract.MAX_FIELDS
        - len(known)
        - sum(len(value) for value in known.values() if isinstance(value, dict))
    )

    payload = known | {f"field-{number}": number for number in range(spare)}
    assert "unknown field" in refusal(task, payload).detail

    payload["one more"] = 0
    assert refusal(task, payload).detail == "more than 256 fields"


def test_an_identifier_may_hold_all_but_control_characters_and_lone_surrogates() -> None:
    characters = [*map(chr, range(0x3000)), "\ud800", "\udfff", "😀", "\U000e0001"]

    def is_refused(character: str) -> bool:
        try:
            parse(Task.STATUS, {"user_id": f"a{character}b"})
        except InvalidRequest:
            return True
        return False

    refused = {character for character in characters if is_refused(character)}

    assert refused == {c for c in characters if unicodedata.category(c) in {"Cc", "Cs"}}
