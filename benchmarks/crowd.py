"""An async app with a crowd at its door and no worker: `python -m benchmarks.crowd URL`.

In a process of its own, as an app is. It prints what `benchmarks.figures.Crowd` holds, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import suppress
from typing import Any, Final

from session_client import AppKey, AsyncSessionClient, NotAnswered

CALLS: Final = 500
TIMEOUT_SECONDS: Final = 1.0
_TICK_SECONDS: Final = 0.001


async def crowd(client: AsyncSessionClient) -> dict[str, float]:
    """Call so often at once; return when the last ended, and how long the loop stood still."""
    turns = _count_turns(asyncio.get_running_loop())
    late = 0.0

    async def tick() -> None:
        nonlocal late
        while True:
            due = time.monotonic() + _TICK_SECONDS
            await asyncio.sleep(_TICK_SECONDS)
            late = max(late, time.monotonic() - due)

    async def call() -> float:
        started = time.monotonic()
        with suppress(NotAnswered):
            await client.status(user_id="ada", timeout=TIMEOUT_SECONDS)
        return time.monotonic() - started

    ticking = asyncio.create_task(tick())
    ended = await asyncio.gather(*(call() for _ in range(CALLS)))
    ticking.cancel()
    return {
        "last_ended_seconds": max(ended),
        "late_ms": late * 1000,
        "longest_turn_cpu_ms": max(turns) * 1000,
    }


def _count_turns(loop: Any) -> list[float]:
    """Return a list that is filled with the CPU of each turn of *loop*."""
    turns: list[float] = []
    turn = loop._run_once  # noqa: SLF001 - nothing public says where a turn begins

    def counted() -> None:
        started = time.thread_time()
        turn()
        turns.append(time.thread_time() - started)

    loop._run_once = counted  # noqa: SLF001
    return turns


async def _main(client: AsyncSessionClient) -> dict[str, float]:
    async with client:
        return await crowd(client)


if __name__ == "__main__":
    app = AsyncSessionClient(broker_url=sys.argv[1], app_id="shop", app_key=AppKey.generate())
    print(json.dumps(asyncio.run(_main(app))))
