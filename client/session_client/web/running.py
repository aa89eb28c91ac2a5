"""Does what the core yields: with a client that blocks, or with one that is awaited."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from session_client.web.options import Options
from session_client.web.outcome import Ask, Keep, Look, Put, Step, Steps

log: Final = logging.getLogger("session_client.web")
_WARN_EVERY_SECONDS: Final = 60.0

T = TypeVar("T")


def run(steps: Steps[T], client: object, options: Options) -> T:
    """Take *steps* to their end, with a `SessionClient`."""
    doer = _Doer(options)
    send: Callable[[], Step] = lambda: next(steps)  # noqa: E731 - the first of several
    while True:
        try:
            step = send()
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        try:
            done = (
                getattr(client, step.call)(**step.arguments)
                if isinstance(step, Ask)
                else doer.do(step)
            )
        except Exception as error:  # noqa: BLE001 - it is the core's to judge
            send = _throwing(steps, error)
        else:
            send = _sending(steps, done)


async def run_async(
    steps: Steps[T], client: object, options: Options, in_threads: Callable[..., Awaitable[Any]]
) -> T:
    """Take *steps* to their end, with an `AsyncSessionClient`.

    Marks and spool block: *in_threads* is `starlette.concurrency.run_in_threadpool`, or alike.
    """
    doer = _Doer(options)
    send: Callable[[], Step] = lambda: next(steps)  # noqa: E731
    while True:
        try:
            step = send()
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        try:
            done = (
                await getattr(client, step.call)(**step.arguments)
                if isinstance(step, Ask)
                else await in_threads(doer.do, step)
            )
        except Exception as error:  # noqa: BLE001
            send = _throwing(steps, error)
        else:
            send = _sending(steps, done)


class _Doer:
    """Reads and puts marks, and fills the spool."""

    warned_at: float | None = None

    def __init__(self, options: Options) -> None:
        self._options = options

    def do(self, step: Look | Put | Keep) -> Any:
        match step:
            case Look(names=names):
                return self._look(names)
            case Put(name=name, at=at):
                return self._options.marks.put(name, at, self._options.marks_last)
            case Keep(request=request):
                assert self._options.spool is not None  # noqa: S101 - the core has looked
                return self._options.spool.logout(**request)

    def _look(self, names: tuple[str, ...]) -> dict[str, float] | None:
        try:
            return self._options.marks.look(names)
        except Exception as error:  # noqa: BLE001 - whatever an app's store raises
            now = time.monotonic()
            if _Doer.warned_at is None or now - _Doer.warned_at >= _WARN_EVERY_SECONDS:
                _Doer.warned_at = now
                log.warning(
                    "marks cannot be read (%s): the worker is asked instead", type(error).__name__
                )
            return None


def _throwing(steps: Steps[Any], error: Exception) -> Callable[[], Step]:
    return lambda: steps.throw(error)


def _sending(steps: Steps[Any], done: Any) -> Callable[[], Step]:
    return lambda: steps.send(done)
