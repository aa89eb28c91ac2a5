from __future__ import annotations

from structlog.testing import capture_logs

from simulator.server import SimulatorServer
from tests.integration.cli.cli_rig import complaint, run, told
from tests.stage import Stage


def an_expired_and_a_live_session(stage: Stage) -> None:
    stage.add_app("shop")
    stage.registered("ada", "shop")
    stage.pass_time(days=15)
    stage.registered("bob", "shop")


def test_pruning_ends_what_has_expired_and_nothing_else(stage: Stage) -> None:
    an_expired_and_a_live_session(stage)

    assert told("prune") == {"expired": 1, "is_complete": True, "dry_run": False}
    ended = {session.user_id: session.end_cause for session in stage.sessions()}
    assert ended == {"ada": "expired", "bob": None}


def test_a_dry_run_counts_and_changes_nothing(stage: Stage) -> None:
    an_expired_and_a_live_session(stage)

    said = told("prune", "--dry-run", "--history")

    assert said["expired"] == 1
    assert said["dry_run"] is True
    assert [session.ended_at for session in stage.sessions()] == [None, None]


def test_history_is_deleted_only_when_asked_for(stage: Stage) -> None:
    an_expired_and_a_live_session(stage)
    run("prune")
    stage.pass_time(days=31)

    assert "sessions" not in told("prune")
    assert told("prune", "--history")["sessions"] == 1
    assert [session.user_id for session in stage.sessions()] == ["bob"]


def test_a_person_reads_counts_by_name(sqlite_stage: Stage) -> None:
    an_expired_and_a_live_session(sqlite_stage)

    assert "expired (dry run)" in run("prune", "--dry-run").stdout
    assert run("prune").stdout.split() == ["expired", "1"]


def test_a_run_that_was_out_of_time_says_so(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    hurried = {"maintenance_batch": "1", "maintenance_budget_seconds": "0.000001"}
    with Stage(sqlite_url, redis_url, mosaic, **hurried) as stage:
        stage.add_app("shop")
        for _ in range(3):
            stage.registered("ada", "shop")
        stage.pass_time(days=15)

        with capture_logs():  # `main` sends them to standard error
            printed = run("prune").stdout
            said = told("prune")

        assert "run it again" in printed
        assert said == {"expired": 1, "is_complete": False, "dry_run": False}


def test_an_implausible_share_is_ended_only_when_overridden(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with Stage(sqlite_url, redis_url, mosaic, guard_count="0") as stage:
        an_expired_and_a_live_session(stage)

        message = complaint("prune")
        untouched = [session.ended_at for session in stage.sessions()]
        said = told("prune", "--override-guard")

    assert "1 of 2 live sessions" in message
    assert "--override-guard" in message
    assert untouched == [None, None]
    assert said["expired"] == 1
