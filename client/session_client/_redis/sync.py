"""The driver for threads: one write, two replies, and a time limit on the socket itself.

No thread and no lock of its own. A call that is left by an exception, a greenlet's or a signal's
too, throws its connection away: nobody may read somebody else's answer.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol, TypeVar

from session_client import contract, urls
from session_client._core.call import Ask, Rest, Steps
from session_client._core.message import Message
from session_client._redis import causes
from session_client._redis.settings import Place
from session_client.errors import BrokerUnavailable, Unavailable

R = TypeVar("R")

# A server-side wait ends a little before the caller's, so that a healthy Redis says "nothing yet"
# instead of being taken for dead.
_GRACE_SECONDS: Final = 0.05
_SHORTEST_SECONDS: Final = 0.01
# A long wait asks again this often. On a connection that a firewall has forgotten one long BLPOP
# would hear nothing until the caller's time is up, with the answer lying there.
_ASK_AGAIN_SECONDS: Final = 1.0
# How long who waits for many answers goes without a chance to give up.
_LOOK_UP_SECONDS: Final = 0.5


def driver(broker_url: str, reply_url: str, app_id: str, *, max_waiting: int) -> Driver:
    """Return a driver for a Redis, or by Celery for another broker."""
    name = f"app-{app_id}"
    replies = Place(reply_url, name)
    if urls.is_redis(broker_url):
        publish = replies if broker_url == reply_url else Place(broker_url, name)
        return Driver(lambda: Link(publish, replies, max_waiting))
    return Driver(lambda: Link(replies, replies, max_waiting, lambda: _other(broker_url, name)))


def _other(broker_url: str, name: str) -> Publisher:
    try:
        from session_client import _celery  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise BrokerUnavailable(f"publishing: {type(error).__name__}") from None
    return _celery.publisher(broker_url, name)


class Publisher(Protocol):
    """Publishes on a broker that is no Redis."""

    def publish(self, message: Message, until: float, answer_to: str | None = None) -> None:
        """Put it on its queue. Raises `BrokerUnavailable`."""
        ...

    def close(self) -> None:
        """Close its connections."""
        ...


class Driver:
    """Runs calls for one client. Safe to share among threads and to carry across a fork."""

    def __init__(self, make: Callable[[], Link]) -> None:
        self._make = make
        # By process: a child must neither use nor close what it inherited. To put one in is a
        # single step, so that two threads at once get the same.
        self._links: dict[int, Link] = {}

    def run(self, life: Steps[R]) -> R:
        """Do what *life* asks for until it ends. Raises what it raises."""
        link = self._link()
        try:
            step = next(life)
            while True:
                try:
                    sent = None
                    if isinstance(step, Rest):
                        time.sleep(max(0.0, step.until - time.monotonic()))
                    else:
                        sent = link.ask(step)
                except Unavailable as error:  # noqa: PERF203 - each step may
                    step = life.throw(error)
                else:
                    step = life.send(sent)
        except StopIteration as end:
            value: R = end.value
            return value

    def ask_all(
        self, messages: Sequence[Message], answer_to: str, until: float
    ) -> Iterator[bytes | None]:
        """Publish *messages*, all of one queue, at once; yield what comes at *answer_to*.

        Until *until*, and None every half second in which nothing did. Raises `BrokerUnavailable`.
        """
        return self._link().ask_all(messages, answer_to, until)

    def take(self, queue: str, until: float) -> bytes | None:
        """Take the oldest item of *queue*, waiting until *until*. Raises `BrokerUnavailable`."""
        return self._link().take(queue, until)

    def close(self) -> None:
        """Close this process's idle connections; those in use are closed when their call ends."""
        link = self._links.pop(os.getpid(), None)
        if link is not None:
            link.close()

    def _link(self) -> Link:
        link = self._links.get(os.getpid())
        return link or self._links.setdefault(os.getpid(), self._make())


