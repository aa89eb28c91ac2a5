"""The scripts of ``lua/``, each run in one round trip, and the arguments of each.

Lua reads keys and arguments by number: they are put in order here and nowhere else. What a script
returns is None when Redis does not answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from worker.storage.best_effort import BestEffortRedis
from worker.storage.redis_scripts import Argument, Call, read_script
from worker.traffic.budgets import PREFIX, Lane, Limits, pause_key

PROBES_AT_A_TIME: Final = 3  # calls under way at once, of what fails

_JOIN: Final = read_script(__package__, "basics", "breaker", "admission", "join")
_ADMIT: Final = read_script(__package__, "basics", "breaker", "admission", "admit")
_PUBLISH: Final = read_script(__package__, "publish")
_REPORT: Final = read_script(__package__, "basics", "breaker", "report")
_PAUSE: Final = read_script(__package__, "basics", "pause")


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """What opens a breaker, and what closes it."""

    failures_in_a_row: int
    share: float  # of the calls in a window, once there are so many
    share_of_calls: int
    window_seconds: float
    most_of_one: int  # how many failures of one session count in a window
    open_seconds: float  # doubled each time in a row …
    max_open_seconds: float  # … up to this
    good_probes: int  # that close it
    bad_probes: int  # that open it again


@dataclass(frozen=True, slots=True)
class Report:
    """How a call went: of whom, for whom, and of which opening of each breaker it was a probe."""

    result: str
    probe_of: tuple[int, int]
    client_id: str
    whom: str
    is_slow: bool


class Scripts:
    """Runs each script with its keys and arguments."""

    def __init__(self, shared: BestEffortRedis) -> None:
        self._shared = shared

    def admit(self, limits: Limits, max_wait_seconds: float, *, is_untried: bool) -> Any:
        """Ask whether one call may be made."""
        keys, arguments = _admission(limits, max_wait_seconds, is_untried=is_untried)
        return self._shared.run(_ADMIT, keys, arguments)

    def join(  # noqa: PLR0913, PLR0917 - what one script takes
        self,
        name: str,
        token: str,
        lease_ms: int,
        oldest_ms: int,
        limits: Limits,
        max_wait_seconds: float,
    ) -> Any:
        """Take the shared answer, learn that one is on its way, or lead if a call may be made."""
        keys, admission = _admission(limits, max_wait_seconds, is_untried=False)
        arguments = (token, lease_ms, oldest_ms, *admission)
        return self._shared.run(_JOIN, (*_single_flight(name), *keys), arguments)

    def publish(self, name: str, token: str, answer: bytes, life_ms: int) -> None:
        """Leave the answer for all requests that wait, if the lease is still held with *token*."""
        self.run(self.publication(name, token, answer, life_ms))

    def publication(self, name: str, token: str, answer: bytes, life_ms: int) -> Call:
        """Return what `publish` would run, for a caller who goes to this Redis anyway."""
        return Call(_PUBLISH, _single_flight(name), (token, answer, life_ms))

    def run(self, call: Call) -> None:
        """Run what was made to go with something else to this Redis."""
        self._shared.run(call.script, call.keys, call.arguments)

    def report(self, breakers: tuple[str, str], call: Report, rules: BreakerRules) -> Any:
        """Tell both breakers how a call went."""
        facts = (call.result, *call.probe_of, call.client_id, call.whom, int(call.is_slow))
        return self._shared.run(_REPORT, breakers, (*facts, *_in_order(rules)))

    def pause(
        self, lane: Lane, client_id: str, asked_us: int, longest_us: int, jitter: float
    ) -> Any:
        """Pause a client, and all clients if Mosaic told another to wait just now."""
        keys = (
            pause_key(lane, client_id),
            pause_key(lane),
            f"{PREFIX}:limited:last:{lane}",
            f"{PREFIX}:limited:times:{client_id}:{lane}",
        )
        return self._shared.run(_PAUSE, keys, (client_id, asked_us, longest_us, jitter))

    def wait(self, name: str, seconds: float) -> None:
        """Return when an answer is there, or after *seconds*.

        BLMOVE from a list to itself leaves it as it is, and wakes every process that listens.
        """
        key, _ = _single_flight(name)
        seconds = max(seconds, 0.01)  # 0 would be for ever
        self._shared.attempt(
            lambda redis: redis.blmove(key, key, seconds, "LEFT", "RIGHT")  # type: ignore[arg-type]
        )

    def forget(self, name: str) -> None:
        """Delete the shared answer."""
        key, _ = _single_flight(name)
        self._shared.attempt(lambda redis: redis.delete(key))


def _single_flight(name: str) -> tuple[str, str]:
    return f"{PREFIX}:flight:{name}:answer", f"{PREFIX}:flight:{name}:lease"


def _admission(
    limits: Limits, max_wait_seconds: float, *, is_untried: bool
) -> tuple[Sequence[str], Sequence[Argument]]:
    """Return the keys and arguments of ``admission.lua``."""
    keys = [*limits.breakers, *limits.pauses]
    arguments = [
        *(len(limits.pauses), int(is_untried), PROBES_AT_A_TIME, limits.probes_of_slow),
        *(_us(max_wait_seconds), limits.places),
    ]
    for rate in limits.rates:
        keys.append(rate.key)
        arguments += rate.interval, rate.tolerance
    return keys, arguments


def _in_order(rules: BreakerRules) -> tuple[Argument, ...]:
    """Return *rules* as ``report.lua`` names them."""
    return (
        *(rules.failures_in_a_row, rules.share, rules.share_of_calls),
        *(_us(rules.window_seconds), rules.most_of_one),
        *(_us(rules.open_seconds), _us(rules.max_open_seconds)),
        *(rules.good_probes, rules.bad_probes),
    )


def _us(seconds: float) -> int:
    return int(seconds * 1e6)
