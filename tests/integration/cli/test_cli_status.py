from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import pytest
from alembic import command
from pydantic import SecretStr
from sqlalchemy import create_engine, text

from migrations import target
from migrations.target import config_for
from sandbox.ports import free_port
from sandbox.redis_server import RedisServer
from simulator.controls.faults import FaultKind
from simulator.idp.endpoints import Endpoint
from simulator.server import SimulatorServer
from tests.integration.cli.cli_rig import make_older, run, three_notices, told
from tests.stage import Stage
from worker import wiring
from worker.celery_support import heartbeat
from worker.maintenance.last_runs import Run
from worker.outbox import mosaic_logouts
from worker.tasks import maintenance

QUEUES = ["auth", "idp", "login", "logout", "maintenance", "notify", "sessions"]
FACTS = {
    "hostname": "worker@here",
    "pid": 4711,
    "pool": "SafeThreadPool",
    "slots": 8,
    "queues": QUEUES,
    "visibility_timeout": 180,
    "started_at": "2030-01-01T00:00:00+00:00",
    "schema": "0042",
}


def live_worker(stage: Stage, name: str = "", **changes: object) -> None:
    """Say what a worker says every few seconds; real ones do in tests/acceptance."""
    key = heartbeat.key_of_this_process() + name
    stage.redis.set(key, json.dumps(FACTS | changes), ex=600)


def test_no_worker_is_exit_code_69(sqlite_stage: Stage) -> None:
    result = run("status", expect=69)

    assert "Workers: none is alive" in result.stdout
    assert told("status", expect=69)["workers"] == []


def test_a_living_worker_is_shown_with_how_it_is_set_up(sqlite_stage: Stage) -> None:
    live_worker(sqlite_stage)

    printed = run("status").stdout

    assert all(word in printed for word in ("worker@here", "4711", "SafeThreadPool", "180", "0042"))
    assert told("status")["workers"] == [FACTS]


@pytest.mark.parametrize("written", ["no json", "[]", "{}", '"worker"', "\\xff", ""])
def test_what_no_worker_wrote_is_no_worker(sqlite_stage: Stage, written: str) -> None:
    sqlite_stage.redis.set(f"{heartbeat.KEY_PREFIX}forged", written)
    sqlite_stage.redis.lpush(f"{heartbeat.KEY_PREFIX}list", "x")

    assert told("status", expect=69)["workers"] == []


def test_queues_are_counted_by_name(sqlite_stage: Stage) -> None:
    live_worker(sqlite_stage)
    sqlite_stage.redis.lpush("auth", "a", "b", "c")
    sqlite_stage.redis.lpush("maintenance", "m")
    sqlite_stage.redis.lpush("notify", "n", "o")
    sqlite_stage.redis.hset("unacked", mapping={"one": "x", "two": "y"})

    said = told("status")

    assert said["queues"] == {
        "auth": 3,
        "login": 0,
        "sessions": 0,
        "logout": 0,
        "idp": 0,
        "notify": 2,
        "maintenance": 1,
    }
    assert said["unacknowledged"] == 2
    printed = run("status").stdout
    assert "waiting in auth" in printed
    assert "waiting in notify" in printed


def test_live_sessions_are_counted_without_the_expired(stage: Stage) -> None:
    live_worker(stage)
    stage.add_app("shop")
    stage.registered("ada", "shop")
    stage.pass_time(days=15)
    stage.registered("bob", "shop")

    assert told("status")["live_sessions"] == 1


def failing_logout(stage: Stage) -> UUID:
    session = stage.registered("ada", "shop")
    stage.log_out("ada", "shop", session_ref=str(session))
    delivery: UUID = stage.logouts()[-1].id
    mosaic_logouts.end_at_idp(stage.services, delivery)
    return delivery


def test_the_apps_that_may_name_any_user_are_named(stage: Stage) -> None:
    live_worker(stage)
    before = told("status")["silent_by_user"]
    stage.add_app("forum")
    stage.add_app("shop", silent_by_user=False, capabilities=("logout_user", "offline"))
    stage.add_app("desk", capabilities=("logout_user",))
    stage.add_app("gone")
    run("apps", "disable", "gone")

    assert before == []
    assert told("status")["silent_by_user"] == ["desk", "forum"]
    assert re.search(r"silent by user +desk, forum *\n", run("status").stdout)


