"""Waiting for answers on Redis lists, with deadlines that hold on a dead connection too.

redis-py fixes a socket timeout per pool; here each wait has its own, because an app may wait
0.3 s in one call and 10 s in the next, and Redis may accept and never answer.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final, cast

import redis
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, ConnectionPool
from redis.retry import Retry

from session_client import causes
from session_client.errors import BrokerUnavailable

# A server-side wait ends a little before the caller's, so that a healthy Redis says "nothing yet"
# instead of being taken for dead.
_SOCKET_GRACE_SECONDS: Final = 0.05
_SHORTEST_WAIT_SECONDS: Final = 0.01
# A long wait asks again this often. On a connection that a firewall has forgotten one long BLPOP
# would hear nothing until the caller's time is up, with the answer lying there.
_ASK_AGAIN_SECONDS: Final = 1.0


class Inbox:
    """A pool of connections that wait for answers. Safe to share among threads."""

    def __init__(self, url: str) -> None:
        # redis-py's pools count the connections they made and refuse the 101st, also when the
        # earlier ones are long closed. So one is used only to understand the URL.
        understood = ConnectionPool.from_url(url, retry=Retry(NoBackoff(), 0), protocol=2)
        settings = dict(understood.connection_kwargs)
        if not issubclass(understood.connection_class, redis.UnixDomainSocketConnection):
            settings["socket_keepalive"] = True  # refused where there is no network in between
        self._make = cast(
            "Callable[[], AbstractConnection]", partial(understood.connection_class, **settings)
        )
        self._idle: deque[AbstractConnection] = deque()
        self._is_closed = False

    def wait(self, key: str, until: float) -> bytes | None:
        """Take the first item of list *key*, waiting until *until* (`time.monotonic`).

        Returns None when nothing came. Raises `BrokerUnavailable` when Redis cannot be asked.
        """
        while True:
            connection = self._borrow()
            was_connected = connection.is_connected
            try:
                answer = _blocking_pop(connection, key, until)
            except Exception as error:  # noqa: BLE001 - also what redis-py itself falls over
                connection.disconnect()
                timed_out = isinstance(error, redis.TimeoutError | TimeoutError)
                # An old connection may have died of age, so a fresh one is tried. A fresh one
                # that times out may meet a Redis that is busy for a moment; all else is an answer.
                if not was_connected and not timed_out:
                    told = f"waiting for an answer: {causes.name_of(error)}"
                    raise BrokerUnavailable(told) from None
            except BaseException:
                # Somebody else's answer must never be read from a half-used connection.
                connection.disconnect()
                raise
            else:
                self._give_back(connection)
                if answer is not None:
                    return answer
            if time.monotonic() >= until - _SOCKET_GRACE_SECONDS:
                return None

    def close(self) -> None:
        """Close all connections; those in use are closed when their wait ends."""
        self._is_closed = True
        while self._idle:
            self._idle.pop().disconnect()

    def _borrow(self) -> AbstractConnection:
        try:
            return self._idle.pop()
        except IndexError:
            return self._make()

    def _give_back(self, connection: AbstractConnection) -> None:
        self._idle.append(connection)
        if self._is_closed:
            self.close()


def _blocking_pop(connection: AbstractConnection, key: str, until: float) -> bytes | None:
    left = max(until - time.monotonic(), _SHORTEST_WAIT_SECONDS)
    # Bound the connection's set-up, step by step: it reads these when it connects.
    connection.socket_connect_timeout = left
    connection.socket_timeout = left
    connection.connect()
    left = max(until - time.monotonic(), _SHORTEST_WAIT_SECONDS)
    on_server = max(min(left - _SOCKET_GRACE_SECONDS, _ASK_AGAIN_SECONDS), _SHORTEST_WAIT_SECONDS)
    connection.send_command("BLPOP", key, f"{on_server:.3f}")
    # The longer grace is for slow networks; the caller's own time always comes first.
    reply: Any = connection.read_response(
        timeout=min(left + _SOCKET_GRACE_SECONDS, on_server + _ASK_AGAIN_SECONDS)
    )
    return None if reply is None else cast("bytes", reply[1])
