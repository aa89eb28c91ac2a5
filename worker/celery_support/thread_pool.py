"""A thread pool whose slots cannot leak.

In Celery's own, an exception around a job (Redis gone while its end is recorded, say) lands in a
future that no thread reads: the job is never acknowledged, its slot is lost without a log line, and
with enough of them the process lives on and does nothing. No thread reads a future here at all, and
making one costs more than handing over the job.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Final

import structlog
from billiard.einfo import ExceptionInfo
from billiard.exceptions import WorkerLostError
from celery.concurrency.base import BasePool, apply_target

log = structlog.get_logger()

_LOOK_UP_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class _Job:
    target: Callable[..., Any]
    args: Any
    kwargs: Any
    callback: Callable[..., Any] | None
    accept_callback: Callable[..., Any] | None

    def run(self) -> None:
        """Run it; *callback* is called once, whatever happens."""
        try:
            apply_target(self.target, self.args, self.kwargs, self.callback, self.accept_callback)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the slot must come back
            log.error("pool_job_failed", error=type(error).__name__)  # noqa: TRY400 - may quote data
            self._give_back(error)

    def _give_back(self, error: BaseException) -> None:
        if self.callback is None:
            return
        try:
            self.callback((1, _lost(error), 0.0))
        except BaseException as again:  # noqa: BLE001 - as above
            log.error("pool_job_not_given_back", error=type(again).__name__)  # noqa: TRY400


class SafeThreadPool(BasePool):
    """Gives a job back to the queue when running it fails outside the task itself."""

    body_can_be_buffer = True
    signal_safe = False
    limit: int

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        # Done each second while a stop waits for jobs, since no event loop goes round then.
        self.while_stopping: Callable[[], None] = lambda: None

    def on_start(self) -> None:
        """Start the threads."""
        # Daemons: a process that ends without stopping the pool would wait for them for ever.
        self._threads = [
            threading.Thread(target=self._work, name=f"slot-{number}", daemon=True)
            for number in range(self.limit)
        ]
        for thread in self._threads:
            thread.start()

    def on_apply(
        self,
        target: Callable[..., Any],
        args: Any = None,
        kwargs: Any = None,
        callback: Callable[..., Any] | None = None,
        accept_callback: Callable[..., Any] | None = None,
        **_: Any,
    ) -> None:
        """Run *target* on a thread; *callback* is called exactly once, whatever happens."""
        self._jobs.put(_Job(target, args, kwargs, callback, accept_callback))

    def on_stop(self) -> None:
        """Wait for the jobs that run. Those that do not yet go back when the connection closes."""
        with suppress(Empty):
            while True:
                self._jobs.get_nowait()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            while thread.is_alive():
                thread.join(_LOOK_UP_SECONDS)
                self.while_stopping()

    def terminate_job(self, pid: Any, signal: Any = None) -> None:
        """Let it end by itself: no thread can be killed, and each job has its time limits.

        Celery asks for it when a worker is told again to stop. Its own pool of threads raises
        here, by which the worker would end before it has closed anything.
        """

    def on_terminate(self) -> None:
        """Wait likewise: a job cut off in the middle may have called Mosaic and not written it."""
        self.on_stop()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.run()


def _lost(error: BaseException) -> ExceptionInfo:
    # task_reject_on_worker_lost puts the job back on its queue for this error.
    lost = WorkerLostError(type(error).__name__)
    return ExceptionInfo((WorkerLostError, lost, error.__traceback__))
