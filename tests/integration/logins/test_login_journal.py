"""A proof is sent once: whatever is lost or comes again, its request gets one answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NoReturn

import pytest
from sqlalchemy import Row, select

from models import LoginCall
from session_client import logins, methods, requests
from session_client.contract import Reason, Verdict
from simulator.idp.endpoints import Endpoint
from tests.integration.logins.login_rig import (
    BACK,
    MAIL,
    PASSWORD,
    PHONE,
    begin,
    browse,
    by_link,
    by_sms,
    by_totp,
    calls,
    last_code,
    log_in,
    new_keys_that_do_not_come,
    prove,
    reply_of,
    reply_to,
    restarted,
)
from tests.stage import Sent, Stage
from worker.errors import HeldBack
from worker.logins import call_once, settle_login
from worker.maintenance import purge
from worker.maintenance.scrub import scrub_answers
from worker.requests.outcomes import Outcome
from worker.requests.request import OpenedRequest
from worker.traffic import Traffic
from worker.wiring import Services

pytestmark = pytest.mark.usefixtures("people")

PROVE = Endpoint.PASSWORD_AUTHENTICATE


def proof(stage: Stage, **fields: Any) -> Sent:
    request = logins.Authenticate(proof=methods.Password("ada", PASSWORD), **fields)
    return stage.seal("shop", request)


def rows(stage: Stage) -> list[Row[Any]]:
    with stage.services.store.read() as connection:
        query = select(LoginCall.__table__).order_by(LoginCall.sent_at)
        return list(connection.execute(query).all())


def forget(stage: Stage) -> None:
    """Redis loses everything."""
    stage.redis.flushall()


def test_the_call_is_written_down_before_it_is_made_and_closed_with_the_session(
    stage: Stage,
) -> None:
    with (
        stage.mosaic.state.gates.hold(PROVE, before=True) as gate,
        stage.meanwhile(lambda: log_in(stage)) as answered,
    ):
        gate.wait_arrived()
        (under_way,) = rows(stage)
        gate.release()
        answer = answered.result(timeout=60)

    (row,) = rows(stage)
    assert (under_way.kind, under_way.method, under_way.closed_at) == ("login", "password", None)
    assert (row.outcome, str(row.idp_session_id)) == ("answered", answer.session_ref)


@pytest.mark.parametrize("redis_forgets", [False, True])
def test_a_login_that_is_delivered_again_gets_the_same_answer(
    stage: Stage, *, redis_forgets: bool
) -> None:
    sent = proof(stage)
    first = stage.deliver(sent)
    if redis_forgets:
        forget(stage)

    again = stage.deliver(sent)

    assert again == first
    assert stage.mosaic.state.calls.count(PROVE) == len(stage.sessions()) == 1


def test_a_code_is_sent_once_however_often_its_request_comes(stage: Stage) -> None:
    request = logins.Start(step=methods.SendOtp("sms", *PHONE))
    sent = stage.seal("shop", request)
    first = reply_to(stage, sent)
    forget(stage)

    assert reply_to(stage, sent) == first
    assert len(stage.mosaic.state.outbox.sent()) == 1


def test_a_refusal_is_repeated_without_a_second_guess(stage: Stage) -> None:
    request = logins.Authenticate(proof=methods.Password("ada", "wrong"))
    sent = stage.seal("shop", request)
    first = stage.deliver(sent)
    forget(stage)

    assert stage.deliver(sent) == first
    assert first.reason == Reason.INVALID_CREDENTIALS
    assert stage.mosaic.state.calls.count(PROVE) == 1


def test_a_repeated_login_tells_nothing_of_a_session_that_has_ended(stage: Stage) -> None:
    sent = proof(stage)
    first = stage.deliver(sent)
    stage.ask("shop", requests.Logout(browser_token=first.browser_token))
    forget(stage)

    again = stage.deliver(sent)

    assert (again.verdict, again.reason) == (Verdict.LOGIN_REQUIRED, Reason.LOGGED_OUT)
    assert again.tokens is None


def test_two_deliveries_at_once_make_one_call_and_one_answer(stage: Stage) -> None:
    sent = proof(stage)
    with (
        stage.mosaic.state.gates.hold(PROVE) as gate,
        stage.meanwhile(lambda: stage.run(sent)) as first,
    ):
        gate.wait_arrived()
        with stage.meanwhile(lambda: stage.run(sent)) as second:
            gate.release()
            first.result(timeout=60)
            second.result(timeout=60)

    assert stage.answer_to(sent) == stage.answer_to(sent) != None  # noqa: E711 - both came
    assert stage.mosaic.state.calls.count(PROVE) == 1


def codes_request(stage: Stage) -> Sent:
    return stage.seal("shop", logins.Start(step=methods.SendOtp("sms", *PHONE)))


def codes_proof(stage: Stage) -> Sent:
    begun = reply_to(stage, codes_request(stage))
    proof = methods.Code(last_code(stage))
    return stage.seal("shop", logins.Authenticate(proof=proof, login=begun["login"]))


@pytest.mark.parametrize(
    ("make", "endpoint"),
    [(codes_request, Endpoint.OTP_SEND), (codes_proof, Endpoint.OTP_AUTHENTICATE)],
)
def test_a_copy_that_looked_just_before_the_other_was_served_gets_the_same_answer(
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Stage], Sent],
    endpoint: Endpoint,
) -> None:
    sent = make(stage)
    look = call_once.earlier

    def overtaken(services: Services, request: OpenedRequest[Any]) -> Outcome | None:
        known = look(services, request)
        monkeypatch.setattr(call_once, "earlier", look)
        stage.run(sent)
        return known

    monkeypatch.setattr(call_once, "earlier", overtaken)
    first, second = reply_to(stage, sent), reply_of(stage, sent)

    assert first == second
    assert first.verdict in {Verdict.OK, Verdict.AUTHENTICATED}
    assert stage.mosaic.state.calls.count(endpoint) == 1


def test_the_same_request_id_with_another_password_is_refused(sqlite_stage: Stage) -> None:
    sent = proof(sqlite_stage)
    sqlite_stage.deliver(sent)
    forget(sqlite_stage)
    other = logins.Authenticate(proof=methods.Password("ada", "other"))

    answer = sqlite_stage.ask("shop", other, request_id=sent.request_id)

    assert answer.reason == Reason.REQUEST_ID_REUSED


# --- nobody heard

LOSSES = ["drop_answer", "drop_request", "cut_body", "invalid_json"]


@pytest.mark.parametrize("loss", LOSSES)
def test_a_lost_answer_is_said_to_be_unknown_and_nothing_is_sent_again(
    stage: Stage, loss: str
) -> None:
    stage.mosaic.state.faults.add(PROVE, loss, times=1)
    sent = proof(stage)

    first, again = stage.deliver(sent), stage.deliver(sent)

    assert first.verdict is Verdict.TEMPORARILY_UNAVAILABLE
    assert (first.reason, first.retry_after) == (Reason.OUTCOME_UNKNOWN, None)
    assert again == first
    assert stage.mosaic.state.calls.count(PROVE) == 1
    assert [row.outcome for row in rows(stage)] == ["unknown"]
    assert stage.sessions() == []
    assert stage.events() == [("outcome_unknown", "password")]


def test_a_server_error_leaves_it_unknown_too(sqlite_stage: Stage) -> None:
    sqlite_stage.mosaic.state.faults.add(PROVE, "status", status=503, times=1)

    assert log_in(sqlite_stage).reason == Reason.OUTCOME_UNKNOWN


def test_what_never_left_may_be_sent_under_the_same_id(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = proof(stage)
    stage.mosaic.state.faults.add(Endpoint.TOKEN, "status", status=503, times=1)

    held_back = stage.deliver(sent)
    answer = stage.deliver(sent)

    assert held_back.reason == Reason.IDP_UNAVAILABLE
    assert held_back.retry_after is not None
    assert answer.verdict is Verdict.AUTHENTICATED


def test_what_was_held_back_may_be_sent_under_the_same_id(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held_back(*_: object) -> NoReturn:
        raise HeldBack("not now", Reason.RATE_LIMITED, 1.0)

    sent = proof(stage)
    with monkeypatch.context() as patch:
        patch.setattr(Traffic, "admit_login", held_back)
        first = stage.deliver(sent)
    forget(stage)

    assert first.reason == Reason.RATE_LIMITED
    assert stage.deliver(sent).verdict is Verdict.AUTHENTICATED


def test_a_worker_killed_in_between_leaves_an_unknown_outcome(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    sent = proof(stage)
    with monkeypatch.context() as patch:
        patch.setattr(settle_login, "open_at_once", killed)
        with pytest.raises(KeyboardInterrupt):
            stage.run(sent)
    stage.pass_time(seconds=60)
    later = stage.seal(
        "shop",
        logins.Authenticate(proof=methods.Password("ada", PASSWORD)),
        request_id=sent.request_id,
    )

    answer = stage.deliver(later)

    assert answer.reason == Reason.OUTCOME_UNKNOWN
    assert stage.mosaic.state.calls.count(PROVE) == 1
    assert stage.sessions() == []


def test_an_answer_that_comes_after_it_was_called_unknown_is_thrown_away(stage: Stage) -> None:
    sent = proof(stage)
    with (
        stage.mosaic.state.gates.hold(PROVE) as gate,
        stage.meanwhile(lambda: stage.run(sent)) as slow,
    ):
        gate.wait_arrived()
        stage.pass_time(seconds=50)
        scrub_answers(stage.services)
        gate.release()
        slow.result(timeout=60)

    assert stage.answer_to(sent).reason == Reason.OUTCOME_UNKNOWN
    assert stage.sessions() == []
    assert stage.mosaic.state.live_sessions("ada") == []  # it was ended there, too


def test_a_call_whose_time_is_just_over_is_not_called_unknown_before_its_answer_is_stored(
    stage: Stage,
) -> None:
    sent = proof(stage)
    with (
        stage.mosaic.state.gates.hold(PROVE) as gate,
        stage.meanwhile(lambda: stage.run(sent)) as slow,
    ):
        gate.wait_arrived()
        stage.pass_time(seconds=stage.settings.mosaic_timeout_seconds + 3)
        scrub_answers(stage.services)
        gate.release()
        slow.result(timeout=60)

    assert stage.answer_to(sent).verdict is Verdict.AUTHENTICATED


def test_tokens_that_do_not_verify_are_given_to_nobody_and_their_session_ended(
    stage: Stage,
) -> None:
    stage.mosaic.state.faults.add(PROVE, "wrong_signature", times=1)

    answer = log_in(stage)

    assert answer.reason == Reason.OUTCOME_UNKNOWN
    assert (stage.sessions(), stage.mosaic.state.live_sessions("ada")) == ([], [])


def test_tokens_of_a_new_key_that_does_not_come_are_given_to_nobody_and_their_session_ended(
    stage: Stage,
) -> None:
    with (
        restarted(stage, mosaic_timeout_seconds=3.0) as services,
        new_keys_that_do_not_come(stage, services),
    ):
        answer = log_in(stage)

    assert answer.reason == Reason.OUTCOME_UNKNOWN
    assert (stage.sessions(), stage.mosaic.state.live_sessions("ada")) == ([], [])


def test_a_token_from_before_the_call_is_no_answer_to_it(sqlite_stage: Stage) -> None:
    old = sqlite_stage.mosaic.state.clock.now() - 120
    sqlite_stage.mosaic.state.faults.add(PROVE, "change_claims", changes={"iat": old}, times=1)

    assert log_in(sqlite_stage).reason == Reason.OUTCOME_UNKNOWN


def test_a_login_is_not_begun_when_nobody_may_hear_of_it(sqlite_stage: Stage) -> None:
    from datetime import timedelta  # noqa: PLC0415

    from session_client import times  # noqa: PLC0415

    deadline = times.to_wire(sqlite_stage.now() + timedelta(seconds=2))
    request = logins.Authenticate(proof=methods.Password("ada", PASSWORD))

    answer = sqlite_stage.ask("shop", request, deadline=deadline)

    assert answer.reason == Reason.DEADLINE_PASSED
    assert (calls(sqlite_stage), rows(sqlite_stage)) == (0, [])


# --- what is kept


def test_what_is_kept_of_a_login_holds_no_secret(stage: Stage, capsys: Any) -> None:
    before = log_in(stage)
    answers = [before, by_sms(stage, step_up=before.browser_token)]
    begun = begin(stage, methods.SendLink(BACK, *MAIL))
    code = last_code(stage)
    answers += [prove(stage, methods.Link(code, begun["state"]), login=begun["login"])]
    secrets = [PASSWORD, "correct horse", code, begun["state"], begun["login"], MAIL[0], PHONE[0]]
    for answer in answers:
        assert answer.tokens is not None, answer
        secrets += [answer.tokens.access_token, answer.tokens.id_token, answer.browser_token]
        secrets += [answer.known_browser]
    secrets += [live.session_id for live in stage.mosaic.state.live_sessions()]

    store = repr(stage.dump())
    kept = b"\n".join(_everything(stage.redis)).decode("latin-1")
    log = capsys.readouterr()
    for place in (store, kept, log.out + log.err):
        assert [secret for secret in secrets if secret in place] == []


def _everything(redis: Any) -> list[bytes]:
    return [
        part
        for key in redis.keys("*")
        if redis.type(key) != b"none"
        for part in (key, redis.dump(key) or b"")
    ]


def test_answers_are_scrubbed_when_their_request_cannot_come_again(stage: Stage) -> None:
    log_in(stage)
    stage.pass_time(seconds=85)  # it can come for 30, and who waits for its proof for 60 more
    assert scrub_answers(stage.services).rows["answers"] == 0
    stage.pass_time(seconds=6)

    assert scrub_answers(stage.services).rows["answers"] == 1
    assert [row.sealed_answer for row in rows(stage)] == [None]


def test_a_call_of_which_nobody_heard_again_is_unknown(stage: Stage) -> None:
    by_totp(stage)
    by_link(stage)
    stage.pass_time(days=40)

    assert len(rows(stage)) == 3
    assert purge.purge_history(stage.services).rows["login_calls"] == 3


def test_the_answer_in_the_store_opens_for_its_row_alone(stage: Stage) -> None:
    answer = log_in(stage)
    (row,) = rows(stage)

    opened = stage.services.keyring.open(row.sealed_answer, f"login_calls:{row.id}:answer")

    assert json.loads(opened)["data"]["session_ref"] == answer.session_ref
    assert browse(stage, answer.browser_token).verdict is Verdict.AUTHENTICATED
