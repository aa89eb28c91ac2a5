"""When maintenance last did its work is known to all, by one clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from sandbox.ports import free_port
from tests.integration.cli.cli_rig import make_older
from tests.stage import Stage
from worker import wiring
from worker.errors import StoreUnavailable
from worker.maintenance import last_runs
from worker.maintenance.last_runs import Run
from worker.outbox import leases
from worker.storage import redis_client
from worker.tasks import maintenance


@pytest.fixture
def stage(sqlite_stage: Stage) -> Iterator[Stage]:
    with wiring.use(sqlite_stage.services):
        yield sqlite_stage


def known(stage: Stage) -> set[Run]:
    return {run for run, age in last_runs.ages(stage.services.redis).items() if age is not None}


def test_what_never_ran_has_no_age(stage: Stage) -> None:
    assert last_runs.ages(stage.services.redis) == dict.fromkeys(Run)


def test_each_run_is_noted_for_itself(stage: Stage) -> None:
    maintenance.sweep()
    swept = known(stage)
    maintenance.expire_sessions()
    expired = known(stage)
    maintenance.purge_history()

    assert swept == {Run.SWEEP}
    assert expired == {Run.SWEEP, Run.EXPIRE_SESSIONS}
    assert known(stage) == set(Run)


def test_an_age_grows_until_the_next_run(stage: Stage) -> None:
    maintenance.sweep()
    make_older(stage, Run.SWEEP, 90)
    old = last_runs.ages(stage.services.redis)[Run.SWEEP]
    maintenance.sweep()
    new = last_runs.ages(stage.services.redis)[Run.SWEEP]

    assert old is not None
    assert new is not None
    assert 90 <= old < 150
    assert 0 <= new < 60


def test_whose_clock_is_wrong_notes_the_same(stage: Stage) -> None:
    ahead = replace(stage.services, now=lambda: stage.now() + timedelta(days=1))
    last_runs.note(ahead, Run.SWEEP)

    age = last_runs.ages(stage.services.redis)[Run.SWEEP]

    assert age is not None
    assert 0 <= age < 60


def test_a_run_that_could_not_do_its_work_is_none(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(*_: object, **__: object) -> None:
        raise StoreUnavailable

    monkeypatch.setattr(leases, "wake_due", unavailable)
    monkeypatch.setattr("worker.maintenance.expire.expire_sessions", unavailable)
    monkeypatch.setattr("worker.maintenance.purge.purge_history", unavailable)

    maintenance.sweep()
    maintenance.expire_sessions()
    maintenance.purge_history()

    assert known(stage) == set()


def test_a_key_that_stays_for_ever_is_not_ours(stage: Stage) -> None:
    stage.redis.set(last_runs.key_of(Run.SWEEP), "forged")

    assert known(stage) == set()


def test_a_redis_that_is_gone_costs_a_line_in_the_log_and_no_more(stage: Stage) -> None:
    cut_off = redis_client.connect_redis(f"redis://127.0.0.1:{free_port()}/0")
    with wiring.use(replace(stage.services, redis=cut_off)), capture_logs() as logs:
        maintenance.sweep()
    cut_off.close()

    assert [line["event"] for line in logs] == ["run_not_noted"]
