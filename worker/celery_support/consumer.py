"""A consumer that no message can stop.

Celery 5.7 exits on a body that is JSON of another shape, and reconnects for ever on a message
without an id; both are redelivered, so that one bad message stops every worker. Here what cannot
be read is rejected and only its error's type is logged: bodies and headers may hold secrets.
"""

from __future__ import annotations

import binascii
from typing import Any, Final

import structlog
from celery import signals
from celery.worker.consumer import Consumer
from kombu.exceptions import ContentDisallowed, DecodeError

from worker.celery_support import message_guard

log = structlog.get_logger()

# What reading a malformed message raises. KeyError must be caught here: kombu's Redis transport
# lists it as a connection error, and the consumer would reconnect and meet the message again.
_UNREADABLE: Final = (
    *(ValueError, TypeError, AttributeError, LookupError, binascii.Error),
    *(DecodeError, ContentDisallowed),
)
# What a queue item raises that is no message at all, before a consumer sees it. kombu has removed
# it from the queue by then; without this the worker would exit, with it the consumer reconnects.
_NOT_A_MESSAGE: Final = (ValueError, TypeError, AttributeError)


class SafeConsumer(Consumer):
    """Rejects what it cannot read, and goes on."""

    connection_errors: tuple[type[BaseException], ...]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # With a fanout consumer (gossip, remote control) the worker exits when Redis goes away
        # while a job is under way; whoever starts it need not remember --without-gossip.
        given = kwargs.pop("worker_options", None) or {}
        kwargs["worker_options"] = {**given, "without_gossip": True, "without_mingle": True}
        super().__init__(*args, **kwargs)
        self.connection_errors = (*self.connection_errors, *_NOT_A_MESSAGE)

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Any:
        """Wrap Celery's handler."""
        handle = super().create_task_handler(*args, **kwargs)

        def on_task_received(message: Any) -> Any:
            try:
                if why := message_guard.reduce(message):
                    return self._turn_away(message, why, None)
                return handle(message)
            except _UNREADABLE as error:
                return self._turn_away(message, "unreadable", error)

        return on_task_received

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Turn away a body that cannot be decoded."""
        self._turn_away(message, "undecodable", exc)

    def on_unknown_message(self, body: Any, message: Any) -> None:
        """Turn away what is no task message."""
        del body
        self._turn_away(message, "not_a_task", None)

    def on_unknown_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Turn away a task this worker does not have."""
        del body
        self._turn_away(message, "unknown_task", exc)

    def on_invalid_task(self, body: Any, message: Any, exc: Exception) -> None:
        """Turn away a task message with invalid fields."""
        del body
        self._turn_away(message, "invalid_task", exc)

    def _turn_away(self, message: Any, why: str, error: Exception | None) -> None:
        log.error("message_rejected", why=why, error=type(error).__name__ if error else None)
        message.reject_log_error(log, self.connection_errors)
        signals.task_rejected.send(sender=self, message=message, exc=error)