def test_pending_logouts_are_counted_with_age_and_failures(stage: Stage) -> None:
    live_worker(stage)
    stage.add_app("shop")
    stage.mosaic.state.faults.add(Endpoint.SESSION_LOGOUT, FaultKind.STATUS, status=503, times=1)
    failing_logout(stage)
    stage.pass_time(seconds=100)
    another = stage.registered("bob", "shop")
    stage.log_out("bob", "shop", session_ref=str(another))

    logouts = told("status")["logouts"]

    assert (logouts["pending"], logouts["failing"]) == (2, 1)
    assert 100 <= logouts["oldest_pending_seconds"] < 130
    assert "2, the oldest for 10" in run("status").stdout
    assert "1 with failed attempts" in run("status").stdout


def test_a_confirmed_logout_is_not_pending(stage: Stage) -> None:
    live_worker(stage)
    stage.add_app("shop")
    failing_logout(stage)

    assert told("status")["logouts"] == {
        "pending": 0,
        "failing": 0,
        "failed": 0,
        "oldest_pending_seconds": None,
    }


def test_notices_are_counted_with_age_and_failures(stage: Stage) -> None:
    live_worker(stage)
    given_up, failing, _ = three_notices(stage)

    notices = told("status")["notices"]
    printed = run("status").stdout

    assert given_up != failing
    assert (notices["pending"], notices["failing"], notices["failed"]) == (2, 1, 1)
    assert 100 <= notices["oldest_pending_seconds"] < 130
    assert "2, the oldest for 10" in printed
    assert "notices failed" in printed


def test_without_notices_their_counts_are_zero(sqlite_stage: Stage) -> None:
    live_worker(sqlite_stage)

    assert told("status")["notices"] == {
        "pending": 0,
        "failing": 0,
        "failed": 0,
        "oldest_pending_seconds": None,
    }


def test_a_database_at_head_is_said_to_be(stage: Stage) -> None:
    live_worker(stage)

    head = target.head()
    assert told("status")["database"] == {"revision": head, "head": head, "is_at_head": True}
    assert f"at {head}, as this release needs" in run("status").stdout


def test_a_database_that_was_never_migrated_is_told_and_counts_are_unknown(
    tmp_path: Path, redis_url: str, mosaic: SimulatorServer
) -> None:
    with Stage(f"sqlite:///{tmp_path / 'empty.db'}", redis_url, mosaic) as stage:
        live_worker(stage)
        said = told("status", expect=1)
        printed = run("status", expect=1).output

    assert said["database"]["revision"] is None
    assert said["live_sessions"] is None
    assert "mosaic-sessions db upgrade" in said["problems"][0]
    assert f"at nothing, this release needs {target.head()}" in printed


