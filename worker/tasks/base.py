"""What all tasks share. How delivery works is said once, in `celeryconfig`."""

from __future__ import annotations

from typing import Any

from celery import Task


class QuietTask(Task):  # type: ignore[type-arg]
    """A task whose arguments no log, event or dashboard shows."""

    ignore_result = True
    typing = False  # a wrong argument is answered by the task, not raised at it
    # Caps the runs of a job that kills its process; Celery's own delay would be three minutes.
    max_retries = 3
    default_retry_delay = 5

    def apply_async(self, *args: Any, **options: Any) -> Any:
        """Send the task. `Task.retry` drops a representation set by the sender: set it here."""
        return super().apply_async(*args, **{**options, "argsrepr": "-", "kwargsrepr": "-"})


class TaskFailed(Exception):  # noqa: N818
    """A task ended in a way nobody foresaw. Its log line says where; this text holds no data."""
