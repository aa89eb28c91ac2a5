"""What mypy says of apps that use the client: `make lint` fails where it says something else.

Each ``type: ignore`` stands for an error that an app must get; one that is not needed is an error
itself. Nothing of this runs.
"""

from __future__ import annotations

from typing import assert_type

from session_client import (
    AsyncSessionClient,
    Authenticated,
    CodeSent,
    Denied,
    LoginAnswer,
    LoginRequired,
    LogoutReceipt,
    LogoutSpool,
    Password,
    Registered,
    SendOtp,
    SessionClient,
    SilentAnswer,
    StepUpRequired,
)


def every_case(client: SessionClient) -> str:
    match client.authenticate(Password("ada", "lovelace")):
        case Authenticated(user_id=user_id):
            return user_id
        case LoginRequired() | StepUpRequired() | Denied() as no:
            return no.reason


def a_no_counts_as_false(client: SessionClient) -> str:
    answer = client.authenticate(Password("ada", "lovelace"))
    if answer:
        assert_type(answer, Authenticated)
        return answer.user_id
    return ""


def denied_is_left_out(client: SessionClient) -> str:  # type: ignore[return]
    match client.authenticate(Password("ada", "lovelace")):
        case Authenticated() | LoginRequired() | StepUpRequired():
            return ""


def step_up_is_left_out(client: SessionClient) -> str:  # type: ignore[return]
    match client.silent_auth(browser_token="…"):
        case Authenticated() | LoginRequired():
            return ""


async def login_is_left_out(client: AsyncSessionClient) -> str:  # type: ignore[return]
    match await client.silent_auth(browser_token="…"):
        case Authenticated() | StepUpRequired():
            return ""


def arguments_are_checked(client: SessionClient) -> None:
    client.silent_auth(browser_tokn="…")  # type: ignore[call-arg]
    client.silent_auth(browser_token=1)  # type: ignore[arg-type]
    client.start(Password("ada", "lovelace"))  # type: ignore[arg-type]
    client.authenticate(SendOtp("sms"))  # type: ignore[arg-type]


def a_spooled_logout_is_checked(spool: LogoutSpool) -> None:
    spool.logout(browser_tokn="…")  # type: ignore[arg-type]
    spool.logout(browser_token=1)  # type: ignore[arg-type]
    spool.logout(browser_token="…", wait="all")  # type: ignore[arg-type]
    assert_type(spool.logout(browser_token="…"), str)


async def both_clients_answer_alike(client: SessionClient, other: AsyncSessionClient) -> None:
    proof, step = Password("ada", "lovelace"), SendOtp("sms")
    assert_type(client.authenticate(proof), LoginAnswer)
    assert_type(await other.authenticate(proof), LoginAnswer)
    assert_type(client.silent_auth(browser_token="…"), SilentAnswer)
    assert_type(await other.silent_auth(browser_token="…"), SilentAnswer)
    assert_type(client.start(step), CodeSent | Denied | LoginRequired)
    assert_type(await other.start(step), CodeSent | Denied | LoginRequired)
    assert_type(client.logout(user_id="ada"), LogoutReceipt)
    assert_type(await other.logout(user_id="ada"), LogoutReceipt)
    registered = client.register(user_id="ada", session_id="…", id_token="…")
    assert_type(registered, Registered | LoginRequired)
