"""However many sessions live, to say how many costs little, and what is said is no guess."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis
from sqlalchemy import event

from sandbox.ports import HOST
from sandbox.redis_server import RedisServer
from simulator.server import SimulatorServer
from tests.integration.cli.cli_rig import make_key_older, run, told
from tests.integration.operations.doctor_rig import elsewhere
from tests.stage import Stage, redis_client
from worker import wiring
from worker.operations import live_count
from worker.operations.live_count import LiveSessions, live_sessions


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let more than two be many."""
    monkeypatch.setattr(live_count, "FEW", 2)


def sign_in(stage: Stage, number: int) -> None:
    if "shop" not in stage.keys:
        stage.add_app("shop")
    for _ in range(number):
        stage.registered()


def counted(stage: Stage) -> LiveSessions:
    with stage.services.store.read() as connection:
        return live_sessions(stage.services, connection)


def remember(client: redis.Redis, *, took_seconds: float, age_seconds: float, count: int) -> None:
    """Have another process have counted, so long ago."""
    client.set(live_count.KEY, json.dumps({"count": count, "took_seconds": took_seconds}))
    client.pexpire(live_count.KEY, int((live_count._KEPT_SECONDS - age_seconds) * 1000))


@contextmanager
def whole_counts(stage: Stage) -> Iterator[list[str]]:
    """Collect the statements that read all that lives."""
    found: list[str] = []

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        if "count(" in statement and "idp_sessions" in statement and "LIMIT" not in statement:
            found.append(statement)

    event.listen(stage.services.store.engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(stage.services.store.engine, "before_cursor_execute", note)


def test_few_are_counted_at_each_look(stage: Stage) -> None:
    sign_in(stage, 1)
    one = counted(stage)
    sign_in(stage, 1)

    with whole_counts(stage) as whole:
        assert (one, counted(stage)) == (LiveSessions(1), LiveSessions(2))
    assert whole == []


def test_many_are_counted_once_a_minute_and_how_long_ago_is_said(stage: Stage) -> None:
    sign_in(stage, 3)
    first = counted(stage)
    sign_in(stage, 1)
    with whole_counts(stage) as whole:
        soon = counted(stage)
    make_key_older(stage, live_count.KEY, live_count.SELDOM_SECONDS + 1)

    assert first == LiveSessions(3)
    assert soon.count == 3
    assert whole == []
    assert counted(stage) == LiveSessions(4)


def test_the_longer_a_count_takes_the_longer_it_counts(stage: Stage) -> None:
    sign_in(stage, 3)
    remember(stage.redis, took_seconds=0.5, age_seconds=400, count=77)
    in_time = counted(stage)
    remember(stage.redis, took_seconds=0.5, age_seconds=600, count=77)

    assert in_time.count == 77
    assert 400 <= in_time.age_seconds < 430
    assert counted(stage) == LiveSessions(3)


def test_one_process_counts_for_all(stage: Stage) -> None:
    sign_in(stage, 3)
    remember(stage.redis, took_seconds=0.01, age_seconds=600, count=77)
    stage.redis.set(f"{live_count.KEY}:counting", "", ex=20)  # by another one, at this moment

    with whole_counts(stage) as whole:
        assert counted(stage).count == 77
    assert whole == []


@pytest.mark.parametrize(
    "written",
    [
        *("", "{", "[]", '{"count": "many"}', '{"count": 5}', "[" * 9999),
        '{"count": Infinity, "took_seconds": 1}',
        f'{{"count": 5, "took_seconds": 1{"0" * 400}}}',
    ],
)
def test_what_no_process_of_ours_has_written_is_not_believed(
    sqlite_stage: Stage, written: str
) -> None:
    sign_in(sqlite_stage, 3)
    sqlite_stage.redis.set(live_count.KEY, written, ex=live_count._KEPT_SECONDS)

    assert counted(sqlite_stage) == LiveSessions(3)


def test_operators_see_how_old_a_count_is(sqlite_stage: Stage) -> None:
    sign_in(sqlite_stage, 3)
    told("status", expect=69)
    fresh = told("status", expect=69)
    remember(sqlite_stage.redis, took_seconds=0.5, age_seconds=300, count=77)
    said = told("status", expect=69)
    printed = run("status", expect=69).stdout
    frame = run("top", "--once").stdout

    assert fresh["live_sessions"] == 3
    assert 0 <= fresh["live_sessions_age_seconds"] < 60
    assert said["live_sessions"] == 77
    assert 300 <= said["live_sessions_age_seconds"] < 360
    assert re.search(r"\b77, counted 3[0-5]\d s ago", printed)
    assert re.search(r"live sessions 77, counted 3[0-5]\d s ago", frame)


def test_without_a_redis_that_can_keep_it_they_are_told_all_the_same(
    sqlite_url: str, redis_server: RedisServer, mosaic: SimulatorServer
) -> None:
    del redis_server  # Celery's, which is asked for nothing here
    with (
        RedisServer() as own,
        redis_client(own.url()) as admin,
        Stage(sqlite_url, own.url(), mosaic) as stage,
    ):
        sign_in(stage, 3)
        remember(stage.redis, took_seconds=0.01, age_seconds=600, count=77)
        admin.config_set("maxmemory", 1)
        full = counted(stage)
        own.stop()

        assert full.count == 77
        assert counted(stage) == LiveSessions(3)


def test_a_redis_that_hangs_is_waited_for_once(sqlite_stage: Stage) -> None:
    """A worker's metrics wait three seconds for the database, and Redis hangs for two."""
    sign_in(sqlite_stage, 3)
    with socket.create_server((HOST, 0)) as silent:
        url = f"redis://{HOST}:{silent.getsockname()[1]}/0"
        with elsewhere(sqlite_stage, redis_url=url), sqlite_stage.services.store.read() as there:
            said = live_sessions(wiring.current(), there)
        silent.settimeout(0)
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):
            silent.accept()

    assert said == LiveSessions(3)
