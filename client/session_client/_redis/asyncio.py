"""The driver for asyncio: two connections for all calls of an event loop.

One writes whatever requests are ready, in one go. The other waits on a list of this link's own,
which each request names in its header ``answer_to``, opens what comes and hands it out by request
id. A call is a future with a timer: cancelled or late, it is taken out of the table, and what
comes for no waiting call is dropped.
"""

from __future__ import annotations

import asyncio
import os
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import islice
from typing import Final, TypeVar

import redis

from session_client import contract, requests, urls
from session_client._core import opening
from session_client._core.app import App
from session_client._core.call import Ask, GivenUp, Rest, Steps
from session_client._core.opening import Opened
from session_client._redis import causes
from session_client._redis.asyncio_line import ON_SERVER_SECONDS, SILENCE_SECONDS, Line
from session_client._redis.call_table import CallTable, Waiter
from session_client._redis.settings import Place
from session_client._redis.turns import Turns
from session_client.errors import (
    BrokerUnavailable,
    ConfigurationError,
    SealBroken,
    Unavailable,
)

R = TypeVar("R")

_AT_ONCE: Final = 64
# With no call waiting, connections are kept for this long: with TLS a new one costs the most.
_LINGER_SECONDS: Final = 30.0
_CLOSED: Final = "the client was closed"
# What Redis refuses by these it refuses on a new connection as well.
_LASTING: Final = (redis.exceptions.NoPermissionError, redis.exceptions.OutOfMemoryError)


def driver(broker_url: str, reply_url: str, app: App, *, max_waiting: int) -> AsyncDriver:
    """Return a driver. Raises `ConfigurationError`, also for a broker that is no Redis."""
    if not urls.is_redis(broker_url):
        raise ConfigurationError("broker_url: the asyncio client needs a Redis")
    name = f"app-{app.app_id}"
    publish = replies = Place.of("broker_url", broker_url, name, Place.for_asyncio)
    if broker_url != reply_url:
        replies = Place.of("reply_url", reply_url, name, Place.for_asyncio)
    for place in {replies, publish}:
        place.read_certificates()
    return AsyncDriver(lambda: Link(publish, replies, app, max_waiting))


class AsyncDriver:
    """Runs calls for one client, from any event loop of any process."""

    def __init__(self, make: Callable[[], Link]) -> None:
        self._make = make
        self._links: dict[int, weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Link]] = {}

    async def run(self, life: Steps[R]) -> R:
        """Do what *life* asks for until it ends. Raises what it raises."""
        link = self._link()
        waiter: Waiter | None = None
        await link.turns.take()
        try:
            step = next(life)
            while True:
                try:
                    sent = None
                    link.check_open()
                    if isinstance(step, Rest):
                        await asyncio.sleep(max(0.0, step.until - time.monotonic()))
                    else:
                        waiter = link.calls.enter(step.message, waiter)
                        sent = await link.ask(step, waiter)
                except Unavailable as error:  # noqa: PERF203 - each step may
                    step = life.throw(GivenUp(error) if link.is_closed else error)
                else:
                    step = life.send(sent)
        except StopIteration as end:
            value: R = end.value
            return value
        finally:
            if waiter is not None:
                link.calls.forget(waiter)

    @asynccontextmanager
    async def taking(self, queue: str) -> AsyncIterator[Callable[[float], Awaitable[bytes | None]]]:
        """Give a function that takes the oldest item of *queue*, waiting until a moment."""
        async with self._link().taking(queue) as take:
            yield take

    async def aclose(self) -> None:
        """Close this event loop's connections."""
        link = self._of_process().pop(asyncio.get_running_loop(), None)
        if link is not None:
            await link.aclose()

    def _of_process(self) -> weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Link]:
        return self._links.setdefault(os.getpid(), weakref.WeakKeyDictionary())

    def _link(self) -> Link:
        links = self._of_process()
        loop = asyncio.get_running_loop()
        if loop not in links:
            _forget_ended(links)
        return links.get(loop) or links.setdefault(loop, self._make())


def _forget_ended(links: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Link]) -> None:
    """Let go of event loops that were closed, and of their links.

    A link's tasks hold its loop: no such entry would go by itself.
    """
    for known in links.keyrefs():  # a list: other threads may put theirs in meanwhile
        loop = known()
        if loop is not None and loop.is_closed():
            links.pop(loop, None)


