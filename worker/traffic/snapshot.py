"""What operators see of the traffic rules at one moment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import redis

from worker.http_client import MAX_RETRY_AFTER_SECONDS
from worker.traffic.budgets import Application, Lane, Lanes, RateLimit, breaker_key, pause_key

SOURCE = "source"  # all calls together: Mosaic counts them by our address

# What lies farther ahead was written before Redis' clock was set back, and holds no call back: see
# ``ahead`` in ``lua/basics.lua``, and the same numbers there and in ``lua/admission.lua``.
LONGEST_PAUSE: Final = MAX_RETRY_AFTER_SECONDS * 1e6
LONGEST_WAIT: Final = 10_000_000


@dataclass(frozen=True, slots=True)
class BudgetLeft:
    """How much of what may be spent at once is left, from 0 to 1."""

    name: str  # a client id, or "source"
    lane: Lane
    left_share: float


@dataclass(frozen=True, slots=True)
class PauseState:
    """Mosaic asked us to wait (429)."""

    name: str  # a client id, or "source"
    lane: Lane
    seconds_left: float


@dataclass(frozen=True, slots=True)
class BreakerState:
    """A breaker before one lane of one Mosaic host."""

    name: str  # its base URL
    client_id: str | None  # whose calls it is for; None: all clients'
    lane: Lane
    state: Literal["closed", "open", "half_open"]
    retry_after: float  # seconds until it lets probes through
    # From the first to the latest of the times that it has opened in a row. While no app asks, it
    # stays half open and this does not grow.
    failing_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class TrafficState:
    """Everything at once. Pauses that are over are not in it."""

    budgets: tuple[BudgetLeft, ...]
    pauses: tuple[PauseState, ...]
    breakers: tuple[BreakerState, ...]


def read(client: redis.Redis, lanes: Lanes, apps: Iterable[Application]) -> TrafficState:
    """Return the state of all that concerns *apps*. Raises `redis.RedisError`."""
    known = list(apps)
    clients = sorted({app.client_id for app in known})
    breakers = _breakers_of(known)
    rates = _rates(lanes, clients)
    paused = [(name, lane) for name in (*clients, SOURCE) for lane in Lane]
    pipeline = client.pipeline(transaction=False)
    pipeline.time()  # all moments are of Redis' clock
    pipeline.mget([rate.key for _, _, rate in rates])
    pipeline.mget([pause_key(lane, None if n == SOURCE else n) for n, lane in paused])
    for breaker in breakers:
        pipeline.hmget(breaker.key, "until", "first", "latest")
    (seconds, microseconds), moments, ends, *opened = pipeline.execute()
    now = seconds * 1e6 + microseconds
    return TrafficState(
        budgets=tuple(
            BudgetLeft(name, lane, _left(rate, moment, now))
            for (name, lane, rate), moment in zip(rates, moments, strict=True)
        ),
        pauses=tuple(
            PauseState(name, lane, left / 1e6)
            for (name, lane), end in zip(paused, ends, strict=True)
            if (left := _ahead(end, now, LONGEST_PAUSE))
        ),
        breakers=tuple(
            _state(breaker, moments, now) for breaker, moments in zip(breakers, opened, strict=True)
        ),
    )


def _rates(lanes: Lanes, clients: Iterable[str]) -> list[tuple[str, Lane, RateLimit]]:
    """Return each budget once, under the lane it limits."""
    found: dict[str, tuple[str, Lane, RateLimit]] = {}
    for lane in (Lane.LOGOUT, Lane.AUTH):  # the lane of logouts is the whole
        for client_id in clients:
            for rate in lanes.rates(lane, client_id):
                name = SOURCE if rate.name == SOURCE else client_id
                found.setdefault(rate.key, (name, lane, rate))
    return list(found.values())


def _ahead(moment: bytes | None, now: float, longest: float) -> float:
    left = 0.0 if moment is None else float(moment) - now
    return left if 0 < left <= longest else 0.0


def _left(rate: RateLimit, moment: bytes | None, now: float) -> float:
    at_once = rate.tolerance + rate.interval
    return max(0.0, 1.0 - _ahead(moment, now, at_once + LONGEST_WAIT) / at_once)


@dataclass(frozen=True, slots=True)
class _Breaker:
    """A breaker: of a host, or of one client there."""

    host: str
    client_id: str | None
    lane: Lane
    key: str


def _breakers_of(apps: Iterable[Application]) -> list[_Breaker]:
    """Return the breakers of each host, that of all its clients first."""
    clients: dict[str, set[str]] = {}
    for app in apps:
        clients.setdefault(app.base_url, set()).add(app.client_id)
    return [
        _Breaker(host, client_id, lane, breaker_key(host, lane, client_id or _only(clients[host])))
        for host in sorted(clients)
        for client_id in (None, *(sorted(clients[host]) if len(clients[host]) > 1 else ()))
        for lane in Lane
    ]


def _only(clients: set[str]) -> str | None:
    """Return the client that is alone at its host: the breaker of all never opens by it alone."""
    return next(iter(clients)) if len(clients) == 1 else None


def _state(of: _Breaker, moments: Sequence[bytes | None], now: float) -> BreakerState:
    until, first, latest = moments
    is_set_back = latest is not None and float(latest) > now
    left = 0.0 if until is None or is_set_back else max(0.0, (float(until) - now) / 1e6)
    state: Literal["closed", "open", "half_open"] = "closed"
    if until is not None:
        state = "open" if left > 0 else "half_open"
    failing = 0.0 if first is None or latest is None else (float(latest) - float(first)) / 1e6
    return BreakerState(of.host, of.client_id, of.lane, state, left, failing)
