"""The floor: what Celery itself costs, for a task that does nothing and returns something."""

from __future__ import annotations

from celery import Celery

app = Celery("noop")  # broker and result backend from CELERY_BROKER_URL, CELERY_RESULT_BACKEND


@app.task(name="noop")
def noop() -> str:
    """Do nothing."""
    return "ok"
