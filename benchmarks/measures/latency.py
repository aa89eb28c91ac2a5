"""How long an app waits at half load, from the moment each request should have started.

Half load is half of what the subject itself managed in the closed loop; a direct app is
paced like ours, since it is what ours adds to.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterable

from benchmarks.figures import Sample, Waits
from benchmarks.load import Load
from benchmarks.measures.throughput import SETTLE_SECONDS, Crew, check
from benchmarks.options import Options
from benchmarks.percentiles import percentile
from benchmarks.workers import Ground

_POOL = "threads"
_PROBE_SECONDS = 2.0
# A percentile needs more requests than a rate does.
_LONGER = 1.5


def measure(ground: Ground, options: Options, samples: list[Sample]) -> list[Waits]:
    """Pace each subject, in turns."""
    found = []
    with Crew(ground, options, _POOL, [s for s in options.subjects if s != "noop"]) as crew:
        crew.warm_up()
        for latency in options.latencies_ms:
            ground.stage.mosaic.set_latency(latency)
            rates = _rates(crew, options, [s for s in samples if s.mosaic_ms == latency])
            rounds: dict[str, list[Load]] = {subject: [] for subject in rates}
            for _ in range(options.rounds):
                for subject, rate in rates.items():
                    time.sleep(SETTLE_SECONDS)
                    load = crew.clients[subject].paced(rate, options.seconds * _LONGER)
                    rounds[subject].append(check(load))
            found += [_waits(name, latency, rates[name], loads) for name, loads in rounds.items()]
    return found


def _rates(crew: Crew, options: Options, samples: list[Sample]) -> dict[str, float]:
    rates = {}
    for subject, client in crew.clients.items():
        known = [s.per_second for s in samples if s.subject == subject and s.pool == _POOL]
        if not known:
            known = [check(client.closed(options.client_threads, _PROBE_SECONDS)).per_second]
        rates[subject] = statistics.median(known) / 2
    if "ours" in rates and "direct" in rates:
        rates["direct"] = rates["ours"]
    return rates


def _waits(subject: str, latency: float, rate: float, loads: list[Load]) -> Waits:
    waits = Waits(
        subject=subject,
        mosaic_ms=latency,
        per_second=rate,
        requests=sum(load.answered for load in loads),
        p50_ms=_median(percentile(load.latencies_ms, 0.50) for load in loads),
        p95_ms=_median(percentile(load.latencies_ms, 0.95) for load in loads),
        p99_ms=_median(percentile(load.latencies_ms, 0.99) for load in loads),
        errors=sum(sum(load.errors.values()) for load in loads),
    )
    sys.stderr.write(
        f"  latency  {latency:>4.0f} ms  {subject:<7} {rate:7.1f}/s  p50 {waits.p50_ms:6.1f} ms  "
        f"p95 {waits.p95_ms:6.1f} ms  p99 {waits.p99_ms:6.1f} ms  errors {waits.errors}\n"
    )
    return waits


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)
