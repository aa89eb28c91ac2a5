"""How many calls begin in one turn of an event loop: sealing hundreds would hold up other tasks."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

# Some five milliseconds of work.
AT_ONCE: Final = 32


class Turns:
    """Lets so many calls begin, and the next ones in the turn after, in their order."""

    def __init__(self) -> None:
        self._begun = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def take(self) -> None:
        """Return when this call may begin: mostly at once."""
        loop = asyncio.get_running_loop()
        if self._begun >= AT_ONCE:
            future = loop.create_future()
            self._waiting.append(future)
            await future
            return
        self._begun += 1
        if self._begun == 1:
            loop.call_soon(self._next)

    def _next(self) -> None:
        self._begun = 0
        while self._waiting and self._begun < AT_ONCE:
            future = self._waiting.popleft()
            if not future.done():  # cancelled while it waited
                future.set_result(None)
                self._begun += 1
        if self._begun:
            asyncio.get_running_loop().call_soon(self._next)
