"""Telling Mosaic about logouts. Internal: the messages carry our row ids, nothing secret."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

import structlog
from kombu.exceptions import OperationalError

from worker import wiring
from worker.app import app
from worker.errors import StoreUnavailable
from worker.lifecycle import idp_logout

log = structlog.get_logger()

END_AT_IDP = "logouts.end_at_idp"
SWEEP = "maintenance.sweep_logouts"


@app.task(name=END_AT_IDP)
def end_at_idp(logout_id: str) -> None:
    """End one session at Mosaic. Repeating it finds the duty closed or leased, and does nothing.

    It is not retried by Celery: the row says when the next attempt is due, and the sweep wakes it.
    """
    try:
        idp_logout.end_at_idp(wiring.current(), UUID(logout_id))
    except StoreUnavailable as error:
        log.warning("logout_left_to_sweep", logout=logout_id, detail=str(error))


@app.task(name=SWEEP)
def sweep_logouts() -> None:
    """Send a message for each duty that is due. Two sweeps at once share the rows."""
    try:
        wake(idp_logout.wake_due(wiring.current()))
    except StoreUnavailable as error:
        log.warning("sweep_skipped", detail=str(error))


def wake(logouts: Iterable[UUID]) -> None:
    """Put a message for each duty on the broker; one that gets lost is sent again by the sweep."""
    for logout_id in logouts:
        try:
            end_at_idp.delay(str(logout_id))
        except OperationalError as error:
            log.warning("wake_up_not_sent", logout=str(logout_id), error=type(error).__name__)
            return
