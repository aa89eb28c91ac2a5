"""Tells systemd that this process is not stuck (``WatchdogSec``), as `/livez` tells containers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from celery import bootsteps

from worker.monitoring import liveness
from worker.settings import environment

_ALIVE: Final = b"WATCHDOG=1"
_TIMES_AS_OFTEN: Final = 3  # as systemd needs to hear of it

Trouble = Callable[[], str | None]


class Watchdog(bootsteps.StartStopStep):
    """Tells of a worker, from before it connects to the broker: to wait for that is no fault."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, worker: Any, **options: Any) -> None:
        super().__init__(worker, **options)
        self._is_over = threading.Event()

    def include_if(self, worker: Any) -> bool:
        """Only where systemd wants to hear of it."""
        del worker
        return environment.watchdog() is not None

    def start(self, worker: Any) -> None:
        """Begin."""
        del worker
        watch(liveness.worker_trouble, self._is_over)

    def stop(self, worker: Any) -> None:
        """End."""
        del worker
        self._is_over.set()

    def terminate(self, worker: Any) -> None:
        """End, when the worker has no time."""
        self.stop(worker)


def watch(trouble: Trouble, is_over: threading.Event) -> None:
    """Tell systemd, if it wants to hear, from a thread, while there is no *trouble*."""
    if (systemd := environment.watchdog()) is not None:
        where, seconds = systemd
        args = (where, seconds / _TIMES_AS_OFTEN, trouble, is_over)
        threading.Thread(target=_tell, args=args, name="watchdog", daemon=True).start()


def _tell(where: str, every: float, trouble: Trouble, is_over: threading.Event) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as telling:
        while not is_over.is_set():
            if trouble() is None:
                with suppress(OSError):
                    telling.sendto(_ALIVE, where)
            is_over.wait(every)
