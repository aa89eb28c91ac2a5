"""A logout is final (P1) for those who wait for another's answer, or take one of a moment ago."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from session_client.contract import Reason, Verdict
from simulator.server import SimulatorServer
from tests.integration.traffic.traffic_fleet import ASK, Fleet, running_fleet
from tests.stage import Stage


@pytest.fixture
def fleet(store_url: str, redis_url: str, mosaic: SimulatorServer) -> Iterator[Fleet]:
    with running_fleet(store_url, redis_url, mosaic) as fleet:
        yield fleet


@pytest.fixture
def stage(store_url: str, redis_url: str, mosaic: SimulatorServer) -> Iterator[Stage]:
    with Stage(store_url, redis_url, mosaic, reuse_seconds="30") as stage:
        stage.add_app("shop")
        stage.add_app("forum")
        yield stage


def test_a_logout_while_mosaic_answers_is_final_for_those_who_wait_as_well(fleet: Fleet) -> None:
    (ref,) = (session.id for session in fleet.stage.sessions())
    with (
        fleet.stage.mosaic.state.gates.hold(ASK) as gate,
        fleet.asking(*[{}] * 4) as asking,
    ):
        fleet.wait_for_waiters(3)
        fleet.stage.log_out(session_ref=str(ref))
        gate.release()
        said = {(future.result().verdict, future.result().reason) for future in asking}

    assert said == {(Verdict.LOGIN_REQUIRED, Reason.LOGGED_OUT)}
    assert fleet.asked() == 1


def test_a_logout_after_the_answer_was_shared_is_final_for_those_who_have_not_taken_it(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ref,) = (session.id for session in fleet.stage.sessions())
    may_look = threading.Event()
    waited = threading.Event()
    slow = fleet.services[0].traffic.single_flight
    wait = slow.wait

    def wait_long(call: Any, seconds: float) -> None:
        waited.set()
        may_look.wait(60)
        wait(call, seconds)

    monkeypatch.setattr(slow, "wait", wait_long)
    with fleet.stage.mosaic.state.gates.hold(ASK) as gate:
        fleet._next = 0  # to the second process
        with fleet.asking({}) as first:
            gate.wait_arrived()
            fleet._next = 2  # to the first process
            with fleet.asking({}) as second:
                waited.wait(60)
                gate.release()
                assert first[0].result().verdict is Verdict.AUTHENTICATED
                fleet.stage.log_out(session_ref=str(ref))
                may_look.set()

    assert second[0].result().verdict is Verdict.LOGIN_REQUIRED
    assert second[0].result().reason == Reason.LOGGED_OUT


def test_an_answer_is_never_reused_after_a_logout(stage: Stage) -> None:
    ref = stage.registered()
    assert stage.silent_auth().verdict is Verdict.AUTHENTICATED
    stage.log_out(session_ref=str(ref))

    answer = stage.silent_auth()

    assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, Reason.LOGGED_OUT)
    assert stage.mosaic.state.calls.count(ASK) == 1


def test_a_logout_that_races_many_requests_is_final_once_it_is_answered(stage: Stage) -> None:
    for _ in range(4):
        ref = str(stage.registered())

        *_, receipt = stage.at_once(
            *[stage.silent_auth] * 4,
            functools.partial(stage.log_out, session_ref=ref),
            *[stage.silent_auth] * 2,
            functools.partial(stage.log_out, session_ref=ref),
        )

        assert receipt.verdict is Verdict.OK
        answer = stage.silent_auth()
        assert (answer.verdict, answer.tokens) == (Verdict.LOGIN_REQUIRED, None)


def test_a_session_logged_out_under_another_id_gives_no_tokens(stage: Stage) -> None:
    """Mosaic has one session where we have two rows; only asking again can tell."""
    login = stage.login("ada", "shop")
    stage.remember(login)
    (session,) = stage.mosaic.state.sessions.live("ada")
    stage.mosaic.state.sessions.give_new_id(session)
    renamed = stage.mosaic.state.add_factor(login.session_id, "client-shop", "sms")
    stage.remember(renamed, device_id="phone")
    assert stage.silent_auth().verdict is Verdict.AUTHENTICATED
    stage.log_out(session_id=renamed.session_id)

    answer = stage.silent_auth()

    assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, Reason.LOGGED_OUT)
