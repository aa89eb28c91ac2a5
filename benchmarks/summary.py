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
    values = [
        float(getattr(each, what))
        for each in samples
        if (each.subject, each.pool, each.mosaic_ms) == (subject, pool, latency)
    ]
    return statistics.median(values) if values else None


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
