"""How often Mosaic is asked when one and the same question comes many times at once."""

from __future__ import annotations

import sys

from benchmarks.figures import Burst
from benchmarks.measures.throughput import check
from benchmarks.options import Options
from benchmarks.workers import Ground, worker

REQUESTS = 200
_MOSAIC_MS = 30.0


def measure(ground: Ground, options: Options) -> list[Burst]:
    """Burst each worker."""
    mosaic = ground.stage.mosaic
    mosaic.set_latency(_MOSAIC_MS)
    found = []
    for subject in (s for s in ("peer", "ours") if s in options.subjects):
        with (
            worker(ground, subject, "threads", options.threads),
            ground.client(subject) as client,
        ):
            check(client.one_by_one(2))
            check(client.closed(options.client_threads, 1))
            before = mosaic.calls()["authenticate"]
            load = client.same(REQUESTS)
            calls = mosaic.calls()["authenticate"] - before
        burst = Burst(
            subject=subject, requests=REQUESTS, answered=load.answered, mosaic_calls=calls
        )
        found.append(burst)
        sys.stderr.write(
            f"  burst    {subject:<7} {burst.answered} of {REQUESTS} answered, "
            f"{burst.mosaic_calls} calls {load.errors or ''}\n"
        )
    return found
