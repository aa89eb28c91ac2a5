"""What workers say of themselves, step by step; real workers: tests/acceptance."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from migrations import target
from sandbox.processes import poll_until
from sandbox.redis_server import RedisServer
from simulator.server import SimulatorServer
from tests.stage import environment, redis_client
from worker.celery_support import heartbeat
from worker.celery_support.heartbeat import CLOCK_AHEAD, Heartbeat, living_workers
from worker.settings import model as settings_module
from worker.storage.redis_client import REDIS_TIMEOUT_SECONDS


class Timer:
    """Celery's timer, turned by hand."""

    def __init__(self) -> None:
        self.beats: list[Callable[[], None]] = []

    def call_repeatedly(self, seconds: float, beat: Any, arguments: tuple[Any, ...]) -> Any:
        assert seconds < heartbeat.LIFETIME_SECONDS / 2, "one lost beat must not mean death"
        self.beats.append(lambda: beat(*arguments))
        return SimpleNamespace(cancel=self.beats.clear)


@pytest.fixture
def consumer() -> Any:
    return SimpleNamespace(
        hostname="worker@here",
        pool=SimpleNamespace(num_processes=8),
        app=SimpleNamespace(
            amqp=SimpleNamespace(queues=SimpleNamespace(consume_from={"logout", "auth"}))
        ),
        timer=Timer(),
    )


@pytest.fixture
def redis_of_worker(
    redis_server: RedisServer,
    redis_url: str,
    sqlite_url: str,
    mosaic: SimulatorServer,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    settings = settings_module.read(environment(sqlite_url, redis_url, mosaic))
    monkeypatch.setattr(settings_module, "current", lambda: settings)
    return redis_url


def test_a_worker_is_alive_from_start_to_stop(redis_of_worker: str, consumer: Any) -> None:
    step = Heartbeat(consumer)
    with redis_client(redis_of_worker) as client:
        step.start(consumer)
        (facts,) = poll_until(lambda: living_workers(client), 60)
        lifetime = client.ttl(heartbeat.key_of_this_process())
        step.stop(consumer)

        assert (facts["hostname"], facts["slots"]) == ("worker@here", 8)
        assert facts["schema"] == target.head()
        assert facts["queues"] == ["auth", "logout"]
        assert heartbeat.LIFETIME_SECONDS - 5 < lifetime <= heartbeat.LIFETIME_SECONDS
        assert living_workers(client) == []


def test_each_beat_says_how_far_the_clock_is_from_redis(
    redis_of_worker: str, consumer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ahead() -> float:
        workers = living_workers(client)
        return float(workers[0][CLOCK_AHEAD]) if workers else math.inf

    step = Heartbeat(consumer)
    with redis_client(redis_of_worker) as client:
        step.start(consumer)
        poll_until(lambda: abs(ahead()) < 60, 60)
        jumped = time.time() + 3600
        monkeypatch.setattr(time, "time", lambda: jumped)
        consumer.timer.beats[0]()

        poll_until(lambda: abs(ahead() - 3600) < 60, 60)
        step.stop(consumer)


def test_a_worker_that_may_not_ask_redis_for_the_time_says_nothing_of_its_clock() -> None:
    with RedisServer() as server, redis_client(server.url()) as admin:
        admin.execute_command("ACL", "SETUSER", "worker", "on", ">pw", "~*", "+@all", "-time")
        with redis_client(server.url().replace("redis://", "redis://worker:pw@")) as client:
            assert heartbeat.clock_ahead(client) is None


def test_each_beat_says_it_again(redis_of_worker: str, consumer: Any) -> None:
    step = Heartbeat(consumer)
    with redis_client(redis_of_worker) as client:
        step.start(consumer)
        poll_until(lambda: living_workers(client), 60)
        client.flushall()
        consumer.timer.beats[0]()

        assert len(poll_until(lambda: living_workers(client), 60)) == 1
        step.stop(consumer)


def test_a_beat_after_the_stop_says_nothing(redis_of_worker: str, consumer: Any) -> None:
    step = Heartbeat(consumer)
    with redis_client(redis_of_worker) as client:
        step.start(consumer)
        late = consumer.timer.beats[0]
        step.stop(consumer)
        late()
        step.stop(consumer)

        assert living_workers(client) == []


def test_a_redis_that_is_gone_costs_a_line_in_the_log_and_no_more(
    consumer: Any, sqlite_url: str, mosaic: SimulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Heartbeat(consumer)
    with RedisServer() as server, capture_logs() as logs:
        settings = settings_module.read(environment(sqlite_url, server.url(), mosaic))
        monkeypatch.setattr(settings_module, "current", lambda: settings)
        step.start(consumer)
        with redis_client(server.url()) as client:
            poll_until(lambda: living_workers(client), 60)
        server.stop()

        consumer.timer.beats[0]()
        poll_until(lambda: logs, 60)
        step.stop(consumer)

    assert [line["event"] for line in logs] == ["heartbeat_not_written"]


def test_a_redis_that_hangs_does_not_hold_up_the_loop(
    consumer: Any, sqlite_url: str, mosaic: SimulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Heartbeat(consumer)
    with RedisServer() as server:
        settings = settings_module.read(environment(sqlite_url, server.url(), mosaic))
        monkeypatch.setattr(settings_module, "current", lambda: settings)
        server.freeze()

        begun_at = time.monotonic()
        step.start(consumer)
        for _ in range(10):
            consumer.timer.beats[0]()
        elapsed = time.monotonic() - begun_at

        server.thaw()
        step.stop(consumer)
    assert elapsed < REDIS_TIMEOUT_SECONDS / 2


def test_two_workers_that_are_process_1_of_the_same_host_name_have_a_key_each() -> None:
    ask = "from worker.celery_support import heartbeat; print(heartbeat.key_of_this_process())"

    told = {
        subprocess.run(  # noqa: S603 - ours
            [sys.executable, "-c", f"import os; os.getpid = lambda: 1; {ask}"],
            capture_output=True,
            check=True,
        ).stdout
        for _ in range(2)
    }

    assert len(told) == 2
