"""Asking what may be down or slow, without making the caller wait for it or fail.

A source is asked when a caller wants to know, at most every few seconds, on a thread of its own.
One that hangs keeps that one thread, and is not asked again before it has answered.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import structlog

log = structlog.get_logger()

T = TypeVar("T")


@dataclass
class Answer(Generic[T]):
    """What a source says, or why it says nothing."""

    asked_at: float  # `time.monotonic`, as is the end of patience
    until: float
    value: T | None = None
    error: str | None = None  # its type alone: a message may quote a URL
    is_there: threading.Event = field(default_factory=threading.Event)

    def is_in_time(self) -> bool:
        """Wait for it; a caller that comes when it has taken too long waits no more."""
        return self.is_there.wait(max(0.0, self.until - time.monotonic()))


class Source(Generic[T]):
    """One thing to ask, and its latest answer."""

    def __init__(self, name: str, every: float, patience: float, ask: Callable[[], T]) -> None:
        """*every* so many seconds it may be asked again, and *patience* is how long it may take."""
        self.name = name
        self._every = every
        self._patience = patience
        self._ask = ask
        self._lock = threading.Lock()
        self._latest: Answer[T] | None = None
        self._was_up = True

    def ask(self) -> Answer[T]:
        """Return its answer, which may not be there yet. Asks, unless one is fresh or awaited."""
        now = time.monotonic()
        with self._lock:
            latest = self._latest
            if latest is not None and (
                not latest.is_there.is_set() or now - latest.asked_at < self._every
            ):
                return latest
            self._latest = answer = Answer[T](now, now + self._patience)
        threading.Thread(target=self._fill, args=(answer,), daemon=True).start()
        return answer

    def _fill(self, answer: Answer[T]) -> None:
        try:
            answer.value = self._ask()
        except Exception as caught:  # noqa: BLE001 - or it would be awaited for ever
            answer.error = type(caught).__name__
        finally:
            answer.is_there.set()
        is_up = answer.error is None
        if is_up != self._was_up:
            log.warning("monitored_source_changed", source=self.name, error=answer.error)
        self._was_up = is_up
