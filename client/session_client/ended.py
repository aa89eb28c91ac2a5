"""What this process has seen of sessions' ends, so that no answer on its way brings one back.

An answer may hold tokens that the worker handed out just before a logout, and arrive just after
the app was told of that logout, or asked for it: the app would sign the user in again, and no
notice would follow. So answers are held to what this process knows: its own logouts, notices it
has verified, and refusals that said how a session ended. An ended session never lives again.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from session_client import contract
from session_client.contract import Reason, Task, Verdict
from session_client.reading import Answered

MAX_REMEMBERED: Final = 20_000  # some three megabytes
_DEFAULT_TIMEOUT_SECONDS: Final = 10.0
# No request with tokens for an answer is served later than this after it was sent.
_LONGEST_SECONDS: Final = contract.MAX_LIFETIME[Task.SILENT_AUTH].total_seconds()
_ANSWER_SECONDS: Final = contract.ANSWER_LIFETIME.total_seconds()


class EndedSessions:
    """Remembers each for as long as an answer may be on its way. Bounded, and thread-safe.

    That is the longest timeout of any call so far, and the minute for which answers are kept. When
    there are more than *most*, the oldest are forgotten.
    """

    def __init__(
        self, *, most: int = MAX_REMEMBERED, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._most = most
        self._now = now
        self._longest_timeout = _DEFAULT_TIMEOUT_SECONDS
        self._lock = threading.Lock()
        # Why, and until when that matters; the oldest first.
        self._ended: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._ended)

    def outlast(self, timeout: float) -> None:
        """Remember for longer than a call that is made now with this *timeout* in seconds."""
        if timeout > self._longest_timeout:
            self._longest_timeout = min(timeout, _LONGEST_SECONDS)

    def add(self, session_ref: str | None, reason: str = Reason.LOGGED_OUT.value) -> None:
        """Remember that a session has ended; *reason* is the contract's word for how."""
        if session_ref is None:
            return
        now = self._now()
        with self._lock:
            self._ended[session_ref] = (reason, now + self._longest_timeout + _ANSWER_SECONDS)
            self._ended.move_to_end(session_ref)
            while len(self._ended) > self._most or self._is_oldest_over(now):
                self._ended.popitem(last=False)

    def _is_oldest_over(self, now: float) -> bool:
        _, until = next(iter(self._ended.values()))
        return until <= now

    def reason(self, session_ref: str | None) -> str | None:
        """Return how the session ended; None when no end of it was seen."""
        reason, until = self._ended.get(session_ref or "", ("", 0.0))
        return reason if until > self._now() else None

    def learn(self, answer: Answered) -> None:
        """Take from *answer* which sessions have ended: ``login_required`` names one that has."""
        for session_ref in answer.data.get("session_refs", ()):
            self.add(session_ref)
        if answer.verdict is Verdict.LOGIN_REQUIRED:
            self.add(answer.session_ref, answer.reason or Reason.LOGGED_OUT.value)

    def hold(self, answer: Answered) -> Answered:
        """Return *answer*; in place of good news about a session that has ended, a refusal."""
        reason = self.reason(answer.session_ref) if answer.is_good_news else None
        if reason is None:
            return answer
        # Seen in this process alone: the worker said otherwise, a moment before.
        return Answered(verdict=Verdict.LOGIN_REQUIRED, request_id=answer.request_id, reason=reason)

    def renew_lock(self) -> None:
        """Start with a free lock in a forked child, where a thread that is gone may hold it."""
        self._lock = threading.Lock()


def reason_of(cause: str | None) -> str:
    """Return the contract's word for the cause that a notice tells."""
    return cause if cause in set(Reason) else Reason.LOGGED_OUT.value


# One for the process: a session that has ended has ended for all clients in it.
SEEN: Final = EndedSessions()

if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=SEEN.renew_lock)
