"""Waiting for answers on Redis lists, with deadlines that hold on a dead connection too.

redis-py fixes a socket timeout per pool; here each wait has its own, because an app may wait
0.3 s in one call and 10 s in the next, and Redis may accept and never answer.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Final, cast

import redis
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, ConnectionPool
from redis.retry import Retry

from session_client.errors import BrokerUnavailable

# A server-side wait ends a little before the socket's, so that a healthy Redis says "nothing yet"
# instead of being taken for dead.
_SOCKET_GRACE_SECONDS: Final = 0.05
_SHORTEST_WAIT_SECONDS: Final = 0.01


class Inbox:
    """A pool of connections that wait for answers. Safe to share among threads."""

    def __init__(self, url: str) -> None:
        self._factory = ConnectionPool.from_url(url, retry=Retry(NoBackoff(), 0))
        self._idle: deque[AbstractConnection] = deque()

    def wait(self, key: str, until: float) -> bytes | None:
        """Take the first item of list *key*, waiting until *until* (`time.monotonic`).

        Returns None when nothing came. Raises `BrokerUnavailable` when Redis cannot be asked.
        """
        connection = self._borrow()
        try:
            answer = _blocking_pop(connection, key, until)
        except (redis.RedisError, OSError) as error:
            connection.disconnect()
            if time.monotonic() >= until:
                return None
            raise BrokerUnavailable(f"waiting for an answer: {type(error).__name__}") from None
        except BaseException:
            # Somebody else's answer must never be read from a half-used connection.
            connection.disconnect()
            raise
        self._idle.append(connection)
        return answer

    def close(self) -> None:
        """Close all idle connections."""
        while self._idle:
            self._idle.popleft().disconnect()

    def _borrow(self) -> AbstractConnection:
        try:
            return self._idle.pop()
        except IndexError:
            return cast("AbstractConnection", self._factory.make_connection())


def _blocking_pop(connection: AbstractConnection, key: str, until: float) -> bytes | None:
    left = max(until - time.monotonic(), _SHORTEST_WAIT_SECONDS)
    # Also bound the connection's own set-up: it reads these when it (re)connects.
    connection.socket_connect_timeout = left
    connection.socket_timeout = left
    connection.connect()
    left = max(until - time.monotonic(), _SHORTEST_WAIT_SECONDS)
    on_server = max(left - _SOCKET_GRACE_SECONDS, _SHORTEST_WAIT_SECONDS)
    connection.send_command("BLPOP", key, f"{on_server:.3f}")
    reply: Any = connection.read_response(timeout=left + _SOCKET_GRACE_SECONDS)
    return None if reply is None else cast("bytes", reply[1])
