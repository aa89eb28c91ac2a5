"""A pool of threads: each keeps its slot whatever a job does, and stopping waits for what runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from structlog.testing import capture_logs

from sandbox.processes import poll_until
from worker.celery_support.thread_pool import SafeThreadPool

PATIENCE_SECONDS = 60


@contextmanager
def pool_of(slots: int) -> Iterator[SafeThreadPool]:
    pool = SafeThreadPool(limit=slots)
    pool.start()
    try:
        yield pool
    finally:
        pool.stop()


class Held:
    """A job that runs until it is let go."""

    def __init__(self) -> None:
        self.has_begun = threading.Event()
        self.go = threading.Event()
        self.is_done = False

    def __call__(self) -> None:
        self.has_begun.set()
        assert self.go.wait(PATIENCE_SECONDS)
        self.is_done = True


def test_as_many_jobs_run_side_by_side_as_there_are_slots() -> None:
    meeting = threading.Barrier(3, timeout=PATIENCE_SECONDS)
    results: list[Any] = []
    with pool_of(3) as pool:
        for _ in range(3):
            pool.apply_async(meeting.wait, callback=results.append)
        poll_until(lambda: len(results) == 3, PATIENCE_SECONDS, what="all to have met")

    assert sorted(results) == [0, 1, 2]


def fail(_: object) -> None:
    raise ValueError("canary")


def leave(_: object) -> None:
    raise SystemExit(3)


@pytest.mark.parametrize("end", [fail, leave])
@pytest.mark.parametrize("again", [fail, leave, None])
def test_a_slot_outlives_whatever_fails_around_a_job(
    end: Callable[[object], None], again: Callable[[object], None] | None
) -> None:
    told: list[Any] = []

    def callback(result: object) -> None:
        told.append(result)
        if len(told) == 1:
            end(result)
        elif again is not None:
            again(result)

    served = threading.Event()
    with capture_logs() as logs, pool_of(1) as pool:
        pool.apply_async(lambda: "done", callback=callback)
        pool.apply_async(served.set, callback=lambda _: None)
        assert served.wait(PATIENCE_SECONDS)

    failed, lost, runtime = told[1]
    assert (told[0], failed, runtime) == ("done", 1, 0.0)
    assert lost.type.__name__ == "WorkerLostError"
    assert [line["event"] for line in logs] == [
        "pool_job_failed",
        *(["pool_job_not_given_back"] if again else []),
    ]
    assert "canary" not in repr(logs)


@pytest.mark.parametrize("stop", ["stop", "terminate"])
def test_stopping_waits_for_what_runs_and_begins_nothing(stop: str) -> None:
    running, waiting = Held(), Held()
    pool = SafeThreadPool(limit=1)
    pool.start()
    pool.apply_async(running, callback=lambda _: None)
    pool.apply_async(waiting, callback=lambda _: None)
    assert running.has_begun.wait(PATIENCE_SECONDS)

    stopper = threading.Thread(target=getattr(pool, stop))
    stopper.start()
    stopper.join(0.2)
    assert stopper.is_alive()  # there is something to wait for
    running.go.set()
    stopper.join(PATIENCE_SECONDS)

    assert not stopper.is_alive()
    assert running.is_done
    assert not waiting.has_begun.is_set()
    assert not any(thread.name.startswith("slot-") for thread in threading.enumerate())
