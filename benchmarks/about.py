"""When and on what a run was made, and how."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Final, Self

import psutil

from benchmarks.options import Options
from benchmarks.stage import Stage

_PACKAGES: Final = (
    "celery",
    "kombu",
    "redis",
    "httpx",
    "sqlalchemy",
    "psycopg",
    "joserfc",
    "pyjwt",
)

METHOD: Final = """\
Subjects take turns within one run; each number is the median of the rounds, and each x that of the
rounds' own ratios: a shared machine changes its speed within seconds. noop: a bare Celery
task with a Redis result. peer: a hand-written worker for the same job (benchmarks/peers/peer.py).
direct: the app asks Mosaic itself. ours: SessionClient to the worker and back. One worker each,
with the same pool and concurrency, on one private Redis and one private PostgreSQL (fsync off, for
everybody); Mosaic is a fake with the latency named. Every request is for another of 20,000 users.
Closed loop for throughput; CPU is user and system time of a process with its children, divided by
the requests answered. Latency is measured at fixed intervals from the moment each request should
have started, whether or not earlier ones were answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """When and on what: nothing that names a machine or a path."""

    began: str
    took_seconds: int
    cores: int
    memory_gib: float
    processor: str
    system: str
    python: str
    redis: str
    postgres: str
    packages: dict[str, str]
    worker_settings: dict[str, str]
    rounds: int
    seconds: float
    threads: int
    processes: int
    client_threads: int

    @classmethod
    def now(cls, stage: Stage, options: Options, began: datetime) -> Self:
        """Ask the machine."""
        return cls(
            began=began.strftime("%Y-%m-%d %H:%M UTC"),
            took_seconds=round((datetime.now(UTC) - began).total_seconds()),
            cores=os.cpu_count() or 0,
            memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
            processor=platform.machine(),
            system=platform.system(),
            python=platform.python_version(),
            redis=stage.redis_version(),
            postgres=stage.postgres_version(),
            packages={name: version(name) for name in _PACKAGES},
            worker_settings={name: str(value) for name, value in stage.settings.items()},
            rounds=options.rounds,
            seconds=options.seconds,
            threads=options.threads,
            processes=options.processes,
            client_threads=options.client_threads,
        )

    def lines(self) -> list[str]:
        """Return it for the head of a report."""
        machine = f"{self.cores} cores ({self.processor}, {self.system}), {self.memory_gib} GiB"
        servers = f"Python {self.python}, Redis {self.redis}, PostgreSQL {self.postgres}"
        slots = f"{self.threads} threads or {self.processes} processes a worker"
        load = f"{self.rounds} rounds of {self.seconds:g} s; {self.client_threads} client threads"
        changed = ", ".join(f"{name}={value}" for name, value in self.worker_settings.items())
        return [
            f"{self.began}, {self.took_seconds} s; {machine}; {servers}",
            ", ".join(f"{name} {number}" for name, number in self.packages.items()),
            f"{load}; {slots}",
            f"our worker as shipped{f', but {changed}' if changed else ''}",
        ]
