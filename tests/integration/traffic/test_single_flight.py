"""SingleFlight: one call for all who ask the same, and nobody waits for the dead."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from session_client.contract import Reason
from simulator.controls.gates import wait_until
from tests.integration.traffic.traffic_rig import (
    Process,
    Starter,
    lead,
    plan,
    publish,
    slow_refill,
    waiting,
)
from worker.errors import HeldBack, StoreUnavailable
from worker.traffic import InProgress, Lead, SharedAnswer, Superseded, single_flight

ANSWER, LEASE = "mosaic-sessions:flight:call:answer", "mosaic-sessions:flight:call:lease"


def test_the_first_leads_and_the_others_get_what_it_publishes(
    process: Process, start: Starter
) -> None:
    other = start()
    first = lead(process)
    assert isinstance(other.single_flight.join(plan()), InProgress)

    publish(process.traffic, first, {"token": "t"}, version=1, seconds=60)

    assert other.single_flight.join(plan()) == SharedAnswer({"token": "t"})
    assert isinstance(other.single_flight.join(plan(name="another")), Lead)


def test_a_shared_answer_serves_whoever_asked_before_and_for_the_reuse_time(start: Starter) -> None:
    clock = [datetime.now(UTC)]
    process = start(now=lambda: clock[0], reuse_seconds=30)
    publish(process.traffic, lead(process), {}, version=1, seconds=60)
    asked_at = clock[0]

    clock[0] += timedelta(seconds=29)
    assert isinstance(process.single_flight.join(plan(since=clock[0])), SharedAnswer)
    clock[0] += timedelta(seconds=2)
    assert isinstance(process.single_flight.join(plan(since=asked_at)), SharedAnswer)
    assert isinstance(process.single_flight.join(plan(since=clock[0])), Lead)


def test_without_reuse_only_those_who_waited_are_served(start: Starter) -> None:
    clock = [datetime.now(UTC).replace(microsecond=0)]
    process = start(now=lambda: clock[0], reuse_seconds=0)
    publish(process.traffic, lead(process), {}, version=1, seconds=60)
    asked_at = clock[0]
    clock[0] += timedelta(microseconds=1)

    assert isinstance(process.single_flight.join(plan(since=asked_at)), SharedAnswer)
    assert isinstance(process.single_flight.join(plan(since=clock[0])), Lead)


@pytest.mark.parametrize(("seconds", "kept"), [(600, 30), (8, 8)])
def test_an_answer_is_kept_for_the_reuse_time_or_less_if_told_so(
    process: Process, seconds: float, kept: float
) -> None:
    publish(process.traffic, lead(process), {}, version=1, seconds=seconds)

    left: Any = process.redis.pttl(ANSWER)
    assert kept - 5 < left / 1000 <= kept


def test_an_answer_about_an_older_version_is_not_believed(process: Process) -> None:
    publish(process.traffic, lead(process), {}, version=1, seconds=60)

    lead(process, version=2)


def test_an_answer_about_a_newer_version_sends_us_back_to_the_store(process: Process) -> None:
    """Forgetting it would cost a call, and everybody else their answer."""
    publish(process.traffic, lead(process), {}, version=2, seconds=60)

    assert isinstance(process.single_flight.join(plan(version=1)), Superseded)
    assert isinstance(process.single_flight.join(plan(version=2)), SharedAnswer)


# --- failures


def test_a_failure_is_everybodys_who_waited(
    process: Process, start: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(single_flight, "FAILURE_SECONDS", 60.0)
    other = start()
    first = lead(process)
    since = datetime.now(UTC)
    process.single_flight.fail(first, StoreUnavailable("down", retry_after=3))

    with pytest.raises(HeldBack) as held:
        other.single_flight.join(plan(since=since))

    assert (held.value.reason, held.value.retry_after) == (Reason.STORE_UNAVAILABLE, 3)


def test_a_failure_is_soon_forgotten(process: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single_flight, "FAILURE_SECONDS", 0.05)
    first = lead(process)
    process.single_flight.fail(first, StoreUnavailable())
    wait_until(lambda: not process.redis.exists(ANSWER), 30)

    lead(process)


def test_a_lead_that_is_abandoned_is_taken_up_by_the_next(process: Process) -> None:
    process.single_flight.abandon(lead(process))

    lead(process)
    assert isinstance(process.single_flight.join(plan()), InProgress)


def test_a_lead_whose_process_died_is_taken_up_when_its_lease_ends(
    process: Process, start: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(single_flight, "LEASE_SPARE_SECONDS", 0.2)
    other = start()
    began = time.monotonic()
    lead(process, call_seconds=0.3)

    while isinstance(joined := other.single_flight.join(plan()), InProgress):
        other.single_flight.wait(joined, 0.1)

    assert isinstance(joined, Lead)
    assert time.monotonic() - began >= 0.45


def test_who_publishes_after_the_lease_disturbs_nobody(process: Process, start: Starter) -> None:
    other = start()
    slow = lead(process)
    process.redis.delete(LEASE)
    second = lead(other)

    publish(process.traffic, slow, {"from": "slow"}, version=1, seconds=60)
    process.single_flight.fail(slow, StoreUnavailable())
    process.single_flight.abandon(slow)
    assert isinstance(process.single_flight.join(plan()), InProgress)

    publish(other.traffic, second, {"from": "second"}, version=1, seconds=60)
    assert process.single_flight.join(plan()) == SharedAnswer({"from": "second"})


def test_who_is_held_back_leaves_no_lease(start: Starter) -> None:
    process = start(mosaic_app_calls_per_minute=20)
    lead(process, name="first")

    with pytest.raises(HeldBack):
        process.single_flight.join(plan())

    assert not process.redis.exists(LEASE)


def test_a_lease_lasts_as_much_longer_as_its_call_waits_for_its_turn(
    start: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start(mosaic_app_calls_per_minute=60)
    waited: list[float] = []  # told, and not done: a minute
    monkeypatch.setattr(time, "sleep", waited.append)

    with slow_refill():
        process.admit_all()
        lead(process, call_seconds=0.0, max_wait_seconds=100.0)

    left: Any = process.redis.pttl(LEASE)
    assert max(waited) > 10
    assert left > max(waited) * 1000


def test_an_old_answer_does_not_keep_those_awake_who_wait_for_a_new_one(start: Starter) -> None:
    process = start(reuse_seconds=0)
    publish(process.traffic, lead(process), {}, version=1, seconds=60)
    time.sleep(0.01)
    lead(process)

    assert process.redis.exists(ANSWER) == 0


# --- waiting


def test_one_answer_wakes_everybody(process: Process, redis_url: str) -> None:
    first = lead(process)

    def listen() -> float:
        process.scripts.wait("call", 50)
        return time.monotonic()

    with ThreadPoolExecutor(8) as threads:
        woken = [threads.submit(listen) for _ in range(8)]
        wait_until(lambda: waiting(redis_url) == 8, 50)
        published_at = time.monotonic()
        publish(process.traffic, first, {}, version=1, seconds=60)
        latest = max(future.result() for future in woken)

    assert latest - published_at < 20
    assert process.redis.llen(ANSWER) == 1


def test_nobody_waits_longer_than_they_have_time(process: Process) -> None:
    lead(process)
    joined = process.single_flight.join(plan())
    assert isinstance(joined, InProgress)
    asked: list[float] = []
    process.redis.blmove = lambda *args: asked.append(args[2])  # type: ignore[method-assign]

    for seconds in (0.5, 0.0, 30.0):
        process.single_flight.wait(joined, seconds)

    # Nought would be for ever; after a second somebody must look whether the lead still lives.
    assert asked == [0.5, 0.01, 1.0]


def test_of_many_processes_at_once_one_leads(start: Starter) -> None:
    processes = [start() for _ in range(4)]
    barrier = threading.Barrier(12)

    def join(number: int) -> Any:
        barrier.wait(60)
        return processes[number % 4].single_flight.join(plan())

    for _ in range(5):
        with ThreadPoolExecutor(12) as threads:
            joined = list(threads.map(join, range(12)))
        (leading,) = (found for found in joined if isinstance(found, Lead))
        processes[0].single_flight.abandon(leading)
