"""Which worker has which job: taken, noted and settled by one script each.

A job's record is what kombu writes, since its sweep for jobs of dead workers reads it. Its tag is
of our making: by the sender's, one job could take another's record, and with it what brings the
other back.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import redis
import structlog
from kombu.transport import redis as stock
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import dumps, loads

from session_client import contract
from worker.celery_support.malformed import UNREADABLE, is_message, say_no_message
from worker.storage.redis_scripts import Script, read_script

if TYPE_CHECKING:
    from worker.celery_support.transport import OneStepChannel

log = structlog.get_logger()

_TAKE: Final = read_script(__package__, "take")
_NOTE: Final = read_script(__package__, "note")
_SETTLE: Final = read_script(__package__, "settle")


class OneStepQoS(stock.QoS):
    """One script where kombu has a transaction."""

    channel: OneStepChannel
    noted_tag: str | None = None  # of what is delivered now, if it has its record already
    kept: str | None = None  # what was delivered last, if the worker will settle it

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._done: list[str] = []  # to be settled when next we take, in the same trip
        self._stem = uuid4().hex
        self._stems = count()

    def append(self, message: Any, delivery_tag: object) -> None:
        """Note that we have the job, under a tag of our own."""
        del delivery_tag  # the sender's
        tag = self.noted_tag
        if tag is None:
            tag = self._next_stem()
            self._note(message, tag)
        message.delivery_tag = tag
        super(stock.QoS, self).append(message, tag)
        self.kept = tag

    def _next_stem(self) -> str:
        return f"{self._stem}.{next(self._stems)}."

    def _note(self, message: Any, delivery_tag: str) -> None:
        delivery = message.delivery_info
        record = [message._raw, delivery["exchange"], delivery["routing_key"]]  # noqa: SLF001 - as kombu does
        try:
            self._run_twice(_NOTE, time.time(), delivery_tag, dumps(record))
        except redis.RedisError as error:
            # It has left its queue: raised further, it would be lost for certain. Done without a
            # record it is lost only if this process dies first.
            log.warning("job_not_noted", error=type(error).__name__)

    def ack(self, delivery_tag: str) -> None:
        """Note that the job is done."""
        if self.channel.takes_soon:
            self._done.append(delivery_tag)
            return self._free_slot(delivery_tag)
        try:
            self.settle(delivery_tag)
        finally:
            self._free_slot(delivery_tag)
        return None

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's
        """Give the job back to its queue, or drop it."""
        try:
            super().reject(delivery_tag, requeue)
        finally:
            self._free_slot(delivery_tag)

    def _free_slot(self, delivery_tag: str) -> None:
        # Whatever Redis said: the job has ended. kombu keeps the slot of one whose end could not be
        # noted, and with enough of them a worker that need not reconnect does nothing any more.
        super(stock.QoS, self).ack(delivery_tag)

    def settle(self, *delivery_tags: str) -> None:
        """Forget that a worker works on the jobs."""
        self._run_twice(_SETTLE, *delivery_tags)

    def settle_done(self) -> None:
        """Settle what is done, where nothing was taken since."""
        if done := tuple(self._done):
            self.settle(*done)
            del self._done[: len(done)]

    def drop(self, delivery_tag: str) -> None:
        """Forget the job as if it had never come: its record, and the slot it may have got."""
        self.settle(delivery_tag)
        self._delivered.pop(delivery_tag, None)  # type: ignore[union-attr]

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's
        """Put a job back into its queue; forget what no worker can read."""
        try:
            super().restore_by_tag(tag, client, leftmost)
        except UNREADABLE as error:
            with self.channel.conn_or_acquire(client) as connection:
                if _is_record(connection.hget(self.unacked_key, tag)):
                    raise
            # Left there, it would stop each sweep of each worker before the jobs behind it.
            say_no_message(error)
            self.settle(tag)

    def take(self, queues: list[str], most: int) -> list[tuple[str, bytes, str]]:
        """Take *most* jobs at most, a queue after the other: queue, message and tag.

        What was too large to be taken has neither message nor tag, what was no queue no tag.
        """
        done = tuple(self._done)
        sizes = map(contract.max_message_bytes, queues)
        arguments = (time.time(), most, self._next_stem(), *sizes, *done)
        taken = self._run(_TAKE, *arguments, queues=queues)
        del self._done[: len(done)]
        return [(bytes_to_str(queue), raw, bytes_to_str(tag)) for queue, raw, tag in taken]

    @contextmanager
    def noted_as(self, tag: str) -> Iterator[None]:
        """Say that what is delivered within has its record, under *tag*."""
        self.noted_tag = tag
        try:
            yield
        finally:
            self.noted_tag = None

    def _run_twice(self, script: Script, *arguments: Any) -> None:
        """Run a script that may be repeated."""
        try:
            self._run(script, *arguments)
        except redis.ConnectionError:  # an old connection, perhaps: a fresh one is tried
            self._run(script, *arguments)

    def _run(self, script: Script, *arguments: Any, queues: list[str] | None = None) -> Any:
        keys = [self.unacked_key, self.unacked_index_key, *(queues or ())]
        try:
            return self.channel.scripts.run(script, keys, arguments)
        finally:
            if self.channel.closed:  # the job ended late, and kombu closes no channel twice
                self.channel.disconnect()


def _is_record(record: Any) -> bool:
    try:
        message, _, _ = loads(bytes_to_str(record))
    except UNREADABLE:
        return False
    return is_message(message)
