"""The scripts Redis runs, and Redis itself as something we can do without."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any, Final

import redis
import structlog
from redis.exceptions import RedisError

# After a failure Redis is left alone: each attempt would cost a caller its socket timeout.
REST_SECONDS: Final = 5.0

log = structlog.get_logger()

Argument = str | bytes | int | float


class Scripts:
    """Runs each script of ``lua/`` in one round trip. No method raises when Redis is away.

    *quick* has a short timeout, since every call waits for it; that of *listening* is longer than
    anybody listens.
    """

    def __init__(self, quick: redis.Redis, listening: redis.Redis) -> None:
        self._redis = quick
        self._listening = listening
        self._rest_until = 0.0
        self._join = self._script("basics", "admission", "join")
        self._admit = self._script("basics", "admission", "admit")
        self._land = self._script("land")
        self._report = self._script("basics", "report")
        self._pause = self._script("basics", "pause")

    def join(self, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Run ``join.lua``; None when Redis does not answer. So do the others."""
        return self._run(self._join, keys, arguments)

    def admit(self, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Run ``admit.lua``."""
        return self._run(self._admit, keys, arguments)

    def land(self, keys: Sequence[str], arguments: Sequence[Argument]) -> None:
        """Run ``land.lua``."""
        self._run(self._land, keys, arguments)

    def report(self, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Run ``report.lua``."""
        return self._run(self._report, keys, arguments)

    def pause(self, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Run ``pause.lua``."""
        return self._run(self._pause, keys, arguments)

    def listen(self, key: str, seconds: float) -> None:
        """Return when the list at *key* has an element, or after *seconds*.

        BLMOVE from a list to itself leaves it as it is, and wakes all who listen.
        """
        seconds = max(seconds, 0.01)  # 0 would be for ever
        self._attempt(lambda: self._listening.blmove(key, key, seconds, "LEFT", "RIGHT"))  # type: ignore[arg-type]

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

    def _script(self, *parts: str) -> Any:
        folder = files("worker.traffic") / "lua"
        text = "\n".join((folder / f"{part}.lua").read_text(encoding="utf-8") for part in parts)
        return self._redis.register_script(text)

    def _run(self, script: Any, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        return self._attempt(lambda: script(keys=keys, args=arguments))
