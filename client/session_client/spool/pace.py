"""How many logouts go out at once: about as many as the worker answers in a second."""

from __future__ import annotations

from typing import Final

from session_client.spool import drain
from session_client.spool.drain import Round

_FIRST: Final = 20
_QUICK_SECONDS: Final = 1.0
_SLOW_SECONDS: Final = 2.0


class Pace:
    """Grows while batches are answered at once, and shrinks where they wait.

    Many processes may drain one spool: with a batch of hundreds from each before a slow worker, the
    last would hear nothing for so long that all of it is sent again.
    """

    def __init__(self) -> None:
        self.limit = min(_FIRST, drain.BATCH)

    def learn(self, done: Round) -> None:
        """Take how the last round went into account."""
        if done.is_silent:
            self.limit = 1  # one after the other is tried, and the rest is left alone
        elif done.seconds > _SLOW_SECONDS:
            self.limit = max(self.limit // 2, 1)
        elif done.seconds < _QUICK_SECONDS and done.asked >= self.limit:
            self.limit = min(self.limit * 2, drain.BATCH)