class Link:
    """What one event loop talks through. It opens nothing before it is asked."""

    def __init__(self, publish: Place, replies: Place, app: App, max_waiting: int) -> None:
        self._app = app
        self._box = requests.new_request_id()
        self.calls = CallTable(max_waiting)
        self.turns = Turns()
        # By call: one that is repeated before it could be written is written once.
        self._outgoing: dict[Waiter, Ask] = {}
        self.is_closed = False
        self._publish = Line(publish)
        self._replies = Line(replies)
        self._writing: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None

    def check_open(self) -> None:
        """Raise `BrokerUnavailable` once it is closed: what it opened then would stay open."""
        if self.is_closed:
            raise BrokerUnavailable(_CLOSED)

    async def ask(self, ask: Ask, waiter: Waiter) -> Opened | None:
        """Publish if it is due, and wait. *waiter* is this call's place in the table."""
        if ask.is_due:
            self._outgoing[waiter] = ask
            if self._writing is None or self._writing.done():
                self._writing = asyncio.create_task(self._write())
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
        return await waiter.next(ask.until)

    @asynccontextmanager
    async def taking(self, queue: str) -> AsyncIterator[Callable[[float], Awaitable[bytes | None]]]:
        """Give a function that takes the oldest item of *queue*."""
        line = self._replies.another()

        async def take(until: float) -> bytes | None:
            while True:
                was_proven = line.is_proven
                left = max(until - time.monotonic(), 0.01)
                try:
                    wait = min(left, ON_SERVER_SECONDS)
                    (found,) = await line.exchange([("BRPOP", queue, f"{wait:.3f}")])
                except Exception as error:  # noqa: BLE001 - also what redis-py itself falls over
                    await line.close()
                    if not was_proven and not causes.is_timeout(error):
                        message = f"waiting for a notice: {causes.name_of(error)}"
                        raise BrokerUnavailable(message) from None
                    found = None
                if found is not None:
                    return bytes(found[1])
                if time.monotonic() >= until:
                    return None

        try:
            yield take
        finally:
            await line.close()

    async def aclose(self) -> None:
        """Close the connections; calls that still wait raise `BrokerUnavailable`.

        A logout raises `NotAcknowledged`, unless it waits for more than its acknowledgement.
        """
        self.is_closed = True
        self.calls.fail(_CLOSED)
        tasks = [task for task in (self._writing, self._reading) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._close()

    async def _close(self) -> None:
        await self._publish.close()
        await self._replies.close()

    async def _write(self) -> None:
        """Publish what is due until nothing is."""
        try:
            while self._outgoing:
                # In slices: to write many messages takes long, and other tasks of this loop wait.
                due = list(islice(self._outgoing.items(), _AT_ONCE))
                for waiter, _ in due:
                    del self._outgoing[waiter]
                await self._put([(waiter, ask) for waiter, ask in due if not waiter.is_gone])
        except BaseException:
            await self._publish.close()
            raise

    async def _put(self, due: list[tuple[Waiter, Ask]]) -> None:
        line = self._publish
        was_proven = line.is_proven
        try:
            await line.connect()
            pushes = [
                ("LPUSH", ask.message.queue.value, ask.message.to_wire(self._box)) for _, ask in due
            ]
            await line.send(pushes, SILENCE_SECONDS, is_long=True)
            is_to_be_left = False
            while due:
                try:
                    await line.read()
                except redis.ResponseError as error:
                    if not isinstance(error, _LASTING):
                        # After a failover the name leads to another Redis, while the old one still
                        # talks on this connection: ask that other one before a call is told.
                        if was_proven:
                            raise
                        is_to_be_left = True
                    due[0][0].give(_unavailable("publishing", error))
                del due[0]
            if is_to_be_left:
                await line.close()
        except Exception as error:  # noqa: BLE001 - also what redis-py itself falls over
            await line.close()
            left = [*due, *self._outgoing.items()]
            if was_proven or causes.is_timeout(error):
                # Perhaps they are there already: no matter. Those of calls that have ended go: on a
                # link that swallows everything they pile up faster than they are tried.
                self._outgoing = {waiter: ask for waiter, ask in left if not waiter.is_gone}
                return
            for waiter, _ in left:
                waiter.give(_unavailable("publishing", error))
            self._outgoing.clear()

    async def _read(self) -> None:
        """Hand out answers, for as long as a call waits and a while more."""
        key = contract.reply_key(self._app.app_id, self._box)
        take = [("BLPOP", key, f"{ON_SERVER_SECONDS:.3f}"), ("LPOP", key, str(_AT_ONCE))]
        line = self._replies
        idle_until = 0.0
        await asyncio.sleep(0)  # with TLS to connect takes long: not in one go with the other one
        try:
            while True:
                if self.calls:
                    idle_until = time.monotonic() + _LINGER_SECONDS
                elif time.monotonic() >= idle_until:
                    return
                was_proven = line.is_proven
                try:
                    first, more = await line.exchange(take)
                except Exception as error:  # noqa: BLE001
                    await line.close()
                    if was_proven or causes.is_timeout(error):
                        continue
                    self.calls.fail(_unavailable("waiting for an answer", error))
                    return
                for raw in (*(() if first is None else first[1:]), *(more or ())):
                    self._hand_out(raw)
        finally:
            await self._replies.close()
            if self._writing is None or self._writing.done():
                await self._publish.close()

    def _hand_out(self, raw: bytes) -> None:
        try:
            opened = opening.unsealed(raw, self._app.key)
        except SealBroken:
            return  # which call it was meant for cannot be read
        self.calls.give(opened)


def _unavailable(doing: str, error: BaseException) -> str:
    return f"{doing}: {causes.name_of(error)}"
