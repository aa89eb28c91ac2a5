"""A thread pool whose slots cannot leak.

In Celery's own, an exception around a job (Redis gone while its end is recorded, say) lands in a
future that nobody reads: the job is never acknowledged, its slot is lost without a log line, and
with enough of them the process lives on and does nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import structlog
from billiard.einfo import ExceptionInfo
from billiard.exceptions import WorkerLostError
from celery.concurrency.base import apply_target
from celery.concurrency.thread import ApplyResult, TaskPool  # type: ignore[attr-defined]

log = structlog.get_logger()


class SafeThreadPool(TaskPool):
    """Gives a job back to the queue when running it fails outside the task itself."""

    executor: ThreadPoolExecutor

    def on_apply(
        self,
        target: Callable[..., Any],
        args: Any = None,
        kwargs: Any = None,
        callback: Callable[..., Any] | None = None,
        accept_callback: Callable[..., Any] | None = None,
        **_: Any,
    ) -> ApplyResult:
        """Run *target* on a thread; *callback* is called exactly once, whatever happens."""
        running = self.executor.submit(_run, target, args, kwargs, callback, accept_callback)
        return ApplyResult(running)


def _run(
    target: Callable[..., Any],
    args: Any,
    kwargs: Any,
    callback: Callable[..., Any] | None,
    accept_callback: Callable[..., Any] | None,
) -> None:
    try:
        apply_target(target, args, kwargs, callback, accept_callback)
    except Exception as error:  # noqa: BLE001 - whatever it is, the slot must come back
        log.error("pool_job_failed", error=type(error).__name__)  # noqa: TRY400 - may quote data
        if callback is not None:
            callback((1, _lost(error), 0.0))


def _lost(error: Exception) -> ExceptionInfo:
    # task_reject_on_worker_lost puts the job back on its queue for this error.
    lost = WorkerLostError(type(error).__name__)
    return ExceptionInfo((WorkerLostError, lost, error.__traceback__))
