"""A worker whose queue is deleted as it begins: ``celery -A`` this module."""

from __future__ import annotations

from typing import Any

from celery import signals

from session_client.contract import Queue
from worker.app import app

__all__ = ["app"]


@signals.worker_ready.connect
def _delete_queue_at_the_last_moment(sender: Any, **_: Any) -> None:
    # The last that a worker asks RabbitMQ for before its event loop goes round.
    ask = sender.qos.callback

    def ask_and_delete(**asked: Any) -> None:
        ask(**asked)
        sender.qos.callback = ask
        with app.connection_for_write() as connection:
            channel: Any = connection.channel()
            channel.queue_delete(Queue.AUTH.value)

    sender.qos.callback = ask_and_delete
