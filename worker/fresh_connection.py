"""Redis connections that believe in themselves for a moment after an answer.

redis-py looks for unread data before each command, in three system calls, and at each of them
another thread may take the interpreter over: under load that costs more than the command itself.
Right after a whole answer there is nothing to look for.
"""

from __future__ import annotations

import time
from typing import Any, Final

import redis

FRESH_SECONDS: Final = 1.0


class _Fresh(redis.Connection):
    """For single commands: of a pipeline's answers the first is not the last.

    A connection whose last answer nobody read is thrown away: the next command would read it.
    redis-py (8.1) itself leaves it in the pool when a command is interrupted.
    """

    _fresh_until = float("-inf")
    _is_answered = True

    def send_packed_command(self, command: Any, check_health: bool = True) -> None:  # noqa: FBT001, FBT002
        try:
            super().send_packed_command(command, check_health)  # type: ignore[no-untyped-call]
        finally:
            self._is_answered = False  # after it: a health check reads an answer of its own

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        answer = super().read_response(*args, **kwargs)
        self._is_answered = True
        self._fresh_until = time.monotonic() + FRESH_SECONDS
        return answer

    def can_read(self, timeout: float = 0) -> bool:
        if not self._is_answered:
            self.disconnect()  # type: ignore[no-untyped-call]
            self.connect()  # type: ignore[no-untyped-call]
        return time.monotonic() >= self._fresh_until and bool(super().can_read(timeout))


class _FreshTls(_Fresh, redis.SSLConnection):
    pass


class _FreshSocket(_Fresh, redis.UnixDomainSocketConnection):
    pass


def connection_class(url: str) -> type[redis.Connection]:
    """Return the class for *url*, for clients that send single commands only."""
    scheme = url.partition(":")[0]
    return {"rediss": _FreshTls, "unix": _FreshSocket}.get(scheme, _Fresh)
