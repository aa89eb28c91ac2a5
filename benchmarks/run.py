"""Takes the measures that are asked for, one after another, on one stage."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable

from benchmarks import bulk
from benchmarks.figures import Figures
from benchmarks.measures import burst, client, costs, latency, lookup, maintenance, throughput
from benchmarks.options import Options
from benchmarks.stage import Stage
from benchmarks.workers import Ground, prepare, prepare_ours


def run(stage: Stage, options: Options) -> Figures:
    """Measure. What fails is reported, and the other figures are taken all the same."""
    figures = Figures()
    ground = prepare(stage)
    measures: dict[str, Callable[[], None]] = {
        "costs": lambda: figures.costs.extend(costs.measure(ground, options)),
        "burst": lambda: figures.burst.extend(burst.measure(ground, options)),
        "client": lambda: _client(figures),
        "throughput": lambda: throughput.measure(ground, options, figures),
        "latency": lambda: figures.latency.extend(
            latency.measure(ground, options, figures.samples)
        ),
    }
    for name, measure in measures.items():
        if options.wants(name):
            _take(name, measure, figures)
    if options.wants("lookup") or options.wants("maintenance"):
        _take("full store", lambda: _in_a_full_store(stage, options, ground, figures), figures)
    return figures


def _take(name: str, measure: Callable[[], None], figures: Figures) -> None:
    try:
        measure()
    except Exception:  # noqa: BLE001 - whatever it is, minutes of other figures is worth keeping
        traceback.print_exc()
        figures.failed.append(name)


def _client(figures: Figures) -> None:
    figures.imports = client.imports()
    figures.crowd = client.crowds()


def _in_a_full_store(stage: Stage, options: Options, ground: Ground, figures: Figures) -> None:
    wants_lookup = options.wants("lookup")
    grounds = {}
    for size in options.lookup_sizes if wants_lookup else options.maintenance_sizes:
        sys.stderr.write(f"  writing {size:,} sessions\n")
        grounds[size] = prepare_ours(stage, f"bulk{size}", ground.peer_database)
        bulk.fill(grounds[size].our_database, size)
    if wants_lookup:
        databases = {size: each.our_database for size, each in grounds.items()}
        figures.lookup = lookup.measure(stage, databases)
    if options.wants("maintenance"):
        for size in options.maintenance_sizes:
            figures.maintenance += maintenance.measure(
                grounds[size], size, options, figures.samples
            )
