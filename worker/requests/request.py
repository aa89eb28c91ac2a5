"""One request of an app, from the open envelope to its answer: every use case is handed this."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar

from session_client.contract import Reason, Task
from worker.app_registry import KnownApp
from worker.errors import InvalidRequest
from worker.requests.command_fields import Command
from worker.sessions.audit import Cause

C_co = TypeVar("C_co", bound=Command, covariant=True)


@dataclass(frozen=True, slots=True)
class OpenedRequest(Generic[C_co]):
    """A request of a proven sender that may be served."""

    app: KnownApp
    task: Task
    request_id: str
    command: C_co
    opened_at: datetime
    # When the work must be done; the sender may send it again until `valid_until`.
    deadline: datetime
    valid_until: datetime
    # SHA-256 of what is asked for: the same request id must come with the same content.
    digest: bytes = field(repr=False)

    @property
    def by(self) -> Cause:
        """The app and the request that the audit trail names."""
        return Cause(self.app.app_id, self.request_id)

    def seconds_left(self, now: datetime) -> float:
        """Return the time there is to serve it. Raises `InvalidRequest` when it is over."""
        left = (self.deadline - now).total_seconds()
        if left <= 0:
            raise InvalidRequest(Reason.DEADLINE_PASSED)
        return left
