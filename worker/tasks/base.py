"""What all tasks share. How delivery works is said once, in `celeryconfig`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import structlog
from celery import Task
from celery.app.task import Context

from worker.celery_support.malformed import say_rejected
from worker.metrics import Rejection


class QuietTask(Task):  # type: ignore[type-arg]
    """A task whose arguments no log, event or dashboard shows."""

    Strategy = "worker.celery_support.hand_over:hand_over"
    ignore_result = True
    typing = False  # a wrong argument is answered by the task, not raised at it
    # Caps the runs of a job that kills its process; Celery's own delay would be three minutes.
    max_retries = 3
    default_retry_delay = 5

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task, named in each line of the log until this thread runs another.

        Not by the signals ``task_prerun`` and ``task_postrun``: sending one that has a receiver,
        Celery holds a lock that all slots share.
        """
        request: Context = self.request
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(
            task=self.name,
            task_id=request.id,
            redelivered=bool((request.delivery_info or {}).get("redelivered")),
        )
        return self.run(*args, **kwargs)

    def apply_async(self, *args: Any, **options: Any) -> Any:
        """Send the task. `Task.retry` drops a representation set by the sender: set it here."""
        return super().apply_async(*args, **{**options, "argsrepr": "-", "kwargsrepr": "-"})


def only_row_id(arguments: Sequence[object], named: Mapping[str, object]) -> UUID | None:
    """Return the row that a message of the worker's own names.

    None for any other arguments, with a line in the log that quotes none of them: Celery would log
    what Python says of them, and an argument may read like a line of its own.
    """
    (text,) = arguments if len(arguments) == 1 and not named else (None,)
    try:
        found = UUID(str(text))
    except ValueError:
        found = None
    if found is None or str(found) != text:
        say_rejected(Rejection.WRONG_ARGUMENTS)
        return None
    return found


class TaskFailed(Exception):  # noqa: N818
    """A task ended by an unforeseen error. Its log line says where; this text holds no data."""
