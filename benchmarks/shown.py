"""The tables of a run."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Any, Final

from benchmarks import aims, summary
from benchmarks.figures import Figures
from benchmarks.tables import Table

# What Mosaic documents as its limits: of one application, and of one address.
_RATES: Final = (333, 1500)
_HEADROOM: Final = 0.7
_PARTS: Final = (
    "worker_cpu_ms",
    "client_cpu_ms",
    "postgres_cpu_ms",
    "redis_cpu_ms",
    "fake_cpu_ms",
)


def tables_of(figures: Figures) -> Iterator[Table]:
    """Return a table for each kind of figure that was taken."""
    makers = (
        (_throughput, figures.samples),
        (_capacity, _busiest(figures.samples)),
        (_latency, figures.latency),
        (_burst, figures.burst),
        (_costs, figures.costs),
        (_maintenance, figures.maintenance),
        (_lookup, figures.lookup),
        (_memory, figures.memory),
        (_verdicts, aims.verdicts(figures)),
    )
    for make, taken in makers:
        if taken:
            yield make(taken)


def _throughput(samples: list[Any]) -> Table:
    table = Table(
        "Closed loop: requests a second, and CPU milliseconds a request",
        ["pool", "Mosaic", "subject", "per s", "x peer", "worker", "x noop", "per core", "client",
         "PostgreSQL", "Redis", "all parts", "errors"],
        note=_busyness(samples),
    )  # fmt: skip
    for pool, latency in summary.settings_of(samples):
        for subject in summary.subjects_of(samples):
            table.rows.append(_throughput_row(samples, subject, pool, latency))
    return table


def _throughput_row(samples: list[Any], subject: str, pool: str, latency: float) -> list[str]:
    def of(who: str, what: str) -> float:
        return summary.median(samples, who, pool, latency, what) or 0.0

    def over(base: str, what: str) -> str:
        if base not in summary.subjects_of(samples):
            return "-"
        return f"{summary.times(samples, subject, base, pool, latency, what) or 0.0:.2f}"

    worker = of(subject, "worker_cpu_ms")
    return [
        pool,
        f"{latency:g} ms",
        subject,
        f"{of(subject, 'per_second'):.0f}",
        over("peer", "per_second"),
        f"{worker:.2f}" if worker else "-",
        over("noop", "worker_cpu_ms") if worker else "-",
        f"{1000 / worker:.0f}" if worker else "-",
        f"{of(subject, 'client_cpu_ms'):.2f}",
        f"{of(subject, 'postgres_cpu_ms'):.2f}",
        f"{of(subject, 'redis_cpu_ms'):.2f}",
        f"{sum(of(subject, part) for part in _PARTS):.2f}",
        f"{summary.errors(samples, subject, pool, latency)}",
    ]


def _busyness(samples: list[Any]) -> str:
    strangers = statistics.median(each.strangers for each in samples)
    return (
        f"per core: what one core would do if the worker had it to itself. Strangers kept "
        f"{strangers:.1f} cores busy meanwhile (median)."
    )


def _busiest(samples: list[Any]) -> list[Any]:
    """Return, of each of our requests, what it takes of each part on threads while Mosaic waits."""
    settings = [each for each in summary.settings_of(samples) if each[0] == "threads"]
    if not settings:
        return []
    pool, latency = max(settings, key=lambda each: each[1])
    found = []
    for subject in ("ours", "browser", "login"):
        if subject in summary.subjects_of(samples):
            taken = {p: summary.median(samples, subject, pool, latency, p) or 0.0 for p in _PARTS}
            found.append((subject, taken))
    return found


def _capacity(found: list[Any]) -> Table:
    rows = [
        [
            f"{rate:,}/s",
            subject,
            f"{rate * taken['worker_cpu_ms'] / 1000 / _HEADROOM:.1f}",
            f"{rate * taken['postgres_cpu_ms'] / 1000:.2f}",
            f"{rate * taken['redis_cpu_ms'] / 1000:.2f}",
        ]
        for rate in _RATES
        for subject, taken in found
    ]
    head = ["requests", "subject", "worker cores", "PostgreSQL cores", "Redis cores"]
    note = (
        "Extrapolated: the CPU of one request, measured above on threads, times the rate. Workers "
        f"with {_HEADROOM:.0%} of their cores busy; PostgreSQL and Redis fully."
    )
    return Table("Capacity", head, rows, note)


def _latency(found: list[Any]) -> Table:
    table = Table(
        "Fixed rate, half of what each can do (direct: the same as ours): milliseconds",
        ["Mosaic", "subject", "per s", "requests", "p50", "p95", "p99", "+p50", "+p99", "errors"],
        note="+ is what is added to a direct call.",
    )
    direct = {each.mosaic_ms: each for each in found if each.subject == "direct"}
    for each in found:
        base = direct.get(each.mosaic_ms)
        added = [
            "-" if base is None or base is each else f"{getattr(each, n) - getattr(base, n):+.1f}"
            for n in ("p50_ms", "p99_ms")
        ]
        table.rows.append(
            [
                f"{each.mosaic_ms:g} ms",
                each.subject,
                f"{each.per_second:.0f}",
                f"{each.requests}",
                f"{each.p50_ms:.1f}",
                f"{each.p95_ms:.1f}",
                f"{each.p99_ms:.1f}",
                *added,
                f"{each.errors}",
            ]
        )
    return table


def _burst(found: list[Any]) -> Table:
    rows = [[e.subject, f"{e.requests}", f"{e.answered}", f"{e.mosaic_calls}"] for e in found]
    head = ["subject", "identical requests at once", "answered", "calls of Mosaic"]
    return Table("Burst", head, rows)


def _costs(found: list[Any]) -> Table:
    names = ("redis_round_trips", "sql_statements", "sql_transaction_control", "mosaic_calls")
    head = ["subject", "Redis round trips", "SQL statements", "BEGIN and COMMIT", "calls of Mosaic"]
    rows = [[each.subject, *(f"{getattr(each, name):g}" for name in names)] for each in found]
    note = "Of the worker, median of single requests; exact counts."
    return Table("What one request takes of others", head, rows, note)


def _maintenance(found: list[Any]) -> Table:
    head = [
        "job",
        "sessions",
        "rows",
        "seconds",
        "rows/s",
        "requests/s",
        "p99 quiet",
        "p99 busy",
        "x",
    ]
    rows = [
        [
            each.job,
            f"{each.sessions:,}",
            f"{each.rows:,}",
            f"{each.seconds:.1f}",
            f"{each.rows_per_second:,.0f}",
            f"{each.per_second:.0f}",
            f"{each.quiet_p99_ms:.1f}",
            f"{each.busy_p99_ms:.1f}",
            _times(each.busy_p99_ms, each.quiet_p99_ms),
        ]
        for each in found
    ]
    return Table("Maintenance beside silent authentications", head, rows)


def _lookup(found: list[Any]) -> Table:
    rows = [
        [
            f"{each.sessions:,}",
            f"{each.p50_ms:.3f}",
            f"{each.p99_ms:.3f}",
            _times(each.p50_ms, found[0].p50_ms),
            f"{each.database_bytes / 2**20:,.0f}",
            f"{each.session_bytes:,.0f}",
        ]
        for each in found
    ]
    head = ["sessions", "p50 ms", "p99 ms", "x", "store MiB", "bytes a session"]
    return Table("Looking up a user's sessions", head, rows)


def _memory(found: list[Any]) -> Table:
    mib = 2**20
    rows = [
        [
            each.pool,
            each.subject,
            f"{each.requests:,}",
            f"{each.before_bytes / mib:.0f}",
            f"{each.after_bytes / mib:.0f}",
            f"{each.growth:+.1%}",
        ]
        for each in found
    ]
    head = ["pool", "subject", "requests", "warm MiB", "at the end MiB", "growth"]
    note = "Resident; of prefork the sum of all processes, shared pages counted in each."
    return Table("Memory of a worker", head, rows, note)


def _verdicts(found: list[Any]) -> Table:
    rows = [[each.aim, each.wanted, each.measured, each.word] for each in found]
    return Table("Aims", ["aim", "wanted", "measured", "verdict"], rows)


def _times(value: float, base: float) -> str:
    return f"{value / base:.2f}" if base else "-"
