"""Forgetting on schedule. Safe to repeat and to run twice at once: each batch is one statement."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from worker import wiring
from worker.app import app
from worker.errors import StoreUnavailable
from worker.lifecycle import maintenance
from worker.lifecycle.maintenance import Counts
from worker.wiring import Services

log = structlog.get_logger()

EXPIRE_SESSIONS = "maintenance.expire_sessions"
PURGE_HISTORY = "maintenance.purge_history"


@app.task(name=EXPIRE_SESSIONS)
def expire_sessions() -> None:
    """Mark sessions past their expiry as ended."""
    _run("sessions_expired", maintenance.expire_sessions)


@app.task(name=PURGE_HISTORY)
def purge_history() -> None:
    """Delete what is past its retention."""
    _run("history_purged", maintenance.purge_history)


def _run(event: str, work: Callable[[Services], Counts]) -> None:
    try:
        counts = work(wiring.current())
    except StoreUnavailable as error:
        log.warning("maintenance_skipped", what=event, detail=str(error))  # the next run goes on
    else:
        log.info(event, is_complete=counts.is_complete, **counts.rows)
