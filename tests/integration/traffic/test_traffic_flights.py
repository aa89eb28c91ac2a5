"""Flights: one call for all who ask the same, and nobody waits for the dead."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from session_client.contract import Reason
from simulator.controls.gates import wait_until
from tests.integration.traffic.traffic_rig import (
    Process,
    Starter,
    land,
    plan,
    slow_refill,
    starting,
    waiting,
)
from worker.errors import HeldBack, StoreUnavailable
from worker.traffic import Flight, Flying, Landed, single_flight
from worker.traffic.single_flight import Superseded

ANSWER, LEASE = "mosaic-sessions:flight:flight:answer", "mosaic-sessions:flight:flight:lease"


@pytest.fixture
def start(redis_url: str) -> Iterator[Starter]:
    with starting(redis_url) as start:
        yield start


@pytest.fixture
def process(start: Starter) -> Process:
    return start()


def flight(process: Process, **changes: Any) -> Flight:
    joined = process.flights.join(plan(**changes))
    assert isinstance(joined, Flight)
    return joined


def now_ms() -> int:
    return int(time.time() * 1000)


def test_the_first_flies_and_the_others_get_what_it_brings(
    process: Process, start: Starter
) -> None:
    other = start()
    first = flight(process)
    assert isinstance(other.flights.join(plan()), Flying)

    land(first, {"token": "t"}, version=1, seconds=60)

    assert other.flights.join(plan()) == Landed({"token": "t"})
    assert isinstance(other.flights.join(plan(name="another")), Flight)


def test_what_landed_serves_whoever_asked_before_and_for_the_reuse_time(start: Starter) -> None:
    clock = [datetime.now(UTC)]
    process = start(now=lambda: clock[0], reuse_seconds=30)
    land(flight(process), {}, version=1, seconds=60)
    asked_at = clock[0]

    clock[0] += timedelta(seconds=29)
    assert isinstance(process.flights.join(plan(since=clock[0])), Landed)
    clock[0] += timedelta(seconds=2)
    assert isinstance(process.flights.join(plan(since=asked_at)), Landed)
    assert isinstance(process.flights.join(plan(since=clock[0])), Flight)


def test_without_reuse_only_those_who_waited_are_served(start: Starter) -> None:
    clock = [datetime.now(UTC)]
    process = start(now=lambda: clock[0], reuse_seconds=0)
    land(flight(process), {}, version=1, seconds=60)
    asked_at = clock[0]
    clock[0] += timedelta(milliseconds=1)

    assert isinstance(process.flights.join(plan(since=asked_at)), Landed)
    assert isinstance(process.flights.join(plan(since=clock[0])), Flight)


@pytest.mark.parametrize(("seconds", "kept"), [(600, 30), (8, 8)])
def test_an_answer_is_kept_for_the_reuse_time_or_less_if_told_so(
    process: Process, seconds: float, kept: float
) -> None:
    land(flight(process), {}, version=1, seconds=seconds)

    left: Any = process.redis.pttl(ANSWER)
    assert kept - 5 < left / 1000 <= kept


def test_an_answer_about_an_older_version_is_not_believed(process: Process) -> None:
    land(flight(process), {}, version=1, seconds=60)

    flight(process, version=2)


def test_an_answer_about_a_newer_version_sends_us_back_to_the_store(process: Process) -> None:
    """Forgetting it would cost a call, and everybody else their answer."""
    land(flight(process), {}, version=2, seconds=60)

    assert isinstance(process.flights.join(plan(version=1)), Superseded)
    assert isinstance(process.flights.join(plan(version=2)), Landed)


# --- failures


def test_a_failure_is_everybodys_who_waited(
    process: Process, start: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(single_flight, "FAILURE_SECONDS", 60.0)
    other = start()
    first = flight(process)
    since = datetime.now(UTC)
    first.fail(StoreUnavailable("down", retry_after=3))

    with pytest.raises(HeldBack) as held:
        other.flights.join(plan(since=since))

    assert (held.value.reason, held.value.retry_after) == (Reason.STORE_UNAVAILABLE, 3)


def test_a_failure_is_soon_forgotten(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single_flight, "FAILURE_SECONDS", 0.05)
    first = flight(process)
    first.fail(StoreUnavailable())
    wait_until(lambda: not process.redis.exists(ANSWER), 30)

    flight(process)


def test_a_flight_that_is_abandoned_is_taken_up_by_the_next(process: Process) -> None:
    flight(process).abandon()

    flight(process)
    assert isinstance(process.flights.join(plan()), Flying)


def test_a_flight_whose_process_died_is_taken_up_when_its_lease_ends(
    process: Process, start: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(single_flight, "LEASE_SPARE_SECONDS", 0.2)
    other = start()
    began = time.monotonic()
    flight(process, call_seconds=0.3)

    while isinstance(joined := other.flights.join(plan()), Flying):
        other.flights.wait(joined, 0.1)

    assert isinstance(joined, Flight)
    assert time.monotonic() - began >= 0.45


def test_who_lands_after_the_lease_disturbs_nobody(process: Process, start: Starter) -> None:
    other = start()
    slow = flight(process)
    process.redis.delete(LEASE)
    second = flight(other)

    land(slow, {"from": "slow"}, version=1, seconds=60)
    slow.fail(StoreUnavailable())
    slow.abandon()
    assert isinstance(process.flights.join(plan()), Flying)

    land(second, {"from": "second"}, version=1, seconds=60)
    assert process.flights.join(plan()) == Landed({"from": "second"})


def test_who_is_held_back_leaves_no_lease(start: Starter) -> None:
    process = start(mosaic_app_calls_per_minute=20)
    flight(process, name="first")

    with pytest.raises(HeldBack):
        process.flights.join(plan())

    assert not process.redis.exists(LEASE)


def test_a_lease_lasts_as_much_longer_as_its_flight_waits_for_its_turn(
    start: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start(mosaic_app_calls_per_minute=60)
    waited: list[float] = []  # told, and not done: a minute
    monkeypatch.setattr(time, "sleep", waited.append)

    with slow_refill():
        process.admit_all()
        flight(process, call_seconds=0.0, patience_seconds=100.0)

    left: Any = process.redis.pttl(LEASE)
    assert max(waited) > 10
    assert left > max(waited) * 1000


def test_an_old_answer_does_not_keep_those_awake_who_wait_for_a_new_one(start: Starter) -> None:
    process = start(reuse_seconds=0)
    land(flight(process), {}, version=1, seconds=60)
    time.sleep(0.01)
    flight(process)

    assert process.redis.exists(ANSWER) == 0


# --- waiting


def test_one_landing_wakes_everybody(process: Process, redis_url: str) -> None:
    first = flight(process)

    def listen() -> float:
        process.scripts.listen(ANSWER, 50)
        return time.monotonic()

    with ThreadPoolExecutor(8) as threads:
        woken = [threads.submit(listen) for _ in range(8)]
        wait_until(lambda: waiting(redis_url) == 8, 50)
        landed_at = time.monotonic()
        land(first, {}, version=1, seconds=60)
        latest = max(future.result() for future in woken)

    assert latest - landed_at < 20
    assert process.redis.llen(ANSWER) == 1


def test_nobody_waits_longer_than_they_have_time(process: Process) -> None:
    flight(process)
    joined = process.flights.join(plan())
    assert isinstance(joined, Flying)
    asked: list[float] = []
    process.scripts._redis.blmove = lambda *args: asked.append(args[2])  # type: ignore[method-assign]

    for seconds in (0.5, 0.0, 30.0):
        process.flights.wait(joined, seconds)

    # Nought would be for ever; after a second somebody must look whether the flight still lives.
    assert asked == [0.5, 0.01, 1.0]


def test_of_many_processes_at_once_one_flies(start: Starter) -> None:
    processes = [start() for _ in range(4)]
    barrier = threading.Barrier(12)

    def join(number: int) -> Any:
        barrier.wait(60)
        return processes[number % 4].flights.join(plan())

    for _ in range(5):
        with ThreadPoolExecutor(12) as threads:
            joined = list(threads.map(join, range(12)))
        (flown,) = (found for found in joined if isinstance(found, Flight))
        flown.abandon()