def test_a_newer_database_is_told_apart(sqlite_stage: Stage, sqlite_url: str) -> None:
    live_worker(sqlite_stage)
    engine = create_engine(sqlite_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()

    said = told("status", expect=1)

    (problem,) = said["problems"]
    assert "newer than this release" in problem
    assert said["database"]["revision"] == "9999"
    assert said["database"]["is_at_head"] is False
    assert said["live_sessions"] == 0


# --- when nobody does the work


def test_a_queue_that_no_worker_takes_is_a_problem(sqlite_stage: Stage) -> None:
    live_worker(
        sqlite_stage, queues=["login", "logout", "sessions", "idp", "notify", "maintenance"]
    )
    sqlite_stage.redis.lpush("auth", "a", "b")

    result = run("status", expect=1)

    problem = "no worker takes queue auth: start one with -Q auth, or without -Q"
    assert f"Problem: {problem}\n" in result.stderr
    (line,) = [line for line in result.stdout.splitlines() if "waiting in auth" in line]
    assert "2" in line


def test_workers_may_share_the_queues_out(sqlite_stage: Stage) -> None:
    live_worker(sqlite_stage, "-1", queues=["auth", "login"])
    live_worker(sqlite_stage, "-2", queues=["sessions", "logout"])
    incomplete = told("status", expect=1)["problems"]
    live_worker(sqlite_stage, "-3", queues=["idp", "notify", "maintenance"])

    (problem,) = incomplete
    assert problem.startswith("no worker takes queue idp, notify, maintenance: start one with -Q ")
    assert "-Q idp,notify,maintenance, or without -Q" in problem
    assert told("status")["problems"] == []


@pytest.mark.parametrize("queues", [None, 5, "auth", [["auth"]], {}])
def test_queues_that_no_worker_wrote_are_none(sqlite_stage: Stage, queues: object) -> None:
    live_worker(sqlite_stage, queues=queues)

    (problem,) = told("status", expect=1)["problems"]
    assert problem.startswith("no worker takes queue auth, ")


def started(stage: Stage, seconds_ago: float) -> str:
    return (stage.now() - timedelta(seconds=seconds_ago)).isoformat()


def test_a_sweep_that_is_overdue_is_a_problem_until_there_is_one(sqlite_stage: Stage) -> None:
    live_worker(sqlite_stage, started_at=started(sqlite_stage, 600))
    never = told("status", expect=1)["problems"]
    maintenance.sweep()
    swept = told("status")
    make_older(sqlite_stage, Run.SWEEP, 90)
    late = told("status", expect=1)["problems"]
    maintenance.sweep()

    assert never == ["there was no sweep: does beat run, and does a worker take queue maintenance?"]
    assert swept["problems"] == []
    assert 0 <= swept["last_run_seconds"]["sweep"] < 60
    assert swept["last_run_seconds"]["expire_sessions"] is None
    assert "the last sweep was 9" in late[0]
    assert told("status")["problems"] == []
    assert " s ago" in run("status").stdout


def test_sweeps_that_are_scheduled_farther_apart_are_late_later(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with Stage(sqlite_url, redis_url, mosaic, sweep_every_seconds="60") as stage:
        live_worker(stage, started_at=started(stage, 600))
        maintenance.sweep()
        make_older(stage, Run.SWEEP, 200)
        well = told("status")["problems"]
        make_older(stage, Run.SWEEP, 101)

        assert well == []
        assert "the last sweep was 3" in told("status", expect=1)["problems"][0]


@pytest.mark.parametrize("started_at", ["yesterday", None, 5, "2020-01-01T00:00:00"])
def test_when_a_worker_started_may_be_nonsense(sqlite_stage: Stage, started_at: object) -> None:
    live_worker(sqlite_stage, started_at=started_at)

    assert told("status")["problems"] == []


# --- when something is down


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def test_a_dead_redis_is_told_in_words_beside_what_the_database_says(
    sqlite_url: str, own_redis: RedisServer, mosaic: SimulatorServer
) -> None:
    with Stage(sqlite_url, own_redis.url(), mosaic):
        own_redis.stop()
        result = run("status", expect=1)
        said = told("status", expect=1)

    assert "Workers: unknown" in result.stdout
    assert "Redis cannot be used" in result.stderr
    assert "CELERY_BROKER_URL" in result.stderr
    assert (said["workers"], said["queues"], said["unacknowledged"]) == (None, None, None)
    assert (said["oldest_waiting_seconds"], said["traffic"]) == (None, None)
    assert said["live_sessions"] == 0
    assert len(said["problems"]) == 1


def test_a_dead_database_is_told_in_words_beside_the_living_workers(
    redis_url: str, mosaic: SimulatorServer
) -> None:
    url = f"postgresql+psycopg://user:pw-canary@127.0.0.1:{free_port()}/sessions"
    with Stage(url, redis_url, mosaic) as stage:
        live_worker(stage)
        result = run("status", expect=1)
        said = told("status", expect=1)

    assert "the database cannot be used" in result.stderr
    assert "DATABASE_URL" in result.stderr
    assert "canary" not in result.output
    assert (said["database"], said["live_sessions"], said["logouts"]) == (None, None, None)
    assert said["notices"] is None
    assert said["workers"] == [FACTS]


@pytest.mark.parametrize(
    ("broker", "problems"),
    [
        ("memory://", []),
        pytest.param(
            f"amqp://guest:canary@127.0.0.1:{free_port()}//",
            ["the broker does not answer: is it running, and is CELERY_BROKER_URL right?"],
            id="rabbitmq",
        ),
    ],
)
def test_queues_of_another_kind_of_broker_are_unknown(
    sqlite_stage: Stage, broker: str, problems: list[str]
) -> None:
    live_worker(sqlite_stage)
    elsewhere = sqlite_stage.settings.model_copy(
        update={
            "redis_url": sqlite_stage.settings.broker_url,
            "broker_url": SecretStr(broker),
        }
    )
    with wiring.use(replace(sqlite_stage.services, settings=elsewhere)):
        said = told("status", expect=len(problems))
        printed = run("status", expect=len(problems)).stdout

    assert (said["queues"], said["unacknowledged"]) == (None, None)
    assert said["problems"] == problems
    assert "unknown" in printed


def test_a_database_behind_head_is_told(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    command.downgrade(config_for(sqlite_url), "base")
    with Stage(sqlite_url, redis_url, mosaic) as stage:
        live_worker(stage)

        said = told("status", expect=1)

    assert said["database"]["is_at_head"] is False
    assert "run `mosaic-sessions db upgrade`" in said["problems"][-1]
