"""Says in the log what app or operator must put right: once a minute and reason, not each time."""

from __future__ import annotations

import logging
import time
from typing import Final

from session_client.contract import Task, Verdict
from session_client.reading import Answered

log = logging.getLogger("session_client")

EVERY_SECONDS: Final = 60.0
_MOST: Final = 1000  # reasons are an open set
_told_at: dict[tuple[str, str | None], float] = {}


def tell(task: Task, answer: Answered) -> None:
    """Log a refusal of the request itself as an error: no user can do anything about it."""
    if answer.verdict not in {Verdict.INVALID_REQUEST, Verdict.UNAUTHORIZED}:
        return
    now, about = time.monotonic(), (task.value, answer.reason)
    if now - _told_at.get(about, -EVERY_SECONDS) < EVERY_SECONDS:
        return
    if len(_told_at) >= _MOST:
        _told_at.clear()
    _told_at[about] = now
    log.error("the worker refuses %s: %s", task.value, answer.in_words())
