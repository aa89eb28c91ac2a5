"""Wrong proofs, counted, and the locks they lead to."""

from __future__ import annotations

from simulator.controls.clock import Clock
from simulator.idp.policy import Policy


class Attempts:
    """Counts what failed in a row, for each user and method."""

    def __init__(self, clock: Clock, policy: Policy) -> None:
        self._clock = clock
        self._policy = policy
        self._failures: dict[tuple[str, str], int] = {}
        self._locked_until: dict[tuple[str, str], float] = {}

    def is_locked(self, user_id: str, method: str) -> bool:
        """Whether the user cannot sign in by *method* for now, whatever they prove."""
        return self._clock.now() < self._locked_until.get((user_id, method), 0.0)

    def fail(self, user_id: str, method: str) -> None:
        """Note a wrong proof; too many in a row lock the user out of this method."""
        key = (user_id, method)
        self._failures[key] = self._failures.get(key, 0) + 1
        if self._failures[key] >= self._policy.wrong_proofs_allowed:
            self.lock(user_id, method)

    def succeed(self, user_id: str, method: str) -> None:
        """Count from nought again."""
        self._failures.pop((user_id, method), None)

    def lock(self, user_id: str, method: str) -> None:
        """Lock the user out of a method for as long as the policy says."""
        self._failures.pop((user_id, method), None)
        self._locked_until[user_id, method] = self._clock.now() + self._policy.locked_seconds

    def unlock(self, user_id: str, method: str) -> None:
        """Let the user in again."""
        self.succeed(user_id, method)
        self._locked_until.pop((user_id, method), None)
