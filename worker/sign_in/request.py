"""One silent authentication: who asks, what for, how strong it must be, and until when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from session_client.contract import Reason
from worker.app_registry import KnownApp
from worker.errors import InvalidRequest
from worker.policy import Policy
from worker.requests.commands import SilentAuthCommand
from worker.sessions.audit import Cause
from worker.wiring import Services


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: who asks, what for, how strong it must be, and until when."""

    services: Services
    app: KnownApp
    command: SilentAuthCommand
    policy: Policy
    by: Cause
    since: datetime
    deadline: datetime

    def seconds_left(self) -> float:
        """Return the time there is for this request. Raises `InvalidRequest` when it is over."""
        left = (self.deadline - self.services.now()).total_seconds()
        if left <= 0:
            raise InvalidRequest(Reason.DEADLINE_PASSED)
        return left
