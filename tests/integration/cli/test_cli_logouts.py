"""Logouts that were dead-lettered are seen, and can be told again."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import update

from models import Logout
from session_client import requests
from tests.integration.cli.cli_rig import complaint, run, told
from tests.stage import Stage
from worker.outbox.leases import MAX_CRASHES


@pytest.fixture
def given_up(stage: Stage) -> Stage:
    """A logout over which one worker too many has died."""
    stage.add_app("shop")
    session = stage.registered()
    stage.log_out(session_ref=str(session))
    with stage.services.store.write() as connection:
        connection.execute(update(Logout).values(crashes=MAX_CRASHES + 1))
    assert stage.tell_mosaic() == [None]
    return stage


def test_a_dead_lettered_logout_is_counted_as_failed(given_up: Stage) -> None:
    logouts = told("status", expect=69)["logouts"]

    assert (logouts["pending"], logouts["failed"]) == (0, 1)
    assert "logouts failed" in run("status", expect=69).stdout


def listed(*arguments: str) -> list[Any]:
    logouts: list[Any] = told("logouts", "list", *arguments)["logouts"]
    return logouts


def test_what_mosaic_must_still_be_told_is_listed_oldest_first_with_its_error(
    stage: Stage,
) -> None:
    stage.add_app("shop")
    stage.add_app("forum")
    stage.mosaic.state.faults.add("session/logout", "status", status=503, times=1)
    failing, fresh = stage.registered("ada", "shop"), stage.registered("bob", "forum")
    stage.log_out("ada", "shop", session_ref=str(failing))
    stage.tell_mosaic()
    stage.pass_time(seconds=100)
    stage.log_out("bob", "forum", session_ref=str(fresh))

    first, second = listed()
    printed = run("logouts", "list").stdout

    assert (first["session_ref"], second["session_ref"]) == (str(failing), str(fresh))
    assert (first["user_id"], first["app_id"], first["state"]) == ("ada", "shop", "pending")
    assert first["attempts"] == 1
    assert "503" in first["last_error"]
    assert (second["attempts"], second["last_error"]) == (0, None)
    assert str(failing) in printed
    assert "503" in printed
    assert [one["user_id"] for one in listed("--app", "forum")] == ["bob"]
    assert listed("--failed") == []
    assert told("logouts", "list", "--limit", "1")["has_more"] is True


def test_what_was_given_up_is_listed_and_what_mosaic_confirmed_is_not(given_up: Stage) -> None:
    confirmed = given_up.registered("bob", "shop")
    given_up.log_out("bob", "shop", session_ref=str(confirmed))
    given_up.tell_mosaic()

    (one,) = listed("--failed")
    assert one["state"] == "dead"
    assert listed() == [one]


def test_a_user_who_must_still_be_revoked_at_mosaic_is_listed_too(stage: Stage) -> None:
    stage.add_app("admin", capabilities=("revoke_user",))
    stage.ask("admin", requests.RevokeUser(user_id="ada"))

    (one,) = listed()
    assert (one["session_ref"], one["user_id"], one["app_id"]) == (None, "ada", "admin")
    assert listed("--failed") == []
    assert listed("--app", "admin") == [one]
    assert "all of the user" in run("logouts", "list").stdout


def test_a_misspelt_app_has_no_logouts(sqlite_stage: Stage) -> None:
    assert "there is no app 'shpo'" in complaint("logouts", "list", "--app", "shpo")


def test_a_replayed_logout_reaches_mosaic(given_up: Stage) -> None:
    assert told("logouts", "replay") == {"opened": 1}

    assert given_up.tell_mosaic() == ["confirmed"]
    assert given_up.mosaic.state.live_sessions() == []
    assert told("status", expect=69)["logouts"]["failed"] == 0


def test_replaying_touches_nothing_that_was_confirmed(stage: Stage) -> None:
    stage.add_app("shop")
    session = stage.registered()
    stage.log_out(session_ref=str(session))
    stage.tell_mosaic()

    assert run("logouts", "replay").stdout == "Pending again: 0\n"
