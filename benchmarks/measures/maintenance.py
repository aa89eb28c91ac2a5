"""How fast sessions are expired and purged among a million, and who notices.

Users sign in silently at a fixed rate all the while: first alone, then beside each job. Their p99
is the median of pieces of two seconds, so that one stall of the machine does not decide.
"""

from __future__ import annotations

import json
import statistics
import sys
from typing import Final

from benchmarks import maintain
from benchmarks.figures import Job, Sample
from benchmarks.load import Client
from benchmarks.measures.throughput import check
from benchmarks.options import Options
from benchmarks.percentiles import percentile
from benchmarks.workers import Ground, worker

JOBS: Final = ("expire", "purge")
_POOL: Final = "threads"
_PIECE_SECONDS: Final = 2.0
_QUIET_PIECES: Final = 5
_BUDGET_SECONDS: Final = 20.0
_PROBE_SECONDS: Final = 2.0


def measure(big: Ground, size: int, options: Options, samples: list[Sample]) -> list[Job]:
    """Run each job once, in a store that `bulk.fill` has filled with *size* sessions."""
    big.stage.mosaic.set_latency(0)
    found = []
    with (
        worker(big, "ours", _POOL, options.threads),
        big.client("ours") as client,
    ):
        check(client.one_by_one(2))
        check(client.closed(options.client_threads, 2))
        rate = _rate(client, options, samples)
        for job in JOBS:
            quiet = [_p99(client, rate) for _ in range(_QUIET_PIECES)]
            done, busy = _beside(big, job, client, rate)
            found.append(
                Job(
                    job=job,
                    sessions=size,
                    rows=int(done["rows"]),
                    seconds=done["seconds"],
                    per_second=rate,
                    quiet_p99_ms=statistics.median(quiet),
                    busy_p99_ms=statistics.median(busy),
                )
            )
            sys.stderr.write(f"  {found[-1]}\n")
    return found


def _rate(client: Client, options: Options, samples: list[Sample]) -> float:
    known = [
        sample.per_second
        for sample in samples
        if (sample.subject, sample.pool, sample.mosaic_ms) == ("ours", _POOL, 0.0)
    ]
    if not known:
        known = [check(client.closed(options.client_threads, _PROBE_SECONDS)).per_second]
    return statistics.median(known) / 2


def _beside(
    big: Ground, job: str, client: Client, rate: float
) -> tuple[dict[str, float], list[float]]:
    """Run the job, and return what it did and the users' p99 piece by piece."""
    environment = big.stage.worker_environment(
        big.our_database, {"maintenance_budget_seconds": _BUDGET_SECONDS}
    )
    words = ("python", "-m", "benchmarks.maintain", job)
    pieces: list[float] = []
    with big.stage.start(job, words, environment) as process:
        process.wait_for_line(maintain.BEGINS, timeout=60)
        while process.is_alive or not pieces:
            pieces.append(_p99(client, rate))
        code, printed = process.returncode, process.log_text()
    if code != 0:
        raise RuntimeError(f"{job} failed:\n{printed}")
    timings: dict[str, float] = json.loads(printed.strip().splitlines()[-1])
    return timings, pieces


def _p99(client: Client, rate: float) -> float:
    return percentile(check(client.paced(rate, _PIECE_SECONDS)).latencies_ms, 0.99)
