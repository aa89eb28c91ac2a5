"""Gates hold calls still, so that a test can act while one is under way."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from threading import Lock
from types import TracebackType
from typing import Self

from simulator.idp.endpoints import Endpoint

LOOK_AGAIN_SECONDS = 0.005


def wait_until(condition: Callable[[], bool], timeout_seconds: float) -> None:
    """Return once *condition* holds; raise TimeoutError if it does not in time."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing came within {timeout_seconds} s")
        time.sleep(LOOK_AGAIN_SECONDS)


class Gate:
    """Holds the calls of one endpoint until it is released; leaving its block releases it."""

    def __init__(self, endpoint: Endpoint, client_id: str | None, *, before: bool) -> None:
        self.endpoint = endpoint
        self.client_id = client_id
        self.before = before
        self.arrived = 0
        self.is_open = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def release(self) -> None:
        """Let the held calls go, and all later ones pass."""
        self.is_open = True

    def wait_arrived(self, count: int = 1, timeout_seconds: float = 60.0) -> None:
        """Return once *count* calls stand at the gate; raise TimeoutError if they do not come."""
        wait_until(lambda: self.arrived >= count, timeout_seconds)

    async def pass_through(self) -> None:
        """Stand at the gate until it opens."""
        self.arrived += 1
        while not self.is_open:  # noqa: ASYNC110 - another thread opens it
            await asyncio.sleep(LOOK_AGAIN_SECONDS)


class Gates:
    """The gates now standing."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._gates: list[Gate] = []

    def hold(self, endpoint: str, client_id: str | None = None, *, before: bool = False) -> Gate:
        """Hold the answers of *endpoint*; with *before*, hold calls before their work is done."""
        gate = Gate(Endpoint(endpoint), client_id, before=before)
        with self._lock:
            self._gates = [*(gate for gate in self._gates if not gate.is_open), gate]
        return gate

    def release_all(self) -> None:
        """Open every gate."""
        for gate in self._gates:
            gate.release()

    async def pass_through(self, endpoint: str, client_id: str | None, *, before: bool) -> None:
        """Stand at each closed gate in the way of this call."""
        for gate in self._gates:
            in_the_way = gate.endpoint == endpoint and gate.client_id in {None, client_id}
            if in_the_way and gate.before is before and not gate.is_open:
                await gate.pass_through()
