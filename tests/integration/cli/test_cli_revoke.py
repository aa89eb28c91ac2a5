from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest

from models import NoticeMethod
from sandbox.ports import free_port
from session_client.contract import Queue
from simulator.server import SimulatorServer
from tests.integration.cli.cli_rig import complaint, run, told
from tests.stage import Stage
from worker.app import app as celery_app
from worker.logout import guards
from worker.outbox import leases

WHY = ("--reason", "stolen laptop")


@pytest.fixture
def busy(stage: Stage) -> Stage:
    """Two apps at Mosaic, one of which is told."""
    stage.add_app("shop")
    stage.add_app("forum", notice_method=NoticeMethod.QUEUE, notice_address="forum-notices")
    return stage


def living(stage: Stage) -> set[UUID]:
    return {session.id for session in stage.sessions() if session.ended_at is None}


def test_one_session_is_ended_everywhere_and_the_reason_is_kept(busy: Stage) -> None:
    revoked = busy.registered("ada", "shop")
    busy.silent_auth("ada", "forum")
    other = busy.registered("ada", "shop")

    assert told("sessions", "revoke", str(revoked), *WHY, "--yes") == {"ended": 1}

    story = told("sessions", "show", str(revoked))
    assert living(busy) == {other}
    assert story["session"]["end_cause"] == "revoked"
    assert [notice["app_id"] for notice in story["notices"]] == ["forum"]
    assert "stolen laptop" in story["trail"][-1]["correlation_id"]
    assert busy.tell_mosaic() == ["confirmed"]


def test_all_of_a_user_are_ended_and_nobody_elses(busy: Stage) -> None:
    busy.registered("ada", "shop")
    busy.registered("ada", "shop")
    bob = busy.registered("bob", "shop")

    printed = run("sessions", "revoke", "--user", "ada", *WHY, "--yes").stdout

    assert printed.startswith("Ended: 2\n")
    assert living(busy) == {bob}


def test_all_that_an_app_shares_are_ended_also_those_others_opened(busy: Stage) -> None:
    busy.registered("ada", "shop")
    busy.silent_auth("ada", "forum")
    busy.registered("eve", "forum")
    bob = busy.registered("bob", "shop")

    assert told("sessions", "revoke", "--app", "forum", *WHY, "--yes") == {"ended": 2}
    assert living(busy) == {bob}


def test_repeating_ends_nothing_and_asks_nothing(busy: Stage) -> None:
    session = busy.registered("ada", "shop")
    run("sessions", "revoke", str(session), *WHY, "--yes")

    assert run("sessions", "revoke", str(session), *WHY).stdout == "Ended: 0\n"


def test_a_session_past_its_expiry_that_nobody_marked_is_ended_too(busy: Stage) -> None:
    busy.registered("ada", "shop")
    busy.pass_time(days=15)

    assert told("sessions", "revoke", "--user", "ada", *WHY, "--yes") == {"ended": 1}


@pytest.mark.parametrize(
    "arguments",
    [
        WHY,
        ("--user", "ada"),
        ("--user", "ada", "--reason", " "),
        ("--user", "ada", "--app", "shop", *WHY),
        (str(uuid4()), "--user", "ada", *WHY),
    ],
)
def test_what_is_meant_must_be_clear(sqlite_stage: Stage, arguments: tuple[str, ...]) -> None:
    sqlite_stage.add_app("shop")
    session = sqlite_stage.registered("ada", "shop")

    run("sessions", "revoke", *arguments, "--yes", expect=2)

    assert living(sqlite_stage) == {session}


def test_who_is_not_there_is_said_to_be_missing(sqlite_stage: Stage) -> None:
    assert "there is no session" in complaint("sessions", "revoke", str(uuid4()), *WHY)
    assert "there is no app 'nobody'" in complaint("sessions", "revoke", "--app", "nobody", *WHY)


# --- asking first


@pytest.mark.parametrize(("said", "remaining", "code"), [("y", 0, 0), ("n", 2, 1), ("", 2, 1)])
def test_at_a_terminal_the_count_is_asked_about(
    sqlite_stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    said: str,
    remaining: int,
    code: int,
) -> None:
    sqlite_stage.add_app("shop")
    for _ in range(2):
        sqlite_stage.registered("ada", "shop")
    monkeypatch.setattr("worker.cli.common.is_at_a_terminal", lambda: True)

    asked = run("sessions", "revoke", "--user", "ada", *WHY, stdin=f"{said}\n", expect=code)

    assert "End 2 live sessions" in asked.stderr
    assert len(living(sqlite_stage)) == remaining


