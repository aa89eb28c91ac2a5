"""kombu's Redis transport, with jobs taken and settled by one script each.

kombu pops a job with BRPOP and notes in a second step that it is being worked on: a job popped
into a connection or a process that dies in between is gone. Here what waits in a queue is taken
and noted at once, as many as there are free slots. Only a worker that found nothing listens with
BRPOP. It is also a third of kombu's price: kombu makes a new client for each of its steps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final, cast

import redis
import structlog
from kombu.transport import redis as stock
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import dumps, loads

from worker.redis_scripts import Script, ScriptRunner

log = structlog.get_logger()

# A job's record is what kombu writes: [message, exchange, routing key] by delivery tag, and the
# time it was taken. Its sweep for jobs of dead workers reads both.
# KEYS: records, times, queues in the order of their turns. ARGV: the time, how many at most, and
# the tags of jobs that are done.
# Returns {queue, message, delivery tag} of each. What is no message has the tag "" and no record.
_TAKE: Final = Script("""
for index = 3, #ARGV do
  redis.call("ZREM", KEYS[2], ARGV[index])
  redis.call("HDEL", KEYS[1], ARGV[index])
end

local function record_of(raw)
  local is_json, message = pcall(cjson.decode, raw)
  local properties = is_json and type(message) == "table" and message.properties
  local delivery = type(properties) == "table" and properties.delivery_info
  if type(delivery) ~= "table" then return end
  local tag, exchange, key = properties.delivery_tag, delivery.exchange, delivery.routing_key
  if type(exchange) ~= "string" or type(key) ~= "string" then return end
  if type(tag) ~= "string" or tag == "" then return end
  return tag, "[" .. raw .. "," .. cjson.encode(exchange) .. "," .. cjson.encode(key) .. "]"
end

local function refusal_of_note(tag, record)
  local added = redis.pcall("ZADD", KEYS[2], ARGV[1], tag)
  if type(added) == "table" and added.err then return added end
  local kept = redis.pcall("HSET", KEYS[1], tag, record)
  if type(kept) == "table" and kept.err then return kept end
end

