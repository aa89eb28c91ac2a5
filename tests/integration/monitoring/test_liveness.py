"""A process that is stuck is told from one that has nothing to do, or waits for Redis."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from celery import Celery
from celery.beat import Scheduler, Service
from celery.worker import state
from structlog.testing import capture_logs

from sandbox.ports import HOST, free_port
from tests.stage import Stage
from worker.monitoring import liveness
from worker.settings import model as settings_module

LONG = 1000.0


class Timer:
    """Keeps what is to be called again and again."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def call_repeatedly(self, _seconds: float, call: Any, _args: Any) -> Any:
        self.calls.append(call)
        return SimpleNamespace(cancel=lambda: self.calls.remove(call))


@pytest.fixture
def timer() -> Iterator[Timer]:
    """The timer of a worker whose event loop is watched."""
    timer = Timer()
    consumer = SimpleNamespace(timer=timer)
    step = liveness.LoopWatch(consumer)
    step.start(consumer)
    yield timer
    step.stop(consumer)
    step.stop(consumer)  # as Celery does at the end, after a lost connection


def pass_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = SimpleNamespace(monotonic=lambda: time.monotonic() + LONG, time=time.time)
    monkeypatch.setattr(liveness, "time", now)


@pytest.fixture(autouse=True)
def settings(sqlite_stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A port for beat."""
    configured = sqlite_stage.settings.model_copy(update={"beat_port": free_port()})
    monkeypatch.setattr(settings_module, "current", lambda: configured)
    return configured


def test_a_worker_that_begins_or_is_idle_is_alive(timer: Timer) -> None:
    assert liveness.worker_page().status == 200


def test_a_loop_that_stands_still_is_stuck_until_it_goes_round(
    timer: Timer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pass_time(monkeypatch)
    stuck = liveness.worker_page()
    timer.calls[0]()

    assert (stuck.status, stuck.body) == (503, b"stuck: it has stood still for 1000 s\n")
    assert liveness.worker_page().status == 200


def test_a_worker_that_connects_anew_is_alive_however_long_it_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    consumer = SimpleNamespace(timer=Timer())
    step = liveness.LoopWatch(consumer)
    step.start(consumer)
    step.stop(consumer)
    pass_time(monkeypatch)

    assert consumer.timer.calls == []
    assert liveness.worker_page().status == 200


@pytest.mark.parametrize(
    ("seconds", "status"), [(None, 200), (1.0, 200), (170.0, 200), (190.0, 503)]
)
def test_a_job_that_runs_longer_than_any_may_is_stuck(
    timer: Timer, seconds: float | None, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = None if seconds is None else time.time() - seconds
    monkeypatch.setattr(state, "active_requests", [SimpleNamespace(time_start=begun)])

    assert liveness.worker_page().status == status


# --- beat


@pytest.fixture
def beat() -> Iterator[Any]:
    """Celery's service, which looks at its schedule when a test says so."""
    with Celery(broker="memory://h", set_as_current=False) as app:
        yield Service(app, scheduler_cls=Scheduler)


def test_beat_that_waits_for_its_broker_is_alive_however_long_it_takes(beat: Any) -> None:
    beat._last_tick = time.monotonic() - LONG
    waiting = liveness.beat_trouble(beat)
    assert beat.scheduler.producer  # it sends

    assert waiting is None
    assert liveness.beat_trouble(beat) is not None


def test_beat_is_alive_while_it_looks_at_its_schedule(beat: Any, settings: Any) -> None:
    url = f"http://{HOST}:{settings.beat_port}"
    assert beat.scheduler.producer
    liveness.serve_beat(beat)
    statuses = []
    for last_tick in (None, time.monotonic(), time.monotonic() - LONG):
        beat._last_tick = last_tick
        statuses.append(httpx.get(f"{url}/livez", timeout=60).status_code)
    elsewhere = httpx.get(url, timeout=60).status_code
    with capture_logs() as logs:
        liveness.serve_beat(beat)  # as a second one on this machine
    liveness._open.close()

    assert statuses == [200, 200, 503]
    assert elsewhere == 404
    assert [line["event"] for line in logs] == ["beat_not_watched"]


def test_without_a_port_beat_serves_nothing(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    unset = settings.model_copy(update={"beat_port": None})
    monkeypatch.setattr(settings_module, "current", lambda: unset)
    liveness.serve_beat(None)

    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://{HOST}:{settings.beat_port}/livez", timeout=60)
