"""An operator's caps: how long a session may lie unused, and how long it may live at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from uuid import UUID

import pytest

from session_client import requests
from session_client.contract import Reason, Verdict
from simulator.server import SimulatorServer
from tests.integration.outbox.propagation_rig import ASK, by_queue, notices
from tests.stage import Stage
from worker.maintenance.expire import expire_sessions
from worker.operations import apps

DAY = 86_400
CAPS = {
    "idle": {"session_idle_cap_seconds": str(3 * DAY)},
    "absolute": {"session_absolute_cap_seconds": str(3 * DAY)},
}

StageWith = Callable[..., Stage]


@pytest.fixture
def stage_with(store_url: str, redis_url: str, mosaic: SimulatorServer) -> Iterator[StageWith]:
    """Make a stage with other settings."""
    with ExitStack() as stages:

        def make(**overrides: str) -> Stage:
            stage = stages.enter_context(Stage(store_url, redis_url, mosaic, **overrides))
            stage.add_app("shop")
            by_queue(stage, "forum")
            return stage

        yield make


def expire(stage: Stage) -> dict[str, int]:
    return expire_sessions(stage.services).rows


@pytest.mark.parametrize("cap", CAPS)
def test_a_session_past_a_cap_gives_no_tokens_and_a_prune_ends_it_everywhere(
    stage_with: StageWith, cap: str
) -> None:
    stage = stage_with(**CAPS[cap])
    ref = stage.registered()
    stage.silent_auth("ada", "forum")
    stage.pass_time(days=3, seconds=1)
    calls = stage.mosaic.state.calls.count(ASK)

    answer = stage.silent_auth("ada", "shop")

    assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, Reason.CAP_REACHED)
    assert answer.tokens is None
    assert stage.mosaic.state.calls.count(ASK) == calls
    assert stage.session(ref).ended_at is None
    stage.pass_time(minutes=3)
    assert expire(stage) == {"expired": 0, "capped": 1}
    assert stage.session(ref).end_cause == "cap_reached"
    assert [row.app_id for row in notices(stage)] == ["forum"]
    assert stage.tell_mosaic() == ["confirmed"]
    assert stage.mosaic.state.live_sessions() == []
    assert stage.silent_auth("ada", "forum").reason == Reason.CAP_REACHED


@pytest.mark.parametrize("cap", CAPS)
def test_a_worker_whose_clock_jumped_refuses_and_ends_nothing(
    stage_with: StageWith, cap: str
) -> None:
    stage = stage_with(**CAPS[cap])
    stage.registered()
    stage.silent_auth()
    before = stage.dump()

    stage.pass_time(days=4)
    ahead = stage.silent_auth()
    stage.pass_time(days=-4)

    assert (ahead.verdict, ahead.reason) == (Verdict.LOGIN_REQUIRED, Reason.CAP_REACHED)
    assert stage.dump() == before
    assert stage.silent_auth().verdict is Verdict.AUTHENTICATED


def test_a_logout_finds_what_is_past_a_cap_and_tells_mosaic(stage_with: StageWith) -> None:
    stage = stage_with(**CAPS["absolute"])
    ref = stage.registered()
    stage.pass_time(days=3, seconds=1)
    assert stage.silent_auth().reason == Reason.CAP_REACHED

    assert stage.log_out(session_ref=str(ref)).sessions_ended == 1
    assert stage.tell_mosaic() == ["confirmed"]
    assert stage.silent_auth().reason == Reason.LOGGED_OUT


@pytest.mark.parametrize("cap", CAPS)
def test_a_prune_ends_what_is_past_a_cap_and_nothing_else(stage_with: StageWith, cap: str) -> None:
    stage = stage_with(**CAPS[cap], expire_grace_seconds="100")
    ref = stage.registered("ada")
    stage.pass_time(seconds=50)
    young = stage.registered("bob")
    stage.pass_time(days=3, seconds=51)

    counted = expire_sessions(stage.services, dry_run=True).rows
    assert counted == {"expired": 0, "capped": 1}
    assert expire(stage) == counted

    assert stage.session(ref).end_cause == "cap_reached"
    assert stage.session(young).ended_at is None
    assert stage.tell_mosaic() == ["confirmed"]
    assert len(stage.mosaic.state.live_sessions()) == 1


def test_what_is_past_its_expiry_and_a_cap_has_expired(stage_with: StageWith) -> None:
    stage = stage_with(**CAPS["absolute"])
    ref = stage.registered()
    stage.pass_time(days=15)

    assert expire(stage) == {"expired": 1, "capped": 0}
    assert stage.session(ref).end_cause == "expired"


def test_use_moves_the_idle_cap_but_not_the_absolute_one(stage_with: StageWith) -> None:
    stage = stage_with(
        session_idle_cap_seconds=str(3 * DAY), session_absolute_cap_seconds=str(7 * DAY)
    )
    stage.registered()
    for _ in range(3):
        stage.pass_time(days=2)
        assert stage.silent_auth().verdict is Verdict.AUTHENTICATED
        assert expire(stage) == {"expired": 0, "capped": 0}
    stage.pass_time(days=1, seconds=1)

    assert stage.silent_auth().reason == Reason.CAP_REACHED


@pytest.mark.parametrize("lifetime_now", [90 * DAY, DAY])
def test_a_longer_lifetime_of_now_or_then_hides_no_idle_session_from_a_prune(
    stage_with: StageWith, lifetime_now: int
) -> None:
    stage = stage_with(**CAPS["idle"])
    stage.add_app("kiosk", session_lifetime_seconds=90 * DAY)
    ref = stage.registered("ada", "kiosk")
    apps.set_app(stage.services, "kiosk", session_lifetime_seconds=lifetime_now)
    stage.pass_time(days=3, minutes=3)

    assert expire_sessions(stage.services, dry_run=True).rows["capped"] == 1
    assert expire(stage) == {"expired": 0, "capped": 1}
    assert stage.session(ref).end_cause == "cap_reached"


def test_an_added_factor_does_not_restart_the_absolute_cap(stage_with: StageWith) -> None:
    stage = stage_with(**CAPS["absolute"])
    login = stage.login("ada", "shop")
    first = stage.remember(login)
    stage.pass_time(days=2)
    stronger = stage.mosaic.state.add_factor(login.session_id, "client-shop", "sms")
    second = stage.remember(stronger)
    assert (second.verdict, second.expires_at) == (Verdict.OK, first.expires_at)
    stage.pass_time(days=1, seconds=1)

    assert stage.silent_auth("ada", "shop").reason == Reason.CAP_REACHED


def test_a_factor_added_past_the_absolute_cap_is_refused_and_changes_nothing(
    stage_with: StageWith,
) -> None:
    stage = stage_with(**CAPS["absolute"])
    login = stage.login("ada", "shop")
    stage.remember(login)
    stage.pass_time(days=3, seconds=1)
    before = stage.dump()

    stronger = stage.mosaic.state.add_factor(login.session_id, "client-shop", "sms")
    answer = stage.remember(stronger)

    assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, Reason.CAP_REACHED)
    assert stage.dump() == before


@pytest.mark.parametrize(
    ("overrides", "days"),
    [
        ({}, 14),
        (CAPS["idle"], 3),
        ({"session_idle_cap_seconds": str(30 * DAY)}, 14),
        (CAPS["absolute"], 2),  # one of its three is over
        (CAPS["idle"] | {"session_absolute_cap_seconds": str(2 * DAY)}, 1),
    ],
)
def test_an_answer_tells_the_earliest_end(
    stage_with: StageWith, overrides: dict[str, str], days: int
) -> None:
    stage = stage_with(**overrides)
    login = stage.login("ada", "shop")
    registration = stage.remember(login)
    first_end = stage.now() + timedelta(days=days + ("session_absolute_cap_seconds" in overrides))
    stage.pass_time(days=1)

    answer = stage.silent_auth()

    close = timedelta(seconds=3)
    assert abs(registration.expires_at - first_end) < close
    assert abs(answer.expires_at - (stage.now() + timedelta(days=days))) < close


def test_without_caps_a_used_session_lives_on(stage_with: StageWith) -> None:
    stage = stage_with()
    ref = stage.registered()
    for _ in range(10):
        stage.pass_time(days=13)
        assert stage.silent_auth().verdict is Verdict.AUTHENTICATED
        assert expire(stage) == {"expired": 0}
    assert stage.session(ref).ended_at is None


def test_newer_sessions_past_a_cap_take_no_place_from_one_within_it(
    stage_with: StageWith,
) -> None:
    stage = stage_with(**CAPS["idle"], max_candidates="2")
    login = stage.login("ada", "shop")
    logged_in_at = int(stage.now().timestamp())
    used = UUID(stage.remember(login, device_id="phone").session_ref)
    idle = [stage.registered(device_id="phone") for _ in range(3)]
    stage.pass_time(days=2)
    token = stage.mosaic.state.mint_id_token(aud="client-shop", auth_time=logged_in_at)
    assert stage.remember(login, id_token=token).session_ref == str(used)
    stage.pass_time(days=1, seconds=1)

    answer = stage.silent_auth(device_id="phone")

    assert UUID(answer.session_ref) == used
    assert stage.silent_auth(device_id="phone", max_age=60).session_ref == str(used)
    stage.log_out(app_id="shop", session_ref=str(used))
    assert stage.silent_auth(device_id="phone").reason == Reason.CAP_REACHED
    assert {stage.session(ref).ended_at for ref in idle} == {None}


def test_a_session_whose_renewal_is_under_way_when_it_is_found_idle_lives_on(
    stage_with: StageWith,
) -> None:
    stage = stage_with(**CAPS["idle"])
    ref = stage.registered()
    stage.pass_time(days=2, hours=23, minutes=59, seconds=50)
    with (
        stage.mosaic.state.gates.hold(ASK, "client-shop") as gate,
        stage.meanwhile(lambda: stage.silent_auth("ada", "shop")) as renewing,
    ):
        gate.wait_arrived()
        stage.pass_time(seconds=15)
        assert stage.silent_auth("ada", "forum").reason == Reason.CAP_REACHED
        assert expire(stage) == {"expired": 0, "capped": 0}
        gate.release()

    assert renewing.result().verdict is Verdict.AUTHENTICATED
    assert stage.silent_auth("ada", "forum").verdict is Verdict.AUTHENTICATED
    assert stage.session(ref).ended_at is None
    assert notices(stage) == stage.logouts() == []


def test_status_leaves_out_what_is_past_a_cap_and_tells_the_earlier_end(
    store_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with Stage(store_url, redis_url, mosaic, session_idle_cap_seconds="3600") as stage:
        stage.add_app("shop")
        stage.registered()

        (listed,) = stage.ask("shop", requests.Status(user_id="ada")).sessions
        stage.pass_time(hours=2)
        later = stage.ask("shop", requests.Status(user_id="ada")).sessions

    assert listed.expires_at - stage.now() < timedelta(0)  # an hour after the login, not weeks
    assert later == ()
