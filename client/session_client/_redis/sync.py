"""The driver for threads: one write, two replies, and a time limit on the socket itself.

It has no thread and no lock of its own.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol, TypeVar

from session_client import contract, urls
from session_client._core.call import Ask, Rest, Steps
from session_client._core.message import Message
from session_client._redis.settings import Place
from session_client._redis.sync_lines import GRACE_SECONDS, Lines
from session_client.errors import BrokerUnavailable, Unavailable

R = TypeVar("R")

# How long a caller that waits for many answers goes without a chance to give up.
_LOOK_UP_SECONDS: Final = 0.5


def driver(broker_url: str, reply_url: str, app_id: str, *, max_waiting: int) -> Driver:
    """Return a driver for a Redis, or by Celery for another broker. Raises `ConfigurationError`."""
    name = f"app-{app_id}"
    if urls.is_redis(broker_url):
        publish = replies = Place.of("broker_url", broker_url, name, Place.connection)
        if broker_url != reply_url:
            replies = Place.of("reply_url", reply_url, name, Place.connection)
        return Driver(lambda: Link(publish, replies, max_waiting))
    from session_client import _celery  # noqa: PLC0415 - an extra, which `urls` has looked for

    replies = Place.of("reply_url", reply_url, name, Place.connection)
    return Driver(
        lambda: Link(replies, replies, max_waiting, lambda: _celery.publisher(broker_url, name))
    )


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
        self, messages: Sequence[Message], answer_to: str, quiet: float, longest: float
    ) -> Iterator[bytes | None]:
        """Publish *messages*, all of one queue, at once; yield what comes at *answer_to*.

        Until nothing did for *quiet* seconds, for *longest* seconds at most; and None every half
        second in which nothing did. Raises `BrokerUnavailable`.
        """
        return self._link().ask_all(messages, answer_to, quiet, longest)

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
        self._replies = Lines(replies)
        self._publish = self._replies if publish is replies else Lines(publish)
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
        self, messages: Sequence[Message], answer_to: str, quiet: float, longest: float
    ) -> Iterator[bytes | None]:
        """See `Driver.ask_all`."""
        began = time.monotonic()
        until = began + min(quiet, longest)
        if self._make_other is not None:
            self._other = self._other or self._make_other()
            for message in messages:
                self._other.publish(message, until, answer_to)
        else:
            raw = [message.to_wire(answer_to) for message in messages]
            self._publish.exchange(until, push=("LPUSH", messages[0].queue.value, *raw))
        inbox = contract.reply_key(messages[0].app_id, answer_to)
        while (now := time.monotonic()) < until - GRACE_SECONDS:
            slice_ends = min(until, now + _LOOK_UP_SECONDS)
            answer = self._replies.exchange(slice_ends, pop=("BLPOP", inbox))
            if answer is not None:
                until = min(time.monotonic() + quiet, began + longest)
            yield answer

    def take(self, queue: str, until: float) -> bytes | None:
        """Take the oldest item of *queue*."""
        return self._replies.exchange(until, pop=("BRPOP", queue))

    def close(self) -> None:
        """Close what is idle."""
        self._replies.close()
        self._publish.close()
        if self._other is not None:
            self._other.close()
