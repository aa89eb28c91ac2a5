"""The picture of a run: what a request costs, how many a second, how long an app waits."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from benchmarks import summary
from benchmarks.figures import Figures

_COLOURS: Final = {
    "noop": "#b9b9b9",
    "peer": "#e08a3c",
    "direct": "#7fb069",
    "ours": "#2f6db3",
    "browser": "#6fa0d8",
    "login": "#8d6cab",
}
_WITH_A_WORKER: Final = tuple(name for name in _COLOURS if name != "direct")
_WIDTH: Final = 0.14


def draw(figures: Figures, path: Path) -> Path | None:
    """Write the picture; None when there is nothing to show."""
    panels = [make for make, taken in _PANELS if getattr(figures, taken)]
    if not panels:
        return None
    import matplotlib as mpl  # noqa: PLC0415 - slow to import, and needed at the end only

    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "bench", "svg.fonttype": "none"})
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(
        1, len(panels), figsize=(5.2 * len(panels), 4), squeeze=False, layout="constrained"
    )
    for panel, axis in zip(panels, axes[0], strict=True):
        panel(figures, axis)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})
    return path


def _cpu(figures: Figures, axis: Any) -> None:
    _bars(figures, axis, "worker_cpu_ms", "Worker CPU, ms a request", _WITH_A_WORKER)


def _rate(figures: Figures, axis: Any) -> None:
    _bars(figures, axis, "per_second", "Requests a second", tuple(_COLOURS))


def _bars(figures: Figures, axis: Any, what: str, title: str, subjects: tuple[str, ...]) -> None:
    settings = summary.settings_of(figures.samples)
    for number, subject in enumerate(subjects):
        heights = [summary.median(figures.samples, subject, *s, what) or 0 for s in settings]
        places = [
            place + (number - len(subjects) / 2 + 0.5) * _WIDTH for place in range(len(heights))
        ]
        axis.bar(places, heights, _WIDTH * 0.9, label=subject, color=_COLOURS[subject])
    axis.set_xticks(range(len(settings)), [f"{pool}\n{ms:g} ms" for pool, ms in settings])
    axis.set_title(title)
    axis.legend(frameon=False)


def _waits(figures: Figures, axis: Any) -> None:
    latencies = sorted({each.mosaic_ms for each in figures.latency})
    for number, subject in enumerate(("peer", "direct", "ours")):
        found = [each for each in figures.latency if each.subject == subject]
        places = [latencies.index(each.mosaic_ms) + (number - 1) * _WIDTH for each in found]
        axis.bar(
            places,
            [each.p99_ms for each in found],
            _WIDTH * 0.9,
            color=_COLOURS[subject],
            alpha=0.45,
            label=f"{subject} p99",
        )
        axis.bar(
            places,
            [each.p50_ms for each in found],
            _WIDTH * 0.9,
            color=_COLOURS[subject],
            label=f"{subject} p50",
        )
    axis.set_xticks(range(len(latencies)), [f"Mosaic {ms:g} ms" for ms in latencies])
    axis.set_title("Latency at half load, ms")
    axis.legend(frameon=False)


def _growth(figures: Figures, axis: Any) -> None:
    small = figures.lookup[0]
    sizes = [each.sessions for each in figures.lookup]
    axis.plot(
        sizes, [each.p50_ms / small.p50_ms for each in figures.lookup], "o-", label="look-up, p50"
    )
    for job in dict.fromkeys(each.job for each in figures.maintenance):
        found = [each for each in figures.maintenance if each.job == job]
        times = [each.busy_p99_ms / each.quiet_p99_ms for each in found]
        axis.plot([each.sessions for each in found], times, "s--", label=f"p99 beside {job}")
    axis.set_xscale("log")
    axis.set_ylim(bottom=0)
    axis.set_title("Times the small or the quiet store, by sessions")
    axis.legend(frameon=False)


_PANELS: Final = (
    (_cpu, "samples"),
    (_rate, "samples"),
    (_waits, "latency"),
    (_growth, "lookup"),
)
