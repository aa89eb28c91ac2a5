"""How many requests a second, and what CPU time each costs whom.

All workers of one pool run at once and idle until it is their turn. The subjects take turns, in
each other round the other way about, and of the rounds the median counts, so that a noisy moment of
the machine hits one sample of one.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Self

from benchmarks.figures import Figures, Memory, Sample
from benchmarks.load import Client, Load
from benchmarks.options import Options
from benchmarks.processes import cpu_seconds, machine_busy_seconds, memory_bytes
from benchmarks.workers import Ground, worker
from sandbox.processes import ManagedProcess

SETTLE_SECONDS = 0.3


def measure(ground: Ground, options: Options, found: Figures) -> None:
    """Put each pool and latency under load."""
    for pool in options.pools:
        with Crew(ground, options, pool, options.subjects) as crew:
            crew.warm_up()
            before = crew.memory()
            for latency in options.latencies_ms:
                ground.stage.mosaic.set_latency(latency)
                for number in range(options.rounds):
                    found.samples += crew.round(latency, is_reversed=number % 2 == 1)
            if options.memory_requests and pool == "threads":
                crew.go_on(options.memory_requests)
            found.memory += crew.growth_since(before)


class Crew:
    """The workers of one pool, with a client for each."""

    def __init__(
        self, ground: Ground, options: Options, pool: str, subjects: Sequence[str]
    ) -> None:
        self._stage = ground.stage
        self._ground = ground
        self._options = options
        self._pool = pool
        self._subjects = subjects
        self._exit = ExitStack()
        self._workers: dict[str, ManagedProcess | None] = {}
        self.clients: dict[str, Client] = {}
        self._answered: dict[str, int] = {}
        self._meter: Meter

    def __enter__(self) -> Self:
        with ExitStack() as exits:
            for subject in self._subjects:
                concurrency = self._options.concurrency(self._pool)
                started = worker(self._ground, subject, self._pool, concurrency)
                self._workers[subject] = exits.enter_context(started)
                client = self._ground.client(subject)
                self.clients[subject] = exits.enter_context(client)
            self._exit = exits.pop_all()
        self._meter = Meter(self._ground)
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def warm_up(self) -> None:
        """Let every worker and client make its connections."""
        for client in self.clients.values():
            check(client.one_by_one(2))  # the first waits for the worker to be up
            answered = 0
            while answered < self._options.warm_up:
                answered += check(client.closed(self._options.client_threads, 0.5)).answered

    def round(self, latency: float, *, is_reversed: bool) -> list[Sample]:
        """Put one subject after another under load."""
        turns = reversed(self._subjects) if is_reversed else self._subjects
        return [self._sample(subject, latency) for subject in turns]

    def _sample(self, subject: str, latency: float) -> Sample:
        process = self._workers[subject]
        pid = None if process is None else process.pid
        options = self._options
        time.sleep(SETTLE_SECONDS)
        load, used = self._meter.during(
            pid, lambda: self.clients[subject].closed(options.client_threads, options.seconds)
        )
        count = max(load.answered, 1)
        self._answered[subject] = self._answered.get(subject, 0) + load.answered
        sample = Sample(
            subject=subject,
            pool=self._pool,
            mosaic_ms=latency,
            per_second=load.per_second,
            worker_cpu_ms=used["worker"] * 1000 / count,
            client_cpu_ms=load.cpu_seconds * 1000 / count,
            postgres_cpu_ms=used["postgres"] * 1000 / count,
            redis_cpu_ms=used["redis"] * 1000 / count,
            fake_cpu_ms=used["fake"] * 1000 / count,
            p50_ms=statistics.median(load.latencies_ms or [float("nan")]),
            errors=sum(load.errors.values()),
            strangers=(used.pop("machine") - sum(used.values()) - load.cpu_seconds) / load.seconds,
        )
        sys.stderr.write(
            f"  {self._pool:<8} {latency:>4.0f} ms  {subject:<7} {sample.per_second:7.1f}/s  "
            f"worker {sample.worker_cpu_ms:5.2f} ms  client {sample.client_cpu_ms:5.2f} ms  "
            f"strangers {sample.strangers:.1f} cores"
            f"{f'  errors {load.errors}' if load.errors else ''}\n"
        )
        return sample

    def go_on(self, requests: int) -> None:
        """Let our worker serve more, for its memory's sake."""
        self._stage.mosaic.set_latency(0)
        while self._answered["ours"] < requests:
            load = self.clients["ours"].closed(self._options.client_threads, 10)
            self._answered["ours"] += load.answered

    def memory(self) -> dict[str, int]:
        """Return what each worker occupies now."""
        alive = {name: process for name, process in self._workers.items() if process is not None}
        return {name: memory_bytes(process.pid) for name, process in alive.items()}

    def growth_since(self, before: dict[str, int]) -> Iterable[Memory]:
        """Return how each has grown."""
        return [
            Memory(
                subject=subject,
                pool=self._pool,
                requests=self._answered[subject],
                before_bytes=before[subject],
                after_bytes=after,
            )
            for subject, after in self.memory().items()
        ]


class Meter:
    """Reads all processes' CPU time before and after."""

    def __init__(self, ground: Ground) -> None:
        self._stage = ground.stage
        self._postgres_pid = ground.stage.postgres_pid()

    def during(
        self, worker_pid: int | None, work: Callable[[], Load]
    ) -> tuple[Load, dict[str, float]]:
        """Return what *work* returned, and the CPU seconds that went by meanwhile."""
        before = self._read(worker_pid)
        load = work()
        time.sleep(0.05)  # the last acknowledgements follow the last answers
        after = self._read(worker_pid)
        return load, {name: after[name] - before[name] for name in before}

    def _read(self, worker_pid: int | None) -> dict[str, float]:
        return {
            "worker": 0.0 if worker_pid is None else cpu_seconds(worker_pid),
            "postgres": cpu_seconds(self._postgres_pid),
            "redis": self._stage.redis_cpu_seconds(),
            "fake": cpu_seconds(self._stage.mosaic.pid),
            "machine": machine_busy_seconds(),
        }


def check(load: Load) -> Load:
    """Refuse to go on with a subject that does not work."""
    if not load.answered:
        raise RuntimeError(f"no request was answered: {load.errors}")
    return load


def median_of(samples: Iterable[Sample], what: str) -> float:
    """Return the median of one of the samples' numbers."""
    return statistics.median(float(getattr(sample, what)) for sample in samples)