class Link:
    """What one process talks through. It opens nothing before it is asked."""

    def __init__(
        self,
        publish: Place,
        replies: Place,
        max_waiting: int,
        make_other: Callable[[], Publisher] | None = None,
    ) -> None:
        self._replies = _Lines(replies)
        self._publish = self._replies if publish is replies else _Lines(publish)
        self._make_other = make_other
        self._other: Publisher | None = None
        self._turns = threading.BoundedSemaphore(max_waiting)

    def ask(self, ask: Ask) -> bytes | None:
        """Publish if it is due, and wait. Raises `BrokerUnavailable`, `Unavailable`."""
        if not self._turns.acquire(timeout=max(ask.until - time.monotonic(), 0.0)):
            raise Unavailable("too many calls wait", request_id=ask.message.request_id)
        try:
            push = None
            if ask.is_due and self._make_other is not None:
                self._other = self._other or self._make_other()
                self._other.publish(ask.message, ask.until)
            elif ask.is_due:
                push = ("LPUSH", ask.message.queue.value, ask.message.to_wire())
                if self._publish is not self._replies:
                    self._publish.exchange(ask.until, push=push)
                    push = None
            return self._replies.exchange(
                ask.until, push=push, pop=("BLPOP", ask.message.reply_key)
            )
        except BrokerUnavailable as error:
            error.request_id = ask.message.request_id
            raise
        finally:
            self._turns.release()

    def ask_all(
        self, messages: Sequence[Message], answer_to: str, until: float
    ) -> Iterator[bytes | None]:
        """See `Driver.ask_all`."""
        if self._make_other is not None:
            self._other = self._other or self._make_other()
            for message in messages:
                self._other.publish(message, until, answer_to)
        else:
            raw = [message.to_wire(answer_to) for message in messages]
            self._publish.exchange(until, push=("LPUSH", messages[0].queue.value, *raw))
        inbox = contract.reply_key(messages[0].app_id, answer_to)
        while (now := time.monotonic()) < until - _GRACE_SECONDS:
            slice_ends = min(until, now + _LOOK_UP_SECONDS)
            yield self._replies.exchange(slice_ends, pop=("BLPOP", inbox))

    def take(self, queue: str, until: float) -> bytes | None:
        """Take the oldest item of *queue*."""
        return self._replies.exchange(until, pop=("BRPOP", queue))

    def close(self) -> None:
        """Close what is idle."""
        self._replies.close()
        self._publish.close()
        if self._other is not None:
            self._other.close()


class _Lines:
    """The idle connections to one Redis: with TLS a new one is the dearest part of a call."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._idle: deque[_Line] = deque()
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
        talk = _Talk(until, push, pop)
        while not talk.is_over:
            line = self._borrow()
            was_proven = line.is_proven
            try:
                talk.attempt(line)
            except Exception as error:  # noqa: BLE001 - also what redis-py itself falls over
                line.close()
                # An old connection may have died of age, so a fresh one is tried. A fresh one
                # that times out may meet a Redis that is busy for a moment; all else is an answer.
                if not was_proven and not causes.is_timeout(error):
                    raise talk.failure(causes.name_of(error)) from None
            except BaseException:
                # Somebody else's answer must never be read from a half-used connection.
                line.close()
                raise
            else:
                self._give_back(line)
        return talk.found

    def close(self) -> None:
        """Close what is idle; what is in use is closed when it is given back."""
        self._is_closed = True
        while self._idle:
            self._idle.pop().close()

    def _borrow(self) -> _Line:
        try:
            return self._idle.pop()
        except IndexError:
            return _Line(self._place.connection())

    def _give_back(self, line: _Line) -> None:
        self._idle.append(line)
        if self._is_closed:
            self.close()


class _Talk:
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
        if time.monotonic() < self._until - _GRACE_SECONDS:
            return False
        if self._push is not None:
            raise BrokerUnavailable("the broker did not confirm the message in time")
        return True

    def attempt(self, line: _Line) -> None:
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


class _Line:
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
            longest = max(left - _GRACE_SECONDS, _SHORTEST_SECONDS)
            self._waits_on_server = min(longest, _ASK_AGAIN_SECONDS)
            commands.append((*pop, f"{self._waits_on_server:.3f}"))
        self._limit(left)
        connection.send_packed_command(connection.pack_commands(commands), check_health=False)

    def read(self, until: float) -> Any:
        """Read one reply."""
        # The longer grace is for slow networks; the caller's own time always comes first.
        patience = self._waits_on_server + _ASK_AGAIN_SECONDS
        self._limit(min(_left(until) + _GRACE_SECONDS, patience))
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
