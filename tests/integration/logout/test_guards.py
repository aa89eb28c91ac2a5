"""No clock that jumps and no slip of a hand ends the sessions of everybody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from uuid import UUID

import pytest
from sqlalchemy import func, true
from structlog.testing import capture_logs

from models import IdpSession
from simulator.server import SimulatorServer
from tests.integration.outbox.propagation_rig import by_queue, notices
from tests.stage import Stage
from worker.errors import SafetyLimitExceeded
from worker.logout.revoke import revoke
from worker.maintenance.expire import expire_sessions
from worker.settings.model import Settings
from worker.tasks import maintenance as tasks

StageWith = Callable[..., Stage]


@pytest.fixture
def stage_with(store_url: str, redis_url: str, mosaic: SimulatorServer) -> Iterator[StageWith]:
    """Make a stage whose guard wakes early, and with other settings."""
    with ExitStack() as stages:

        def make(**overrides: str) -> Stage:
            guard = {"guard_count": "3", "guard_share": "0.5"}
            stage = stages.enter_context(Stage(store_url, redis_url, mosaic, **(guard | overrides)))
            stage.add_app("shop")
            by_queue(stage, "forum")
            return stage

        yield make


def sign_in(stage: Stage, *, old: int, young: int) -> None:
    """Have *old* sessions that are past their time, and *young* ones that are not."""
    for _ in range(old):
        stage.registered("ada")
    stage.pass_time(days=10)
    for _ in range(young):
        stage.registered("bob")
    stage.pass_time(days=5)


def live(stage: Stage) -> set[UUID]:
    return {session.id for session in stage.sessions() if session.ended_at is None}


def test_an_implausible_share_is_not_ended_unless_that_is_meant(stage_with: StageWith) -> None:
    stage = stage_with()
    sign_in(stage, old=5, young=4)
    before = stage.dump()

    with pytest.raises(SafetyLimitExceeded, match="5 of 9 live sessions"):
        expire_sessions(stage.services)
    assert stage.dump() == before

    assert expire_sessions(stage.services, dry_run=True).rows == {"expired": 5}
    assert stage.dump() == before
    done = expire_sessions(stage.services, override_guard=True)
    assert done.rows == {"expired": 5}
    assert len(live(stage)) == 4


def test_a_plausible_share_is_ended(stage_with: StageWith) -> None:
    stage = stage_with()
    sign_in(stage, old=5, young=5)

    assert expire_sessions(stage.services).rows == {"expired": 5}


def test_a_few_are_ended_whatever_share_they_are(stage_with: StageWith) -> None:
    stage = stage_with()
    sign_in(stage, old=3, young=0)

    assert expire_sessions(stage.services).rows == {"expired": 3}


def test_what_has_ended_before_is_neither_ended_nor_counted(stage_with: StageWith) -> None:
    stage = stage_with()
    sign_in(stage, old=5, young=5)
    for ref in live(stage):
        if stage.session(ref).user_id == "bob":
            stage.log_out("bob", session_ref=str(ref))

    with pytest.raises(SafetyLimitExceeded, match="5 of 5"):
        expire_sessions(stage.services)


def test_a_cap_set_too_low_ends_nothing(stage_with: StageWith) -> None:
    stage = stage_with(session_absolute_cap_seconds="60")
    for _ in range(4):
        stage.registered()
    stage.pass_time(hours=1)

    with pytest.raises(SafetyLimitExceeded):
        expire_sessions(stage.services)
    assert len(live(stage)) == 4
    done = expire_sessions(stage.services, override_guard=True)
    assert done.rows == {"expired": 0, "capped": 4}


@pytest.mark.parametrize("jump", [{"days": 1}, {"days": -60}])
def test_a_clock_apart_from_the_databases_ends_nothing(
    postgres_url: str, redis_url: str, mosaic: SimulatorServer, jump: dict[str, float]
) -> None:
    with Stage(postgres_url, redis_url, mosaic, guard_clock_seconds="60") as stage:
        stage.add_app("shop")
        apart = (datetime.now(UTC) - stage.now()).total_seconds()
        stage.pass_time(seconds=apart - 15 * 86_400)
        ref = stage.registered()
        stage.pass_time(days=15)
        right = stage.now()
        stage.pass_time(**jump)
        before = stage.dump()

        with pytest.raises(SafetyLimitExceeded, match="apart"):
            expire_sessions(stage.services)
        assert stage.dump() == before

        stage.pass_time(seconds=(right - stage.now()).total_seconds())
        assert expire_sessions(stage.services).rows == {"expired": 1}
        assert stage.session(ref).end_cause == "expired"


def test_by_default_a_clock_ahead_by_more_than_the_grace_beats_no_renewal(
    postgres_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    default = str(Settings.model_fields["guard_clock_seconds"].default)
    with Stage(postgres_url, redis_url, mosaic, guard_clock_seconds=default) as stage:
        stage.add_app("shop")
        apart = (datetime.now(UTC) - stage.now()).total_seconds()
        stage.pass_time(seconds=apart - 14 * 86_400)
        ref = stage.registered()
        stage.pass_time(days=14)  # by the database's clock just past its time, in the grace
        stage.pass_time(seconds=280)

        with pytest.raises(SafetyLimitExceeded, match="apart"):
            expire_sessions(stage.services)

        assert stage.session(ref).ended_at is None


def test_on_sqlite_there_is_one_clock(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with Stage(sqlite_url, redis_url, mosaic, guard_clock_seconds="60") as stage:
        stage.add_app("shop")
        stage.registered()
        stage.pass_time(days=15)

        assert expire_sessions(stage.services).rows == {"expired": 1}


# --- by hand


def test_revoking_an_implausible_share_is_refused_unless_that_is_meant(
    stage_with: StageWith,
) -> None:
    stage = stage_with()
    refs = {stage.registered() for _ in range(4)}
    stage.silent_auth("ada", "forum")
    before = stage.dump()

    with pytest.raises(SafetyLimitExceeded, match="4 of 4"):
        revoke(stage.services, true(), reason="slip")
    assert stage.dump() == before

    ended = revoke(stage.services, true(), reason="keys were stolen", override=True)
    assert set(ended.sessions) == refs
    assert {session.end_cause for session in stage.sessions()} == {"revoked"}
    assert set(ended.logouts) == {row.id for row in stage.logouts()}
    assert len(ended.logouts) == 4
    assert set(ended.notices) == {row.id for row in notices(stage)}
    assert set(stage.tell_mosaic()) == {"confirmed"}
    assert stage.mosaic.state.live_sessions() == []


def test_revoking_a_few_ends_these_and_no_others(stage_with: StageWith) -> None:
    stage = stage_with()
    ref, other = stage.registered("ada"), stage.registered("bob")

    ended = revoke(stage.services, func.lower(IdpSession.user_id) == "ada", reason="stolen laptop")

    assert ended.sessions == (ref,)
    assert live(stage) == {other}
    assert stage.silent_auth("ada").reason == "revoked"
    assert revoke(stage.services, IdpSession.id == ref, reason="again").sessions == ()


# --- on schedule


def test_the_task_calls_for_an_operator_and_does_not_fail(stage_with: StageWith) -> None:
    stage = stage_with()
    sign_in(stage, old=4, young=0)

    with capture_logs() as logs:
        tasks.expire_sessions()

    (entry,) = [log for log in logs if log["event"] == "operator_must_act"]
    assert entry["log_level"] == "error"
    assert "4 of 4 live sessions" in entry["detail"]
    assert len(live(stage)) == 4
