"""The driver for asyncio: two connections for all calls of an event loop.

One writes whatever requests are ready, in one go. The other waits on a list of this link's own,
which each request names in its header ``answer_to``, opens what comes and hands it out by request
id. A call is a future with a timer: cancelled or late, it is taken out of the table, and what
comes for nobody is dropped.
"""

from __future__ import annotations

import asyncio
import os
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias, TypeVar

import redis

from session_client import contract, requests, urls
from session_client._core import opening
from session_client._core.app import App
from session_client._core.call import Ask, Rest, Steps
from session_client._core.opening import Opened
from session_client._redis import causes
from session_client._redis.settings import Place
from session_client.errors import (
    BrokerUnavailable,
    ConfigurationError,
    SealBroken,
    Unavailable,
)

R = TypeVar("R")

# How long Redis itself waits in one BLPOP, and how much longer it may be silent before the
# connection is given up: a firewall forgets one without a word.
_ON_SERVER_SECONDS: Final = 1.0
_SILENCE_SECONDS: Final = 2.0
_AT_ONCE: Final = 64
# With nobody waiting, connections are kept for this long: with TLS a new one costs the most.
_LINGER_SECONDS: Final = 30.0


def driver(broker_url: str, reply_url: str, app: App, *, max_waiting: int) -> AsyncDriver:
    """Return a driver. Raises `ConfigurationError` for a broker that is no Redis."""
    if not urls.is_redis(broker_url):
        raise ConfigurationError("broker_url: the asyncio client needs a Redis")
    name = f"app-{app.app_id}"
    places = Place(broker_url, name), Place(reply_url, name)
    return AsyncDriver(lambda: Link(*places, app, max_waiting))


class AsyncDriver:
    """Runs calls for one client, from any event loop of any process."""

    def __init__(self, make: Callable[[], Link]) -> None:
        self._make = make
        self._links: dict[int, weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Link]] = {}

    async def run(self, life: Steps[R]) -> R:
        """Do what *life* asks for until it ends. Raises what it raises."""
        link = self._link()
        waiters: dict[str, _Waiter] = {}
        try:
            step = next(life)
            while True:
                try:
                    sent = None
                    if isinstance(step, Rest):
                        await asyncio.sleep(max(0.0, step.until - time.monotonic()))
                    else:
                        sent = await link.ask(step, waiters)
                except Unavailable as error:  # noqa: PERF203 - each step may
                    step = life.throw(error)
                else:
                    step = life.send(sent)
        except StopIteration as end:
            value: R = end.value
            return value
        finally:
            link.forget(waiters)

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
        return links.get(loop) or links.setdefault(loop, self._make())


# What comes for a call: an answer, or why none can.
_News: TypeAlias = "Opened | str"


class _Waiter:
    """One call's place in the table."""

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self._come: deque[_News] = deque()
        self._future: asyncio.Future[None] | None = None
        self.is_gone = False

    def give(self, news: _News) -> None:
        """Hand over what came."""
        self._come.append(news)
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    async def next(self, until: float) -> Opened | None:
        """Return what comes until *until*; None if nothing does."""
        if not self._come:
            loop = asyncio.get_running_loop()
            future = self._future = loop.create_future()
            left = max(0.0, until - time.monotonic())
            timer = loop.call_later(left, _end, future)
            try:
                await future
            finally:
                timer.cancel()
                self._future = None
        if not self._come:
            return None
        news = self._come.popleft()
        if isinstance(news, str):
            raise BrokerUnavailable(news, request_id=self._request_id)
        return news


