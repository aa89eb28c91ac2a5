"""Asking what may be down or slow, without making a scrape wait for it or fail.

A source is asked when somebody scrapes, at most every few seconds, on a thread of its own. One
that hangs keeps that one thread, and is not asked again before it has answered.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog
from prometheus_client import Metric

log = structlog.get_logger()

WAIT_SECONDS: Final = 3.0  # Prometheus itself waits ten


@dataclass
class _Answer:
    asked_at: float
    metrics: Sequence[Metric] | None = None  # None while it is awaited, and when it failed
    is_there: threading.Event = field(default_factory=threading.Event)


class Source:
    """One thing to ask, and its latest answer."""

    def __init__(self, name: str, every: float, ask: Callable[[], Sequence[Metric]]) -> None:
        """*every* so many seconds it may be asked again."""
        self.name = name
        self._every = every
        self._ask = ask
        self._lock = threading.Lock()
        self._answer: _Answer | None = None
        self._was_up = True

    def ask(self) -> None:
        """Begin to ask, unless its answer is fresh or still awaited."""
        now = time.monotonic()
        with self._lock:
            last = self._answer
            if last is not None and (
                not last.is_there.is_set() or now - last.asked_at < self._every
            ):
                return
            self._answer = answer = _Answer(now)
        threading.Thread(target=self._fill, args=(answer,), daemon=True).start()

    def found(self, until: float) -> Sequence[Metric] | None:
        """Return what was found by *until* (`time.monotonic`); None when it cannot be asked."""
        answer = self._answer
        if answer is None or not answer.is_there.wait(max(0.0, until - time.monotonic())):
            return None
        return answer.metrics

    def _fill(self, answer: _Answer) -> None:
        error = None
        try:
            answer.metrics = self._ask()
        except Exception as caught:  # noqa: BLE001 - the type alone: a message may quote a URL
            error = type(caught).__name__
        finally:
            answer.is_there.set()
        if (error is None) != self._was_up:
            log.warning("metrics_source_changed", source=self.name, error=error)
        self._was_up = error is None
