"""A fetch of a client token or a key set that failed: what it means for who would fetch next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from session_client.contract import Reason
from worker.errors import (
    HeldBack,
    MosaicRateLimited,
    MosaicTimedOut,
    MosaicUnavailable,
    OperatorMustAct,
    TryLater,
)

# How long a fetch that failed is not repeated. Each request would fetch for itself otherwise, one
# after the other.
FAILURE_SECONDS: Final = 5.0
# For so long after it nobody waits for the fetch of another thread or process: it may fail as
# slowly, and one app's address would hold all slots of the worker. After a quiet night the first
# requests wait for the one that fetches: the address may be well again.
HANGS_SECONDS: Final = 60.0
# A fetch that had less time, and used it up, says nothing of Mosaic.
MIN_COUNTED_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class FailedFetch:
    """Why a fetch has failed, when (Unix seconds), and for how long there is to be no other."""

    kind: type[TryLater | OperatorMustAct]
    text: str
    at: float
    seconds: float

    def is_within(self, seconds: float, now: float) -> bool:
        """Whether it failed in the latest *seconds*, by a clock that was not set back since."""
        return 0 <= now - self.at < seconds

    def is_recent(self, now: float) -> bool:
        """Whether there is to be no other fetch yet."""
        return self.is_within(self.seconds, now)

    def again(self, now: float) -> TryLater | OperatorMustAct:
        """Return the error for who does not fetch, and so has met no page, no time-out and no 429.

        A breaker or a pause would count one of them as often as there are requests that hear of it.
        """
        left = max(1.0, self.at + self.seconds - now)
        if issubclass(self.kind, MosaicRateLimited):
            return HeldBack(self.text, Reason.RATE_LIMITED, left)
        if issubclass(self.kind, TryLater):
            return MosaicUnavailable(self.text, retry_after=left)
        return self.kind(self.text)


def counts(error: TryLater | OperatorMustAct, had_seconds: float) -> bool:
    """Whether a fetch that had so long and failed by *error* says anything of Mosaic."""
    return had_seconds >= MIN_COUNTED_SECONDS or not isinstance(error, MosaicTimedOut)
