"""The breaker: a Mosaic that is down is left alone, and asked again with care."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from session_client.contract import Reason, Verdict
from simulator.server import SimulatorServer
from tests.integration.traffic.traffic_rig import (
    DESK,
    FORUM,
    SHOP,
    Client,
    Process,
    Starter,
    another_process,
    end,
    pass_redis_time,
)
from tests.stage import Stage
from worker.errors import (
    ClientRefused,
    HeldBack,
    MosaicContractBroken,
    MosaicRateLimited,
    MosaicTimedOut,
    MosaicUnavailable,
    SessionGone,
    TokenRejected,
    WrongSubject,
)
from worker.traffic import Lane, breakers

ASK, TELL = "session/authenticate", "session/logout"
SHORT = 0.5


@pytest.fixture
def process(start: Starter) -> Process:
    return start(breaker_failures=3, breaker_open_seconds=5, breaker_open_max_seconds=15)


def is_open(process: Process, app: Client | None = None) -> bool:
    breakers = process.traffic.snapshot([app or Client()]).breakers
    return any(breaker.state == "open" for breaker in breakers)


@pytest.mark.parametrize("lane", Lane)
def test_failures_in_a_row_open_it_for_every_process_and_this_lane_alone(
    process: Process, start: Starter, lane: Lane
) -> None:
    other = start()
    for _ in range(3):
        process.admit(lane)
        process.call(MosaicUnavailable(), lane)

    for anybody in (process, other):
        held = anybody.held_back(lane)
        assert held.reason is Reason.IDP_UNAVAILABLE
        assert 3 < held.retry_after <= 5
    for free in set(Lane) - {lane}:
        other.admit(free)


def test_a_good_answer_begins_the_row_anew(process: Process) -> None:
    for _ in range(4):
        process.fail(2)
        process.call()

    assert not is_open(process)


def test_half_of_many_calls_failing_opens_it(start: Starter) -> None:
    process = start(breaker_failures=1000)
    for _ in range(10):
        process.fail()
        assert not is_open(process)
        process.call()

    process.fail()

    assert is_open(process)


def test_fewer_than_half_failing_do_not_open_it(start: Starter) -> None:
    process = start(breaker_failures=1000)
    for _ in range(20):
        process.fail()
        process.call()
        process.call()

    assert not is_open(process)


def test_failures_of_half_a_minute_ago_are_forgotten(start: Starter, redis_url: str) -> None:
    process = start(breaker_failures=1000)
    for _ in range(9):
        process.fail()
        process.call()

    pass_redis_time(redis_url, 31)
    for _ in range(9):
        process.fail()
        process.call()

    assert not is_open(process)


@pytest.mark.parametrize(
    "answer",
    [
        SessionGone(),
        WrongSubject(),
        TokenRejected("exp"),
        ClientRefused(),
        MosaicContractBroken(),
        MosaicRateLimited(retry_after=0),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_answer_that_was_not_hoped_for_is_still_an_answer(
    process: Process, answer: Exception
) -> None:
    permits = [process.admit() for _ in range(7)]
    for permit in permits[:2]:
        end(permit, MosaicUnavailable())
    late = process.admit()

    assert isinstance(end(late, answer), type(answer))
    for permit in permits[2:4]:
        end(permit, MosaicUnavailable())

    assert not is_open(process)


def test_an_app_with_short_deadlines_closes_the_way_for_nobody(process: Process) -> None:
    for _ in range(10):
        raised = process.call(MosaicTimedOut(), allowed_seconds=SHORT)
        assert isinstance(raised, MosaicTimedOut)

    assert not is_open(process)


def test_a_failure_that_took_no_time_counts_however_short_the_deadline(process: Process) -> None:
    for _ in range(3):
        process.call(MosaicUnavailable(), allowed_seconds=SHORT)

    assert is_open(process)


@pytest.mark.parametrize("share", [1.0, 0.6])  # the rest is waited for a turn
def test_a_deadline_near_to_what_the_settings_allow_is_not_short(
    start: Starter, share: float
) -> None:
    process = start(breaker_failures=1, mosaic_timeout_seconds=SHORT)

    process.call(MosaicTimedOut(), allowed_seconds=share * SHORT)

    assert is_open(process)


def test_two_hosts_have_two_breakers(process: Process) -> None:
    europe = Client(base_url="https://eu.mosaic.example")
    process.fail(3)

    process.admit(app=europe)
    assert not is_open(process, europe)


def test_one_that_ends_after_it_opened_does_not_keep_it_open_longer(process: Process) -> None:
    late = [process.admit() for _ in range(4)]
    process.fail(3)
    before = process.held_back().retry_after

    for permit in late:
        end(permit, MosaicUnavailable())

    assert process.held_back().retry_after <= before


# --- whom it is for


def test_a_client_that_fails_closes_the_way_for_itself_alone(
    process: Process, start: Starter
) -> None:
    process.fail(3, SHOP)

    for anybody in (process, start()):
        assert anybody.held_back(app=SHOP).reason is Reason.IDP_UNAVAILABLE
        anybody.admit(app=FORUM)


@pytest.mark.parametrize("lane", Lane)
def test_two_clients_that_fail_close_it_for_all_after_few_calls(
    process: Process, start: Starter, lane: Lane
) -> None:
    calls = 0
    while calls < 100:
        try:
            process.fail(1, (SHOP, FORUM)[calls % 2], lane)
        except HeldBack:
            break
        calls += 1

    assert calls <= 4  # three failures in a row open it, one client counting no more than the other
    assert start().held_back(lane, DESK).reason is Reason.IDP_UNAVAILABLE


def test_a_client_counts_for_no_more_than_all_the_others_together(process: Process) -> None:
    process.fail(2, SHOP)
    process.fail(1, FORUM)
    process.admit(app=DESK)

    process.fail(1, DESK)

    process.held_back(app=Client("another"))


def test_one_session_that_fails_again_and_again_closes_the_way_for_nobody(
    process: Process,
) -> None:
    process.fail(50, SHOP, whom="a session")
    process.fail(50, FORUM, whom="another session")

    for client in (SHOP, FORUM, DESK):
        process.admit(app=client)


def test_one_session_that_fails_in_many_calls_is_not_half_of_them(start: Starter) -> None:
    process = start(breaker_failures=1000)
    for _ in range(20):
        for client in (SHOP, FORUM, DESK):
            process.fail(1, client, whom=f"a session of {client}")

    for client in (SHOP, FORUM, DESK):
        process.admit(app=client)


def test_a_client_with_half_its_calls_failing_closes_the_way_for_itself_alone(
    start: Starter,
) -> None:
    process = start(breaker_failures=1000)
    for _ in range(10):
        process.fail(1, SHOP)
        process.call(app=SHOP)
        process.call(app=FORUM)
    process.fail(1, SHOP)

    process.held_back(app=SHOP)
    process.admit(app=FORUM)


def test_half_of_all_calls_failing_for_several_clients_close_it_for_all(start: Starter) -> None:
    process = start(breaker_failures=1000)
    clients = [Client(f"client-{number}") for number in range(10)]
    for client in clients:
        process.fail(1, client)
        process.call(app=client)
    process.fail(1, clients[0])

    process.held_back(app=DESK)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_whatever_one_client_does_another_one_is_never_held_back(
    start: Starter, redis_url: str, data: st.DataObject
) -> None:
    process = start(breaker_failures=3, breaker_open_seconds=5)
    process.redis.flushall()
    for _ in range(data.draw(st.integers(1, 40))):
        act = data.draw(st.sampled_from(["fails", "fails", "works", "is slow", "waits", "other"]))
        if act == "waits":
            pass_redis_time(redis_url, data.draw(st.sampled_from([1, 5, 31])))
        elif act == "other":
            assert process.call(app=FORUM) is None
        else:
            error = None if act == "works" else MosaicUnavailable()
            lane = data.draw(st.sampled_from(list(Lane)))
            with suppress(HeldBack):
                permit = process.admit(lane, SHOP, is_untried=data.draw(st.booleans()))
                if act != "is slow":  # its process dies
                    end(permit, error)

    for lane in Lane:
        assert process.call(lane=lane, app=FORUM) is None


# --- logouts that were never tried


def test_a_logout_that_was_never_tried_is_held_back_by_no_breaker(
    process: Process, start: Starter
) -> None:
    process.fail(3, SHOP, Lane.LOGOUT)
    process.fail(2, FORUM, Lane.LOGOUT)

    for client in (SHOP, DESK):
        process.held_back(Lane.LOGOUT, client)
        for _ in range(10):
            start().admit(Lane.LOGOUT, client, is_untried=True)


@pytest.mark.parametrize(("slots", "of_a_client"), [(1, 1), (4, 1), (8, 2), (12, 3), (64, 3)])
def test_where_logouts_hang_a_quarter_of_the_slots_is_a_clients_and_the_others_wait(
    start: Starter, monkeypatch: pytest.MonkeyPatch, slots: int, of_a_client: int
) -> None:
    """Each takes a slot for as long as Mosaic may take: there must be some for other clients."""
    monkeypatch.setattr(breakers, "SLOW_SECONDS", 0.0)
    process = start(breaker_failures=3, concurrency=slots)
    process.fail(3, SHOP, Lane.LOGOUT)
    hanging = [process.admit(Lane.LOGOUT, SHOP, is_untried=True) for _ in range(of_a_client)]

    with pytest.raises(HeldBack):
        process.admit(Lane.LOGOUT, SHOP, is_untried=True)
    process.admit(Lane.LOGOUT, FORUM, is_untried=True)
    end(hanging[0], MosaicUnavailable())
    process.admit(Lane.LOGOUT, SHOP, is_untried=True)


def test_logouts_are_kept_back_no_longer_each_time(process: Process, redis_url: str) -> None:
    """Each has a back-off of its own. One that failed because of others would wait for both."""
    for _ in range(4):
        process.fail(3, lane=Lane.LOGOUT)
        assert process.held_back(Lane.LOGOUT).retry_after <= 5
        pass_redis_time(redis_url, 5)


# --- as apps see it


@pytest.fixture
def stage(sqlite_url: str, redis_url: str, mosaic: SimulatorServer) -> Iterator[Stage]:
    brittle = {"breaker_failures": "2", "breaker_open_seconds": "40"}
    with Stage(sqlite_url, redis_url, mosaic, **brittle) as stage:
        stage.add_app("shop")
        stage.add_app("forum")
        yield stage


def test_while_it_is_open_apps_are_answered_and_mosaic_is_left_alone(
    stage: Stage, redis_url: str
) -> None:
    stage.registered("ada")
    stage.registered("bob")
    stage.mosaic.state.faults.add(ASK, "status", status=503)
    stage.silent_auth("ada", "forum")
    stage.silent_auth("bob", "shop")

    with another_process(stage):
        answers = [stage.silent_auth("ada", app) for app in ("forum", "shop")]

    for answer in answers:
        assert answer.verdict is Verdict.TEMPORARILY_UNAVAILABLE
        assert answer.reason == Reason.IDP_UNAVAILABLE
        assert 20 < answer.retry_after <= 40
    assert stage.mosaic.state.calls.count(ASK) == 2

    stage.mosaic.state.faults.clear()
    pass_redis_time(redis_url, 40)
    assert stage.silent_auth().verdict is Verdict.AUTHENTICATED


def test_an_app_whose_client_is_refused_hides_no_failure_of_mosaic(stage: Stage) -> None:
    refused_a_client(stage)
    stage.mosaic.state.faults.add(ASK, "status", status=503)

    for user in ("ada", "bob"):
        assert stage.silent_auth(user, "desk").reason == Reason.CLIENT_REFUSED
        stage.silent_auth(user, "forum")

    assert is_open_at(stage)


def test_an_app_whose_client_is_refused_does_not_close_it(stage: Stage, redis_url: str) -> None:
    refused_a_client(stage)
    stage.mosaic.state.faults.add(ASK, "status", status=503)
    stage.silent_auth("ada", "forum")
    stage.silent_auth("bob", "forum")
    pass_redis_time(redis_url, 40)

    for _ in range(5):
        assert stage.silent_auth("ada", "desk").reason == Reason.CLIENT_REFUSED
    stage.silent_auth("ada", "forum")
    stage.silent_auth("bob", "forum")

    assert is_open_at(stage)


def test_an_app_that_gets_no_client_token_closes_the_way_for_nobody(stage: Stage) -> None:
    stage.add_app("desk")
    stage.registered()
    stage.mosaic.state.faults.add("token", "status", client_id="client-desk", status=503)

    for _ in range(3):
        assert stage.silent_auth("ada", "desk").reason == Reason.IDP_UNAVAILABLE

    assert stage.silent_auth("ada", "forum").verdict is Verdict.AUTHENTICATED


def refused_a_client(stage: Stage) -> None:
    """Of the app desk, in whose place somebody has set another secret."""
    stage.add_app("desk")
    stage.registered("ada")
    stage.registered("bob")
    stage.mosaic.state.faults.add("token", "status", client_id="client-desk", status=401)


def is_open_at(stage: Stage) -> bool:
    app = stage.services.apps.find("forum")
    assert app is not None
    breakers = stage.services.traffic.snapshot([app.mosaic]).breakers
    return any(breaker.state == "open" for breaker in breakers)


def test_logouts_that_failed_are_held_back_and_delivered_once_mosaic_is_well(
    stage: Stage, redis_url: str
) -> None:
    users = ("ada", "bob", "eve", "kim")
    for user in users:
        stage.log_out(user, session_ref=str(stage.registered(user)))
    stage.mosaic.state.faults.add(TELL, "status", status=503)
    assert stage.tell_mosaic() == [None] * 4  # each is tried once, whatever became of the others
    stage.pass_time(seconds=3)

    assert stage.tell_mosaic() == [None] * 4

    assert stage.mosaic.state.calls.count(TELL) == 4
    assert [row.attempts for row in stage.logouts()] == [1, 1, 1, 1]
    stage.mosaic.state.faults.clear()
    pass_redis_time(redis_url, 40)
    stage.pass_time(seconds=43)
    assert stage.tell_mosaic() == ["confirmed"] * 4


def test_one_app_that_asks_for_what_mosaic_fails_on_closes_silent_sign_in_for_no_other(
    stage: Stage,
) -> None:
    users = [f"user-{number}" for number in range(22)]
    for user in users:
        stage.registered(user)
    stage.mosaic.state.faults.add(ASK, "status", status=500, mentioning="urn:broken")

    answers = []
    for user in users:
        spoilt = stage.silent_auth(user, "shop", resource="urn:broken")
        assert spoilt.reason == Reason.IDP_UNAVAILABLE
        answers += [stage.silent_auth(user, "forum") for _ in range(3)]

    assert {answer.verdict for answer in answers} == {Verdict.AUTHENTICATED}
    assert stage.mosaic.state.calls.count(ASK, "client-shop") == 2  # its own breaker is open


def test_one_user_for_whom_mosaic_fails_closes_silent_sign_in_for_no_other(stage: Stage) -> None:
    stage.registered("ada")
    stage.registered("bob")
    stage.mosaic.state.faults.add(ASK, "status", status=500, mentioning="urn:broken")

    for number in range(22):
        stage.silent_auth("ada", "forum", resource=f"urn:broken:{number}")

    assert stage.silent_auth("bob", "forum").verdict is Verdict.AUTHENTICATED


def test_a_mosaic_that_is_down_is_asked_a_few_times_by_all_apps_together(stage: Stage) -> None:
    users = [f"user-{number}" for number in range(10)]
    for user in users:
        stage.registered(user)
    stage.mosaic.state.faults.add(ASK, "drop_request")

    for user in users:
        for app_id in ("shop", "forum"):
            assert stage.silent_auth(user, app_id).reason == Reason.IDP_UNAVAILABLE

    assert stage.mosaic.state.calls.count(ASK) <= 4
