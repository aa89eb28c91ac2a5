"""Budgets: all processes together stay within them, and logouts always have their share."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from session_client import requests, times
from session_client.contract import Reason, Verdict
from simulator.server import SimulatorServer
from tests.integration.traffic.traffic_rig import (
    DESK,
    FORUM,
    SHOP,
    Starter,
    pass_redis_time,
    slow_refill,
)
from tests.stage import Stage
from worker.errors import HeldBack
from worker.traffic import CallPlan, Lane, admission
from worker.traffic.budgets import RateLimit
from worker.traffic.single_flight import SingleFlight

ASK, TELL = "session/authenticate", "session/logout"
ROOT = Path(__file__).parents[3]
PLENTY = 10**6


@pytest.fixture
def _slow_refill() -> Iterator[None]:
    with slow_refill():
        yield


@pytest.mark.usefixtures("_slow_refill")
def test_what_may_come_at_once_is_a_twentieth_and_then_one_by_one(
    start: Starter, redis_url: str
) -> None:
    process, other = start(mosaic_app_calls_per_minute=60), start(mosaic_app_calls_per_minute=60)

    assert process.admit_all(Lane.LOGOUT) == 3
    held = other.held_back(Lane.LOGOUT)
    assert held.reason is Reason.RATE_LIMITED
    assert "app:shop" in str(held)
    assert 0 < held.retry_after <= 60 * 60 / 57

    pass_redis_time(redis_url, held.retry_after)
    assert other.admit_all(Lane.LOGOUT) == 1


@pytest.mark.usefixtures("_slow_refill")
def test_one_who_is_held_back_costs_no_budget(start: Starter) -> None:
    process = start(mosaic_app_calls_per_minute=60, mosaic_source_calls_per_minute=PLENTY)
    process.admit_all(Lane.LOGOUT)
    before = process.held_back(Lane.LOGOUT).retry_after

    for _ in range(20):
        process.held_back(Lane.LOGOUT)

    assert process.held_back(Lane.LOGOUT).retry_after <= before


@pytest.mark.usefixtures("_slow_refill")
@pytest.mark.parametrize(
    ("settings", "apps"),
    [
        ({"mosaic_app_calls_per_minute": 200}, (SHOP,)),
        ({"mosaic_source_calls_per_minute": 200}, (SHOP, FORUM)),
    ],
    ids=["the app's", "the address'"],
)
def test_logouts_pass_at_once_when_silent_authentications_used_up_a_budget(
    start: Starter, settings: dict[str, Any], apps: tuple[Any, ...]
) -> None:
    process = start(**settings)
    storm = sum(process.admit_all(Lane.AUTH, app) for app in apps)
    assert storm == 9

    process.held_back(Lane.AUTH)
    process.admit(Lane.LOGOUT)


def test_logouts_and_silent_authentications_together_keep_the_whole_budget(start: Starter) -> None:
    process = start(mosaic_app_calls_per_minute=200)
    began = time.monotonic()

    through = process.admit_all(Lane.LOGOUT) + process.admit_all(Lane.AUTH)
    through += process.admit_all(Lane.LOGOUT)

    assert 10 <= through <= 10 + (time.monotonic() - began) * 200 / 60 + 1


@pytest.mark.usefixtures("_slow_refill")
def test_another_app_has_a_budget_of_its_own_but_one_address_with_all(start: Starter) -> None:
    process = start(mosaic_app_calls_per_minute=60, mosaic_source_calls_per_minute=100)
    assert process.admit_all(Lane.LOGOUT, SHOP) == 3

    assert process.admit_all(Lane.LOGOUT, FORUM) >= 2
    held = process.held_back(Lane.LOGOUT, DESK)
    assert "source" in str(held)


def test_a_turn_that_comes_soon_is_waited_for(start: Starter) -> None:
    process = start(mosaic_app_calls_per_minute=600, mosaic_source_calls_per_minute=PLENTY)
    rate = RateLimit.of("key", "name", 600)
    began = time.monotonic()
    at_once = process.admit_all(Lane.LOGOUT)

    for _ in range(4):
        process.admit(Lane.LOGOUT, max_wait_seconds=30)

    at_least = (at_once + 4 - 30) * rate.interval / 1e6
    assert time.monotonic() - began >= at_least


@pytest.mark.usefixtures("_slow_refill")
@pytest.mark.parametrize(("slots", "places"), [(1, 1), (8, 2), (16, 4)])
def test_a_quarter_of_a_workers_slots_is_the_most_that_wait_for_one_budget(
    start: Starter, slots: int, places: int
) -> None:
    budget: dict[str, Any] = {"mosaic_app_calls_per_minute": 6000, "concurrency": slots}
    process, other = start(**budget), start(**budget)
    limits = process.gate.limits(Lane.AUTH, SHOP)
    process.admit_all()

    replies = [it.scripts.admit(limits, 9.0, is_untried=False) for it in (process, other) * 6]

    waits = [reply for reply in replies if reply[0] == b"go"]
    assert places <= len(waits) <= places + 1  # one more comes due while a busy machine looks
    assert all(reply[2] >= 9e6 for reply in replies if reply[0] == b"held")


def test_a_busy_app_whose_budget_is_used_up_leaves_slots_to_the_others(
    start: Starter, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    process = start(mosaic_app_calls_per_minute=600, concurrency=8)
    process.admit_all(app=SHOP)
    refused = 0
    for _ in range(40):
        try:
            process.admit(app=SHOP, max_wait_seconds=1.0)
        except HeldBack:
            refused += 1
    of_the_busy = list(waits)

    process.admit(app=FORUM, max_wait_seconds=1.0)

    assert refused > 0
    assert max(of_the_busy) < 0.25  # two turns, for two of eight slots
    assert waits == of_the_busy


def test_a_storm_of_users_leaves_turns_to_logouts_where_turns_come_seldom(
    start: Starter, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    process = start(mosaic_app_calls_per_minute=20)  # of which two are reserved for logouts
    logouts = 0
    for _ in range(900):  # a minute and a half
        with suppress(HeldBack):
            process.admit(Lane.AUTH, max_wait_seconds=1.0)
        with suppress(HeldBack):
            process.traffic.admit_logout(SHOP, "session", is_untried=False)
            logouts += 1
        pass_redis_time(redis_url, 0.1)

    assert logouts > 1


@pytest.mark.usefixtures("_slow_refill")
def test_calls_that_wait_for_one_budget_are_counted_in_the_others_when_they_are_made(
    start: Starter,
) -> None:
    """Else the calls of a queue would be taken for a steady flow, and let more in than fit."""
    process = start(mosaic_app_calls_per_minute=60, mosaic_source_calls_per_minute=1_000)
    process.admit_all(Lane.LOGOUT)
    limits = process.gate.limits(Lane.LOGOUT, SHOP)
    of_app, of_source = (rate.key for rate in limits.rates)
    before: Any = process.redis.time()

    said, wait, *_ = process.scripts.admit(limits, 100.0, is_untried=True)

    assert said == b"go"
    assert wait > 0
    whole_at: Any = process.redis.get(of_source)
    assert float(whole_at) >= before[0] * 1e6 + before[1] + wait
    assert process.redis.exists(of_app)


# --- as apps and users see it


@pytest.fixture
def stage(request: pytest.FixtureRequest, sqlite_url: str, redis_url: str) -> Iterator[Stage]:
    """A stage with the settings a test names."""
    mosaic: SimulatorServer = request.getfixturevalue("mosaic")
    with Stage(sqlite_url, redis_url, mosaic, **request.param) as stage:
        stage.add_app("shop")
        stage.add_app("forum")
        yield stage


@pytest.mark.parametrize("stage", [{"mosaic_user_calls_per_minute": "8"}], indirect=True)
def test_a_user_in_a_loop_is_held_back_and_nobody_else(stage: Stage) -> None:
    stage.registered("ada")
    stage.registered("bob")

    first, second, third = (stage.silent_auth("ada") for _ in range(3))

    assert first.verdict is second.verdict is Verdict.AUTHENTICATED
    assert (third.verdict, third.reason) == (
        Verdict.TEMPORARILY_UNAVAILABLE,
        Reason.RATE_LIMITED,
    )
    assert 1 < third.retry_after <= 30
    assert stage.mosaic.state.calls.count(ASK) == 2
    assert stage.silent_auth("bob").verdict is Verdict.AUTHENTICATED


@pytest.mark.usefixtures("_slow_refill")
@pytest.mark.parametrize("stage", [{"mosaic_user_calls_per_minute": "120"}], indirect=True)
def test_an_app_that_uses_up_its_share_of_a_user_leaves_the_others_theirs(stage: Stage) -> None:
    stage.registered("ada")
    looping = [stage.silent_auth("ada", "shop", resource=f"urn:{n}") for n in range(100)]

    answers = [stage.silent_auth("ada", "forum", resource=f"urn:{n}") for n in range(25)]

    assert {answer.verdict for answer in answers} == {Verdict.AUTHENTICATED}
    assert looping[-1].reason == Reason.RATE_LIMITED
    assert stage.mosaic.state.calls.count(ASK, "client-shop") == 60 / 2


@pytest.mark.usefixtures("_slow_refill")
@pytest.mark.parametrize("stage", [{"mosaic_user_calls_per_minute": "120"}], indirect=True)
def test_all_apps_together_keep_a_users_budget(stage: Stage) -> None:
    stage.registered("ada")
    apps = [f"app-{number}" for number in range(4)]
    for app_id in apps:
        stage.add_app(app_id)

    for number in range(30):
        for app_id in apps:
            stage.silent_auth("ada", app_id, resource=f"urn:{number}")

    assert stage.mosaic.state.calls.count(ASK) == 120 / 2


@pytest.mark.usefixtures("_slow_refill")
@pytest.mark.parametrize("stage", [{"mosaic_app_calls_per_minute": "40"}], indirect=True)
def test_a_logout_reaches_mosaic_while_silent_authentications_are_held_back(stage: Stage) -> None:
    ref = stage.registered("ada")
    answers = [stage.silent_auth("ada", "shop") for _ in range(4)]
    assert answers[-1].reason == Reason.RATE_LIMITED

    stage.log_out(session_ref=str(ref))

    assert stage.tell_mosaic() == ["confirmed"]
    assert stage.mosaic.state.calls.count(TELL) == 1


@pytest.mark.parametrize("stage", [{"mosaic_timeout_seconds": "5"}], indirect=True)
def test_nobody_waits_for_a_turn_past_their_own_deadline(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.registered("ada")
    plans: list[CallPlan] = []
    join = SingleFlight.join

    def watched(self: SingleFlight, plan: CallPlan) -> Any:
        plans.append(plan)
        return join(self, plan)

    monkeypatch.setattr(SingleFlight, "join", watched)
    soon = times.to_wire(stage.now() + timedelta(seconds=3))
    asked = stage.seal("forum", requests.SilentAuth(user_id="ada"), deadline=soon)
    stage.deliver(asked)
    stage.silent_auth("ada")

    hurried, relaxed = plans
    assert hurried.max_wait_seconds <= 3 / 4
    assert hurried.call_seconds <= 3
    assert relaxed.max_wait_seconds == 1
    assert relaxed.call_seconds == 5


@pytest.mark.usefixtures("_slow_refill")
def test_a_request_that_is_held_back_raises_what_apps_are_told(start: Starter) -> None:
    process = start(mosaic_app_calls_per_minute=60)
    process.admit_all()

    held = process.held_back()

    assert isinstance(held, HeldBack)
    assert held.reason is Reason.RATE_LIMITED
    assert held.retry_after > 0


@pytest.mark.parametrize("admit", ["admit_login", "admit_for_user"])
def test_a_request_with_much_time_left_waits_no_longer_for_its_turn(
    start: Starter, monkeypatch: pytest.MonkeyPatch, admit: str
) -> None:
    """Who waits holds a slot of its worker."""
    process = start(mosaic_app_calls_per_minute=20, mosaic_user_calls_per_minute=20)
    ask = partial(getattr(process.traffic, admit), SHOP, "ada", 60.0)
    waits: list[float] = []
    monkeypatch.setattr(admission, "time", SimpleNamespace(sleep=waits.append))

    with pytest.raises(HeldBack, match="budget"):
        deque(iter(ask, None), maxlen=0)  # as many as there are

    assert max(waits, default=0.0) <= 1
