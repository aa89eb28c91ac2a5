"""Budgets as numbers: no minute, wherever it begins, holds more calls than were meant."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.integration.mosaic.mosaic_rig import make_app, make_settings
from worker.traffic.budgets import Lane, Lanes, RateLimit

MINUTE = 60_000_000
BUDGETS = [1, 2, 3, 10, 19, 20, 60, 120, 1_000, 18_000, 20_000, 81_000, 90_000, 10**6]


def admitted(rate: RateLimit, moments: list[int]) -> list[int]:
    """Return the *moments* at which the rate lets a call through."""
    through, whole_at = [], 0
    for now in moments:
        if max(whole_at, now) - now <= rate.tolerance:
            through.append(now)
            whole_at = max(whole_at, now) + rate.interval
    return through


def most_in_a_minute(moments: list[int]) -> int:
    return max(
        sum(start <= moment < start + MINUTE for moment in moments[index:])
        for index, start in enumerate(moments)
    )


@given(
    calls=st.integers(1, 60),
    burst=st.none() | st.integers(1, 20),
    gaps=st.lists(st.integers(0, 3_000_000) | st.integers(0, 70_000_000), min_size=1, max_size=150),
)
@example(calls=1, burst=None, gaps=[0] * 3 + [1_000_000] * 140)
@example(calls=2, burst=None, gaps=[0] * 3 + [1_000_000] * 140)
@example(calls=10, burst=None, gaps=[0] * 3 + [1_000_000] * 140)
@example(calls=10, burst=3, gaps=[0] * 3 + [60_000_000, 0, 0, 0] + [1_000_000] * 140)
def test_no_sliding_minute_holds_more_calls_than_the_budget(
    calls: int, burst: int | None, gaps: list[int]
) -> None:
    burst = None if burst is None else min(burst, calls)
    rate = RateLimit.of("key", "name", calls, burst)

    through = admitted(rate, list(accumulate(gaps)))

    assert most_in_a_minute(through) <= calls


@pytest.mark.parametrize("calls", BUDGETS)
def test_a_cell_that_is_asked_all_the_time_gives_the_budget_and_nearly_all_of_it(
    calls: int,
) -> None:
    rate = RateLimit.of("key", "name", calls)

    at_once = rate.tolerance // rate.interval + 1
    fullest_minute = at_once + (MINUTE - 1) // rate.interval
    steady_minute = MINUTE / rate.interval

    assert fullest_minute <= calls
    assert steady_minute >= 0.9 * calls or calls < 20


def test_a_budget_beyond_what_a_clock_can_tell_is_still_one() -> None:
    """Redis refuses to keep a key for no time at all; nothing would be shared any more."""
    assert RateLimit.of("key", "name", 10**9).interval == 1


@pytest.mark.parametrize("calls", [40, 60, 200, 1_000, 20_000, 90_000])
def test_silent_authentications_can_neither_burst_nor_flow_as_much_as_the_whole(calls: int) -> None:
    settings = make_settings(
        mosaic_app_calls_per_minute=calls, mosaic_source_calls_per_minute=calls
    )
    lanes = Lanes(settings)
    of_app, of_source, lane_of_app, lane_of_source = lanes.rates(Lane.AUTH, "shop")

    assert lanes.rates(Lane.LOGOUT, "shop") == (of_app, of_source)
    for whole, lane in ((of_app, lane_of_app), (of_source, lane_of_source)):
        assert lane.interval > whole.interval
        assert lane.tolerance // lane.interval < whole.tolerance // whole.interval


def test_a_portal_may_spend_half_of_a_users_minute_at_once_and_one_app_half_of_that() -> None:
    limits = Lanes(make_settings()).limits(Lane.AUTH, make_app("https://m.example"), "hashed-user")

    *_, whole, share = limits.rates

    assert (whole.name, share.name) == ("user", "user at one app")
    assert whole.key != share.key
    for rate, at_once in ((whole, 60), (share, 30)):
        assert "hashed-user" in rate.key
        assert rate.tolerance // rate.interval + 1 == at_once
