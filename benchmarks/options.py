"""What the command line may say: `python -m benchmarks --help`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.callers import SUBJECTS

MEASURES: Final = (
    "throughput",
    "latency",
    "burst",
    "client",
    "costs",
    "maintenance",
    "lookup",
)
POOLS: Final = ("threads", "prefork")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How much is measured, and how long."""

    only: tuple[str, ...]
    subjects: tuple[str, ...]
    pools: tuple[str, ...]
    latencies_ms: tuple[float, ...]
    rounds: int
    seconds: float
    warm_up: int
    threads: int
    processes: int
    client_threads: int
    maintenance_sizes: tuple[int, ...]
    lookup_sizes: tuple[int, ...]
    memory_requests: int
    settings: dict[str, str]
    profile: bool
    name: str
    folder: Path | None

    def wants(self, measure: str) -> bool:
        """Whether *measure* is to be taken."""
        return measure in self.only

    def concurrency(self, pool: str) -> int:
        """How many jobs a worker works on at a time."""
        return self.threads if pool == "threads" else self.processes


def parse(arguments: Sequence[str]) -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="See benchmarks/README.md."
    )
    add = parser.add_argument
    add("--only", type=_Words(MEASURES), default=MEASURES, help=",".join(MEASURES))
    add("--subjects", type=_Words(SUBJECTS), default=SUBJECTS, help=",".join(SUBJECTS))
    add("--pools", type=_Words(POOLS), default=POOLS, help=",".join(POOLS))
    add("--latencies", type=_numbers, default=(0.0, 30.0), help="of Mosaic, in ms: 0,30")
    add("--rounds", type=int, default=12)
    add("--seconds", type=float, default=1.0, help="of load, for each subject and round")
    add("--warm-up", type=int, default=400, help="requests before anything counts")
    add("--threads", type=int, default=16, help="of a worker with a thread pool")
    add("--processes", type=int, default=8, help="of a worker with a prefork pool")
    add("--client-threads", type=int, default=32, help="that ask in the closed loop")
    add("--sessions", type=int, default=1_000_000, help="in the store, for maintenance and lookup")
    add("--memory-requests", type=int, default=0, help="more requests, to see memory grow")
    add("--set", type=_assignment, action="append", default=[], help="our worker: FIELD=VALUE")
    add("--quick", action="store_true", help="one round of a second, 20,000 sessions")
    add("--full", action="store_true", help="100,000 requests for memory; also 10^7 sessions")
    add("--profile", action="store_true", help="py-spy our worker under load instead")
    add("--name", default="", help="of the files that are kept, in place of the time")
    add("--folder", type=Path, default=None, help="in place of benchmarks/results")
    parsed = parser.parse_args(arguments)
    if parsed.quick:
        parsed.rounds, parsed.seconds, parsed.warm_up, parsed.sessions = 1, 1.0, 100, 20_000
    large = (parsed.sessions, 10_000_000) if parsed.full else (parsed.sessions,)
    return Options(
        only=parsed.only,
        subjects=parsed.subjects,
        pools=parsed.pools,
        latencies_ms=parsed.latencies,
        rounds=parsed.rounds,
        seconds=parsed.seconds,
        warm_up=parsed.warm_up,
        threads=parsed.threads,
        processes=parsed.processes,
        client_threads=parsed.client_threads,
        maintenance_sizes=large,
        lookup_sizes=(10_000, *large),
        memory_requests=100_000 if parsed.full else parsed.memory_requests,
        settings=dict(parsed.set),
        profile=parsed.profile,
        name=parsed.name,
        folder=parsed.folder,
    )


class _Words:
    """Reads words of a known set, with commas between."""

    def __init__(self, known: Sequence[str]) -> None:
        self._known = known

    def __call__(self, text: str) -> tuple[str, ...]:
        words = tuple(text.split(","))
        if unknown := set(words) - set(self._known):
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(sorted(unknown))}")
        return words


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(word) for word in text.split(","))


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError("wants FIELD=VALUE")
    return name, value
