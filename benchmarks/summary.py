"""Medians over the rounds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.figures import Sample


def settings_of(samples: Sequence[Sample]) -> list[tuple[str, float]]:
    """Return the pools and latencies that were measured, in order."""
    return list(dict.fromkeys((each.pool, each.mosaic_ms) for each in samples))


def subjects_of(samples: Sequence[Sample]) -> list[str]:
    """Return who was measured, in order."""
    return list(dict.fromkeys(each.subject for each in samples))


def median(
    samples: Sequence[Sample], subject: str, pool: str, latency: float, what: str
) -> float | None:
    """Return the median of one number over the rounds; None when there is none."""
    values = _of_rounds(samples, subject, pool, latency, what)
    return statistics.median(values) if values else None


def times(  # noqa: PLR0913, PLR0917 - two subjects in one setting
    samples: Sequence[Sample], subject: str, against: str, pool: str, latency: float, what: str
) -> float | None:
    """Return how many times as much *subject* has as *against*: the median of each round's ratio.

    The speed of a shared machine changes by half within seconds. Two turns of one round lie side by
    side; two medians may be of different minutes.
    """
    pairs = zip(
        _of_rounds(samples, subject, pool, latency, what),
        _of_rounds(samples, against, pool, latency, what),
        strict=True,
    )
    ratios = [value / base for value, base in pairs if base]
    return statistics.median(ratios) if ratios else None


def _of_rounds(
    samples: Sequence[Sample], subject: str, pool: str, latency: float, what: str
) -> list[float]:
    return [
        float(getattr(each, what))
        for each in samples
        if (each.subject, each.pool, each.mosaic_ms) == (subject, pool, latency)
    ]


def errors(samples: Sequence[Sample], subject: str, pool: str, latency: float) -> int:
    """Return how many requests were not answered with tokens."""
    setting = (subject, pool, latency)
    return sum(s.errors for s in samples if (s.subject, s.pool, s.mosaic_ms) == setting)


def best(samples: Sequence[Sample], subject: str) -> float | None:
    """Return the highest median throughput of a subject."""
    rates = [
        rate
        for pool, latency in settings_of(samples)
        if (rate := median(samples, subject, pool, latency, "per_second")) is not None
    ]
    return max(rates, default=None)
