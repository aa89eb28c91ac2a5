"""Each worker says that it is alive, and how it is set up, in a Redis key that expires.

Remote control is off (with it on, a worker exits when Redis goes away, and any app could shut it
down), so no worker answers `celery inspect`; `mosaic-sessions status` reads these keys.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from contextlib import suppress
from typing import Any, Final

import redis
import structlog
from celery import bootsteps

from migrations import target
from worker.settings import model as settings_module
from worker.storage.redis_client import REDIS_TIMEOUT_SECONDS, connect_redis
from worker.wiring import utc_now

log = structlog.get_logger()

KEY_PREFIX: Final = "mosaic-sessions:worker:"
# What a worker says of its clock, each time. One whose clock jumps while it runs refuses what it
# takes as too late, and no other process would know.
CLOCK_AHEAD: Final = "clock_ahead_seconds"
EVERY_SECONDS: Final = 5.0
LIFETIME_SECONDS: Final = 20
_MOST_DIGITS: Final = 18
_TOKEN: Final = secrets.token_hex(4)  # containers of one host name are all process 1


class Heartbeat(bootsteps.StartStopStep):
    """Writes the key while the consumer runs, and removes it at a clean stop."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._timer: Any = None
        self._pulse: _Pulse | None = None

    def start(self, consumer: Any) -> None:
        """Begin with the first write at once."""
        settings = settings_module.current()
        facts = {
            "hostname": consumer.hostname,
            "pid": os.getpid(),
            "pool": type(consumer.pool).__name__,
            "slots": consumer.pool.num_processes,
            "queues": sorted(consumer.app.amqp.queues.consume_from),
            "visibility_timeout": settings.visibility_timeout_seconds,
            "started_at": utc_now().isoformat(),
            "schema": target.head(),  # tells its release from another one
        }
        self._pulse = _Pulse(settings.cache_url, facts)
        self._timer = consumer.timer.call_repeatedly(EVERY_SECONDS, self._pulse.beat, ())

    def stop(self, consumer: Any) -> None:
        """Stop writing; after a lost connection `start` is called again."""
        del consumer
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pulse is not None:
            self._pulse.stop()
            self._pulse = None


class _Pulse:
    """Writes the key at each `beat`, on a thread of its own: a Redis that hangs holds up no job."""

    def __init__(self, url: str, facts: dict[str, Any]) -> None:
        self._redis = connect_redis(url)
        self._facts = facts
        self._is_due = threading.Event()
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()
        self.beat()

    def beat(self) -> None:
        """Have it written soon. The event loop says so: one that hangs is not alive."""
        self._is_due.set()

    def stop(self) -> None:
        """Remove the key and end, or give up if Redis takes too long."""
        self._is_over = True
        self._is_due.set()
        self._thread.join(REDIS_TIMEOUT_SECONDS)

    def _run(self) -> None:
        while self._is_due.wait():
            self._is_due.clear()
            if self._is_over:
                break
            self._write()
        # Left behind it would keep a worker with a new visibility timeout from starting. Of a
        # worker that was killed, or has lost Redis, the key goes by itself.
        with suppress(redis.RedisError):
            self._redis.delete(key_of_this_process())
        self._redis.close()

    def _write(self) -> None:
        try:
            facts = {**self._facts, CLOCK_AHEAD: clock_ahead(self._redis)}
            self._redis.set(key_of_this_process(), json.dumps(facts), ex=LIFETIME_SECONDS)
        except redis.RedisError as error:
            log.warning("heartbeat_not_written", error=type(error).__name__)


def clock_ahead(client: redis.Redis) -> float | None:
    """Return by how many seconds this machine's clock is ahead of Redis'.

    None where our user may not ask: such a worker lives all the same. Raises `redis.RedisError`.
    """
    try:
        seconds, microseconds = client.time()
    except redis.exceptions.NoPermissionError:
        return None
    return round(time.time() - (seconds + microseconds / 1e6), 1)


def key_of_this_process() -> str:
    """Return the key under which this process says that it is alive."""
    return f"{KEY_PREFIX}{socket.gethostname()}:{os.getpid()}:{_TOKEN}"


def living_workers(client: redis.Redis) -> list[dict[str, Any]]:
    """Return what the living workers say of themselves. Raises `redis.RedisError`."""
    keys = sorted(client.scan_iter(match=f"{KEY_PREFIX}*", count=500))
    if not keys:
        return []
    values: Any = client.mget(keys)
    return [facts for value in values if (facts := _facts(value)) is not None]


def _facts(value: bytes | None) -> dict[str, Any] | None:
    """Return what a worker wrote; None for what no worker wrote, and for a key just gone.

    Anybody who may use this Redis can write there; it must not keep workers from starting.
    """
    try:
        facts = json.loads(value or b"", parse_int=_whole_number)
    except (ValueError, RecursionError):
        return None
    if not isinstance(facts, dict) or "hostname" not in facts:
        return None
    return facts if isinstance(facts.get("visibility_timeout"), int | float) else None


def _whole_number(digits: str) -> int:
    """Return a number that a worker may say; one that no float holds cannot be worked with."""
    if len(digits) > _MOST_DIGITS:
        raise ValueError(digits)
    return int(digits)
