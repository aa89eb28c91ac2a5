"""The breaker: a Mosaic that is down is left alone, and asked again with care."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from session_client.contract import Reason, Verdict
from simulator.server import SimulatorServer
from tests.integration.traffic.traffic_rig import (
    Client,
    Process,
    Starter,
    another_process,
    end,
    pass_redis_time,
    starting,
)
from tests.stage import Stage, patient_redis
from worker.errors import (
    ClientRefused,
    MosaicContractBroken,
    MosaicRateLimited,
    MosaicTimedOut,
    MosaicUnavailable,
    SessionGone,
    TokenRejected,
    WrongSubject,
)
from worker.traffic import Lane

ASK, TELL = "session/authenticate", "session/logout"
HASTY = 0.5


@pytest.fixture
def start(redis_url: str) -> Iterator[Starter]:
    with starting(redis_url) as start:
        yield start


@pytest.fixture
def process(start: Starter) -> Process:
    return start(breaker_failures=3, breaker_open_seconds=5, breaker_open_most_seconds=15)


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


def test_an_app_with_hasty_deadlines_closes_the_way_for_nobody(process: Process) -> None:
    for _ in range(10):
        raised = process.call(MosaicTimedOut(), allowed_seconds=HASTY)
        assert isinstance(raised, MosaicTimedOut)

    assert not is_open(process)


def test_a_failure_that_took_no_time_counts_however_hasty_the_deadline(process: Process) -> None:
    for _ in range(3):
        process.call(MosaicUnavailable(), allowed_seconds=HASTY)

    assert is_open(process)


@pytest.mark.parametrize("share", [1.0, 0.6])  # the rest is waited for a turn
def test_a_deadline_near_to_what_the_settings_allow_is_not_hasty(
    start: Starter, share: float
) -> None:
    process = start(breaker_failures=1, mosaic_timeout_seconds=HASTY)

    process.call(MosaicTimedOut(), allowed_seconds=share * HASTY)

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


# --- as apps see it


@pytest.fixture
def stage(sqlite_url: str, redis_url: str, mosaic: SimulatorServer) -> Iterator[Stage]:
    brittle = {"breaker_failures": "2", "breaker_open_seconds": "40"}
    with patient_redis(), Stage(sqlite_url, redis_url, mosaic, **brittle) as stage:
        stage.add_app("shop")
        stage.add_app("forum")
        yield stage


def test_while_it_is_open_apps_are_answered_and_mosaic_is_left_alone(
    stage: Stage, redis_url: str
) -> None:
    stage.registered()
    stage.mosaic.state.faults.add(ASK, "status", status=503)
    stage.silent_auth()
    stage.silent_auth()

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

    for _ in range(2):
        assert stage.silent_auth("ada", "desk").reason == Reason.CLIENT_REFUSED
        stage.silent_auth("ada", "forum")

    assert is_open_at(stage)


def test_an_app_whose_client_is_refused_does_not_close_it(stage: Stage, redis_url: str) -> None:
    refused_a_client(stage)
    stage.mosaic.state.faults.add(ASK, "status", status=503)
    stage.silent_auth("ada", "forum")
    stage.silent_auth("ada", "forum")
    pass_redis_time(redis_url, 40)

    for _ in range(5):
        assert stage.silent_auth("ada", "desk").reason == Reason.CLIENT_REFUSED
    stage.silent_auth("ada", "forum")

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
    stage.registered()
    stage.mosaic.state.faults.add("token", "status", client_id="client-desk", status=401)


def is_open_at(stage: Stage) -> bool:
    app = stage.services.apps.find("forum")
    assert app is not None
    breakers = stage.services.traffic.snapshot([app.mosaic]).breakers
    return any(breaker.state == "open" for breaker in breakers)


def test_logouts_held_back_are_delivered_once_mosaic_is_well(stage: Stage, redis_url: str) -> None:
    refs = [stage.registered(user) for user in ("ada", "bob", "eve", "kim")]
    for user, ref in zip(("ada", "bob", "eve", "kim"), refs, strict=True):
        stage.log_out(user, session_ref=str(ref))
    stage.mosaic.state.faults.add(TELL, "status", status=503)

    assert stage.tell_mosaic() == [None] * 4

    assert stage.mosaic.state.calls.count(TELL) == 2
    assert sorted(row.attempts for row in stage.logouts()) == [0, 0, 1, 1]
    stage.mosaic.state.faults.clear()
    pass_redis_time(redis_url, 40)
    stage.pass_time(seconds=43)
    assert stage.tell_mosaic() == ["confirmed"] * 4
