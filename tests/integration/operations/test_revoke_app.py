"""Ending all that an app shares: in batches, so that no number of sessions is too large for it."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from sandbox.environment import base_variables
from sandbox.processes import ManagedProcess, poll_until
from simulator.server import SimulatorServer
from tests.integration.cli.cli_rig import complaint, run, told
from tests.integration.outbox.propagation_rig import by_queue, notices
from tests.integration.storage.pg_locks import waiting_for_locks
from tests.stage import Stage, environment
from worker.errors import SafetyLimitExceeded
from worker.operations.revoke_app import revoke_app
from worker.storage import database

StageWith = Callable[..., Stage]

BATCH = 2
MANY = 2 * BATCH + 1
WHY = ("--reason", "incident 4711", "--override-guard", "--yes")


@pytest.fixture
def stage_with(redis_url: str, mosaic: SimulatorServer) -> Iterator[StageWith]:
    """Make a stage on a store, with small batches; forum takes notices."""
    with ExitStack() as stages:

        def make(url: str, **overrides: str) -> Stage:
            small = {"maintenance_batch": str(BATCH)}
            stage = stages.enter_context(Stage(url, redis_url, mosaic, **(small | overrides)))
            stage.add_app("shop")
            stage.add_app("other")
            by_queue(stage, "forum")
            return stage

        yield make


def shared(stage: Stage) -> list[UUID]:
    """Have more sessions than a batch that shop shares, one of them with forum."""
    refs = [stage.registered(f"user-{number}", "shop") for number in range(MANY)]
    stage.silent_auth("user-0", "forum")
    return refs


def live(stage: Stage) -> set[UUID]:
    return {session.id for session in stage.sessions() if session.ended_at is None}


def trail() -> list[dict[str, Any]]:
    """What operators did beyond adding apps, oldest first."""
    done = told("audit", "list")["actions"]
    return [one for one in reversed(done) if one["action"] != "app_added"]


def require_all_told_once(stage: Stage, refs: list[UUID]) -> None:
    assert {session.end_cause for session in stage.sessions() if session.id in refs} == {"revoked"}
    assert {session.version for session in stage.sessions() if session.id in refs} == {2}
    assert Counter(row.idp_session_id for row in stage.logouts()) == Counter(refs)
    assert [(row.idp_session_id, row.app_id) for row in notices(stage)] == [(refs[0], "forum")]
    assert stage.events().count(("ended", "revoked")) == len(refs)


def test_more_than_a_batch_are_ended_each_once_with_its_delivery(
    store_url: str, stage_with: StageWith
) -> None:
    stage = stage_with(store_url)
    refs = shared(stage)
    untouched = stage.registered("bob", "other")

    result = run("sessions", "revoke", "--app", "shop", *WHY)

    assert result.stdout.startswith(f"Ended: {MANY}\n")
    assert result.stderr.splitlines() == [
        f"batch 1: {BATCH} ended",
        f"batch 2: {BATCH} ended",
        "batch 3: 1 ended",
    ]
    assert live(stage) == {untouched}
    require_all_told_once(stage, refs)
    begun, done = trail()
    assert (begun["action"], done["action"]) == ("revocation_begun", "sessions_revoked")
    assert {begun["app_id"], done["app_id"]} == {"shop"}
    assert {begun["reason"], done["reason"]} == {"incident 4711"}
    assert begun["after"] == {"override_guard": True}
    assert done["after"] == {"ended": MANY, "override_guard": True}
    assert told("sessions", "revoke", "--app", "shop", *WHY) == {"ended": 0}


def revocation_of(stage: Stage, folder: Path) -> ManagedProcess:
    variables = environment(
        stage.settings.store_url,
        stage.settings.cache_url,
        stage.mosaic,
        maintenance_batch=str(BATCH),
    )
    program = Path(sys.executable).with_name("mosaic-sessions")
    return ManagedProcess(
        [program, "--as", "grace", "sessions", "revoke", "--app", "shop", *WHY],
        environment=base_variables() | variables,
        log_path=folder / "revocation.log",
    )


def test_one_that_is_killed_between_two_batches_is_repeated_and_ends_the_rest(
    postgres_url: str, stage_with: StageWith, tmp_path: Path
) -> None:
    stage = stage_with(postgres_url)
    refs = shared(stage)
    with stage.services.store.engine.connect() as held:
        query = "SELECT id FROM idp_sessions WHERE user_id = :user FOR UPDATE"
        held.execute(text("BEGIN"))
        held.execute(text(query), {"user": f"user-{MANY - 1}"})
        with revocation_of(stage, tmp_path) as revocation:
            # It waits for a session that is held, and passes by none.
            poll_until(lambda: waiting_for_locks(stage), 60)
            revocation.kill()
        held.execute(text("ROLLBACK"))

    assert live(stage) == {refs[-1]}
    assert [one["action"] for one in trail()] == ["revocation_begun"]

    assert told("sessions", "revoke", "--app", "shop", *WHY) == {"ended": 1}

    require_all_told_once(stage, refs)
    assert [one["action"] for one in trail()][1:] == ["revocation_begun", "sessions_revoked"]


SLOW = """
    CREATE FUNCTION wait_a_while() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN PERFORM pg_sleep(0.6); RETURN NEW; END $$;
    CREATE TRIGGER slow BEFORE UPDATE ON idp_sessions
    FOR EACH ROW EXECUTE FUNCTION wait_a_while();
