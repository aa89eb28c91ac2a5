"""What stands behind a client of a test in place of a broker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeAlias, TypeVar

from session_client._core.app import App
from session_client._core.call import Ask, GivenUp, Rest, Steps
from session_client._core.message import Message
from session_client.errors import Unavailable

R = TypeVar("R")
Answer: TypeAlias = Callable[[App, Message], bytes]


class Driver:
    """Takes the place of the driver of a client."""

    def __init__(self, answer: Answer | None, app: App) -> None:
        self._answer = answer
        self._app = app

    def run(self, life: Steps[R]) -> R:
        """Take *life* to its end."""
        try:
            step = next(life)
            while True:
                step = self._do(life, step)
        except StopIteration as end:
            value: R = end.value
            return value

    def _do(self, life: Steps[R], step: Ask | Rest) -> Ask | Rest:
        if self._answer is None:
            raise AssertionError("a test that reaches a client needs the fixture session_worker")
        if isinstance(step, Rest):
            return life.send(None)  # no thread sleeps in a test
        try:
            raw = self._answer(self._app, step.message)
        except Unavailable as error:
            # The outage lasts for all of the call's time, and no test waits for its end.
            return life.throw(GivenUp(error))
        return life.send(raw)

    def close(self) -> None:
        """Close nothing."""


class AsyncDriver(Driver):
    """Takes the place of the driver of an async client."""

    async def run(self, life: Steps[R]) -> R:  # type: ignore[override]
        """Take *life* to its end."""
        await asyncio.sleep(0)
        return super().run(life)

    async def aclose(self) -> None:
        """Close nothing."""
