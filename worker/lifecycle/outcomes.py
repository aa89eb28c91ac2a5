"""What a request comes to: a verdict with its reason and data, before it is sealed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from session_client.contract import Reason, Verdict
from worker.errors import InvalidRequest, RequestRefused, TryLater
from worker.redis_scripts import Call


@dataclass(frozen=True, slots=True)
class Outcome:
    """An answer to an app. ``data`` may hold tokens: no repr. ``detail`` helps a developer."""

    verdict: Verdict
    reason: Reason | None = None
    data: dict[str, Any] = field(default_factory=dict, repr=False)
    retry_after: float | None = None
    detail: str | None = None
    # What shares it with those who asked the same. It goes with the answer, in one trip to Redis.
    landing: Call | None = field(default=None, repr=False)

    def to_wire(self) -> dict[str, Any]:
        """Return the fields of the answer that say how it went."""
        fields = {
            "verdict": self.verdict.value,
            "reason": self.reason.value if self.reason else None,
            "retry_after": self.retry_after,
            "detail": self.detail,
            "data": self.data or None,
        }
        return {name: value for name, value in fields.items() if value is not None}


def refused(refusal: RequestRefused) -> Outcome:
    """Return the answer to a request that was refused."""
    invalid = isinstance(refusal, InvalidRequest)
    verdict = Verdict.INVALID_REQUEST if invalid else Verdict.UNAUTHORIZED
    return Outcome(verdict, refusal.reason, detail=refusal.detail or None)


def try_later(error: TryLater) -> Outcome:
    """Return the answer to a request that may succeed later."""
    return Outcome(
        Verdict.TEMPORARILY_UNAVAILABLE, error.reason, retry_after=round(error.retry_after, 3)
    )
