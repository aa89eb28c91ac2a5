"""What one silent authentication takes of others: trips to Redis, SQL, calls of Mosaic.

Requests come one by one, each delta is one request's, and the median of many leaves out what
happens every few seconds (heartbeats, rereading the apps).
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Final

from benchmarks import counting
from benchmarks.figures import Costs
from benchmarks.measures.throughput import check
from benchmarks.options import Options
from benchmarks.workers import Ground, worker

_REQUESTS: Final = 60
_WARM_UP: Final = 40
_ACKNOWLEDGED_SECONDS: Final = 0.03


def measure(ground: Ground, options: Options) -> list[Costs]:
    """Count each worker's."""
    ground.stage.mosaic.set_latency(0)
    return [_costs(ground, subject) for subject in options.subjects if subject != "direct"]


def _costs(ground: Ground, subject: str) -> Costs:
    path = ground.stage.folder / f"counts-{subject}"
    counting.create(path)
    launcher = ("python", "-m", "benchmarks.counting", str(path))
    with (
        worker(ground, subject, "threads", 1, launcher),
        ground.client(subject) as client,
    ):
        check(client.one_by_one(_WARM_UP))
        seen = []
        for _ in range(_REQUESTS):
            before = {**counting.read(path), "mosaic": _calls(ground)}
            check(client.one_by_one(1))
            time.sleep(_ACKNOWLEDGED_SECONDS)
            after = {**counting.read(path), "mosaic": _calls(ground)}
            seen.append({kind: after[kind] - before[kind] for kind in before})
    middle = {kind: statistics.median(each[kind] for each in seen) for kind in seen[0]}
    costs = Costs(
        subject=subject,
        redis_round_trips=middle["redis"],
        sql_statements=middle["statements"],
        sql_transaction_control=middle["transaction_control"],
        mosaic_calls=middle["mosaic"],
    )
    sys.stderr.write(f"  costs    {costs}\n")
    return costs


def _calls(ground: Ground) -> int:
    return sum(ground.stage.mosaic.calls().values())
