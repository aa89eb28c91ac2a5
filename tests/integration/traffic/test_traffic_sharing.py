"""Identical requests at once are one call, whichever process they come to."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from session_client.contract import Reason, Verdict
from simulator.server import SimulatorServer
from tests.integration.traffic.traffic_fleet import ASK, Fleet, running_fleet


@pytest.fixture
def fleet(sqlite_url: str, redis_url: str, mosaic: SimulatorServer) -> Iterator[Fleet]:
    with running_fleet(sqlite_url, redis_url, mosaic) as fleet:
        yield fleet


def test_identical_requests_at_three_processes_make_one_call_and_all_get_tokens(
    fleet: Fleet,
) -> None:
    with (
        fleet.stage.mosaic.state.gates.hold(ASK) as gate,
        fleet.asking(*[{}] * 15) as asking,
    ):
        fleet.wait_for_waiters(14)
        gate.release()
        answers = [future.result() for future in asking]

    assert {answer.verdict for answer in answers} == {Verdict.AUTHENTICATED}
    assert len({answer.data["tokens"]["access_token"] for answer in answers}) == 1
    assert fleet.asked() == 1


def test_the_refresh_token_is_for_one(fleet: Fleet) -> None:
    with (
        fleet.stage.mosaic.state.gates.hold(ASK) as gate,
        fleet.asking(*[{}] * 4) as asking,
    ):
        fleet.wait_for_waiters(3)
        gate.release()
        given = [future.result().data["tokens"] for future in asking]

    assert sum("refresh_token" in tokens for tokens in given) == 1


DIFFERENT: dict[str, dict[str, Any]] = {
    "resource": {"resource": "https://orders.example"},
    "claims": {"claims": {"id_token": {"email": None}}},
    "organisation": {"org_id": "org-1"},
    "device": {"device_id": "phone"},
    "browser": {"client_attributes": {"user_agent": "Firefox"}},
    "address": {"client_attributes": {"ip_address": "192.0.2.1"}},
    "app": {"app_id": "shop"},
    "user": {"user_id": "bob"},
}


@pytest.mark.parametrize("other", DIFFERENT)
def test_requests_that_differ_in_what_mosaic_is_asked_do_not_share(
    fleet: Fleet, other: str
) -> None:
    fleet.stage.registered("bob")
    fleet.stage.registered(device_id="phone")
    with (
        fleet.stage.mosaic.state.gates.hold(ASK) as gate,
        fleet.asking({}, DIFFERENT[other]) as asking,
    ):
        gate.wait_arrived(2)
        gate.release()
        answers = [future.result() for future in asking]

    assert {answer.verdict for answer in answers} == {Verdict.AUTHENTICATED}
    assert len({answer.data["tokens"]["access_token"] for answer in answers}) == 2


def test_another_session_of_the_same_user_is_asked_about_anew(fleet: Fleet) -> None:
    with fleet.stage.mosaic.state.gates.hold(ASK) as gate, fleet.asking({}) as first:
        gate.wait_arrived()
        fleet.stage.pass_time(seconds=1)
        newer = fleet.stage.registered()
        with fleet.asking({}) as second:
            gate.wait_arrived(2)
            gate.release()
            assert UUID(second[0].result().data["session_ref"]) == newer
        assert UUID(first[0].result().data["session_ref"]) != newer


LATER, LOGIN = Verdict.TEMPORARILY_UNAVAILABLE, Verdict.LOGIN_REQUIRED
INACTIVE = {"status": 403, "message": "User is not active"}


@pytest.mark.parametrize(
    ("kind", "details", "verdict", "reason"),
    [
        ("status", {"status": 503}, LATER, Reason.IDP_UNAVAILABLE),
        ("rate_limited", {"retry_after": 1}, LATER, Reason.RATE_LIMITED),
        ("wrong_iss", {}, LATER, Reason.IDP_UNAVAILABLE),
        ("status", {"status": 409}, LATER, Reason.IDP_UNAVAILABLE),
        ("status", INACTIVE, LOGIN, Reason.USER_NOT_ACTIVE),
    ],
)
def test_a_call_that_fails_fails_all_who_wait_for_it_without_a_call_each(
    fleet: Fleet, kind: str, details: Any, verdict: Verdict, reason: Reason
) -> None:
    fleet.stage.mosaic.state.faults.add(ASK, kind, times=1, **details)
    with fleet.stage.mosaic.state.gates.hold(ASK) as gate, fleet.asking(*[{}] * 6) as asking:
        fleet.wait_for_waiters(5)
        gate.release()

    answers = [future.result() for future in asking]
    assert {(answer.verdict, answer.reason) for answer in answers} == {(verdict, reason)}
    assert {answer.retry_after is None for answer in answers} == {verdict is LOGIN}
    assert fleet.asked() == 1


def test_a_wish_that_mosaic_does_not_grant_is_for_all_who_had_it_to_mend(fleet: Fleet) -> None:
    fleet.stage.mosaic.state.faults.add(ASK, "status", status=400, times=1)
    wish = {"resource": "urn:nothing"}
    with fleet.stage.mosaic.state.gates.hold(ASK) as gate, fleet.asking(*[wish] * 4) as asking:
        fleet.wait_for_waiters(3)
        gate.release()

    waited = [future.result() for future in asking if future.exception() is None]
    told = [(answer.verdict, answer.reason, answer.retry_after) for answer in waited]
    assert told == [(Verdict.INVALID_REQUEST, Reason.OPTIONS_REFUSED, None)] * 3
    assert fleet.asked() == 1


def test_one_with_a_short_deadline_fails_alone(fleet: Fleet) -> None:
    with fleet.stage.mosaic.state.gates.hold(ASK) as gate:
        with fleet.asking({"lasts": 1.9}) as short:
            gate.wait_arrived()
            with fleet.asking({}, {}) as patient:
                gate.wait_arrived(2)
                # The other one; both have waited for that call, unless it was over by then.
                fleet.wait_for_waiters(1)
                gate.release()
        assert short[0].result().reason is Reason.IDP_UNAVAILABLE

    assert {future.result().verdict for future in patient} == {Verdict.AUTHENTICATED}
    assert fleet.asked() == 2


def test_a_failure_that_took_no_time_is_shared_however_short_the_deadline(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    for services in fleet.services:
        monkeypatch.setattr(services.traffic._gate, "min_counted_timeout", 100.0)  # all are short
    fleet.stage.mosaic.state.faults.add(ASK, "status", status=503)

    with (
        fleet.stage.mosaic.state.gates.hold(ASK, before=True) as gate,
        fleet.asking(*[{}] * 6) as asking,
    ):
        fleet.wait_for_waiters(5)
        gate.release()
        reasons = {future.result().reason for future in asking}

    assert reasons == {Reason.IDP_UNAVAILABLE}
    assert fleet.asked() == 1


def test_a_session_gone_at_mosaic_is_found_out_once(fleet: Fleet) -> None:
    (session,) = fleet.stage.mosaic.state.live_sessions()
    with (
        fleet.stage.mosaic.state.gates.hold(ASK, before=True) as gate,
        fleet.asking(*[{}] * 5) as asking,
    ):
        fleet.wait_for_waiters(4)
        fleet.stage.mosaic.state.end_session(session.session_id)
        gate.release()
        answers = [future.result() for future in asking]

    assert {answer.reason for answer in answers} == {Reason.GONE_AT_IDP}
    assert fleet.asked() == 1


def test_a_session_that_gets_a_new_id_is_shared_all_the_same(fleet: Fleet) -> None:
    fleet.stage.mosaic.state.faults.add(ASK, "rotate_session_id", times=1)
    with (
        fleet.stage.mosaic.state.gates.hold(ASK) as gate,
        fleet.asking(*[{}] * 9) as asking,
    ):
        fleet.wait_for_waiters(8)
        gate.release()
        answers = [future.result() for future in asking]

    assert {answer.verdict for answer in answers} == {Verdict.AUTHENTICATED}
    assert fleet.asked() == 1


def test_one_who_read_the_session_before_it_got_a_new_id_takes_the_answer_too(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.stage.mosaic.state.faults.add(ASK, "rotate_session_id", times=1)
    has_read, may_join = threading.Event(), threading.Event()
    late = fleet.services[0].traffic.single_flight
    join = late.join

    def join_late(plan: Any) -> Any:
        has_read.set()
        may_join.wait(60)
        return join(plan)

    monkeypatch.setattr(late, "join", join_late)
    fleet._next = 2  # to the first process
    with fleet.asking({}) as asking:
        has_read.wait(60)
        assert fleet.ask().verdict is Verdict.AUTHENTICATED
        may_join.set()

    assert asking[0].result().verdict is Verdict.AUTHENTICATED
    assert fleet.asked() == 1