def _end(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Link:
    """What one event loop talks through. It opens nothing before it is asked."""

    def __init__(self, publish: Place, replies: Place, app: App, max_waiting: int) -> None:
        self._app = app
        self._max_waiting = max_waiting
        self._box = requests.new_request_id()
        # More than one call may wait under one request id: repeated, while the first still waits.
        self._waiting: dict[str, list[_Waiter]] = {}
        self._count = 0
        self._outgoing: list[tuple[_Waiter, Ask]] = []
        self._publish = _Line(publish)
        self._replies = _Line(replies)
        self._writing: asyncio.Task[None] | None = None
        self._reading: asyncio.Task[None] | None = None

    async def ask(self, ask: Ask, waiters: dict[str, _Waiter]) -> Opened | None:
        """Publish if it is due, and wait. *waiters* are this call's own, by request id."""
        request_id = ask.message.request_id
        waiter = waiters.get(request_id)
        if waiter is None:
            if self._count >= self._max_waiting:
                raise Unavailable("too many calls wait", request_id=request_id)
            self._count += 1
            waiter = waiters[request_id] = _Waiter(request_id)
            self._waiting.setdefault(request_id, []).append(waiter)
        if ask.is_due:
            self._outgoing.append((waiter, ask))
            if self._writing is None or self._writing.done():
                self._writing = asyncio.create_task(self._write())
        if self._reading is None or self._reading.done():
            self._reading = asyncio.create_task(self._read())
        return await waiter.next(ask.until)

    def forget(self, waiters: dict[str, _Waiter]) -> None:
        """Take a call out of the table, however it has ended."""
        for request_id, waiter in waiters.items():
            waiter.is_gone = True
            self._count -= 1
            known = self._waiting[request_id]
            known.remove(waiter)
            if not known:
                del self._waiting[request_id]

    @asynccontextmanager
    async def taking(self, queue: str) -> AsyncIterator[Callable[[float], Awaitable[bytes | None]]]:
        """Give a function that takes the oldest item of *queue*."""
        line = self._replies.another()

        async def take(until: float) -> bytes | None:
            while True:
                was_proven = line.is_proven
                left = max(until - time.monotonic(), 0.01)
                try:
                    wait = min(left, _ON_SERVER_SECONDS)
                    (found,) = await line.exchange([("BRPOP", queue, f"{wait:.3f}")])
                except Exception as error:  # noqa: BLE001 - also what redis-py itself falls over
                    await line.close()
                    if not was_proven and not causes.is_timeout(error):
                        told = f"waiting for a notice: {causes.name_of(error)}"
                        raise BrokerUnavailable(told) from None
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
        """Close the connections; who still waits is told that there is no broker any more."""
        self._fail("the client was closed")
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
                # In slices: to write many messages takes long, for all others of this event loop.
                due, self._outgoing = self._outgoing[:_AT_ONCE], self._outgoing[_AT_ONCE:]
                await self._put([(waiter, ask) for waiter, ask in due if not waiter.is_gone])
        except BaseException:
            await self._publish.close()
            raise

    async def _put(self, due: list[tuple[_Waiter, Ask]]) -> None:
        line = self._publish
        was_proven = line.is_proven
        try:
            await line.connect()
            pushes = [
                ("LPUSH", ask.message.queue.value, ask.message.to_wire(self._box)) for _, ask in due
            ]
            await line.send(pushes, _SILENCE_SECONDS, is_long=True)
            while due:
                try:
                    await line.read()
                except redis.ResponseError as error:
                    due[0][0].give(_unavailable("publishing", error))
                del due[0]
        except Exception as error:  # noqa: BLE001 - also what redis-py itself falls over
            await line.close()
            if was_proven or causes.is_timeout(error):
                self._outgoing = due + self._outgoing  # perhaps they are there already: no matter
                return
            for waiter, _ in due + self._outgoing:
                waiter.give(_unavailable("publishing", error))
            self._outgoing.clear()

    async def _read(self) -> None:
        """Hand out answers, for as long as somebody waits and a while more."""
        key = contract.reply_key(self._app.app_id, self._box)
        take = [("BLPOP", key, f"{_ON_SERVER_SECONDS:.3f}"), ("LPOP", key, str(_AT_ONCE))]
        line = self._replies
        idle_until = 0.0
        await asyncio.sleep(0)  # with TLS to connect takes long: not in one go with the other one
        try:
            while True:
                if self._waiting:
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
                    self._fail(_unavailable("waiting for an answer", error))
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
            return  # nobody can say whose it was meant to be
        for waiter in self._waiting.get(str(opened.request_id), ()):
            waiter.give(opened)

    def _fail(self, why: str) -> None:
        for waiters in self._waiting.values():
            for waiter in waiters:
                waiter.give(why)


def _unavailable(doing: str, error: BaseException) -> str:
    return f"{doing}: {causes.name_of(error)}"


class _Line:
    """One connection, made when it is used."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._connection: Any = None
        self.is_proven = False  # it has answered once

    def another(self) -> _Line:
        """Return one more to the same Redis."""
        return _Line(self._place)

    async def exchange(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Send *commands* in one write, and read the reply to each."""
        await self.send(commands, _ON_SERVER_SECONDS + _SILENCE_SECONDS)
        return [await self.read() for _ in commands]

    async def connect(self) -> None:
        """Connect it, if it is not yet."""
        if self._connection is None:
            connection = self._connection = self._place.for_asyncio()
            connection.socket_connect_timeout = connection.socket_timeout = _SILENCE_SECONDS
            await connection.connect()

    async def send(
        self, commands: list[tuple[Any, ...]], silence: float, *, is_long: bool = False
    ) -> None:
        """Send *commands*; each of their replies may take *silence* seconds."""
        await self.connect()
        connection = self._connection
        # Without a limit redis-py does not go through `asyncio.wait_for`, which before Python 3.12
        # may swallow a cancellation. To ask for an answer is too short to fill a buffer.
        connection.socket_timeout = silence if is_long else None
        await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        connection.socket_timeout = silence

    async def read(self) -> Any:
        """Read one reply."""
        # Closed here alone, and at once: redis-py would close it in its own time.
        reply = await self._connection.read_response(disconnect_on_error=False)
        self.is_proven = True
        return reply

    async def close(self) -> None:
        """Close it at once."""
        connection, self._connection, self.is_proven = self._connection, None, False
        if connection is None:
            return
        # TLS says good-bye in a later turn of the event loop, which may have ended by then.
        writer = connection._writer  # noqa: SLF001 - the same in all versions
        if writer is not None:
            writer.transport.abort()
        await connection.disconnect(nowait=True)