"""


def test_all_together_may_take_longer_than_a_statement_may(
    postgres_url: str, stage_with: StageWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = database.PG_OPTIONS + " -c statement_timeout=2500"
    monkeypatch.setattr(database, "PG_OPTIONS", options)
    stage = stage_with(postgres_url, maintenance_batch="1")
    refs = [stage.registered("ada", "shop") for _ in range(MANY)]
    with stage.services.store.write() as connection:
        connection.execute(text(SLOW))

    too_slow = complaint("sessions", "revoke", "--user", "ada", *WHY)
    assert live(stage) == set(refs)

    assert told("sessions", "revoke", "--app", "shop", *WHY) == {"ended": MANY}
    assert "ended a statement that took too long (QueryCanceled)" in too_slow
    assert "does not answer" not in too_slow


def test_who_signs_in_meanwhile_stays_signed_in(store_url: str, stage_with: StageWith) -> None:
    stage = stage_with(store_url)
    shared(stage)

    batches = revoke_app(stage.services, "shop", reason="incident 4711", override=True)
    next(batches)
    late = stage.registered("user-0", "shop")

    assert sum(ended.count for ended in batches) == MANY - BATCH
    assert live(stage) == {late}


def test_a_reader_of_the_trail_misses_no_session_of_a_run_that_takes_minutes(
    store_url: str, stage_with: StageWith
) -> None:
    stage = stage_with(store_url)
    refs = shared(stage)

    batches = revoke_app(stage.services, "shop", reason="incident 4711", override=True)
    next(batches)
    stage.pass_time(minutes=5)
    first = exported()
    list(batches)
    stage.pass_time(minutes=5)
    second = exported("--after", first[-1]["id"])

    ended = [line["session_ref"] for line in first + second if line["event"] == "ended"]
    assert Counter(ended) == Counter(map(str, refs))


def exported(*after: str) -> list[Any]:
    return [json.loads(line) for line in run("audit", "export", *after).stdout.splitlines()]


def test_an_implausible_share_is_refused_before_anything_is_done(
    store_url: str, stage_with: StageWith
) -> None:
    stage = stage_with(store_url, guard_count="0")
    shared(stage)
    before = stage.dump()

    with pytest.raises(SafetyLimitExceeded, match=f"{MANY} of {MANY}"):
        next(revoke_app(stage.services, "shop", reason="slip"))

    assert stage.dump() == before


def test_of_an_app_that_shares_none_the_trail_says_so(
    store_url: str, stage_with: StageWith
) -> None:
    stage_with(store_url)

    assert told("sessions", "revoke", "--app", "shop", *WHY) == {"ended": 0}
    assert trail()[-1]["after"] == {"ended": 0, "override_guard": True}


def test_the_first_batch_is_woken_at_once_and_the_sweep_wakes_the_others(
    sqlite_url: str, stage_with: StageWith
) -> None:
    stage = stage_with(sqlite_url)
    shared(stage)

    printed = run("sessions", "revoke", "--app", "shop", *WHY).stdout

    assert stage.redis.llen("idp") == BATCH
    assert "as beat has the sweep wake them" in printed


@pytest.mark.parametrize(
    ("given", "left_out_by"), [("--override-guard", "--yes"), ("--yes", "--override-guard")]
)
def test_a_count_that_takes_too_long_says_which_option_leaves_it_out(
    postgres_url: str,
    stage_with: StageWith,
    monkeypatch: pytest.MonkeyPatch,
    given: str,
    left_out_by: str,
) -> None:
    monkeypatch.setattr(database, "PG_OPTIONS", database.PG_OPTIONS + " -c lock_timeout=200")
    stage = stage_with(postgres_url)
    refs = shared(stage)
    with stage.services.store.write() as held:
        held.exec_driver_sql("LOCK TABLE idp_sessions")
        said = complaint("sessions", "revoke", "--app", "shop", *WHY[:2], given)

    assert f"counting sessions, which {left_out_by} leaves out" in said
    assert live(stage) == set(refs)
