"""Waking duties: a message each, after the commit. One that gets lost is sent by the sweep."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

import structlog
from celery import Task
from kombu.exceptions import OperationalError

from worker.tasks.logouts import end_at_idp
from worker.tasks.notices import deliver

log = structlog.get_logger()


def logouts(ids: Iterable[UUID]) -> None:
    """Put a message for each duty to tell Mosaic on the broker."""
    _wake(end_at_idp, ids)


def notices(ids: Iterable[UUID]) -> None:
    """Put a message for each duty to tell an app on the broker."""
    _wake(deliver, ids)


def _wake(task: Task[Any, Any], ids: Iterable[UUID]) -> None:
    for duty in ids:
        try:
            task.delay(str(duty))
        except OperationalError as error:
            # Nor will the others be sent now; no app waits for that.
            log.warning("wake_up_not_sent", duty=str(duty), error=type(error).__name__)
            return
