"""Counters and histograms of this process, in the form Prometheus reads.

The children of a pool each write a file in a shared folder, named by their place in the pool and
not by their process id: a new child goes on where the one before it ended. So no count is lost
when one is killed, and there are never more files than places, however many children come and go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import prometheus_client
import structlog
from billiard.process import current_process
from prometheus_client import CollectorRegistry, Counter, Histogram, Metric, values
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from session_client.contract import Reason, Task, Verdict
from worker import metrics
from worker.errors import (
    LogoutRefused,
    OperatorMustAct,
    SessionWorkerError,
    TokenRejected,
    UserRefused,
)
from worker.metrics import Rejection, UnansweredCause

log = structlog.get_logger()

NAMESPACE: Final = "mosaic_sessions"
# Mosaic answers in 30 to 300 ms when it is well; the longest call is 30 s.
_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0)
_READ_TRIES: Final = 3
_TROUBLE: Final = (
    Reason.CLIENT_REFUSED,
    Reason.IDP_UNAVAILABLE,
    Reason.INTERNAL_ERROR,
    Reason.OUTCOME_UNKNOWN,
    Reason.RATE_LIMITED,
    Reason.SESSION_CHANGED,
    Reason.STORE_UNAVAILABLE,
)


class Meters:
    """What `worker.metrics` records with. Make it before the pool forks."""

    def __init__(self, registry: CollectorRegistry, folder: Path | None = None) -> None:
        """Show in *registry* what is counted here, or in *folder* by the children of a pool."""
        # Not left to the environment: a variable set for other programs must not split our counts.
        values.ValueClass = (
            values.MutexValue if folder is None else values.MultiProcessValue(_place_in_the_pool)
        )
        prometheus_client.disable_created_metrics()
        own = registry if folder is None else None
        self._metrics: dict[str, Counter | Histogram] = {
            metrics.ANSWERS: Counter(
                "answers",
                "Requests of apps that were answered.",
                ("task", "verdict", "reason"),
                namespace=NAMESPACE,
                registry=own,
            ),
            metrics.REPEATED: Counter(
                "answers_repeated",
                "Requests that were delivered again and got the answer they had got before.",
                ("task",),
                namespace=NAMESPACE,
                registry=own,
            ),
            metrics.UNANSWERED: Counter(
                "requests_unanswered",
                "Requests of apps, as often as they were delivered, that could not be answered.",
                ("task", "cause"),
                namespace=NAMESPACE,
                registry=own,
            ),
            metrics.REJECTED: Counter(
                "messages_rejected",
                "Messages that were dropped, and their senders not answered.",
                ("cause",),
                namespace=NAMESPACE,
                registry=own,
            ),
            metrics.OPERATOR: Counter(
                "operator_must_act",
                "Lines of the log that call the operator.",
                ("error", "app"),
                namespace=NAMESPACE,
                registry=own,
            ),
            metrics.BUGS: Counter(
                "task_bugs",
                "Faults in this code that a request has met.",
                ("task",),
                namespace=NAMESPACE,
                registry=own,
            ),
            metrics.LIMITED: Counter(
                "sign_ins_limited",
                "Limits of logins that browsers have come to, each once for as long as it holds.",
                ("limit",),
                namespace=NAMESPACE,
                registry=own,
            ),
            metrics.UNCONFIRMED: Counter(
                "logouts_unconfirmed",
                "Logouts that Mosaic had not confirmed when the session expired there by itself.",
                ("app",),
                namespace=NAMESPACE,
                registry=own,
            ),
            metrics.CALLS: Histogram(
                "mosaic_call_duration_seconds",
                "HTTP calls to Mosaic, and how long they took.",
                ("endpoint", "outcome"),
                namespace=NAMESPACE,
                registry=own,
                buckets=_SECONDS,
            ),
            metrics.SAVED: Counter(
                "mosaic_calls_saved",
                "Calls to Mosaic that were not needed.",
                ("kind",),
                namespace=NAMESPACE,
                registry=own,
            ),
        }
        # Finding the child of a metric by its labels takes longer than counting.
        self._bound: dict[tuple[str, tuple[str, ...]], Callable[[float], None]] = {}
        for meter, labels in _watched():
            self._metrics[meter].labels(*labels)
        if folder is not None:
            registry.register(_SharedFiles(folder))

    def record(self, meter: str, labels: tuple[str, ...], amount: float) -> None:
        """Add *amount* to a counter, or observe it in a histogram."""
        bound = self._bound.get((meter, labels))
        if bound is None:
            bound = self._bound[meter, labels] = self._bind(meter, labels)
        bound(amount)

    def _bind(self, meter: str, labels: tuple[str, ...]) -> Callable[[float], None]:
        child = self._metrics[meter].labels(*labels)
        return child.observe if isinstance(child, Histogram) else child.inc


def _watched() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Return what alert rules look at, to be shown at 0 from the start.

    ``increase()`` sees no first event of what was not there before it.
    """
    for task in Task:
        for reason in _TROUBLE:
            yield metrics.ANSWERS, (task, Verdict.TEMPORARILY_UNAVAILABLE, reason)
        for cause in UnansweredCause:
            yield metrics.UNANSWERED, (task, cause)
        yield metrics.BUGS, (task,)
    yield metrics.UNCONFIRMED, ("",)  # of no app: those have their series with their first one
    for rejection in Rejection:
        yield metrics.REJECTED, (rejection,)
    for error in _leaves(SessionWorkerError):
        if issubclass(error, OperatorMustAct | TokenRejected | UserRefused | LogoutRefused):
            yield metrics.OPERATOR, (error.__name__, "")


def _leaves(error: type[Exception]) -> Iterator[type[Exception]]:
    yield error
    for kind in error.__subclasses__():
        yield from _leaves(kind)


class _SharedFiles(Collector):
    """The sum over all children."""

    def __init__(self, folder: Path) -> None:
        self._files = MultiProcessCollector(None, path=str(folder))

    def collect(self) -> Iterable[Metric]:
        """Read all files. A child may be making one at this very moment: it is then half there."""
        for _ in range(_READ_TRIES):
            try:
                return list(self._files.collect())
            except Exception as error:  # noqa: BLE001 - whatever half a file looks like
                cause = type(error).__name__
        log.warning("metrics_not_read", error=cause)
        return []


def _place_in_the_pool() -> str:
    return str(getattr(current_process(), "index", "parent"))
