"""Which app calls, in which lane, and which budgets and pauses that lane is held to.

A silent authentication or a login takes from the budget that both share and from the whole one; a
logout from the whole one only. What both share is smaller than the whole by what is reserved for
logouts, so that a storm of silent authentications can never use up what a logout needs. Breaker and
pauses are each lane's own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final, Protocol

from worker.settings.model import Settings

PREFIX: Final = "mosaic-sessions"
_MINUTE: Final = 60_000_000  # microseconds
_BURST_SHARE: Final = 0.05  # of a minute's budget may be spent at once
_USER_BURST_SHARE: Final = 1 / 2  # a portal may open two dozen apps at once
# Of a user's budget one client may have so much: an app that asks in a loop would else keep the
# user out of all others.
_CLIENT_SHARE_OF_USER: Final = 1 / 2
_MAX_OF_SLOW: Final = 3
# Of a worker's slots so many may be held by calls that wait for their turn in one budget, and by
# one client's logouts once Mosaic hangs on them: a client that asks for more than its budget, or
# several that hang, would else hold them all, and every other one would wait behind them.
_SHARE_OF_SLOTS: Final = 1 / 4
_ALL: Final = 1_000_000


class Lane(StrEnum):
    """A class of calls with a budget of its own."""

    AUTH = "auth"
    LOGIN = "login"
    LOGOUT = "logout"


class Application(Protocol):
    """A client at Mosaic, as far as traffic is concerned."""

    @property
    def client_id(self) -> str:
        """Its OAuth client id: Mosaic counts calls for each."""
        ...

    @property
    def base_url(self) -> str:
        """Where it calls."""
        ...


@dataclass(frozen=True, slots=True)
class RateLimit:
    """One budget, kept by the generic cell rate algorithm (GCRA); times in microseconds.

    No window of a minute holds more than the calls it was made for: what may come at once is
    taken off the steady rate.
    """

    key: str
    name: str  # what it limits, for operators
    interval: int
    tolerance: int

    @classmethod
    def of(
        cls, key: str, name: str, calls_per_minute: float, burst: int | None = None
    ) -> RateLimit:
        """Return the limit that admits *calls_per_minute*, at most *burst* of them at once."""
        at_once = max(1, int(calls_per_minute * _BURST_SHARE)) if burst is None else burst
        # Rounded up: rounded down, 90,000 calls a minute would be 92 more.
        interval = math.ceil(_MINUTE / max(1.0, calls_per_minute - at_once))
        return cls(key, name, interval, (at_once - 1) * interval)

    def of_one(self, whom: str) -> RateLimit:
        """Return the like of it that *whom* has alone."""
        return RateLimit(f"{self.key}:{whom}", self.name, self.interval, self.tolerance)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one call is held to."""

    breakers: tuple[str, str]  # that of all clients, and that of this one
    pauses: tuple[str, ...]
    rates: tuple[RateLimit, ...]
    probes_of_slow: int  # calls under way at once of a client whose calls hang
    places: int  # calls that wait at once for their turn in one budget


class Lanes:
    """The budgets that the settings describe."""

    def __init__(self, settings: Settings) -> None:
        self._app_calls = settings.mosaic_app_calls_per_minute
        self._source_calls = settings.mosaic_source_calls_per_minute
        calls = settings.mosaic_user_calls_per_minute
        self._of_user = _of_users("user", calls)
        self._of_user_at_app = _of_users("user at one app", calls * _CLIENT_SHARE_OF_USER)
        self._auth_share = 1.0 - settings.mosaic_logout_share
        self._places = max(1, int(settings.concurrency * _SHARE_OF_SLOTS))
        self._logouts_of_slow = min(_MAX_OF_SLOW, self._places)
        self._limits_of = lru_cache(maxsize=1024)(self._make_limits)  # the same for each call

    def limits(self, lane: Lane, app: Application, user: str | None = None) -> Limits:
        """Return what a call of *app* is held to; *user* is an opaque name for whom it is made."""
        limits = self._limits_of(lane, app.client_id, app.base_url)
        if user is None:
            return limits
        whole = self._of_user.of_one(user)
        share = self._of_user_at_app.of_one(f"{user}:{app.client_id}")
        rates = (*limits.rates, whole, share)
        return Limits(limits.breakers, limits.pauses, rates, limits.probes_of_slow, limits.places)

    def _make_limits(self, lane: Lane, client_id: str, base_url: str) -> Limits:
        breakers = breaker_key(base_url, lane), breaker_key(base_url, lane, client_id)
        of_slow = self._logouts_of_slow if lane is Lane.LOGOUT else _MAX_OF_SLOW
        # Logouts wait for a shorter while, however many: those that are refused are put off, and
        # the sweep that wakes them is slower than a budget.
        places = _ALL if lane is Lane.LOGOUT else self._places
        pauses, rates = _pauses(lane, client_id), self.rates(lane, client_id)
        return Limits(breakers, pauses, rates, of_slow, places)

    def rates(self, lane: Lane, client_id: str) -> tuple[RateLimit, ...]:
        """Return the budgets of a lane: the application's, and our address'."""
        shares = {Lane.LOGOUT: 1.0}
        if lane is not Lane.LOGOUT:
            shares[Lane.AUTH] = self._auth_share
        return tuple(
            RateLimit.of(f"{PREFIX}:budget:{scope}:{of}", scope, calls * share)
            for of, share in shares.items()
            for scope, calls in self._scopes(client_id)
        )

    def _scopes(self, client_id: str) -> tuple[tuple[str, int], ...]:
        return ((f"app:{client_id}", self._app_calls), ("source", self._source_calls))


def _of_users(name: str, calls_per_minute: float) -> RateLimit:
    burst = max(1, int(calls_per_minute * _USER_BURST_SHARE))
    return RateLimit.of(f"{PREFIX}:budget:user", name, calls_per_minute, burst)


def _pauses(lane: Lane, client_id: str) -> tuple[str, ...]:
    # A logout that Mosaic tells to wait stops every call; any other call stops its like alone.
    lanes = (Lane.LOGOUT,) if lane is Lane.LOGOUT else (lane, Lane.LOGOUT)
    return tuple(key for of in lanes for key in (pause_key(of, client_id), pause_key(of)))


def pause_key(lane: Lane, client_id: str | None = None) -> str:
    """Return the key of the pause of one application, or of all."""
    scope = "source" if client_id is None else f"app:{client_id}"
    return f"{PREFIX}:pause:{scope}:{lane}"


def breaker_key(base_url: str, lane: Lane, client_id: str | None = None) -> str:
    """Return the key of the breaker before one call of one Mosaic host: a client's, or that of all.

    One for each lane: logouts that hang must not keep users from signing in, nor the other way.
    """
    scope = "" if client_id is None else f":app:{client_id}"
    return f"{PREFIX}:breaker:{base_url}{scope}:{lane}"
