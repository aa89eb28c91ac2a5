"""The calls of one event loop that wait for an answer, and how each is handed what comes."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TypeAlias

from session_client._core.message import Message
from session_client._core.opening import Opened
from session_client.contract import Reason
from session_client.errors import BrokerUnavailable, InvalidRequest, Unavailable

# What comes for a call: an answer, or why none can.
News: TypeAlias = "Opened | str"


class Waiter:
    """One call's place in the table."""

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        self._come: deque[News] = deque()
        self._future: asyncio.Future[None] | None = None
        self.is_answered = False
        self.is_gone = False

    def give(self, news: News) -> None:
        """Hand over what came."""
        self._come.append(news)
        self.is_answered = self.is_answered or isinstance(news, Opened)
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
            raise BrokerUnavailable(news, request_id=self.request_id)
        return news


def _end(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class CallTable:
    """The calls of one event loop that wait, by request id."""

    def __init__(self, max_waiting: int) -> None:
        self._max_waiting = max_waiting
        # More than one call may wait under one request id: repeated, while the first still waits.
        self._waiting: dict[str, list[Waiter]] = {}
        self._count = 0
        # What is asked under ids that apps have given. An answer names no more than the id: where
        # two calls had one for different things, one caller would get the other one's user.
        self._asked: dict[str, bytes] = {}

    def __len__(self) -> int:
        return self._count

    def enter(self, message: Message, earlier: Waiter | None) -> Waiter:
        """Put a call in. Raises `Unavailable` when as many wait as may.

        Raises `InvalidRequest` where something else is asked under its id, as the worker does.
        *earlier* is the place it has had until now. A call waits for one answer at a time: one that
        asks for an hour, each time under a new request id, must not take all places.
        """
        request_id = message.request_id
        if earlier is not None:
            if earlier.request_id == request_id:
                return earlier
            self.forget(earlier)
        if self._count >= self._max_waiting:
            raise Unavailable("too many calls wait", request_id=request_id)
        self._check_id(message)
        self._count += 1
        waiter = Waiter(request_id)
        self._waiting.setdefault(request_id, []).append(waiter)
        return waiter

    def forget(self, waiter: Waiter) -> None:
        """Take a call out, however it has ended."""
        waiter.is_gone = True
        self._count -= 1
        known = self._waiting[waiter.request_id]
        known.remove(waiter)
        if not known:
            del self._waiting[waiter.request_id]
            if waiter.is_answered:  # else the answer may be on its way
                self._asked.pop(waiter.request_id, None)

    def give(self, opened: Opened) -> None:
        """Hand an answer to the calls that wait under its request id, if any do."""
        for waiter in self._waiting.get(str(opened.request_id), ()):
            waiter.give(opened)

    def fail(self, why: str) -> None:
        """Tell every call why no answer can come."""
        for waiters in self._waiting.values():
            for waiter in waiters:
                waiter.give(why)

    def _check_id(self, message: Message) -> None:
        if message.asks is None:
            return
        if self._asked.setdefault(message.request_id, message.asks) != message.asks:
            raise InvalidRequest(Reason.REQUEST_ID_REUSED.value, message.request_id)
        if len(self._asked) > 2 * self._max_waiting:
            del self._asked[next(iter(self._asked))]
