"""Sessions of logins that nobody heard of: found by the next login, ended, and never taken over."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from sqlalchemy import select

from models import LoginCall
from session_client import methods, requests
from session_client.contract import Reason, Verdict
from simulator.controls.devices import totp_code
from simulator.idp.endpoints import Endpoint
from tests.integration.logins.login_rig import (
    begin,
    browse,
    by_sms,
    last_code,
    log_in,
    prove,
)
from tests.stage import Stage
from worker.app import app as celery_app
from worker.errors import StoreUnavailable
from worker.logins import orphans
from worker.tasks import wake_ups
from worker.tasks.logouts import END_ORPHANS

pytestmark = pytest.mark.usefixtures("people")

PROVE = Endpoint.PASSWORD_AUTHENTICATE
LIST = Endpoint.SESSIONS_LIST
FACTOR = Endpoint.OTP_AUTHENTICATE


@pytest.fixture(autouse=True)
def woken(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The logins whose messages are on the broker."""
    woken: dict[str, list[Any]] = {END_ORPHANS: []}

    def note(task: Any, ids: Iterable[Any]) -> None:
        woken.setdefault(task.name, []).extend(ids)

    monkeypatch.setattr(wake_ups, "_wake", note)
    return woken[END_ORPHANS]


def lose(stage: Stage, loss: str = "drop_answer", **fields: Any) -> None:
    """A login whose answer nobody hears."""
    stage.mosaic.state.faults.add(PROVE, loss, times=1)
    assert log_in(stage, **fields).reason == Reason.OUTCOME_UNKNOWN


def work_off(stage: Stage, woken: list[Any]) -> int:
    ended = sum(orphans.end_unheard(stage.services, login) for login in woken)
    woken.clear()
    return ended


def live(stage: Stage) -> int:
    return len(stage.mosaic.state.live_sessions("ada"))


def test_the_next_login_of_the_name_ends_what_a_lost_one_left(
    stage: Stage, woken: list[Any]
) -> None:
    lose(stage)
    stage.pass_time(hours=1)

    answer = log_in(stage)

    assert live(stage) == 2
    assert work_off(stage, woken) == 1
    assert live(stage) == 1
    assert browse(stage, answer.browser_token).verdict is Verdict.AUTHENTICATED
    assert ("orphan_ended", "password") in stage.events()


def test_it_is_looked_for_once(stage: Stage, woken: list[Any]) -> None:
    lose(stage)
    stage.pass_time(hours=1)
    log_in(stage)
    again = list(woken)
    work_off(stage, woken)

    log_in(stage)

    assert woken == []
    assert work_off(stage, again) == 0
    assert stage.mosaic.state.calls.count(LIST) == 1


def test_what_never_reached_mosaic_has_left_nothing(stage: Stage, woken: list[Any]) -> None:
    lose(stage, "drop_request")
    log_in(stage)
    stage.pass_time(hours=1)
    log_in(stage)

    assert work_off(stage, woken) == 0
    assert live(stage) == 2


def test_a_login_of_the_name_that_is_on_its_way_is_left_alone(
    stage: Stage, woken: list[Any]
) -> None:
    lose(stage, "drop_request")  # it has left nothing
    with (
        stage.mosaic.state.gates.hold(PROVE, "client-forum") as gate,
        stage.meanwhile(lambda: log_in(stage, "forum")) as other,
    ):
        gate.wait_arrived()
        log_in(stage)
        assert work_off(stage, woken) == 0
        gate.release()
        answer = other.result(timeout=60)

    assert browse(stage, answer.browser_token).verdict is Verdict.AUTHENTICATED
    log_in(stage)
    assert work_off(stage, woken) == 0
    assert stage.mosaic.state.calls.count(LIST) == 2  # looked for until it could be told
    assert live(stage) == 3


def test_of_several_that_it_can_be_none_is_ended(stage: Stage, woken: list[Any]) -> None:
    lose(stage)
    stage.login("ada", "shop")  # by another way, in the same seconds
    stage.pass_time(hours=1)
    log_in(stage)

    assert work_off(stage, woken) == 0
    assert live(stage) == 3


def test_a_session_from_another_hour_is_left_alone(stage: Stage, woken: list[Any]) -> None:
    stage.login("ada", "shop")
    stage.pass_time(hours=1)
    lose(stage)
    stage.pass_time(hours=1)
    stage.login("ada", "shop")
    log_in(stage)

    assert work_off(stage, woken) == 1
    assert live(stage) == 3


def test_another_name_or_app_looks_for_nothing(sqlite_stage: Stage, woken: list[Any]) -> None:
    lose(sqlite_stage)

    prove(sqlite_stage, methods.Password("bob", "bob's"))
    log_in(sqlite_stage, "forum")

    assert woken == []


@pytest.mark.parametrize("endpoint", [LIST, Endpoint.SESSION_LOGOUT])
def test_when_mosaic_cannot_be_asked_the_login_after_looks(
    sqlite_stage: Stage, woken: list[Any], endpoint: str
) -> None:
    lose(sqlite_stage)
    sqlite_stage.pass_time(hours=1)
    log_in(sqlite_stage)
    sqlite_stage.mosaic.state.faults.add(endpoint, "status", status=503, times=1)
    assert work_off(sqlite_stage, woken) == 0

    sqlite_stage.pass_time(hours=1)
    log_in(sqlite_stage)

    assert work_off(sqlite_stage, woken) == 1
    assert live(sqlite_stage) == 2


