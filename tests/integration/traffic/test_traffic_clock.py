"""Redis' clock goes back: set right, or another machine's after a failover."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from session_client.contract import Reason
from tests.integration.traffic.traffic_rig import (
    SHOP,
    Process,
    Starter,
    end,
    lead,
    pass_redis_time,
    plan,
    slow_refill,
)
from worker.errors import HeldBack, MosaicRateLimited
from worker.http_client.headers import MAX_RETRY_AFTER_SECONDS
from worker.settings.model import Settings
from worker.traffic import InProgress, Lane, Lead

HOURS = 7200.0
# What an operator may set at most.
(LONGEST_CALL_SECONDS,) = (
    bound.le
    for bound in Settings.model_fields["mosaic_timeout_seconds"].metadata
    if hasattr(bound, "le")
)
LEASE = "mosaic-sessions:flight:call:lease"


@pytest.fixture
def _slow_refill() -> Iterator[None]:
    with slow_refill():
        yield


@pytest.fixture
def process(start: Starter) -> Process:
    return start(
        breaker_failures=3,
        breaker_open_seconds=5,
        # So small that what is spent of them is kept for longer than a test takes.
        mosaic_app_calls_per_minute=60,
        mosaic_source_calls_per_minute=60,
        mosaic_user_calls_per_minute=60,
    )


def set_back(process: Process, url: str, seconds: float = HOURS) -> None:
    assert process.redis.keys("mosaic-sessions:*")
    pass_redis_time(url, -seconds)


@pytest.mark.usefixtures("_slow_refill")
@pytest.mark.parametrize("apart", [30.0 * 60, HOURS])
def test_a_budget_that_was_used_up_by_the_other_clock_is_whole(
    process: Process, redis_url: str, apart: float
) -> None:
    assert process.admit_all(Lane.LOGOUT) == 3
    set_back(process, redis_url, apart)

    assert process.admit_all(Lane.LOGOUT) == 3
    assert process.held_back(Lane.LOGOUT).reason is Reason.RATE_LIMITED


def test_a_users_budget_that_was_used_up_by_the_other_clock_is_whole(
    start: Starter, redis_url: str
) -> None:
    process = start(mosaic_user_calls_per_minute=2)  # one for one app
    process.traffic.admit_for_user(SHOP, "ada", 0.0)
    with pytest.raises(HeldBack, match="budget of user"):
        process.traffic.admit_for_user(SHOP, "ada", 0.0)
    set_back(process, redis_url)

    process.traffic.admit_for_user(SHOP, "ada", 0.0)


def test_a_pause_that_would_last_longer_than_any_is_over(process: Process, redis_url: str) -> None:
    process.call(MosaicRateLimited(retry_after=30))
    set_back(process, redis_url)

    process.admit()

    assert process.traffic.snapshot([SHOP]).pauses == ()


def test_a_pause_that_begins_now_is_as_long_as_mosaic_asks(
    process: Process, redis_url: str
) -> None:
    late = process.admit()
    process.call(MosaicRateLimited(retry_after=30))
    set_back(process, redis_url)

    end(late, MosaicRateLimited(retry_after=20))

    assert 10 < process.held_back().retry_after <= 20


def test_an_open_breaker_lets_probes_find_out(start: Starter, redis_url: str) -> None:
    process = start(breaker_failures=3, breaker_open_seconds=5)
    process.fail(3)
    set_back(process, redis_url, 30)

    shown = {it.state for it in process.traffic.snapshot([SHOP]).breakers if it.lane is Lane.AUTH}
    for _ in range(3):
        assert process.admit().is_probe

    assert shown == {"half_open"}
    assert process.held_back().reason is Reason.IDP_UNAVAILABLE


def test_a_breaker_whose_probes_fail_opens_by_the_new_clock(start: Starter, redis_url: str) -> None:
    process = start(breaker_failures=3, breaker_open_seconds=5)
    process.fail(3)
    set_back(process, redis_url)

    process.fail(3)

    assert 0 < process.held_back().retry_after <= 10
    breakers = process.traffic.snapshot([SHOP]).breakers
    assert {breaker.failing_seconds for breaker in breakers} == {0.0}


def test_probes_of_processes_that_died_are_forgotten(start: Starter, redis_url: str) -> None:
    process = start(breaker_failures=3, breaker_open_seconds=5)
    process.fail(3)
    pass_redis_time(redis_url, 5)
    for _ in range(3):
        process.admit()
    process.held_back()
    set_back(process, redis_url)

    assert process.admit().is_probe


def test_calls_counted_by_the_other_clock_are_in_no_window_of_this_one(
    start: Starter, redis_url: str
) -> None:
    process = start(breaker_failures=1000)
    process.fail()
    for _ in range(200):
        process.call()
    set_back(process, redis_url)

    process.fail(20)

    assert process.held_back().reason is Reason.IDP_UNAVAILABLE


def test_what_is_left_is_shown_by_the_new_clock(process: Process, redis_url: str) -> None:
    process.admit_all(Lane.LOGOUT)
    set_back(process, redis_url)

    assert {left.left_share for left in process.traffic.snapshot([SHOP]).budgets} == {1.0}


def test_the_longest_pause_that_mosaic_may_ask_for_is_believed(process: Process) -> None:
    process.call(MosaicRateLimited(retry_after=MAX_RETRY_AFTER_SECONDS))

    assert process.held_back().retry_after > MAX_RETRY_AFTER_SECONDS - 60
    (pause,) = process.traffic.snapshot([SHOP]).pauses
    assert pause.seconds_left > MAX_RETRY_AFTER_SECONDS - 60


def test_the_longest_wait_for_a_turn_is_believed(start: Starter) -> None:
    process = start(mosaic_app_calls_per_minute=10)  # one in seven and a half seconds
    limits = process.gate.limits(Lane.AUTH, SHOP)
    process.admit()

    longest = LONGEST_CALL_SECONDS / 4  # nobody waits for so long, but what is written is believed
    said, wait, *_ = process.scripts.admit(limits, longest, is_untried=False)

    assert (said, wait > 6e6) == (b"go", True)
    assert process.held_back().retry_after > 10
    assert 0.0 in {left.left_share for left in process.traffic.snapshot([SHOP]).budgets}


def test_nobody_waits_for_a_lead_of_the_other_clock(start: Starter) -> None:
    died, process = start(), start()
    lead(died)
    assert process.redis.pexpire(LEASE, int(HOURS * 1000))  # as it lasts once the clock is set back

    assert isinstance(process.single_flight.join(plan()), Lead)


def test_the_longest_lead_is_believed(start: Starter) -> None:
    process = start()
    lead(process, call_seconds=LONGEST_CALL_SECONDS)

    assert isinstance(process.single_flight.join(plan()), InProgress)
