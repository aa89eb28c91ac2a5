"""A worker that is killed on the way: `celery -A tests.faults.dying_worker worker -P processes`.

The file `DIE_AT` names a request and a point. The child of the pool that comes there with it
removes the file, and is killed. Points are where the work of a login or a refresh could be cut.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import billiard.pool
import structlog

from worker.app import app
from worker.logins import journal
from worker.mosaic.authorised_calls import AuthorisedCalls
from worker.tasks import request_handler

__all__ = ["POINTS", "app"]

_DIE_AT = os.environ.get("DIE_AT", "")  # noqa: TID251 - it is no setting

# By name: where it is, and whether the work there is done when the worker dies.
POINTS: dict[str, tuple[Any, str, bool]] = {
    "before the row": (journal, "insert", False),
    "before the call": (journal, "insert", True),
    "after the call": (AuthorisedCalls, "send_once", True),
    "before the commit": (journal, "close", True),
    "before the answer": (request_handler, "_reply", False),
}


def _dying(point: str, work: Callable[..., Any], *, is_done: bool) -> Callable[..., Any]:
    def act(*arguments: Any, **named: Any) -> Any:
        if not is_done:
            _die_if_at(point)
        result = work(*arguments, **named)
        if is_done:
            _die_if_at(point)
        return result

    return act


def _die_if_at(point: str) -> None:
    file = Path(_DIE_AT)
    served = structlog.contextvars.get_contextvars().get("task_id")
    if file.exists() and file.read_text(encoding="utf-8") == f"{served} {point}":
        file.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


if _DIE_AT:
    # Whoever comes again for a call that nobody finished need not wait long.
    journal._SETTLING = timedelta(seconds=0.5)  # type: ignore[misc]
    billiard.pool.LOST_WORKER_TIMEOUT = 0.5  # after which its job goes back to the queue
    for _point, (_place, _name, _is_done) in POINTS.items():
        _work = getattr(_place, _name)
        setattr(_place, _name, _dying(_point, _work, is_done=_is_done))
