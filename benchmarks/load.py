"""The app under load: a process of its own, so that its CPU time stands apart from the worker's.

Closed loop: so many threads, each asks again as soon as it was answered. Paced: requests start at
fixed times whether or not earlier ones are answered, and latency counts from the time a request
should have started, so a stall is charged to all that waited behind it.
"""

from __future__ import annotations

import itertools
import multiprocessing
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any, Final, Self

from benchmarks.callers import Addresses, Call, caller

_MAX_THREADS: Final = 256
_START_SECONDS: Final = 60.0
_LEAD_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of requests came to. Latencies are in milliseconds, of those that succeeded."""

    seconds: float
    cpu_seconds: float
    latencies_ms: list[float] = field(repr=False)
    errors: dict[str, int]

    @property
    def answered(self) -> int:
        """How many requests were answered with tokens."""
        return len(self.latencies_ms)

    @property
    def per_second(self) -> float:
        """Answered requests a second."""
        return self.answered / self.seconds


class Client:
    """A client process for one subject. *turns* tells whose turn is next, also across clients."""

    def __init__(self, subject: str, addresses: Addresses, turns: Counter[str]) -> None:
        context = multiprocessing.get_context("spawn")
        self._subject = subject
        self._turns = turns
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, subject, addresses), daemon=True, name=f"app-{subject}"
        )

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._pipe.send(None)
        self._process.join(timeout=5)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def closed(self, threads: int, seconds: float) -> Load:
        """Ask without pause from *threads* threads."""
        return self._run("closed", threads=threads, seconds=seconds)

    def paced(self, per_second: float, seconds: float) -> Load:
        """Ask at fixed times."""
        return self._run("paced", per_second=per_second, seconds=seconds)

    def same(self, count: int) -> Load:
        """Ask for one and the same user *count* times at once."""
        return self._run("same", count=count)

    def one_by_one(self, count: int) -> Load:
        """Ask *count* times, one after another."""
        return self._run("one_by_one", count=count)

    def _run(self, kind: str, **arguments: Any) -> Load:
        self._pipe.send((kind, self._turns[self._subject], arguments))
        answer: Any = self._pipe.recv()
        if isinstance(answer, BaseException):
            raise answer
        load, self._turns[self._subject] = answer
        return load  # type: ignore[no-any-return]


def _serve(pipe: Connection, subject: str, addresses: Addresses) -> None:
    call = caller(subject, addresses)
    with ThreadPoolExecutor(_MAX_THREADS) as pool:
        while (order := pipe.recv()) is not None:
            kind, first, arguments = order
            run = _Run(call, pool, first)
            try:
                _KINDS[kind](run, **arguments)
                pipe.send((run.end(), run.next_number))
            except Exception as error:  # noqa: BLE001 - sent to the bench, which decides
                pipe.send(error)


class _Run:
    """Counts what happens during one run."""

    def __init__(self, call: Call, pool: ThreadPoolExecutor, first: int) -> None:
        self._call = call
        self._pool = pool
        self._lock = threading.Lock()
        self.numbers = itertools.count(first)
        self._latencies: list[float] = []
        self._errors: Counter[str] = Counter()
        self.begin = time.monotonic()
        self._cpu = time.process_time()

    @property
    def next_number(self) -> int:
        """The first user the next run asks for."""
        return next(self.numbers)

    def ask(self, number: int, since: float) -> None:
        """Make one request and note its latency *since* a moment."""
        try:
            self._call(number)
        except Exception as error:  # noqa: BLE001 - counted and shown
            self._errors[f"{type(error).__name__}: {error}"[:100]] += 1
        else:
            self._latencies.append((time.monotonic() - since) * 1000)

    def on_threads(self, count: int, work: Callable[[], None]) -> None:
        """Let *count* threads do the same, and wait for them."""
        for running in [self._pool.submit(work) for _ in range(count)]:
            running.result()

    def end(self) -> Load:
        """Return what it came to."""
        return Load(
            seconds=time.monotonic() - self.begin,
            cpu_seconds=time.process_time() - self._cpu,
            latencies_ms=self._latencies,
            errors=dict(self._errors),
        )


def _closed(run: _Run, threads: int, seconds: float) -> None:
    until = run.begin + seconds

    def work() -> None:
        while (now := time.monotonic()) < until:
            run.ask(next(run.numbers), now)

    run.on_threads(threads, work)


def _paced(run: _Run, per_second: float, seconds: float) -> None:
    begin = time.monotonic() + _LEAD_SECONDS
    turns = itertools.count()
    total = int(per_second * seconds)

    def work() -> None:
        while (turn := next(turns)) < total:
            intended = begin + turn / per_second
            time.sleep(max(0.0, intended - time.monotonic()))
            run.ask(next(run.numbers), intended)

    run.on_threads(min(total, _threads_for(per_second)), work)


def _threads_for(per_second: float) -> int:
    # Many more than are ever under way; in a stall the rest queue here, and are charged for it.
    return max(8, min(64, int(per_second)))


def _same(run: _Run, count: int) -> None:
    number = next(run.numbers)
    together = threading.Barrier(min(count, _MAX_THREADS))

    def work() -> None:
        together.wait(_START_SECONDS)
        run.ask(number, time.monotonic())

    run.on_threads(min(count, _MAX_THREADS), work)


def _one_by_one(run: _Run, count: int) -> None:
    for _ in range(count):
        run.ask(next(run.numbers), time.monotonic())


_KINDS: Final[Mapping[str, Callable[..., None]]] = {
    "closed": _closed,
    "paced": _paced,
    "same": _same,
    "one_by_one": _one_by_one,
}
