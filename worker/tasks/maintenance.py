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
    services = wiring.current()
    until = ends_at(services)
    # First, and for half of the time at most: where far too much has expired, answers that hold
    # tokens would else be scrubbed by one batch a run. There are few of them, so expiry has the
    # rest.
    half = until - services.settings.maintenance_budget_seconds / 2
    _run("answers_scrubbed", partial(scrub.scrub_answers, until=half))
    if _run("sessions_expired", partial(expire.expire_sessions, until=until)) is not None:
        last_runs.note(services, Run.EXPIRE_SESSIONS)


@app.task(name=PURGE_HISTORY)
def purge_history(*_: Any, **__: Any) -> None:
    """Delete what is past its retention, if that was not done within the last hour or so.

    Beat asks each minute: a run that did not come to its end goes on with the next one.
    """
    services = wiring.current()
    settings = services.settings
    recent = settings.purge_every_seconds - settings.purge_asked_every_seconds
    if last_runs.is_within(services, Run.PURGE_HISTORY, recent):
        return
    counts = _run("history_purged", purge.purge_history)
    if counts is not None and counts.is_complete:
        last_runs.note(services, Run.PURGE_HISTORY)


def _run(event: str, work: Callable[[Services], Counts]) -> Counts | None:
    """Return what was done; None where it could not be done."""
    try:
        counts = work(wiring.current())
    except SafetyLimitExceeded as error:
        call_operator(error, what=event)
    except StoreUnavailable as error:
        log.warning("maintenance_skipped", what=event, detail=str(error))  # the next run goes on
    else:
        log.info(event, is_complete=counts.is_complete, **counts.rows)
        return counts
    return None
