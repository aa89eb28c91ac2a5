"""The calls Mosaic received."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

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
    fields: Mapping[str, Any] = field(default_factory=dict)  # of its body, query and path

    def fits(self, endpoint: str | None, client_id: str | None, fields: Mapping[str, Any]) -> bool:
        """Whether this is such a call; None stands for any."""
        return (
            endpoint in {None, self.endpoint}
            and client_id in {None, self.client_id}
            and fields.items() <= self.fields.items()
        )


class Calls:
    """Counts every call and remembers the latest ones."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: Counter[tuple[str, str | None]] = Counter()
        self._log: deque[Call] = deque(maxlen=LOG_LENGTH)
        self._complaints: deque[str] = deque(maxlen=LOG_LENGTH)

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

    def find(
        self, endpoint: str | None = None, client_id: str | None = None, **fields: Any
    ) -> list[Call]:
        """The latest calls that carried these *fields*, such as a session id or a passcode."""
        wanted = None if endpoint is None else Endpoint(endpoint)
        return [call for call in self.log() if call.fits(wanted, client_id, fields)]

    def complain(self, endpoint: str, about: str, sentences: Iterable[str]) -> None:
        """Note how a request, or our answer to one, does not fit Mosaic's own pages."""
        self._complaints += [f"{endpoint} {about}: {sentence}" for sentence in sentences]

    def complaints(self) -> list[str]:
        """Everything that did not fit, however long ago."""
        return list(self._complaints)

    def forgive(self) -> None:
        """Forget the complaints, which a test has provoked on purpose."""
        self._complaints.clear()

    def clear(self) -> None:
        """Forget all calls, but not the complaints about them."""
        with self._lock:
            self._counts.clear()
            self._log.clear()
