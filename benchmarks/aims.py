"""What we want of the figures, and whether they are it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from benchmarks import summary
from benchmarks.figures import Figures

CPU_TIMES_NOOP: Final = 2.0
CPU_TIMES_NOOP_MOONSHOT: Final = 1.5
BROWSER_TIMES_USER: Final = 1.03
LOGIN_TIMES_SILENT: Final = 1.5
CLIENT_TIMES_NOOP: Final = 0.6
TIMES_PEER: Final = 2.3
# What Mosaic documents as its limit for one application.
PER_SECOND: Final = 333.0
ADDED_P50_MS: Final = 5.0
ADDED_P99_MS: Final = 15.0
BURST_CALLS: Final = 1
CROWD_ENDS_SECONDS: Final = 1.2
CROWD_LATE_MS: Final = 50.0
IMPORT_MS: Final = 60.0
IMPORT_MIB: Final = 20.0
ROWS_PER_SECOND: Final = 20_000.0
BUSY_TIMES_QUIET: Final = 1.5
LOOKUP_TIMES_SMALL: Final = 1.5
MEMORY_GROWTH: Final = 0.05


@dataclass(frozen=True, slots=True)
class Verdict:
    """One aim. *word* says how far we got."""

    aim: str
    wanted: str
    measured: str
    word: str


def verdicts(figures: Figures) -> list[Verdict]:
    """Hold the figures against the aims; an aim whose figure was not taken is left out."""
    return [
        *_cpu(figures),
        *_beside_ours(figures),
        *_client(figures),
        *_throughput(figures),
        *_latency(figures),
        *_burst(figures),
        *_crowd(figures),
        *_import(figures),
        *_maintenance(figures),
        *_lookup(figures),
        *_memory(figures),
    ]


def _ratios(
    figures: Figures, subject: str, against: str, what: str
) -> Iterator[tuple[str, float, str]]:
    """Compare two subjects in each setting: its name, the ratio, and how to show that."""
    for pool, latency in summary.settings_of(figures.samples):
        if not {subject, against} <= set(summary.subjects_of(figures.samples)):
            continue
        used = summary.median(figures.samples, subject, pool, latency, what)
        times = summary.times(figures.samples, subject, against, pool, latency, what)
        if used is not None and times is not None:
            yield f"{pool}, Mosaic {latency:g} ms", times, f"{times:.2f} x ({used:.2f} ms)"


def _cpu(figures: Figures) -> Iterator[Verdict]:
    for name, times, shown in _ratios(figures, "ours", "noop", "worker_cpu_ms"):
        reached = "moonshot" if times <= CPU_TIMES_NOOP_MOONSHOT else _met(times <= CPU_TIMES_NOOP)
        yield Verdict(
            f"worker CPU of a silent auth, {name}",
            f"≤ {CPU_TIMES_NOOP} x noop (moonshot {CPU_TIMES_NOOP_MOONSHOT})",
            shown,
            reached,
        )


def _beside_ours(figures: Figures) -> Iterator[Verdict]:
    """What our worker's other answers cost beside a silent authentication by user id."""
    for subject, what, most in (
        ("browser", "a silent auth by browser token", BROWSER_TIMES_USER),
        ("login", "a login by password", LOGIN_TIMES_SILENT),
    ):
        for name, times, shown in _ratios(figures, subject, "ours", "worker_cpu_ms"):
            wanted = f"≤ {most:g} x one by user id"
            yield Verdict(f"worker CPU of {what}, {name}", wanted, shown, _met(times <= most))


def _client(figures: Figures) -> Iterator[Verdict]:
    for name, times, shown in _ratios(figures, "ours", "noop", "client_cpu_ms"):
        wanted = f"≤ {CLIENT_TIMES_NOOP:g} x noop's"
        what = f"the app's CPU of a silent auth, {name}"
        yield Verdict(what, wanted, shown, _met(times <= CLIENT_TIMES_NOOP))


def _throughput(figures: Figures) -> Iterator[Verdict]:
    for pool, latency in summary.settings_of(figures.samples):
        if pool != "threads" or "peer" not in summary.subjects_of(figures.samples):
            continue
        ours = summary.median(figures.samples, "ours", pool, latency, "per_second")
        times = summary.times(figures.samples, "ours", "peer", pool, latency, "per_second")
        if ours is None or times is None:
            continue
        yield Verdict(
            f"throughput, {pool}, Mosaic {latency:g} ms",
            f"≥ {TIMES_PEER} x peer",
            f"{times:.2f} x ({ours:.0f}/s)",
            _met(times >= TIMES_PEER),
        )
    best = summary.best(figures.samples, "ours")
    if best is not None:
        yield Verdict(
            "all parts on this machine's cores, best of the pools",
            f"≥ {PER_SECOND:g}/s",
            f"{best:.0f}/s",
            _met(best >= PER_SECOND),
        )


