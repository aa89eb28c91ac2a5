"""The connections of the driver for threads: two commands in one write, each within its time.

A call that is left by an exception, a greenlet's or a signal's too, throws its connection away:
no call may read the answer to another one.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Any, Final

from session_client._redis import causes
from session_client._redis.settings import Place
from session_client.errors import BrokerUnavailable

# A server-side wait ends a little before the caller's, so that a healthy Redis says "nothing yet"
# instead of being taken for dead.
GRACE_SECONDS: Final = 0.05
_SHORTEST_SECONDS: Final = 0.01
# A long wait asks again this often. On a connection that a firewall has forgotten one long BLPOP
# would hear nothing until the caller's time is up, with the answer lying there.
_ASK_AGAIN_SECONDS: Final = 1.0


class Lines:
    """The idle connections to one Redis: with TLS a new one is the dearest part of a call."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._idle: deque[Line] = deque()
        self._is_closed = False

    def exchange(
        self,
        until: float,
        *,
        push: tuple[Any, ...] | None = None,
        pop: tuple[str, str] | None = None,
    ) -> bytes | None:
        """Send both in one write; return what was popped, None if nothing came by *until*.

        Raises `BrokerUnavailable` when Redis cannot be asked, or has not confirmed the push.
        """
        talk = Talk(until, push, pop)
        while not talk.is_over:
            line = self._borrow()
            was_proven = line.is_proven
            try:
                talk.attempt(line)
            except Exception as error:  # noqa: BLE001 - also what redis-py itself falls over
                line.close()
                # An old connection may have died of age, so a fresh one is tried. A fresh one
                # that times out may meet a Redis that is busy for a moment; all else is an answer.
                is_timeout = causes.is_timeout(error)
                if not was_proven and not is_timeout:
                    raise talk.failure(causes.name_of(error)) from None
                if was_proven and is_timeout:
                    # A firewall forgets all that were idle. One after the other they would use up
                    # the time of this call, and of the next ones.
                    self._close_idle()
            except BaseException:
                # Another call's answer must never be read from a half-used connection.
                line.close()
                raise
            else:
                self._give_back(line)
        return talk.found

    def close(self) -> None:
        """Close what is idle; what is in use is closed when it is given back."""
        self._is_closed = True
        self._close_idle()

    def _close_idle(self) -> None:
        while True:
            try:
                line = self._idle.pop()
            except IndexError:  # another thread may have taken the last one
                return
            line.close()

    def _borrow(self) -> Line:
        try:
            return self._idle.pop()
        except IndexError:
            return Line(self._place.connection())

    def _give_back(self, line: Line) -> None:
        self._idle.append(line)
        if self._is_closed:
            self.close()


class Talk:
    """What is still to be said and heard, on one connection after the other if need be."""

    def __init__(
        self, until: float, push: tuple[Any, ...] | None, pop: tuple[str, str] | None
    ) -> None:
        self._until = until
        self._push = push
        self._pop = pop
        self._is_first = True
        self.found: bytes | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to do, or no time. Raises if the push was never confirmed."""
        if self._is_first:
            return False
        if self._push is None and (self._pop is None or self.found is not None):
            return True
        if time.monotonic() < self._until - GRACE_SECONDS:
            return False
        if self._push is not None:
            raise BrokerUnavailable("the broker did not confirm the message in time")
        return True

    def attempt(self, line: Line) -> None:
        """Do what is left on *line*."""
        self._is_first = False
        line.send(self._until, self._push, self._pop)
        if self._push is not None:
            line.read(self._until)
            self._push = None
        if self._pop is not None:
            reply = line.read(self._until)
            self.found = None if reply is None else bytes(reply[1])

    def failure(self, why: str) -> BrokerUnavailable:
        """Return what is raised when Redis says no."""
        doing = "waiting for an answer" if self._push is None else "publishing"
        return BrokerUnavailable(f"{doing}: {why}")


class Line:
    """One connection. Each step on it may take what is left of the caller's time."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.is_proven = False  # it has answered once
        self._waits_on_server = 0.0

    def send(self, until: float, push: tuple[Any, ...] | None, pop: tuple[str, str] | None) -> None:
        """Send the commands in one write, connecting first if need be."""
        connection = self._connection
        left = _left(until)
        if not self.is_proven:
            # It reads these when it connects, step by step.
            connection.socket_connect_timeout = connection.socket_timeout = left
            connection.connect()
            left = _left(until)
        self._waits_on_server = 0.0
        commands = [] if push is None else [push]
        if pop is not None:
            longest = max(left - GRACE_SECONDS, _SHORTEST_SECONDS)
            self._waits_on_server = min(longest, _ASK_AGAIN_SECONDS)
            commands.append((*pop, f"{self._waits_on_server:.3f}"))
        self._limit(left)
        connection.send_packed_command(connection.pack_commands(commands), check_health=False)

    def read(self, until: float) -> Any:
        """Read one reply."""
        # The longer grace is for slow networks; the caller's own time always comes first.
        patience = self._waits_on_server + _ASK_AGAIN_SECONDS
        self._limit(min(_left(until) + GRACE_SECONDS, patience))
        reply = self._connection.read_response()
        self.is_proven = True
        return reply

    def close(self) -> None:
        """Close it."""
        self._connection.disconnect()

    def _limit(self, seconds: float) -> None:
        # The one private name of redis-py that is touched: the same in all versions, and the only
        # way to a time limit of each call that they all have.
        self._connection._sock.settimeout(seconds)  # noqa: SLF001


def _left(until: float) -> float:
    return max(until - time.monotonic(), _SHORTEST_SECONDS)
