"""Redis as something we can do without: what it shares is courtesy and speed, never correctness."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import redis
import structlog
from redis.exceptions import RedisError

from worker.storage.redis_client import cause_of
from worker.storage.redis_scripts import Argument, Script, ScriptRunner

# After a failure Redis is left alone: each attempt would cost a caller its socket timeout.
REST_SECONDS: Final = 5.0

log = structlog.get_logger()


class BestEffortRedis:
    """One per process, for all that is shared at best. No method raises when Redis is away.

    *runner* has a short timeout, since calls wait for it; that of *client* is longer than any
    request listens.
    """

    def __init__(self, runner: ScriptRunner, client: redis.Redis) -> None:
        self._runner = runner
        self._redis = client
        self._rest_until = 0.0

    def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Return what *script* returns; None when Redis does not answer."""
        return self.attempt(lambda _: self._runner.run(script, keys, arguments))

    def attempt(self, command: Callable[[redis.Redis], Any], fallback: object = None) -> Any:
        """Return what *command* returns of the client; *fallback* when Redis does not answer."""
        if time.monotonic() < self._rest_until:
            return fallback
        try:
            return command(self._redis)
        except RedisError as error:
            self._rest_until = time.monotonic() + REST_SECONDS
            log.warning("redis_left_alone", cause=cause_of(error), seconds=REST_SECONDS)
            return fallback

    def close(self) -> None:
        """Close the connections of the scripts; the client is the caller's."""
        self._runner.close()
