"""Whether a process is stuck, which restarting it would mend. One that is idle is not.

A worker's event loop says each second that it goes round, and a job that runs longer than any may
is stuck. Whether Redis, the database or Mosaic answer is no matter of it: a restart mends none of
them, and a worker that waits for Redis is as it must be.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any, Final

import structlog
from celery import bootsteps
from celery.worker import state

from worker.monitoring.http_server import Listener, Page
from worker.settings import model as settings_module
from worker.settings.environment import variable_name

log = structlog.get_logger()

PATH: Final = "/livez"
TICK_SECONDS: Final = 1.0
# The loop also takes jobs, and asks Redis for them: a slow Redis holds it up for some seconds.
STUCK_AFTER_SECONDS: Final = 60.0
# Beat sends three messages at a time, each tried three times with a time-out of 5 s.
BEAT_STUCK_AFTER_SECONDS: Final = 120.0


class Rounds:
    """When the event loop was last seen to go round. Until it begins, and between, it may rest."""

    def __init__(self) -> None:
        self._seen_at: float | None = None

    def seen(self) -> None:
        """Note that it goes round."""
        self._seen_at = time.monotonic()

    def rests(self) -> None:
        """Note that it is not expected to."""
        self._seen_at = None

    def trouble(self) -> str | None:
        """Say for how long it has stood still, if that is too long."""
        return stood_still(self._seen_at, STUCK_AFTER_SECONDS)


loop_rounds: Final = Rounds()
_open: Final = ExitStack()  # what lives as long as the process


def stood_still(seen_at: float | None, patience: float) -> str | None:
    """Say for how long what was *seen_at* (by `time.monotonic`) has stood still, if too long."""
    since = 0.0 if seen_at is None else time.monotonic() - seen_at
    return None if since <= patience else f"it has stood still for {since:.0f} s"


class LoopWatch(bootsteps.StartStopStep):
    """Has the event loop say that it goes round; while it connects to the broker it need not."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._timer: Any = None

    def start(self, consumer: Any) -> None:
        """Begin to watch."""
        loop_rounds.seen()
        self._timer = consumer.timer.call_repeatedly(TICK_SECONDS, loop_rounds.seen, ())

    def stop(self, consumer: Any) -> None:
        """Let it rest."""
        del consumer
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop_rounds.rests()


def worker_trouble() -> str | None:
    """Say whether this worker is stuck, and in what."""
    return loop_rounds.trouble() or _stuck_job(state.active_requests)


def worker_page() -> Page:
    """Return what `/livez` of a worker says."""
    return page(worker_trouble())


def beat_trouble(service: Any) -> str | None:
    """Say whether beat is stuck: Celery notes when it last looked at the schedule.

    It connects while it does so for the first time, and to wait for the broker is no fault.
    """
    scheduler = vars(service).get("scheduler")
    if scheduler is None or "producer" not in vars(scheduler):
        return None
    last: float | None = service._last_tick  # noqa: SLF001
    return stood_still(last, BEAT_STUCK_AFTER_SECONDS)


def page(trouble: str | None) -> Page:
    """Return 200, or 503 and the *trouble*."""
    text = "ok" if trouble is None else f"stuck: {trouble}"
    return Page("text/plain; charset=utf-8", f"{text}\n".encode(), status=503 if trouble else 200)


def _stuck_job(jobs: Iterable[Any]) -> str | None:
    """Say how long the oldest job has run, if that is longer than the broker waits for one."""
    # By then another worker has it as well. Each call in it ends after seconds, so it hangs.
    bound = settings_module.current().visibility_timeout_seconds
    oldest = max((time.time() - job.time_start for job in list(jobs) if job.time_start), default=0)
    return None if oldest <= bound else f"a job has run for {oldest:.0f} s"


def serve_beat(service: Any) -> None:
    """Serve `/livez` of beat, where the settings say so, for as long as the process lives."""
    settings = settings_module.current()
    if settings.beat_port is None:
        return

    def find(path: str) -> Page | None:
        return page(beat_trouble(service)) if path == PATH else None

    try:
        _open.enter_context(Listener(settings.metrics_host, settings.beat_port, find))
    except (OSError, UnicodeError) as error:
        log.error(  # noqa: TRY400 - the cause says it all
            "beat_not_watched",
            error=getattr(error, "strerror", None) or type(error).__name__,
            what_to_do=f"{variable_name('beat_port')} must be free on "
            f"{variable_name('metrics_host')}. Beat works on",
        )
