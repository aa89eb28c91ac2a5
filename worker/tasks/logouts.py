"""Telling Mosaic about logouts. Internal: the messages carry our row ids, nothing secret."""

from __future__ import annotations

from typing import Any

import structlog

from worker import wiring
from worker.app import app
from worker.errors import StoreUnavailable
from worker.logins import orphans
from worker.outbox import mosaic_logouts, mosaic_revocations
from worker.tasks.base import only_row_id

log = structlog.get_logger()

END_AT_IDP = "logouts.end_at_idp"
END_USER_AT_IDP = "logouts.end_user_at_idp"
END_ORPHANS = "logouts.end_orphans"


@app.task(name=END_AT_IDP)
def end_at_idp(*arguments: Any, **named: Any) -> None:
    """End one session at Mosaic. Repeating it finds the delivery closed or leased, and ends.

    It is not retried by Celery: the row says when the next attempt is due, and the sweep wakes it.
    """
    logout_id = only_row_id(arguments, named)
    if logout_id is None:
        return
    try:
        mosaic_logouts.end_at_idp(wiring.current(), logout_id)
    except StoreUnavailable as error:
        log.warning("logout_left_to_sweep", logout=str(logout_id), detail=str(error))


@app.task(name=END_USER_AT_IDP)
def end_user_at_idp(*arguments: Any, **named: Any) -> None:
    """End at Mosaic what it knows of a revoked user. Repeated and put off likewise."""
    revocation_id = only_row_id(arguments, named)
    if revocation_id is None:
        return
    try:
        mosaic_revocations.end_user_at_idp(wiring.current(), revocation_id)
    except StoreUnavailable as error:
        log.warning("revocation_left_to_sweep", revocation=str(revocation_id), detail=str(error))


@app.task(name=END_ORPHANS)
def end_orphans(*arguments: Any, **named: Any) -> None:
    """End at Mosaic the orphans that earlier logins have left. What fails the next login does."""
    login_id = only_row_id(arguments, named)
    if login_id is None:
        return
    try:
        orphans.end_unheard(wiring.current(), login_id)
    except StoreUnavailable as error:
        log.warning("orphans_left_for_now", login=str(login_id), detail=str(error))
