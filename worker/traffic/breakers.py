"""What breakers learn from a call, and by which rules they open and close."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Final

from worker.errors import MosaicTimedOut, MosaicUnavailable, SessionWorkerError
from worker.settings.model import Settings
from worker.traffic.budgets import Lane
from worker.traffic.scripts import BreakerRules

GOOD_PROBES: Final = 3  # that close a breaker
BAD_PROBES: Final = 3  # of different sessions, that open it again
FAILED_SHARE: Final = 0.5  # of the calls in a window opens a breaker …
SHARE_OF_CALLS: Final = 20  # … once there are so many …
MAX_FAILURES_OF_ONE: Final = 3  # … of which the failures of one session count so often
SHARE_WINDOW_SECONDS: Final = 30.0
# A call cut off earlier by its own deadline says nothing about Mosaic. Were it counted, an app
# with short deadlines could close the way for all apps. And no more than this share of the longest
# call: one that has waited for its turn has less than all of it.
MIN_COUNTED_TIMEOUT_SECONDS: Final = 2.0
MIN_COUNTED_SHARE: Final = 0.5
SLOW_SECONDS: Final = 1.0  # a failure that takes so long keeps a slot from other calls


class CallResult(StrEnum):
    """What a call has taught of its endpoint, in the words of ``lua/report.lua``."""

    UNKNOWN = "unknown"
    ANSWERED = "ok"
    FAILED = "failed"


class CallObserver:
    """Looks on while the endpoint is asked, and at nothing before or after it."""

    result = CallResult.UNKNOWN
    seconds = 0.0  # that it took

    def __init__(self, min_counted_timeout: float) -> None:
        self._min_counted_timeout = min_counted_timeout

    @contextmanager
    def asking(self, allowed_seconds: float) -> Iterator[None]:
        """Learn from how it takes what is asked within; it has *allowed_seconds* to answer.

        The last time counts: a call may ask twice.
        """
        self.result = CallResult.UNKNOWN
        began = time.monotonic()
        try:
            yield
        except MosaicTimedOut:
            if allowed_seconds >= self._min_counted_timeout:
                self.result = CallResult.FAILED
            raise
        except MosaicUnavailable:
            self.result = CallResult.FAILED
            raise
        except SessionWorkerError:
            self.result = CallResult.ANSWERED  # if not what was hoped for
            raise
        else:
            self.result = CallResult.ANSWERED
        finally:
            self.seconds = time.monotonic() - began

    @property
    def is_slow(self) -> bool:
        """Whether it kept its slot from other calls for long."""
        return self.seconds >= SLOW_SECONDS


def min_counted_timeout(settings: Settings) -> float:
    """Return the seconds that a call must have had for its timeout to be a failure of Mosaic."""
    return min(MIN_COUNTED_TIMEOUT_SECONDS, MIN_COUNTED_SHARE * settings.mosaic_timeout_seconds)


def breaker_rules(settings: Settings, lane: Lane) -> BreakerRules:
    """Return what the breakers of a lane go by."""
    first = settings.breaker_open_seconds
    return BreakerRules(
        failures_in_a_row=settings.breaker_failures,
        share=FAILED_SHARE,
        share_of_calls=SHARE_OF_CALLS,
        window_seconds=SHARE_WINDOW_SECONDS,
        most_of_one=MAX_FAILURES_OF_ONE,
        open_seconds=first,
        # A logout has a back-off of its own, which doubles: one that failed because of other
        # calls must not wait for both.
        max_open_seconds=first if lane is Lane.LOGOUT else settings.breaker_open_max_seconds,
        good_probes=GOOD_PROBES,
        bad_probes=BAD_PROBES,
    )
