"""What other rooms use of this one: one object per process."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Final

import redis

from worker.settings.model import Settings
from worker.storage.best_effort import BestEffortRedis
from worker.storage.encryption import KeyRing
from worker.traffic import snapshot
from worker.traffic.admission import Gate, Permit
from worker.traffic.budgets import Application, Lane, Lanes
from worker.traffic.scripts import Scripts
from worker.traffic.single_flight import SingleFlight
from worker.traffic.snapshot import TrafficState

# A logout's turn comes soon, or its row waits: the thread is needed for other jobs.
LOGOUT_WAIT_SECONDS: Final = 0.25
# Where turns come more seldom it waits for one turn, at most so long: users who wait for theirs
# would else take every one, those reserved for logouts too.
MAX_LOGOUT_WAIT_SECONDS: Final = 1.0
# How long a request of a user waits for its turn, and what share of the time that it has.
MAX_WAIT_SECONDS: Final = 1.0
MAX_WAIT_SHARE: Final = 0.25


def wait_for_turn(seconds_left: float) -> float:
    """Return how many seconds a request that has so many left may wait for its turn in a budget."""
    return min(MAX_WAIT_SECONDS, seconds_left * MAX_WAIT_SHARE)


def name_of_user(keyring: KeyRing, user_id: str) -> str:
    """Return the opaque name of a user: all calls for the user must take from one budget."""
    return keyring.lookup_hash(f"user:{user_id}").hex()


class Traffic:
    """All that processes agree on before they call Mosaic."""

    def __init__(
        self,
        shared: BestEffortRedis,
        client: redis.Redis,
        settings: Settings,
        keyring: KeyRing,
        now: Callable[[], datetime],
    ) -> None:
        """Agree by *shared*; *client* shows operators what holds."""
        self._redis = client
        self._lanes = Lanes(settings)
        scripts = Scripts(shared)
        self._gate = Gate(scripts, settings)
        self.single_flight = SingleFlight(scripts, self._gate, settings, keyring, now)

    def admit_logout(self, app: Application, session: str, *, is_untried: bool) -> Permit:
        """Return a permit to log *session* out at Mosaic. Raises `HeldBack`.

        A breaker keeps back only what was tried before.
        """
        rates = self._gate.limits(Lane.LOGOUT, app).rates
        one_turn = max(rate.interval for rate in rates) / 1e6
        wait = min(max(LOGOUT_WAIT_SECONDS, one_turn), MAX_LOGOUT_WAIT_SECONDS)
        return self._gate.admit(Lane.LOGOUT, app, wait, whom=session, is_untried=is_untried)

    def admit_login(self, app: Application, whom: str, seconds_left: float) -> Permit:
        """Return a permit for a step of the login of *whom*, an opaque name. Raises `HeldBack`."""
        return self._gate.admit(Lane.LOGIN, app, wait_for_turn(seconds_left), whom=whom)

    def admit_for_user(self, app: Application, user: str, seconds_left: float) -> Permit:
        """Return a permit for a call for *user*, see `name_of_user`. Raises `HeldBack`.

        It takes from what silent authentications of the user take from.
        """
        wait = wait_for_turn(seconds_left)
        return self._gate.admit(Lane.AUTH, app, wait, whom=user, user=user)

    def snapshot(self, apps: Iterable[Application]) -> TrafficState:
        """Return what operators see. Raises `redis.RedisError`."""
        return snapshot.read(self._redis, self._lanes, apps)
