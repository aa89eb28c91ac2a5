"""Mosaic gives a session a new id while a factor is added to it, and forgets the old one.

Whether Mosaic keeps old ids is not documented; here it does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import pytest

from session_client import methods, requests
from session_client.contract import Reason, Verdict
from simulator.idp.endpoints import Endpoint
from tests.integration.logins.login_rig import (
    begin,
    browse,
    last_code,
    log_in,
    new_keys_that_do_not_come,
    prove,
    restarted,
)
from tests.stage import Stage
from worker.maintenance.scrub import scrub_answers
from worker.tasks import wake_ups

pytestmark = pytest.mark.usefixtures("people")


@contextmanager
def step_up_meanwhile(stage: Stage, browser: Any, fault: str | None) -> Iterator[Future[Any]]:
    """Add a factor; Mosaic has, and its answer, with *fault*, is on its way back."""
    state = stage.mosaic.state
    if fault is not None:
        state.faults.add(Endpoint.PASSWORD_AUTHENTICATE, fault, times=1)
    with (
        state.gates.hold(Endpoint.PASSWORD_AUTHENTICATE) as gate,
        stage.meanwhile(lambda: log_in(stage, step_up=browser.browser_token)) as raised,
    ):
        gate.wait_arrived()
        yield raised
        gate.release()
        raised.result(timeout=60)


def require_alive(stage: Stage, browser: Any) -> None:
    """Fail unless the one session still serves, and its logout reaches Mosaic."""
    (session,) = stage.sessions()
    visit = stage.ask("shop", requests.SilentAuth(session_ref=str(session.id), user_id="ada"))
    assert visit.verdict is Verdict.AUTHENTICATED
    stage.ask("shop", requests.Logout(browser_token=browser.browser_token))
    assert stage.tell_mosaic() == ["confirmed"]
    assert stage.mosaic.state.live_sessions("ada") == []


def test_an_answer_from_before_takes_no_newer_id_back(stage: Stage) -> None:
    browser = log_in(stage)
    state = stage.mosaic.state
    (session,) = state.live_sessions("ada")
    old_id = session.session_id
    with step_up_meanwhile(stage, browser, None) as raised:
        state.faults.add("session/authenticate", "rotate_session_id", times=1)
        assert browse(stage, browser.browser_token).verdict is Verdict.AUTHENTICATED
        state.sessions.forget_id(old_id)

    assert raised.result().verdict is Verdict.AUTHENTICATED
    require_alive(stage, browser)


def test_an_earlier_id_that_comes_with_a_factor_is_the_sessions_own_again(stage: Stage) -> None:
    browser = log_in(stage)
    state = stage.mosaic.state
    (session,) = state.live_sessions("ada")
    first_id = session.session_id
    state.faults.add("session/authenticate", "rotate_session_id", times=1)
    assert browse(stage, browser.browser_token).verdict is Verdict.AUTHENTICATED
    session = state.sessions._by_id[first_id]  # itself, to which Mosaic gives its first id back
    later_id, session.session_id = session.session_id, first_id

    answer = log_in(stage, step_up=browser.browser_token)

    assert answer.verdict is Verdict.AUTHENTICATED
    state.sessions.forget_id(later_id)
    require_alive(stage, answer)


def test_a_worker_that_tells_of_the_old_id_meanwhile_confirms_no_end_of_the_new_one(
    stage: Stage,
) -> None:
    browser = log_in(stage)
    state = stage.mosaic.state
    (session,) = state.live_sessions("ada")
    with (
        ThreadPoolExecutor(1) as worker,
        state.gates.hold(Endpoint.SESSION_LOGOUT) as telling,
    ):
        with step_up_meanwhile(stage, browser, "rotate_session_id"):
            state.sessions.forget_id(session.session_id)
            stage.ask("shop", requests.Logout(browser_token=browser.browser_token))
            told = worker.submit(stage.tell_mosaic)
            telling.wait_arrived()
        telling.release()
        assert told.result(timeout=60) == [None]

    assert stage.tell_mosaic() == ["confirmed"]
    assert state.live_sessions("ada") == []


def test_of_a_step_up_that_was_called_unknown_the_new_id_is_kept(stage: Stage) -> None:
    browser = log_in(stage)
    state = stage.mosaic.state
    (session,) = state.live_sessions("ada")
    with step_up_meanwhile(stage, browser, "rotate_session_id") as raised:
        state.sessions.forget_id(session.session_id)
        stage.pass_time(seconds=50)
        scrub_answers(stage.services)

    assert raised.result().reason == Reason.OUTCOME_UNKNOWN
    require_alive(stage, browser)


def test_of_a_step_up_that_was_not_heard_the_new_id_is_kept(stage: Stage) -> None:
    browser = log_in(stage)
    state = stage.mosaic.state
    (session,) = state.live_sessions("ada")
    old_id = session.session_id
    state.faults.add(Endpoint.PASSWORD_AUTHENTICATE, "drop_request", times=1)
    state.faults.add("session/authenticate", "rotate_session_id", times=1)

    answer = log_in(stage, step_up=browser.browser_token)

    assert answer.reason == Reason.OUTCOME_UNKNOWN
    state.sessions.forget_id(old_id)
    require_alive(stage, browser)


def approve(stage: Stage, browser: Any, *, of: str, by_code_of: str) -> Any:
    """Approve what is asked by the code of what was asked, and let Mosaic forget the old id."""
    state, token = stage.mosaic.state, browser.browser_token
    (session,) = state.live_sessions("ada")
    old_id, asked = session.session_id, {}
    for payee in dict.fromkeys((of, by_code_of)):  # the code of the first serves no more
        stage.redis.flushall()  # codes are not sent one upon the other
        step, data = methods.SendOtp("sms"), {"payee": payee}
        begun = begin(stage, step, step_up=token, approval_data=data)
        asked[payee] = begun["login"], methods.Code(last_code(stage))
    state.faults.add(Endpoint.OTP_AUTHENTICATE, "rotate_session_id", times=1)
    answer = prove(stage, asked[by_code_of][1], login=asked[of][0], step_up=token)
    state.sessions.forget_id(old_id)
    return answer


def test_of_a_code_that_approves_something_else_the_new_id_is_kept(stage: Stage) -> None:
    browser = log_in(stage)

    answer = approve(stage, browser, of="bob", by_code_of="eve")

    assert answer.reason == Reason.INVALID_CREDENTIALS
    require_alive(stage, browser)


def test_of_an_approval_that_no_token_tells_of_the_new_id_is_kept(stage: Stage) -> None:
    browser = log_in(stage)
    stage.mosaic.state.faults.add(
        Endpoint.OTP_AUTHENTICATE, "change_claims", without=["approval_data"], times=1
    )

    answer = approve(stage, browser, of="bob", by_code_of="bob")

    assert answer.reason == Reason.OUTCOME_UNKNOWN
    require_alive(stage, browser)


def test_of_a_step_up_that_no_key_verifies_yet_the_new_id_is_kept(stage: Stage) -> None:
    browser = log_in(stage)
    state = stage.mosaic.state
    (session,) = state.live_sessions("ada")
    old_id = session.session_id
    state.faults.add(Endpoint.PASSWORD_AUTHENTICATE, "rotate_session_id", times=1)
    with (
        restarted(stage, mosaic_timeout_seconds=3.0) as services,
        new_keys_that_do_not_come(stage, services),
    ):
        answer = log_in(stage, step_up=browser.browser_token)

    assert answer.reason == Reason.OUTCOME_UNKNOWN
    state.sessions.forget_id(old_id)
    require_alive(stage, browser)


def test_the_end_that_is_owed_by_a_late_id_is_not_left_to_the_sweep(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    woken: list[UUID] = []
    browser = log_in(stage)
    state = stage.mosaic.state
    (session,) = state.live_sessions("ada")
    with step_up_meanwhile(stage, browser, "rotate_session_id") as raised:
        state.sessions.forget_id(session.session_id)
        stage.ask("shop", requests.Logout(browser_token=browser.browser_token))
        assert stage.tell_mosaic() == ["confirmed"]  # of an id that it does not know any more
        stage.pass_time(seconds=50)
        scrub_answers(stage.services)
        monkeypatch.setattr(wake_ups, "_wake", lambda _, ids: woken.extend(ids))

    assert raised.result().reason == Reason.OUTCOME_UNKNOWN
    assert woken == [owed.id for owed in stage.logouts()]
    assert stage.tell_mosaic() == ["confirmed"]
    assert state.live_sessions("ada") == []
