"""Logouts that were dead-lettered are seen, and can be told again."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from models import Logout
from tests.integration.cli.cli_rig import run, told
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