def test_the_message_names_a_row_and_nothing_secret(sqlite_stage: Stage, woken: list[Any]) -> None:
    lose(sqlite_stage)
    log_in(sqlite_stage)

    with sqlite_stage.services.store.read() as connection:
        known = set(connection.execute(select(LoginCall.id)).scalars())
    assert len(woken) == 1
    assert set(woken) <= known


def test_a_task_that_cannot_look_now_leaves_it_to_the_next_login(
    sqlite_stage: Stage, woken: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> int:
        raise StoreUnavailable("locked")

    lose(sqlite_stage)
    sqlite_stage.pass_time(hours=1)
    log_in(sqlite_stage)
    task = celery_app.tasks[END_ORPHANS]
    with monkeypatch.context() as patch:
        patch.setattr(orphans, "end_unheard", away)
        task.apply((str(woken[0]),), throw=True)
    task.apply(("no row",), throw=True)
    assert live(sqlite_stage) == 2

    task.apply((str(woken[0]),), throw=True)

    assert live(sqlite_stage) == 1


# --- factors: their session is known, so it is asked


def test_a_factor_whose_answer_was_lost_is_found_by_one_silent_authentication(
    stage: Stage,
) -> None:
    first = log_in(stage)
    stage.mosaic.state.faults.add(FACTOR, "drop_answer", times=1)

    second = by_sms(stage, step_up=first.browser_token)

    assert second.verdict is Verdict.AUTHENTICATED
    assert set(second.amr) == {"pwd", "sms", "mfa"}
    assert stage.mosaic.state.calls.count(FACTOR) == 1
    assert browse(stage, second.browser_token).verdict is Verdict.AUTHENTICATED


@pytest.mark.parametrize("is_committed", [True, False])
def test_a_factor_that_may_be_another_browsers_gives_this_one_nothing(
    stage: Stage, *, is_committed: bool
) -> None:
    """Of two at once one is right, and the other is lost: nobody knows which was added."""
    first = log_in(stage)
    sent = begin(stage, methods.SendOtp("sms"), step_up=first.browser_token)
    right = methods.Code(last_code(stage))
    other = {"login": sent["login"], "step_up": first.browser_token}
    secret = stage.mosaic.state.authenticator_apps.enrol("ada")["secret"]
    wrong = methods.Totp(totp_code(secret, stage.mosaic.state.clock.now()))
    stage.mosaic.state.faults.add(Endpoint.TOTP_AUTHENTICATE, "drop_request", times=1)
    with (
        stage.mosaic.state.gates.hold(Endpoint.OTP_AUTHENTICATE, before=is_committed) as gate,
        stage.mosaic.state.gates.hold(Endpoint.SESSION_AUTHENTICATE, before=True) as asked,
        stage.meanwhile(lambda: prove(stage, right, **other)) as owner,
    ):
        gate.wait_arrived()
        with stage.meanwhile(lambda: prove(stage, wrong, step_up=first.browser_token)) as somebody:
            asked.wait_arrived()
            if is_committed:
                gate.release()
                assert owner.result(timeout=60).verdict is Verdict.AUTHENTICATED
            asked.release()
            lost = somebody.result(timeout=60)
        gate.release()
        assert owner.result(timeout=60).verdict is Verdict.AUTHENTICATED

    assert (lost.reason, lost.browser_token) == (Reason.OUTCOME_UNKNOWN, None)


@pytest.mark.parametrize("silent", [None, "drop_answer", "wrong_signature"])
def test_a_factor_that_was_not_added_or_cannot_be_asked_about_is_unknown(
    stage: Stage, silent: str | None
) -> None:
    first = log_in(stage)
    loss = "drop_request" if silent is None else "drop_answer"
    stage.mosaic.state.faults.add(FACTOR, loss, times=1)
    if silent is not None:
        stage.mosaic.state.faults.add(Endpoint.SESSION_AUTHENTICATE, silent, times=1)

    second = by_sms(stage, step_up=first.browser_token)

    assert second.reason == Reason.OUTCOME_UNKNOWN
    assert browse(stage, first.browser_token).verdict is Verdict.AUTHENTICATED
    assert live(stage) == 1


@pytest.mark.parametrize("is_confirmed", [False, True])
def test_a_factor_of_a_session_that_was_logged_out_meanwhile_has_it_end_once_more(
    stage: Stage, *, is_confirmed: bool
) -> None:
    """Mosaic may have used it again after it heard of the logout: only one that follows is sure."""
    token = log_in(stage).browser_token
    begun = begin(stage, methods.IssueOtp(), step_up=token)
    proof = methods.Code(begun["code"])
    with (
        stage.mosaic.state.gates.hold(FACTOR) as gate,
        stage.meanwhile(
            lambda: prove(stage, proof, login=begun["login"], step_up=token)
        ) as proving,
    ):
        gate.wait_arrived()
        stage.ask("shop", requests.Logout(browser_token=token))
        if is_confirmed:
            assert stage.tell_mosaic() == ["confirmed"]
        gate.release()

    answer = proving.result()

    assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, Reason.LOGGED_OUT)
    assert (answer.tokens, answer.browser_token) == (None, None)
    assert stage.tell_mosaic() == ["confirmed"]
    assert {session.sealed_session_id for session in stage.sessions()} == {None}
