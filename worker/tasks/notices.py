"""Telling apps that a session has ended. Internal: the messages carry our row ids, no secret."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import structlog
from kombu import Queue

from session_client import times
from worker import wiring
from worker.app import app
from worker.celery_support.other_brokers import NOT_SENT
from worker.errors import NoticeUndelivered, StoreUnavailable
from worker.outbox import notice_delivery
from worker.tasks.base import only_row_id

log = structlog.get_logger()

DELIVER = "notices.deliver"


@app.task(name=DELIVER)
def deliver(*arguments: Any, **named: Any) -> None:
    """Tell one app. Repeating it finds the delivery closed or leased, and does nothing.

    It is not retried by Celery: the row says when the next attempt is due, and the sweep wakes it.
    """
    notice_id = only_row_id(arguments, named)
    if notice_id is None:
        return
    try:
        notice_delivery.deliver(wiring.current(), notice_id, publish)
    except StoreUnavailable as error:
        log.warning("notice_left_to_sweep", notice=str(notice_id), detail=str(error))


def publish(queue: str, task: str, kwargs: dict[str, Any]) -> datetime:
    """Put a sealed message on an app's own queue, and return when. Raises `NoticeUndelivered`."""
    try:
        # Not declared: the app's queue is not one of ours. And never by routing key alone: Celery
        # then puts the message on the default queue.
        app_queue = Queue(queue, no_declare=True)
        app.send_task(
            task,
            kwargs=kwargs,
            queue=app_queue,  # type: ignore[arg-type]  # the stubs know names only
            ignore_result=True,
        )
    except NOT_SENT as error:
        raise NoticeUndelivered(f"the broker took no message ({type(error).__name__})") from None
    return times.now()  # not before the message itself says
