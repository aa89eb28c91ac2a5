"""The scripts of the room, and Redis as something we can do without."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import redis
import structlog
from redis.exceptions import RedisError

from worker.storage.redis_scripts import Argument, Call, Script, ScriptRunner, read_script

# After a failure Redis is left alone: each attempt would cost a caller its socket timeout.
REST_SECONDS: Final = 5.0

log = structlog.get_logger()


_JOIN: Final = read_script(__package__, "basics", "breaker", "admission", "join")
_ADMIT: Final = read_script(__package__, "basics", "breaker", "admission", "admit")
_LAND: Final = read_script(__package__, "land")
_REPORT: Final = read_script(__package__, "basics", "breaker", "report")
_PAUSE: Final = read_script(__package__, "basics", "pause")


class Scripts:
    """Runs each script of ``lua/`` in one round trip. No method raises when Redis is away.

    *runner* has a short timeout, since every call waits for it; that of *client* is longer than
    anybody listens.
    """

    def __init__(self, runner: ScriptRunner, client: redis.Redis) -> None:
        self._runner = runner
        self._redis = client
        self._rest_until = 0.0

    def join(self, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Run ``join.lua``; None when Redis does not answer. So do the others."""
        return self._run(_JOIN, keys, arguments)

    def admit(self, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Run ``admit.lua``."""
        return self._run(_ADMIT, keys, arguments)

    def land(self, keys: Sequence[str], arguments: Sequence[Argument]) -> None:
        """Run ``land.lua``."""
        self._run(_LAND, keys, arguments)

    def landing(self, keys: Sequence[str], arguments: Sequence[Argument]) -> Call:
        """Return what `land` would run, for somebody who goes to this Redis anyway."""
        return Call(_LAND, keys, arguments)

    def report(self, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Run ``report.lua``."""
        return self._run(_REPORT, keys, arguments)

    def pause(self, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Run ``pause.lua``."""
        return self._run(_PAUSE, keys, arguments)

    def listen(self, key: str, seconds: float) -> None:
        """Return when the list at *key* has an element, or after *seconds*.

        BLMOVE from a list to itself leaves it as it is, and wakes all who listen.
        """
        seconds = max(seconds, 0.01)  # 0 would be for ever
        self._attempt(lambda: self._redis.blmove(key, key, seconds, "LEFT", "RIGHT"))  # type: ignore[arg-type]

    def forget(self, key: str) -> None:
        """Delete *key*."""
        self._attempt(lambda: self._redis.delete(key))

    def _attempt(self, command: Callable[[], Any]) -> Any:
        """Return what *command* returns; None when Redis does not answer."""
        if time.monotonic() < self._rest_until:
            return None
        try:
            return command()
        except RedisError as error:
            self._rest_until = time.monotonic() + REST_SECONDS
            log.warning("traffic_not_shared", error=type(error).__name__)
            return None

    def _run(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        return self._attempt(lambda: self._runner.run(script, keys, arguments))
