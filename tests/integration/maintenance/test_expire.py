"""Expiry: in batches, after a grace, and only what is really past its time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from session_client.contract import Verdict
from simulator.server import SimulatorServer
from tests.stage import Stage
from worker.maintenance import batches, expire, pace, scrub
from worker.maintenance.expire import expire_sessions
from worker.operations import overview
from worker.tasks import maintenance as tasks

StageWith = Callable[..., Stage]


@pytest.fixture
def stage_with(store_url: str, redis_url: str, mosaic: SimulatorServer) -> Iterator[StageWith]:
    """Make a stage with other settings."""
    stages: list[Stage] = []

    def make(**overrides: str) -> Stage:
        stages.append(Stage(store_url, redis_url, mosaic, **overrides).__enter__())
        stages[-1].add_app("shop")
        return stages[-1]

    yield make
    for stage in stages:
        stage.__exit__()


@pytest.fixture(autouse=True)
def _nothing_known_of_the_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "_quickest", {})


def test_only_sessions_past_their_time_and_the_grace_are_ended(stage_with: StageWith) -> None:
    stage = stage_with(expire_grace_seconds="100")
    old = stage.registered("ada")
    stage.pass_time(seconds=10)
    in_grace = stage.registered("bob")
    stage.pass_time(days=14, seconds=95)

    counts = expire_sessions(stage.services)

    assert (counts.rows, counts.is_complete) == ({"expired": 1}, True)
    ended = stage.session(old)
    assert (ended.end_cause, ended.sealed_session_id) == ("expired", None)
    assert stage.session(in_grace).ended_at is None
    assert stage.logouts() == []  # Mosaic has let it expire as well
    assert stage.events()[-1] == ("expired", "1")


def test_a_session_ended_before_keeps_its_cause(stage_with: StageWith) -> None:
    stage = stage_with()
    ref = stage.registered()
    stage.log_out(session_ref=str(ref))
    before = stage.session(ref)
    stage.pass_time(days=15)

    assert expire_sessions(stage.services).rows == {"expired": 0}
    assert stage.session(ref) == before


def test_the_living_are_counted_whenever_they_are_to_be_looked_at(stage_with: StageWith) -> None:
    stage = stage_with()
    for user_id in ("ada", "bob", "eve"):
        stage.registered(user_id)
    stage.pass_time(days=13)
    stage.silent_auth("ada", "shop")  # moves its expiry, and not its look
    stage.registered("new")
    stage.pass_time(days=2)

    with stage.services.store.read() as connection:
        counts = overview.store_counts(stage.services, connection)
    assert counts.live_sessions.count == 2


def test_many_sessions_are_ended_in_batches(stage_with: StageWith) -> None:
    stage = stage_with(maintenance_batch="2")
    for _ in range(7):
        stage.registered()
    stage.pass_time(days=15)

    counts = expire_sessions(stage.services)

    assert counts.rows == {"expired": 7}
    assert {session.end_cause for session in stage.sessions()} == {"expired"}


def test_when_its_time_is_up_it_stops_and_the_next_run_goes_on(
    stage_with: StageWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = stage_with(maintenance_batch="2", maintenance_budget_seconds="1")
    refs = []
    for _ in range(5):
        refs.append(stage.registered())
        stage.pass_time(seconds=1)
    stage.pass_time(days=15)
    with monkeypatch.context() as patch:
        seconds = itertools.count(0.0, 0.3)  # looked at twice a batch
        slow = SimpleNamespace(monotonic=lambda: next(seconds), sleep=lambda _: None)
        patch.setattr(batches, "time", slow)
        first = expire_sessions(stage.services)

    left = [session.id for session in stage.sessions() if session.ended_at is None]
    second = expire_sessions(stage.services)

    assert (first.rows, first.is_complete) == ({"expired": 4}, False)
    assert left == refs[-1:]  # the oldest went first
    assert (second.rows, second.is_complete) == ({"expired": 1}, True)


class StoppedClock:
    """Time that passes only in sleep."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return sum(self.slept)

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@pytest.mark.parametrize(
    ("budget_seconds", "ended", "slept"), [("30", 7, [0.2, 0.2, 0.2]), ("0.3", 4, [0.2])]
)
def test_it_goes_no_faster_than_it_may_and_sleeps_for_no_run_that_is_over(
    stage_with: StageWith,
    monkeypatch: pytest.MonkeyPatch,
    budget_seconds: str,
    ended: int,
    slept: list[float],
) -> None:
    stage = stage_with(
        maintenance_batch="2",
        maintenance_rows_per_second="10",
        maintenance_budget_seconds=budget_seconds,
    )
    for _ in range(7):
        stage.registered()
    stage.pass_time(days=15)
    clock = StoppedClock()
    monkeypatch.setattr(batches, "time", clock)

    counts = expire_sessions(stage.services)

    assert (counts.rows, counts.is_complete) == ({"expired": ended}, ended == 7)
    assert clock.slept == pytest.approx(slept)


def test_a_dry_run_only_counts(stage_with: StageWith) -> None:
    stage = stage_with()
    stage.registered()
    stage.pass_time(days=15)
    before = stage.dump()

    counts = expire_sessions(stage.services, dry_run=True)

    assert counts.rows == {"expired": 1}
    assert stage.dump() == before


def test_a_renewed_session_is_left_alone(stage_with: StageWith) -> None:
    stage = stage_with()
    ref = stage.registered()
    stage.pass_time(days=13)
    assert stage.silent_auth("ada", "shop").verdict is Verdict.AUTHENTICATED
    stage.pass_time(days=13)

    assert expire_sessions(stage.services).rows == {"expired": 0}
    assert stage.session(ref).expires_at - stage.now() > timedelta(hours=23)


def test_the_task_does_the_same(stage_with: StageWith) -> None:
    stage = stage_with()
    ref = stage.registered()
    stage.pass_time(days=15)

    tasks.expire_sessions()

    assert stage.session(ref).end_cause == "expired"


def test_answers_of_logins_have_half_of_the_tasks_time_at_most(
    stage_with: StageWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = stage_with()
    ends: list[float] = []

    def note(_: object, __: object, *what: Any) -> batches.Counts:
        ends.append(what[-1])
        return batches.Counts({})

    stage.registered()
    monkeypatch.setattr(expire, "in_batches", note)
    monkeypatch.setattr(scrub, "in_turn", note)

    tasks.expire_sessions()

    of_answers, of_sessions = ends
    assert of_sessions - of_answers == stage.settings.maintenance_budget_seconds / 2
