"""What a request comes to: a verdict with its reason and data, before it is sealed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from session_client.contract import Reason, Verdict
from worker.errors import (
    ClientRefused,
    InvalidRequest,
    LoginRefused,
    MosaicContractBroken,
    RequestRefused,
    SessionWorkerError,
    TokenRejected,
    TryLater,
    UserRefused,
)
from worker.storage.redis_scripts import Call

# When only an operator can help, an app need not ask again at once.
_OPERATOR_NEEDS_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """An answer to an app. ``data`` may hold tokens: no repr. ``detail`` helps a developer."""

    verdict: Verdict
    reason: Reason | None = None
    data: dict[str, Any] = field(default_factory=dict, repr=False)
    retry_after: float | None = None
    detail: str | None = None
    # What goes to Redis before the answer, in one trip: it shares the answer with identical
    # requests, or takes back what was counted of a login. It may be run twice.
    goes_first: Call | None = field(default=None, repr=False)
    # Deliveries about the sessions it has ended, to wake now that all is committed.
    logouts: tuple[UUID, ...] = ()
    notices: tuple[UUID, ...] = ()
    revocations: tuple[UUID, ...] = ()
    # Logins whose user at Mosaic is known: earlier ones of that user may have left sessions there.
    orphans: tuple[UUID, ...] = ()
    # When we last began to ask the store whether the session is live whose tokens these are, as a
    # moment of `time.monotonic`. A logout may have been committed at any time since.
    live_at: float | None = None

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


# An identical request that failed shares its reason alone: this is what that one's verdict was.
_SHARED_VERDICTS: Final = {
    Reason.USER_NOT_ACTIVE: Verdict.LOGIN_REQUIRED,
    Reason.USER_LOCKED: Verdict.LOGIN_REQUIRED,
    Reason.USER_UNKNOWN: Verdict.LOGIN_REQUIRED,
    Reason.OPTIONS_REFUSED: Verdict.INVALID_REQUEST,
}


def failure_of(error: Exception) -> Outcome:
    """Return what an app is answered when *error* kept its request from being served."""
    if isinstance(error, RequestRefused):
        is_invalid = isinstance(error, InvalidRequest)
        verdict = Verdict.INVALID_REQUEST if is_invalid else Verdict.UNAUTHORIZED
        return Outcome(verdict, error.reason, detail=error.detail or None)
    if isinstance(error, LoginRefused):
        return Outcome(Verdict.ACCESS_DENIED, error.reason, retry_after=error.retry_after)
    if isinstance(error, UserRefused):
        return Outcome(Verdict.LOGIN_REQUIRED, error.reason)
    if isinstance(error, TryLater):
        verdict = _SHARED_VERDICTS.get(error.reason, Verdict.TEMPORARILY_UNAVAILABLE)
        is_verdict = verdict is not Verdict.TEMPORARILY_UNAVAILABLE
        wait = None if is_verdict else round(error.retry_after, 3)
        return Outcome(verdict, error.reason, retry_after=wait)
    is_known = isinstance(error, SessionWorkerError)
    return Outcome(
        Verdict.TEMPORARILY_UNAVAILABLE,
        _reason_of(error),
        retry_after=_OPERATOR_NEEDS_SECONDS if is_known else TryLater().retry_after,
    )


def _reason_of(error: Exception) -> Reason:
    if isinstance(error, ClientRefused):
        return Reason.CLIENT_REFUSED
    if isinstance(error, MosaicContractBroken | TokenRejected):
        return Reason.IDP_UNAVAILABLE  # not ours: "a defect of the worker" would mislead
    return Reason.INTERNAL_ERROR