def _latency(figures: Figures) -> Iterator[Verdict]:
    waits = {(each.subject, each.mosaic_ms): each for each in figures.latency}
    for (subject, latency), ours in waits.items():
        direct = waits.get(("direct", latency))
        if subject != "ours" or direct is None:
            continue
        for name, most in (("p50_ms", ADDED_P50_MS), ("p99_ms", ADDED_P99_MS)):
            added = getattr(ours, name) - getattr(direct, name)
            yield Verdict(
                f"added to a direct call at half load, {name[:3]}, Mosaic {latency:g} ms",
                f"≤ {most:g} ms",
                f"{added:.1f} ms",
                _met(added <= most),
            )


def _burst(figures: Figures) -> Iterator[Verdict]:
    for each in figures.burst:
        if each.subject == "ours":
            yield Verdict(
                f"calls of Mosaic for {each.requests} identical requests",
                f"{BURST_CALLS}",
                f"{each.mosaic_calls}",
                _met(each.mosaic_calls <= BURST_CALLS),
            )


def _crowd(figures: Figures) -> Iterator[Verdict]:
    for each in figures.crowd:
        yield Verdict(
            f"last of 500 async calls that nobody answers in a second, {each.broker}",
            f"≤ {CROWD_ENDS_SECONDS:g} s",
            f"{each.last_ended_seconds:.2f} s",
            _met(each.last_ended_seconds <= CROWD_ENDS_SECONDS),
        )
        yield Verdict(
            f"their event loop late, {each.broker}",
            f"≤ {CROWD_LATE_MS:g} ms",
            f"{each.late_ms:.0f} ms ({each.longest_turn_cpu_ms:.0f} of CPU in one turn)",
            _met(each.late_ms <= CROWD_LATE_MS),
        )


def _import(figures: Figures) -> Iterator[Verdict]:
    for each in figures.imports:
        yield Verdict(
            "the client's import over redis-py's",
            f"≤ {IMPORT_MS:g} ms, {IMPORT_MIB:g} MiB",
            f"{each.cpu_ms:.0f} ms, {each.memory_mib:.1f} MiB",
            _met(each.cpu_ms <= IMPORT_MS and each.memory_mib <= IMPORT_MIB),
        )


def _maintenance(figures: Figures) -> Iterator[Verdict]:
    for each in figures.maintenance:
        times = each.busy_p99_ms / each.quiet_p99_ms
        yield Verdict(
            f"{each.job} among {each.sessions:,} sessions",
            f"≥ {ROWS_PER_SECOND:,.0f} rows/s",
            f"{each.rows_per_second:,.0f} rows/s",
            _met(each.rows_per_second >= ROWS_PER_SECOND),
        )
        yield Verdict(
            f"silent auth p99 beside {each.job}",
            f"≤ {BUSY_TIMES_QUIET} x quiet",
            f"{times:.2f} x ({each.busy_p99_ms:.0f} ms)",
            _met(times <= BUSY_TIMES_QUIET),
        )


def _lookup(figures: Figures) -> Iterator[Verdict]:
    if not figures.lookup:
        return
    small, *larger = figures.lookup
    for each in larger:
        times = each.p50_ms / small.p50_ms
        yield Verdict(
            f"lookup among {each.sessions:,} sessions",
            f"≤ {LOOKUP_TIMES_SMALL} x among {small.sessions:,}",
            f"{times:.2f} x ({each.p50_ms:.2f} ms)",
            _met(times <= LOOKUP_TIMES_SMALL),
        )


def _memory(figures: Figures) -> Iterator[Verdict]:
    for each in figures.memory:
        if (each.subject, each.pool) == ("ours", "threads"):
            yield Verdict(
                f"worker memory after {each.requests:,} requests",
                f"≤ +{MEMORY_GROWTH:.0%} after warm-up",
                f"{each.growth:+.1%}",
                _met(each.growth <= MEMORY_GROWTH),
            )


def _met(is_met: bool) -> str:  # noqa: FBT001 - it is the whole question
    return "met" if is_met else "missed"
