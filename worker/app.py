"""The Celery app. `celery -A worker worker` finds it through `worker/__init__.py`."""

from __future__ import annotations

import sys
import tempfile
import threading
from typing import Any, NoReturn

from celery import Celery, concurrency, signals
from celery.concurrency.prefork import TaskPool as PreforkPool

from session_client import contract, times
from worker import logs, startup, wiring
from worker.celery_support import beat_stop
from worker.celery_support.heartbeat import Heartbeat
from worker.celery_support.message_guard import seal_wait
from worker.errors import ConfigurationError, NotReady
from worker.monitoring import liveness, watchdog
from worker.monitoring.exporter import Exporter
from worker.settings import environment
from worker.settings import model as settings_module

# `-P threads` must not mean Celery's own thread pool, whose slots leak.
concurrency.ALIASES["threads"] = "worker.celery_support.thread_pool:SafeThreadPool"  # type: ignore[attr-defined]

app = Celery("worker", task_cls="worker.tasks.base:QuietTask")
app.config_from_object("celeryconfig")
app.steps["consumer"].add(Heartbeat)
app.steps["consumer"].add(liveness.LoopWatch)
app.steps["worker"].add(Exporter)
app.steps["worker"].add(watchdog.Watchdog)


@signals.setup_logging.connect
def _configure_logging(**_: Any) -> None:
    # Connecting to this signal also keeps Celery from configuring its own logging.
    settings = settings_module.current()
    logs.configure(settings)
    if settings.mosaic_proxy is None:
        environment.tell_unused_proxies()


@signals.worker_init.connect
def _refuse_to_start_wrongly(sender: Any, **_: Any) -> None:
    if sender.app is not app:
        return  # the signal is every Celery app's, e.g. a test's own
    try:
        _check_temporary_folder(sender.pool_cls)
        startup.check(settings_module.current())
        if isinstance(sender.concurrency, int):  # not yet for ``-c auto``
            wiring.tell_slots(sender.concurrency)
    except ConfigurationError as error:
        _exit(f"does not start: {error}", startup.EXIT_CODE)
    except NotReady as error:
        _exit(f"does not start yet: {error}", startup.NOT_YET_EXIT_CODE)
    except Exception as error:  # noqa: BLE001 - an unchecked worker must not start either
        why = f"an unforeseen {type(error).__name__} while checking"
        # Whether it passes is unknown: a supervisor that gives up would take all workers down.
        _exit(f"does not start yet: {why}", startup.NOT_YET_EXIT_CODE)


@signals.beat_init.connect
def _watch_beat(sender: Any, **_: Any) -> None:
    beat_stop.end_when_told(sender)
    liveness.serve_beat(sender)
    watchdog.watch(lambda: liveness.beat_trouble(sender), threading.Event())


def _check_temporary_folder(pool: Any) -> None:
    """Raise `ConfigurationError` if *pool* forks and there is none: billiard fails without."""
    if not issubclass(concurrency.get_implementation(pool), PreforkPool):
        return
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        raise ConfigurationError(
            "there is no temporary folder that can be written to, and prefork needs one: name it "
            "in TMPDIR (a small tmpfs will do), or take threads, which need none"
        ) from None


def _exit(why: str, code: int) -> NoReturn:
    # SystemExit, since Celery swallows other exceptions of signal handlers.
    sys.stderr.write(f"The session worker {why}\n")
    sys.exit(code)


@signals.before_task_publish.connect
def _say_when(headers: dict[str, Any], **_: Any) -> None:
    # At each retry anew: it carries the headers of the message before it.
    headers[contract.PUBLISHED_AT] = times.to_wire(times.now())
    if headers.get("eta") is not None:
        seal_wait(headers, settings_module.current().lookup_key_bytes)
