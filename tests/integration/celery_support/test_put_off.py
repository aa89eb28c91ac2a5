"""What a worker puts off waits, as it is read from the broker again."""

from __future__ import annotations

import base64
import json
from typing import Any

from kombu.message import Message

from tests.stage import LOOKUP_KEY, redis_client
from worker.app import app as celery_app
from worker.celery_support.message_guard import MessageGuard, queues_of
from worker.tasks import sessions


def read_from(redis_url: str, queue: str) -> Any:
    """The message that lies there, as kombu reads it."""
    with redis_client(redis_url) as client:
        raw: Any = client.lindex(queue, -1)
    item = json.loads(raw)
    body: Any = base64.b64decode(item["body"])
    way = {"exchange": "", "routing_key": queue}
    return Message(
        body,
        content_type=item["content-type"],
        content_encoding=item["content-encoding"],
        headers=item["headers"],
        delivery_info=way,
        accept={"application/json"},
    )


def test_what_a_worker_puts_off_waits_until_then(redis_url: str) -> None:
    kwargs = {"app_id": "shop", "envelope": "sealed"}
    sessions.log_out.apply_async(kwargs=kwargs, task_id="r" * 22, countdown=20)
    message = read_from(redis_url, "logout")
    eta = message.headers["eta"]

    guard = MessageGuard(queues_of(celery_app), base64.b64decode(LOOKUP_KEY))

    assert guard.reduce(message, held=0) is None
    assert eta is not None
    assert message.headers["eta"] == eta
