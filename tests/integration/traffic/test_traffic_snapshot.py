"""What operators see of the traffic rules is what holds."""

from __future__ import annotations

import time

import pytest
import redis

from tests.integration.traffic.traffic_rig import (
    FORUM,
    SHOP,
    Client,
    Process,
    Starter,
    pass_redis_time,
    slow_refill,
    starting,
)
from worker.errors import MosaicRateLimited
from worker.traffic import BreakerState, Lane, TrafficState

PLENTY = 10**6


def left(process: Process, *apps: Client) -> dict[tuple[str, Lane], float]:
    budgets = process.traffic.snapshot(apps).budgets
    found = {(budget.name, budget.lane): budget.left_share for budget in budgets}
    assert len(found) == len(budgets)
    return found


def test_before_any_call_all_is_whole_and_closed(start: Starter) -> None:
    state = start().traffic.snapshot([SHOP, FORUM, SHOP])

    assert {(budget.name, budget.lane) for budget in state.budgets} == {
        (name, lane)
        for name in ("shop", "forum", "source")
        for lane in (Lane.AUTH, Lane.LOGOUT)  # a login spends of the same as other calls
    }
    assert {budget.left_share for budget in state.budgets} == {1.0}
    assert state.pauses == ()
    assert state.breakers == tuple(
        BreakerState("https://mosaic.example", client_id, lane, "closed", 0.0)
        for client_id in (None, "forum", "shop")
        for lane in Lane
    )


def test_without_apps_there_is_nothing_to_show(start: Starter) -> None:
    assert start().traffic.snapshot([]) == TrafficState((), (), ())


def test_budgets_show_what_may_still_come_at_once(start: Starter, redis_url: str) -> None:
    process = start(mosaic_app_calls_per_minute=200, mosaic_source_calls_per_minute=PLENTY)
    with slow_refill():
        for _ in range(5):
            process.admit(Lane.LOGOUT)

        found = left(process, SHOP, FORUM)
        assert 0.5 <= found["shop", Lane.LOGOUT] < 0.8
        assert found["shop", Lane.AUTH] == found["forum", Lane.LOGOUT] == 1.0

        process.admit_all(Lane.AUTH)
        found = left(process, SHOP)
    assert found["shop", Lane.LOGOUT] < 0.2
    assert 0 <= found["shop", Lane.AUTH] < 0.8


def test_a_budget_that_is_promised_to_those_who_wait_is_empty_and_no_less(
    start: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start(mosaic_app_calls_per_minute=60, mosaic_source_calls_per_minute=PLENTY)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    for _ in range(9):
        process.admit(Lane.LOGOUT, max_wait_seconds=30)

    assert left(process, SHOP)["shop", Lane.LOGOUT] == 0.0


def test_pauses_are_shown_with_the_time_that_is_left(start: Starter, redis_url: str) -> None:
    process = start()
    process.call(MosaicRateLimited(retry_after=40), Lane.AUTH, SHOP)
    process.call(MosaicRateLimited(retry_after=20), Lane.AUTH, FORUM)

    pauses = process.traffic.snapshot([SHOP, FORUM]).pauses
    assert [(pause.name, pause.lane) for pause in pauses] == [
        ("forum", Lane.AUTH),
        ("shop", Lane.AUTH),
        ("source", Lane.AUTH),
    ]
    for pause, lasts in zip(pauses, (20, 40, 20), strict=True):
        assert lasts - 15 < pause.seconds_left <= lasts

    pass_redis_time(redis_url, 20)
    pauses = process.traffic.snapshot([SHOP, FORUM]).pauses
    assert [(pause.name, pause.lane) for pause in pauses] == [("shop", Lane.AUTH)]


def test_breakers_are_shown_open_half_open_and_closed(start: Starter, redis_url: str) -> None:
    process = start(breaker_failures=1, breaker_open_seconds=30)
    europe = Client(base_url="https://eu.mosaic.example")
    process.fail()

    found = {(b.name, b.lane): b for b in process.traffic.snapshot([SHOP, europe]).breakers}
    opened = found.pop((SHOP.base_url, Lane.AUTH))
    assert opened.state == "open"
    assert 15 < opened.retry_after <= 30
    assert len(found) == 5
    assert {(breaker.state, breaker.retry_after) for breaker in found.values()} == {("closed", 0.0)}

    pass_redis_time(redis_url, 30)
    assert process.traffic.snapshot([SHOP]).breakers[0].state == "half_open"
    for _ in range(3):
        process.call()
    assert process.traffic.snapshot([SHOP]).breakers[0].state == "closed"


def test_how_long_a_breaker_has_failed_is_shown_and_does_not_grow_while_nobody_asks(
    start: Starter, redis_url: str
) -> None:
    process = start(breaker_failures=1, breaker_open_seconds=30)

    def failing() -> float:
        return process.traffic.snapshot([SHOP]).breakers[0].failing_seconds

    process.fail()
    assert failing() == 0.0
    pass_redis_time(redis_url, 200)
    assert failing() == 0.0
    process.fail()
    assert 200 <= failing() < 260
    pass_redis_time(redis_url, 200)
    assert 200 <= failing() < 260
    process.fail()
    assert 400 <= failing() < 460

    pass_redis_time(redis_url, 200)
    for _ in range(3):
        process.call()
    assert failing() == 0.0
    process.fail()
    assert failing() == 0.0, "it begins anew"


def test_the_breaker_of_one_client_among_several_is_shown_beside_that_of_all(
    start: Starter,
) -> None:
    process = start(breaker_failures=2)
    process.fail(2, SHOP)

    states = {
        (b.client_id, b.lane): b.state for b in process.traffic.snapshot([SHOP, FORUM]).breakers
    }

    assert states.pop(("shop", Lane.AUTH)) == "open"
    assert len(states) == 8
    assert set(states.values()) == {"closed"}


def test_a_machine_whose_clock_is_wrong_shows_the_same(
    start: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start(breaker_failures=1, breaker_open_seconds=30)
    process.call(MosaicRateLimited(retry_after=40), Lane.LOGOUT)
    an_hour_ahead = time.time() + 3600
    monkeypatch.setattr(time, "time", lambda: an_hour_ahead)

    (pause,) = process.traffic.snapshot([SHOP]).pauses

    assert 20 < pause.seconds_left <= 40


def test_a_redis_that_is_away_is_told_as_such() -> None:
    with starting("redis://127.0.0.1:1/0") as start, pytest.raises(redis.RedisError):
        start().traffic.snapshot([SHOP])