local taken, most, is_empty = {}, tonumber(ARGV[2]), false
while not is_empty do
  is_empty = true
  for index = 3, #KEYS do
    if #taken >= most then return taken end
    -- Popped first: a Redis that is full lets a script write only what follows on something freed,
    -- and a full queue could never be emptied.
    local raw = redis.call("RPOP", KEYS[index])
    if raw then
      is_empty = false
      local tag, record = record_of(raw)
      local refusal = tag and refusal_of_note(tag, record)
      if refusal then
        redis.call("RPUSH", KEYS[index], raw)
        if #taken > 0 then return taken end
        return refusal
      end
      taken[#taken + 1] = {KEYS[index], raw, tag or ""}
    end
  end
end
return taken
""")
_NOTE: Final = Script("""
redis.call("HSET", KEYS[1], ARGV[2], ARGV[3])
redis.call("ZADD", KEYS[2], ARGV[1], ARGV[2])
""")
_SETTLE: Final = Script("""
redis.call("ZREM", KEYS[2], unpack(ARGV))
redis.call("HDEL", KEYS[1], unpack(ARGV))
""")
_MOST_AT_ONCE: Final = 50
# What reading JSON raises that is none of ours, and what an item raises that is no message.
_UNREADABLE: Final = (ValueError, TypeError, RecursionError)
_NOT_A_MESSAGE: Final = (*_UNREADABLE, AttributeError, LookupError)


class OneStepQoS(stock.QoS):
    """Who has which job: one script where kombu has a transaction."""

    channel: OneStepChannel
    is_noted = False  # whether what is delivered now has its record already
    kept: str | None = None  # what was delivered last, if somebody will settle it

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._done: list[str] = []  # to be settled when next we take, in the same trip

    def append(self, message: Any, delivery_tag: str) -> None:
        """Note that we have the job."""
        if not isinstance(delivery_tag, str):
            raise TypeError  # Redis takes no list for a name; and as below, where it waits
        if not self.is_noted:
            delivery = message.delivery_info
            record = [message._raw, delivery["exchange"], delivery["routing_key"]]  # noqa: SLF001 - as kombu does
            self._run(_NOTE, time.time(), delivery_tag, dumps(record))
        super(stock.QoS, self).append(message, delivery_tag)
        self.kept = delivery_tag

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
        """Forget that anybody works on the jobs."""
        try:
            self._run(_SETTLE, *delivery_tags)
        except redis.ConnectionError:  # an old connection, perhaps: a fresh one is tried
            self._run(_SETTLE, *delivery_tags)

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
        """Put a job back into its queue; forget what nobody can read."""
        try:
            super().restore_by_tag(tag, client, leftmost)
        except _UNREADABLE as error:
            with self.channel.conn_or_acquire(client) as connection:
                if _is_record(connection.hget(self.unacked_key, tag)):
                    raise
            # Left there, it would stop each sweep of each worker before the jobs behind it.
            _say_rejected(error)
            self.settle(tag)

    def take(self, queues: list[str], most: int) -> list[tuple[str, bytes, str]]:
        """Take *most* jobs at most, a queue after the other: queue, message and delivery tag."""
        done = tuple(self._done)
        taken = self._run(_TAKE, time.time(), most, *done, queues=queues)
        del self._done[: len(done)]
        return [(bytes_to_str(queue), raw, bytes_to_str(tag)) for queue, raw, tag in taken]

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Say that what is delivered within has its record."""
        self.is_noted = True
        try:
            yield
        finally:
            self.is_noted = False

    def _run(self, script: Script, *arguments: Any, queues: list[str] | None = None) -> Any:
        keys = [self.unacked_key, self.unacked_index_key, *(queues or ())]
        try:
            return self.channel.scripts.run(script, keys, arguments)
        finally:
            if self.channel.closed:  # the job ended late, and nobody closes the channel again
                self.channel.disconnect()


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

    @property
    def takes_soon(self) -> bool:
        """Whether the event loop asks for jobs, or settles what is done, before it waits again."""
        if not self.active_queues:  # closed, perhaps: it has no connection then
            return False
        return cast("_Poller", self.connection.cycle).is_looping

    def _brpop_start(self, timeout: float | None = None) -> None:
        """Deliver what waits; listen if there is room for more."""
        most = _MOST_AT_ONCE
        if self.qos.prefetch_count:  # 0: no limit
            most = min(most, self.qos.can_consume_max_estimate())
        for key, message, tag in self.qos.take(self._turns(), most):
            queue = key.rsplit(self.sep, 1)[0]  # the rest is a priority
            self._queue_cycle.rotate(queue)
            self._deliver_taken(queue, message, tag)
        if self.qos.can_consume():
            super()._brpop_start(timeout)  # type: ignore[misc]

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
        except _NOT_A_MESSAGE as error:
            _say_rejected(error)
            if self.qos.kept is not None:
                self.qos.drop(self.qos.kept)
                self.qos.kept = None

    def _turns(self) -> list[str]:
        queues = self._queue_cycle.consume(len(self.active_queues))
        return [self._q_for_pri(queue, step) for step in self.priority_steps for queue in queues]

    def _deliver_taken(self, queue: str, message: bytes, tag: str) -> None:
        if not tag:
            return _say_rejected(None)
        with self._rejecting(), self.qos.noted():
            self.connection._deliver(loads(bytes_to_str(message)), queue)  # noqa: SLF001 - as kombu does
        # No message, or one for a consumer that acknowledges nothing: it would come back for ever.
        if self.qos.kept is None:
            self.qos.drop(tag)
        return None

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

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Let *loop* tell us when there is something to read, and each time before it waits."""
        super().register_with_event_loop(connection, loop)
        self.cycle.is_looping = True


def _is_record(record: Any) -> bool:
    try:
        _, _, _ = loads(bytes_to_str(record))
    except _UNREADABLE:
        return False
    return True


def _say_rejected(error: Exception | None) -> None:
    """Log it without what it says: items may hold secrets, and errors may quote them."""
    log.error(
        "message_rejected", why="not_a_message", error=type(error).__name__ if error else None
    )
