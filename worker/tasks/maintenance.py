"""Forgetting on schedule. Safe to repeat and to run twice at once: each batch locks what it takes.

Arguments are ignored: Celery logs what Python says of wrong ones.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import structlog

from worker import wiring
from worker.app import app
from worker.errors import SafetyLimitExceeded, StoreUnavailable
from worker.logs import call_operator
from worker.maintenance import expire, last_runs, purge, scrub
from worker.maintenance.batches import Counts, ends_at
from worker.maintenance.last_runs import Run
from worker.tasks import wake_ups
from worker.wiring import Services

log = structlog.get_logger()

SWEEP = "maintenance.sweep"
EXPIRE_SESSIONS = "maintenance.expire_sessions"
PURGE_HISTORY = "maintenance.purge_history"


@app.task(name=SWEEP)
def sweep(*_: Any, **__: Any) -> None:
    """Send a message for each delivery that is due, where the queue has room.

    Two sweeps at once share the rows.
    """
    services = wiring.current()
    try:
        wake_ups.due(services)
    except StoreUnavailable as error:
        log.warning("sweep_skipped", detail=str(error))
    else:
        last_runs.note(services, Run.SWEEP)


@app.task(name=EXPIRE_SESSIONS)
def expire_sessions(*_: Any, **__: Any) -> None:
    """Mark sessions past their expiry as ended, and scrub the answers of logins."""
    until = ends_at(wiring.current())
    # First: the other has time left only where this has not taken it all.
    if _run("sessions_expired", partial(expire.expire_sessions, until=until)):
        last_runs.note(wiring.current(), Run.EXPIRE_SESSIONS)
    _run("answers_scrubbed", partial(scrub.scrub_answers, until=until))


@app.task(name=PURGE_HISTORY)
def purge_history(*_: Any, **__: Any) -> None:
    """Delete what is past its retention."""
    _run("history_purged", purge.purge_history)


def _run(event: str, work: Callable[[Services], Counts]) -> bool:
    """Return whether the work could be done."""
    try:
        counts = work(wiring.current())
    except SafetyLimitExceeded as error:
        call_operator(error, what=event)
    except StoreUnavailable as error:
        log.warning("maintenance_skipped", what=event, detail=str(error))  # the next run goes on
    else:
        log.info(event, is_complete=counts.is_complete, **counts.rows)
        return True
    return False
