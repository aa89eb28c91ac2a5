"""kombu's Redis transport, with jobs taken and settled by one script each.

kombu pops a job with BRPOP and notes in a second step that it is being worked on: a job popped
into a connection or a process that dies in between is gone. Here what waits in a queue is taken
and noted at once, as many as there are free slots. Only a worker that found nothing listens with
BRPOP. It is also a third of kombu's price: kombu makes a new client for each of its steps.

It keeps jobs from being lost; without it a silent authentication takes 50 to 70 % more CPU. Before
and after touching it: `make bench ARGS="--only throughput"` and tests/faults/test_lost_messages.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, cast

import redis
from kombu.transport import redis as stock
from kombu.utils.encoding import bytes_to_str

from session_client import sentinels
from worker.celery_support.malformed import (
    UNREADABLE,
    NoQueue,
    TooLarge,
    is_message,
    measured,
    say_no_message,
)
from worker.celery_support.qos import OneStepQoS
from worker.storage.redis_scripts import ScriptRunner

_MAX_AT_ONCE: Final = 50
# Made once, and without the types of its own that kombu reads into an object: no message has any.
_JSON: Final = json.JSONDecoder()


class OneStepChannel(stock.Channel):
    """Takes before it listens."""

    QoS = OneStepQoS
    qos: OneStepQoS
    _qos: OneStepQoS | None
    _queue_cycle: Any
    _q_for_pri: Callable[[str, int], str]
    sep: str
    _pool: Any
    _scripts: ScriptRunner | None = None

    @property
    def scripts(self) -> ScriptRunner:
        """What runs our scripts, made on first use."""
        scripts = self._scripts  # read once: another thread may close the channel
        if scripts is None:
            scripts = self._scripts = ScriptRunner(self.pool)
        return scripts

    def _size(self, queue: str) -> int:
        """Return how many messages wait; none where there is no queue, which `take` then removes.

        A consumer asks when it connects: it would never come to take anything.
        """
        try:
            return int(super()._size(queue))
        except redis.ResponseError as error:
            if "WRONGTYPE" not in str(error):
                raise
            return 0

    @property
    def takes_soon(self) -> bool:
        """Whether the event loop asks for jobs, or settles what is done, before it waits again."""
        if not self.active_queues:  # closed, perhaps: it has no connection then
            return False
        return cast("_Poller", self.connection.cycle).is_looping

    def _brpop_start(self, timeout: float | None = None) -> None:
        """Deliver what waits; listen if there is room for more."""
        most = _MAX_AT_ONCE
        if self.qos.prefetch_count:  # 0: no limit
            most = min(most, self.qos.can_consume_max_estimate())
        for key, message, tag in self.qos.take(self._turns(), most):
            queue = key.rsplit(self.sep, 1)[0]  # the rest is a priority
            self._queue_cycle.rotate(queue)
            self._deliver_taken(queue, message, tag)
        if self.qos.can_consume():
            super()._brpop_start(timeout)  # type: ignore[misc]

    def _get_pool(self, asynchronous: bool = False) -> Any:  # noqa: FBT001, FBT002 - kombu's
        """Return a pool whose connections ask for the master where there are sentinels."""
        pool: Any = super()._get_pool(asynchronous)  # type: ignore[misc]
        options: Any = self.connection.client.transport_options  # type: ignore[union-attr]
        pool.connection_kwargs.update(
            {name: options[name] for name in sentinels.OPTIONS if name in options}
        )
        return sentinels.follow(pool)

    def _create_client(self, asynchronous: bool = False) -> Any:  # noqa: FBT001, FBT002 - kombu's
        client = super()._create_client(asynchronous)  # type: ignore[misc]
        if asynchronous:  # the one that listens
            client.set_response_callback("BRPOP", measured)
        return client

    def _brpop_read(self, **options: Any) -> Any:
        """Deliver what was listened for."""
        with self._rejecting():
            return super()._brpop_read(**options)  # type: ignore[misc]
        return True

    @contextmanager
    def _rejecting(self) -> Iterator[None]:
        # Raised further, the consumer would reconnect and run again what is under way.
        self.qos.kept = None
        try:
            yield
        except UNREADABLE as error:
            say_no_message(error)
            if self.qos.kept is not None:
                self.qos.drop(self.qos.kept)
                self.qos.kept = None

    def _turns(self) -> list[str]:
        queues = self._queue_cycle.consume(len(self.active_queues))
        return [self._q_for_pri(queue, step) for step in self.priority_steps for queue in queues]

    def _deliver_taken(self, queue: str, message: bytes, tag: str) -> None:
        if not tag:
            return say_no_message(NoQueue() if message else TooLarge())
        with self._rejecting(), self.qos.noted_as(tag):
            self.connection._deliver(_JSON.decode(bytes_to_str(message)), queue)  # noqa: SLF001 - as kombu does
        # No message, or one for a consumer that acknowledges nothing: it would come back for ever.
        if self.qos.kept is None:
            self.qos.drop(tag)
        return None

    def _do_restore_message(self, payload: Any, *args: Any, **options: Any) -> None:
        if not is_message(payload):
            raise TypeError  # kombu would log all that it says
        super()._do_restore_message(payload, *args, **options)  # type: ignore[misc]

    def close(self) -> None:
        """Give back what is not done, and close every connection."""
        if self._qos is not None and not self.closed:
            with suppress(redis.RedisError):
                self._qos.settle_done()
        super().close()
        self.disconnect()  # giving back has opened some again

    def disconnect(self) -> None:
        """Close every connection. The pool is kept: a job that ends late opens one again."""
        if self._scripts is not None:
            self._scripts.close()
        if self._pool is not None:
            self._pool.disconnect()

    def _disconnect_pools(self) -> None:
        if self._scripts is not None:
            self._scripts.close()
            self._scripts = None
        super()._disconnect_pools()  # type: ignore[misc]


class _Poller(stock.MultiChannelPoller):
    """Leaves no job unsettled while it waits."""

    _channels: set[OneStepChannel]
    is_looping = False

    def on_poll_start(self) -> None:
        """Prepare to wait."""
        super().on_poll_start()
        for channel in self._channels:
            channel.qos.settle_done()


class Transport(stock.Transport):
    """Named in ``celeryconfig`` for Redis brokers."""

    Channel = OneStepChannel
    cycle: _Poller

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cycle = _Poller()

    def _deliver(self, message: Any, queue: str | None) -> None:
        """Deliver it as what lay in *queue*, whatever its sender says of the way it came.

        A retry goes back that way, and so does a job that was lost: an app could name a queue that
        it must not write to, or any key of Redis.
        """
        delivery = message["properties"]["delivery_info"]
        if not (is_message(message) and delivery.keys() >= {"exchange", "routing_key"}):
            raise LookupError
        delivery.update(exchange="", routing_key=queue)
        super()._deliver(message, queue)

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Let *loop* tell us when there is something to read, and each time before it waits."""
        super().register_with_event_loop(connection, loop)
        self.cycle.is_looping = True
