"""Beat ends when it is told to, whatever it is doing.

Celery's handler of SIGTERM closes the connection to the broker and raises SystemExit. Where beat
waits for Redis' answer, redis-py trips over the closed connection and raises an error in its place,
which Celery takes for a message that could not be sent: beat would go on for ever.
"""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any


def end_when_told(service: Any) -> None:
    """Have beat's *service* look at no further entry once SIGTERM or SIGINT has come.

    Where Celery set no handler, within a worker (``-B``), the signal ends the process by itself.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        celerys = signal.getsignal(number)
        if callable(celerys):
            signal.signal(number, _ending(service, celerys))


def _ending(service: Any, celerys: Any) -> Any:
    def end(number: int, frame: FrameType | None) -> None:
        service._is_shutdown.set()  # noqa: SLF001 - `stop` logs, which a handler must not
        celerys(number, frame)

    return end
