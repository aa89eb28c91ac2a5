"""The part of a worker's life that is about metrics: counting from before the fork, then serving.

Threads count in this process. Under prefork each child counts in a file of a shared folder, and
the parent, which runs no jobs, adds them up.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Final

import structlog
from celery import bootsteps
from celery.concurrency.prefork import TaskPool as PreforkPool
from celery.worker import state
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest

from worker import metrics, wiring
from worker.monitoring import liveness
from worker.monitoring.gauges import Facts, sources
from worker.monitoring.http_server import Listener, Page
from worker.monitoring.meters import Meters
from worker.monitoring.shared_folder import new_folder
from worker.settings import model as settings_module
from worker.settings.environment import (
    metrics_folder,
    share_metrics_folder,
    variable_name,
)

log = structlog.get_logger()

PATH: Final = "/metrics"


class Exporter(bootsteps.StartStopStep):
    """Serves `/metrics` and `/livez` from when the pool is there until the worker stops."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._registry = CollectorRegistry()
        self._open = ExitStack()

    def include_if(self, worker: Any) -> bool:
        """Only when there is a port to serve on."""
        del worker
        return settings_module.current().metrics_port is not None

    def create(self, worker: Any) -> None:
        """Begin to count. The pool forks later, so that all children count in the same place."""
        folder = None
        if _forks(worker):
            try:
                folder = new_folder(metrics_folder())
            except OSError as error:
                log.error(  # noqa: TRY400 - the cause says it all
                    "metrics_not_counted",
                    error=error.strerror,
                    what_to_do="let PROMETHEUS_MULTIPROC_DIR name a folder that can be written to",
                )
                return
            share_metrics_folder(folder)
        metrics.record_with(Meters(self._registry, folder))

    def start(self, worker: Any) -> None:
        """Serve. Without metrics the work goes on: that a port is taken must not stop sign-ins."""
        settings = settings_module.current()
        if _forks(worker):
            # The parent's own: were they the current ones, each new child would inherit and drop
            # them, and with them connections that are in use here.
            services = wiring.build(settings)
            self._open.callback(services.close)
        else:
            services = wiring.current()
        self._registry.register(Facts(sources(services), lambda: _jobs(worker)))
        self._listen(settings.metrics_host, settings.metrics_port or 0)

    def stop(self, worker: Any) -> None:
        """Stop serving."""
        del worker
        self._open.close()

    def terminate(self, worker: Any) -> None:
        """Stop serving, when the worker has no time."""
        self.stop(worker)

    def _listen(self, host: str, port: int) -> None:
        try:
            listener = self._open.enter_context(Listener(host, port, self._page))
        except (OSError, UnicodeError) as error:
            log.error(  # noqa: TRY400 - the cause says it all
                "metrics_not_served",
                host=host,
                port=port,
                error=getattr(error, "strerror", None) or type(error).__name__,
                what_to_do=f"{variable_name('metrics_port')} must be free on "
                f"{variable_name('metrics_host')}, another one for each worker of a machine; "
                "put it right and restart. The worker works on without metrics",
            )
        else:
            log.info("metrics_served", url=listener.url + PATH)

    def _page(self, path: str) -> Page | None:
        if path == liveness.PATH:
            return liveness.worker_page()
        if path != PATH:
            return None
        return Page(CONTENT_TYPE_PLAIN_0_0_4, generate_latest(self._registry))


def _forks(worker: Any) -> bool:
    return issubclass(worker.pool_cls, PreforkPool)


def _jobs(worker: Any) -> tuple[int, int]:
    return len(state.active_requests), worker.pool.num_processes
