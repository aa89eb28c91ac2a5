"""What stands behind a client of a test in place of a broker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn, TypeAlias, TypeVar

from session_client._core.app import App
from session_client._core.call import Ask, GivenUp, Rest, Steps
from session_client._core.message import Message
from session_client._pretend.planned import NotPretended
from session_client.contract import Task
from session_client.errors import BrokerUnavailable, NotAnswered, Unavailable

R = TypeVar("R")
Answer: TypeAlias = Callable[[App, Message], bytes]


class Driver:
    """Takes the place of the driver of a client."""

    def __init__(
        self, answer: Answer | None, app: App, *, is_planned: Callable[[Task], bool]
    ) -> None:
        self._answer = answer
        self._app = app
        self._is_planned = is_planned

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
        worker = self._worker
        if isinstance(step, Rest):
            # No thread sleeps in a test, nor asks again and again for a receipt that stays as it is
            # until another one is planned.
            if self._is_planned(Task.RECEIPT):
                return life.send(None)
            return life.throw(GivenUp(NotAnswered("no other receipt is planned")))
        try:
            raw = worker(self._app, step.message)
        except Unavailable as error:
            # The outage lasts for all of the call's time, and no test waits for its end.
            return life.throw(GivenUp(error))
        return life.send(raw)

    def ask_all(
        self, messages: Sequence[Message], answer_to: str, quiet: float, longest: float
    ) -> Iterator[bytes]:
        """Yield the answers to what a spool sends. Raises `Unavailable` after those of the others.

        What keeps the broker away is raised at once.
        """
        del answer_to, quiet, longest  # no answer takes any time
        why: Unavailable | None = None
        for message in messages:
            try:
                yield self._worker(self._app, message)
            except Unavailable as error:  # noqa: PERF203 - each may be one that a test plans
                if isinstance(error, BrokerUnavailable):
                    raise
                why = error
        if why is not None:
            raise why

    def take(self, _queue: str, _until: float) -> NoReturn:
        """Raise `NotPretended`: nothing says which notices a queue would hold."""
        _ = self._worker
        raise NotPretended("a queue of notices: hand a LogoutNotice to what acts on them")

    def close(self) -> None:
        """Close nothing."""

    @property
    def _worker(self) -> Answer:
        if self._answer is None:
            raise AssertionError("a test that reaches a client needs the fixture session_worker")
        return self._answer


class AsyncDriver(Driver):
    """Takes the place of the driver of an async client."""

    async def run(self, life: Steps[R]) -> R:  # type: ignore[override]
        """Take *life* to its end."""
        await asyncio.sleep(0)
        return super().run(life)

    def taking(self, queue: str) -> NoReturn:
        """Raise `NotPretended` likewise."""
        self.take(queue, 0.0)

    async def aclose(self) -> None:
        """Close nothing."""
