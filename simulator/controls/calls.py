"""The calls Mosaic received."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from threading import Lock

from simulator.idp.endpoints import Endpoint

LOG_LENGTH = 10_000


@dataclass
class Call:
    """One call; its status stays None while it is under way, and for ever if we hung up."""

    endpoint: str
    client_id: str | None
    at: float
    session_id: str | None = None
    status: int | None = None


class Calls:
    """Counts every call and remembers the latest ones."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: Counter[tuple[str, str | None]] = Counter()
        self._log: deque[Call] = deque(maxlen=LOG_LENGTH)

    def record(self, call: Call) -> Call:
        """Note a call as it arrives; its status follows."""
        with self._lock:
            self._counts[call.endpoint, call.client_id] += 1
            self._log.append(call)
        return call

    def count(self, endpoint: str | None = None, client_id: str | None = None) -> int:
        """How many calls arrived; None counts all endpoints, or all clients."""
        wanted = None if endpoint is None else Endpoint(endpoint)
        with self._lock:
            return sum(
                number
                for (name, caller), number in self._counts.items()
                if wanted in {None, name} and client_id in {None, caller}
            )

    def log(self) -> list[Call]:
        """The latest calls, oldest first."""
        with self._lock:
            return list(self._log)

    def clear(self) -> None:
        """Forget all calls."""
        with self._lock:
            self._counts.clear()
            self._log.clear()