def test_of_very_many_the_operator_hears_that_there_are_no_fewer(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To count millions takes longer than the database lets a statement take."""
    monkeypatch.setattr(guards, "MAX_COUNTED", 2)
    monkeypatch.setattr("worker.cli.common.is_at_a_terminal", lambda: True)
    shop = ("sessions", "revoke", "--app", "shop", *WHY)
    with Stage(sqlite_url, redis_url, mosaic, guard_count="1", guard_share="0.5") as stage:
        stage.add_app("shop")
        for _ in range(5):
            stage.registered("ada", "shop")

        refused = run(*shop, stdin="y\n", expect=1).stderr
        untouched = len(living(stage))
        asked = run(*shop, "--override-guard", stdin="y\n")

        assert "End at least 2 live sessions" in refused
        assert "this would end at least 3 of 5 live sessions, more than 50%" in refused
        assert untouched == 5
        assert "End at least 2 live sessions" in asked.stderr
        assert "Ended: 5" in asked.stdout
        assert living(stage) == set()


def test_without_a_terminal_nothing_is_ended_unless_it_is_said(sqlite_stage: Stage) -> None:
    sqlite_stage.add_app("shop")
    session = sqlite_stage.registered("ada", "shop")

    message = complaint("sessions", "revoke", "--user", "ada", *WHY)

    assert "would end 1 live sessions: say --yes" in message
    assert living(sqlite_stage) == {session}


def test_an_implausible_share_is_ended_only_when_overridden(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with Stage(sqlite_url, redis_url, mosaic, guard_count="0") as stage:
        stage.add_app("shop")
        session = stage.registered("ada", "shop")

        message = complaint("sessions", "revoke", "--user", "ada", *WHY, "--yes")
        untouched = living(stage)
        said = told("sessions", "revoke", "--user", "ada", *WHY, "--yes", "--override-guard")

    assert "1 of 1 live sessions" in message
    assert untouched == {session}
    assert said == {"ended": 1}


def waiting(stage: Stage) -> dict[str, int]:
    """How many messages wait for those who tell Mosaic and the apps."""
    redis: Any = stage.redis
    return {queue: redis.llen(queue) for queue in (Queue.IDP, Queue.NOTIFY)}


def test_who_must_be_told_is_woken_at_once(busy: Stage) -> None:
    session = busy.registered("ada", "shop")
    busy.silent_auth("ada", "forum")

    printed = run("sessions", "revoke", str(session), *WHY, "--yes").stdout

    assert waiting(busy) == {Queue.IDP: 1, Queue.NOTIFY: 1}
    assert "tell Mosaic and the apps within seconds" in printed


@pytest.mark.parametrize("full", [Queue.IDP, Queue.NOTIFY])
def test_what_a_full_queue_holds_back_is_said_to_be_left_to_the_sweep(
    busy: Stage, full: Queue
) -> None:
    session = busy.registered("ada", "shop")
    busy.silent_auth("ada", "forum")
    busy.redis.lpush(full, *["a wake-up"] * (leases.SWEEP_BATCH + 1))

    printed = run("sessions", "revoke", str(session), *WHY, "--yes").stdout

    assert waiting(busy)[full] == leases.SWEEP_BATCH + 1
    assert "as beat has the sweep wake them" in printed


def test_a_full_queue_in_which_nothing_is_due_changes_nothing_that_is_said(busy: Stage) -> None:
    session = busy.registered("ada", "shop")  # no app but its own is to be told
    busy.redis.lpush(Queue.NOTIFY, *["a wake-up"] * (leases.SWEEP_BATCH + 1))

    printed = run("sessions", "revoke", str(session), *WHY, "--yes").stdout

    assert "tell Mosaic and the apps within seconds" in printed


def test_of_very_many_the_rest_is_left_to_the_sweep(
    busy: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "SWEEP_BATCH", 2)
    for _ in range(3):
        busy.registered("ada", "shop")

    printed = run("sessions", "revoke", "--user", "ada", *WHY, "--yes").stdout

    assert waiting(busy) == {Queue.IDP: 2, Queue.NOTIFY: 0}
    assert "as beat has the sweep wake them" in printed


def test_a_broker_that_is_away_keeps_nobody_from_revoking(
    sqlite_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    sqlite_stage.add_app("shop")
    session = sqlite_stage.registered("ada", "shop")
    dead = f"redis://127.0.0.1:{free_port()}/0"
    monkeypatch.setattr(celery_app.conf, "broker_write_url", dead)
    monkeypatch.setattr(celery_app.amqp, "_producer_pool", None)  # or it publishes as before

    printed = run("sessions", "revoke", str(session), *WHY, "--yes").stdout

    assert living(sqlite_stage) == set()
    assert waiting(sqlite_stage) == {Queue.IDP: 0, Queue.NOTIFY: 0}
    assert "as beat has the sweep wake them" in printed
