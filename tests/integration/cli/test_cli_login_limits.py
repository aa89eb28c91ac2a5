"""An operator lets somebody try again, and nobody else."""

from __future__ import annotations

from typing import Any, Final

import pytest

from session_client import Wishes, methods
from session_client.contract import Reason, Verdict
from tests.integration.cli.cli_rig import complaint, run, told
from tests.integration.logins.login_rig import MAIL, PHONE, begin, furnish, log_in, prove
from tests.stage import Stage

ADA: Final = ("--login", "ada")
TOO_MANY: Final = Reason.TOO_MANY_ATTEMPTS
WHY: Final = ("--reason", "called the help desk")
HERE: Final = Wishes(ip_address="2001:db8::7")


@pytest.fixture(autouse=True)
def _people(sqlite_stage: Stage) -> None:
    furnish(sqlite_stage)
    sqlite_stage.mosaic.state.policy.change(wrong_proofs_allowed=10**6)


def locked_out(stage: Stage, login: str, **fields: Any) -> None:
    for _ in range(5):
        prove(stage, methods.Password(login, "wrong"), **fields)
    assert prove(stage, methods.Password(login, "wrong"), **fields).reason == TOO_MANY


def trail() -> list[dict[str, Any]]:
    actions: list[dict[str, Any]] = told("audit", "list")["actions"]
    return [one for one in actions if one["action"] == "login_limits_lifted"]


def test_who_was_locked_out_signs_in_again_and_another_does_not(sqlite_stage: Stage) -> None:
    locked_out(sqlite_stage, "ada")
    locked_out(sqlite_stage, "bob")

    (shown,) = told("login-limits", "show", *ADA)["limits"]
    lifted = told("--as", "grace", "login-limits", "lift", *ADA, *WHY)["lifted"]

    assert (shown["limit"], shown["browser"], shown["app_id"]) == ("login", "unknown", None)
    assert (shown["counted"], shown["most"], shown["is_full"]) == (5, 5, True)
    assert [one["limit"] for one in lifted] == ["login"]
    assert log_in(sqlite_stage).verdict == Verdict.AUTHENTICATED
    assert prove(sqlite_stage, methods.Password("bob", "bob's")).reason == TOO_MANY
    assert told("login-limits", "show", *ADA)["limits"] == []
    (written,) = trail()
    assert written["operator"].startswith("grace")
    assert written["reason"] == WHY[1]
    assert written["after"] == {"login": "ada", "lifted": ["login"]}


def test_a_limit_that_is_full_again_is_written_down_again(sqlite_stage: Stage) -> None:
    locked_out(sqlite_stage, "ada")
    run("login-limits", "lift", *ADA, *WHY)
    locked_out(sqlite_stage, "ada")

    assert sqlite_stage.events().count(("sign_in_limited", "login")) == 2


def test_each_browser_has_its_count_and_all_of_them_are_lifted(sqlite_stage: Stage) -> None:
    known = log_in(sqlite_stage).known_browser
    locked_out(sqlite_stage, "ada")
    locked_out(sqlite_stage, "ada", known_browser=known)

    found = told("login-limits", "show", *ADA)["limits"]
    run("login-limits", "lift", *ADA, *WHY)

    assert len(found) == 2
    assert len({one["browser"] for one in found}) == 2
    for mark in (None, known):
        assert log_in(sqlite_stage, known_browser=mark).verdict == Verdict.AUTHENTICATED


@pytest.mark.parametrize(
    ("channel", "typed", "asked"),
    [("sms", PHONE, "+1 00"), ("email", MAIL, "ADA@example.com")],
)
def test_codes_that_were_sent_are_found_under_each_spelling(
    sqlite_stage: Stage, channel: str, typed: tuple[str, str], asked: str
) -> None:
    step = methods.SendOtp(channel, *typed)
    begin(sqlite_stage, step)
    assert begin(sqlite_stage, step).reason == TOO_MANY

    found = told("login-limits", "lift", "--login", asked, *WHY)["lifted"]

    assert {one["limit"] for one in found} == {"sends"}
    assert sorted(one["most"] for one in found) == [1, 5, 15]
    assert [one["is_full"] for one in found] == [True, False, False]  # what is full comes first
    assert begin(sqlite_stage, step).reason is None


def test_a_login_of_a_type_that_mosaic_was_taught_is_found_by_its_type(
    sqlite_stage: Stage,
) -> None:
    step = methods.SendOtp("email", "4711", "badge")
    begin(sqlite_stage, step)

    assert told("login-limits", "show", "--login", "4711")["limits"] == []
    assert len(told("login-limits", "show", "--login", "4711", "--type", "badge")["limits"]) == 3


def test_failures_of_a_second_factor_are_the_users(sqlite_stage: Stage) -> None:
    token = log_in(sqlite_stage).browser_token
    wrong = methods.Totp("000000")
    for _ in range(5):
        prove(sqlite_stage, wrong, step_up=token)
    assert prove(sqlite_stage, wrong, step_up=token).reason == TOO_MANY

    (lifted,) = told("login-limits", "lift", "--user", "ada", *WHY)["lifted"]

    assert lifted["limit"] == "factor"
    assert prove(sqlite_stage, wrong, step_up=token).reason == Reason.INVALID_CREDENTIALS
    (written,) = trail()
    assert written["user_id"] == "ada"


def test_an_address_is_lifted_at_each_app(sqlite_stage: Stage) -> None:
    for app_id in ("shop", "forum"):
        prove(sqlite_stage, methods.Password("ada", "wrong"), app_id, wishes=HERE)
    prove(sqlite_stage, methods.Password("bob", "wrong"), wishes=Wishes(ip_address="::1"))
    begin(sqlite_stage, methods.SendOtp("sms", *PHONE), wishes=HERE)

    found = told("login-limits", "lift", "--address", "2001:db8:0::8", *WHY)["lifted"]

    assert {(one["limit"], one["app_id"], one["counted"]) for one in found} == {
        *(("address", "shop", 1), ("address", "forum", 1), ("sends_of_address", None, 1)),
    }
    assert told("login-limits", "show", "--address", "2001:db8::7")["limits"] == []
    assert len(told("login-limits", "show", "--address", "::1")["limits"]) == 1


def test_where_nothing_is_counted_nothing_is_written_down(sqlite_stage: Stage) -> None:
    assert run("login-limits", "show", *ADA).stdout == "Nothing is counted.\n"
    assert run("login-limits", "lift", *ADA, *WHY).stdout == "Lifted: 0\n"
    assert trail() == []


def test_a_table_for_people(sqlite_stage: Stage) -> None:
    locked_out(sqlite_stage, "ada")

    for words in (("show", *ADA), ("lift", *ADA, *WHY)):
        (row,) = [
            line for line in run("login-limits", *words).stdout.splitlines() if " of 5" in line
        ]
        assert row.split()[:7] == ["login", "all", "unknown", "5", "of", "5", "yes"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "say whose"),
        ((*ADA, "--user", "ada"), "only one of them"),
        (("--user", "ada", "--type", "email"), "--type says what --login is"),
    ],
)
@pytest.mark.usefixtures("sqlite_stage")
def test_it_must_be_said_whose(words: tuple[str, ...], why: str) -> None:
    assert why in complaint("login-limits", "show", *words, expect=2)
    assert why in complaint("login-limits", "lift", *words, *WHY, expect=2)


@pytest.mark.usefixtures("sqlite_stage")
def test_a_reason_must_say_something() -> None:
    complaint("login-limits", "lift", *ADA, "--reason", " ", expect=2)
