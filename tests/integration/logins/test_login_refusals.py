"""What a login is refused for: before any call where that can be known, and telling nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from session_client import Wishes, logins, methods, requests
from session_client.contract import Reason, Verdict
from session_client.login_steps import LoginStep, Proof
from simulator.controls.devices import PasskeyDevice, totp_code, visit_provider
from simulator.idp.endpoints import Endpoint
from tests.integration.logins.login_rig import (
    BACK,
    MAIL,
    PASSWORD,
    PHONE,
    WAYS,
    Reply,
    ask_by_app,
    begin,
    browse,
    by_key,
    by_sms,
    calls,
    last_code,
    log_in,
    prove,
    reply_to,
    restarted,
    visit,
)
from tests.integration.mosaic.gateway_rig import told_operator
from tests.stage import Stage
from worker.operations import apps
from worker.requests.command_fields import MAX_SEALED_CHARACTERS

pytestmark = pytest.mark.usefixtures("people")


# --- grants

STEPS: list[LoginStep] = [
    methods.Password("ada", PASSWORD),
    methods.SendOtp("sms", *PHONE),
    methods.IssueOtp(*MAIL),
    methods.SendLink(BACK, *MAIL),
    methods.IssueLink(BACK, *MAIL),
    methods.Totp("123456", *MAIL),
    methods.BeginSocial("google", BACK),
    methods.BeginWebauthn(),
    methods.MobileBiometrics("c", "s", "k", "ada"),
]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
def test_a_method_that_was_not_granted_costs_no_call(sqlite_stage: Stage, step: LoginStep) -> None:
    others = [m.value for m in type(step.method) if m is not step.method]
    sqlite_stage.add_app("kiosk", methods=tuple(others))
    before = sqlite_stage.dump()
    request: Any = (
        logins.Authenticate(proof=step) if isinstance(step, Proof) else logins.Start(step=step)  # type: ignore[arg-type]
    )

    answer = sqlite_stage.ask("kiosk", request)

    assert (answer.verdict, answer.reason) == (Verdict.UNAUTHORIZED, Reason.NOT_PERMITTED)
    assert (calls(sqlite_stage), sqlite_stage.dump()) == (0, before)


def test_a_grant_to_bring_codes_is_none_to_have_them_sent(sqlite_stage: Stage) -> None:
    sqlite_stage.add_app("kiosk", methods=("otp_direct",))

    sent = begin(sqlite_stage, methods.SendOtp("sms", *PHONE), "kiosk")
    issued = begin(sqlite_stage, methods.IssueOtp(*MAIL), "kiosk")
    answer = prove(sqlite_stage, methods.Code(issued["code"]), "kiosk", login=issued["login"])

    assert sent.reason is Reason.NOT_PERMITTED
    assert answer.verdict is Verdict.AUTHENTICATED


def test_a_grant_that_was_taken_back_ends_the_logins_that_have_begun_by_it(
    sqlite_stage: Stage,
) -> None:
    sqlite_stage.add_app("kiosk", methods=("otp", "otp_direct"))
    begun = begin(sqlite_stage, methods.SendOtp("sms", *PHONE), "kiosk")
    proof = methods.Code(last_code(sqlite_stage))
    apps.set_app(sqlite_stage.services, "kiosk", methods=("otp_direct",))
    sqlite_stage.reread_apps()
    before = calls(sqlite_stage)

    answer = prove(sqlite_stage, proof, "kiosk", login=begun["login"])

    assert (answer.verdict, answer.reason) == (Verdict.UNAUTHORIZED, Reason.NOT_PERMITTED)
    assert calls(sqlite_stage) == before


# --- a login ends in the browser where it began


def code(stage: Stage, app_id: str = "shop") -> tuple[Any, str]:
    begun = begin(stage, methods.SendOtp("sms", *PHONE), app_id)
    return methods.Code(last_code(stage)), begun["login"]


def link(stage: Stage, app_id: str = "shop") -> tuple[Any, str]:
    begun = begin(stage, methods.SendLink(BACK, *MAIL), app_id)
    return methods.Link(last_code(stage), begun["state"]), begun["login"]


def social(stage: Stage, app_id: str = "shop") -> tuple[Any, str]:
    assert app_id == "shop"
    return methods.Social("ada"), visit(stage)[1]["login"]


TWO_STEPS = {"code": code, "link": link, "social": social}
every_two_steps = pytest.mark.parametrize("how", TWO_STEPS)


def refused(stage: Stage, proof: Any, reason: Reason, **fields: Any) -> None:
    before = calls(stage)
    answer = prove(stage, proof, **fields)
    assert (answer.verdict, answer.reason) == (Verdict.ACCESS_DENIED, reason)
    assert calls(stage) == before
    assert stage.sessions() == []


@every_two_steps
def test_a_handle_that_is_none_or_of_another_login_uses_nothing_up(
    sqlite_stage: Stage, how: str
) -> None:
    proof, login = TWO_STEPS[how](sqlite_stage)
    other = begin(sqlite_stage, methods.BeginWebauthn())["login"]
    forum = begin(sqlite_stage, methods.BeginWebauthn(), "forum")["login"]

    for handle in ("x", "é", "AAAA", login[:-4], login.swapcase(), other, forum):
        refused(sqlite_stage, proof, Reason.WRONG_BROWSER, login=handle)

    assert prove(sqlite_stage, proof, login=login).verdict is Verdict.AUTHENTICATED


@pytest.mark.parametrize("how", ["code", "link"])
def test_another_app_cannot_go_on_with_it(sqlite_stage: Stage, how: str) -> None:
    proof, login = TWO_STEPS[how](sqlite_stage)

    refused(sqlite_stage, proof, Reason.WRONG_BROWSER, login=login, app_id="forum")


@every_two_steps
def test_an_old_handle_is_refused_by_our_own_clock(sqlite_stage: Stage, how: str) -> None:
    proof, login = TWO_STEPS[how](sqlite_stage)
    sqlite_stage.pass_time(minutes=10)

    refused(sqlite_stage, proof, Reason.CODE_EXPIRED, login=login)


@every_two_steps
def test_a_handle_is_used_up_by_its_first_success(stage: Stage, how: str) -> None:
    proof, login = TWO_STEPS[how](stage)
    assert prove(stage, proof, login=login).verdict is Verdict.AUTHENTICATED
    before = calls(stage)

    answer = prove(stage, proof, login=login)

    assert (answer.verdict, answer.reason) == (Verdict.ACCESS_DENIED, Reason.CODE_EXPIRED)
    assert (calls(stage), len(stage.sessions())) == (before, 1)


def password(stage: Stage) -> tuple[Any, str | None]:
    del stage
    return methods.Password("ada", PASSWORD), None


ANY_STEPS: dict[str, Callable[[Stage], tuple[Any, str | None]]] = {
    **TWO_STEPS,
    "password": password,
}


@pytest.mark.parametrize("how", ANY_STEPS)
def test_no_proof_is_used_up_while_there_are_no_keys_to_read_the_answer_with(
    stage: Stage, how: str
) -> None:
    proof, login = ANY_STEPS[how](stage)
    state = stage.mosaic.state
    state.faults.add(Endpoint.JWKS, "status", status=503)
    before = calls(stage)

    with restarted(stage):
        answers = [prove(stage, proof, login=login) for _ in range(3)]

        for answer in answers:
            told = (answer.verdict, answer.reason)
            assert told == (Verdict.TEMPORARILY_UNAVAILABLE, Reason.IDP_UNAVAILABLE)
            assert answer.retry_after is not None
        assert calls(stage) == before + 1  # for the keys, once
        assert (state.live_sessions(), stage.sessions()) == ([], [])
        state.faults.clear()
        stage.pass_time(seconds=6)

        assert prove(stage, proof, login=login).verdict is Verdict.AUTHENTICATED


def test_a_factor_without_keys_leaves_the_session_as_it_was(stage: Stage) -> None:
    browser = log_in(stage)
    begun = begin(stage, methods.SendOtp("sms"), step_up=browser.browser_token)
    proof = methods.Code(last_code(stage))
    whose: dict[str, Any] = {"login": begun["login"], "step_up": browser.browser_token}
    stage.mosaic.state.faults.add(Endpoint.JWKS, "status", status=404, times=1)

    with restarted(stage):
        answer = prove(stage, proof, **whose)

        assert answer.reason == Reason.IDP_UNAVAILABLE
        assert [session.amr for session in stage.sessions()] == [["pwd"]]
        stage.pass_time(seconds=6)
        raised = prove(stage, proof, **whose)
        assert set(raised.amr) == {"mfa", "pwd", "sms"}


def test_a_link_opened_elsewhere_signs_nobody_in_and_still_works_where_it_belongs(
    stage: Stage,
) -> None:
    proof, login = link(stage)
    elsewhere = begin(stage, methods.SendLink(BACK, "bob@example.com", "email"))

    refused(stage, proof, Reason.WRONG_BROWSER, login=elsewhere["login"])
    refused(stage, methods.Link(proof.code, "x"), Reason.WRONG_BROWSER, login=login)

    assert prove(stage, proof, login=login).verdict is Verdict.AUTHENTICATED


def test_a_social_visit_comes_back_to_the_browser_it_left(sqlite_stage: Stage) -> None:
    begun, verified = visit(sqlite_stage)
    before = calls(sqlite_stage)

    again = begin(sqlite_stage, methods.VerifySocial("c", begun["state"]), login=begun["login"])
    other = begin(sqlite_stage, methods.BeginSocial("google", BACK))
    stolen = begin(sqlite_stage, methods.VerifySocial("c", begun["state"]), login=other["login"])

    assert again.reason is Reason.CODE_EXPIRED  # it has been verified
    assert stolen.reason is Reason.WRONG_BROWSER
    assert calls(sqlite_stage) == before + 1
    assert verified.verdict is Verdict.OK


# --- a factor needs this browser's own token


def test_a_factor_goes_to_no_session_but_this_browsers(stage: Stage) -> None:
    victim, attacker = log_in(stage), log_in(stage)
    step = methods.SendOtp("sms")
    begun = begin(stage, step, step_up=attacker.browser_token)
    proof = methods.Code(last_code(stage))
    before = calls(stage)

    for token in (victim.browser_token, None):
        answer = prove(stage, proof, login=begun["login"], step_up=token)
        assert answer.reason == Reason.WRONG_BROWSER
    by_reference = prove(stage, proof, login=begun["login"], step_up=attacker.session_ref)

    assert (by_reference.verdict, by_reference.reason) == (
        Verdict.LOGIN_REQUIRED,
        Reason.NO_SESSION,
    )
    assert calls(stage) == before
    assert [session.amr for session in stage.sessions()] == [["pwd"], ["pwd"]]


def test_the_account_of_another_user_is_no_factor_of_this_one(stage: Stage) -> None:
    browser = log_in(stage)
    _, verified = visit(stage, step_up=browser.browser_token)
    going_on = {"login": verified["login"], "step_up": browser.browser_token}
    before = calls(stage)

    answer = prove(stage, methods.Social("bob"), **going_on)

    assert (answer.verdict, answer.reason) == (Verdict.ACCESS_DENIED, Reason.NOT_ALLOWED)
    assert calls(stage) == before
    assert [session.amr for session in stage.sessions()] == [["pwd"]]
    assert browse(stage, browser.browser_token).verdict is Verdict.AUTHENTICATED
    own = prove(stage, methods.Social("ada"), **going_on)
    assert set(own.amr) == {"pwd", "social", "mfa"}


@pytest.mark.parametrize("token", ["x", "msb1_" + "x" * 43])
def test_a_token_that_names_no_session_starts_no_step_up(sqlite_stage: Stage, token: str) -> None:
    begun = begin(sqlite_stage, methods.SendOtp("sms"), step_up=token)

    assert (begun.verdict, begun.reason) == (Verdict.LOGIN_REQUIRED, Reason.NO_SESSION)
    assert calls(sqlite_stage) == 0


def test_a_login_that_was_begun_is_no_step_up_and_the_other_way_round(
    sqlite_stage: Stage,
) -> None:
    browser = log_in(sqlite_stage)
    proof, login = code(sqlite_stage)
    before = calls(sqlite_stage)

    answer = prove(sqlite_stage, proof, login=login, step_up=browser.browser_token)

    assert answer.reason == Reason.WRONG_BROWSER
    assert calls(sqlite_stage) == before


def test_two_tabs_that_step_up_one_after_the_other_both_count(stage: Stage) -> None:
    browser = log_in(stage)
    proof = begin(stage, methods.SendOtp("sms"), step_up=browser.browser_token)
    sms = methods.Code(last_code(stage))
    first = stage.ask(
        "shop",
        logins.Authenticate(proof=methods.Password("ada", PASSWORD), step_up=browser.browser_token),
    )

    second = prove(stage, sms, login=proof["login"], step_up=browser.browser_token)

    assert first.browser_token is not None
    # Its answer arrives last: a token of its own would put the first one's out of the jar.
    assert (second.verdict, second.browser_token) == (Verdict.AUTHENTICATED, None)
    assert set(second.amr) == {"mfa", "pwd", "sms"}
    assert browse(stage, first.browser_token).verdict is Verdict.AUTHENTICATED


def test_a_token_that_a_factor_of_another_tab_replaced_begins_no_step(stage: Stage) -> None:
    browser = log_in(stage)
    log_in(stage, step_up=browser.browser_token)
    before = calls(stage)

    begun = begin(stage, methods.SendOtp("sms"), step_up=browser.browser_token)

    assert (begun.verdict, begun.reason) == (Verdict.LOGIN_REQUIRED, Reason.TOKEN_REPLACED)
    assert calls(stage) == before


def test_a_token_that_another_login_replaced_adds_no_factor(stage: Stage) -> None:
    """It may be another browser's: who logs in leaves no place to the one from before."""
    raised = log_in(stage, step_up=log_in(stage).browser_token)
    stage.pass_time(seconds=2)
    (session,) = stage.mosaic.state.live_sessions("ada")
    login = requests.Register(
        session_id=session.session_id,
        user_id="ada",
        id_token=stage.mosaic.state.mint_id_token(aud="client-shop", amr=["pwd"]),
    )
    assert stage.ask("shop", login).browser_token is not None
    before = calls(stage)

    answer = log_in(stage, step_up=raised.browser_token)

    assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, Reason.TOKEN_REPLACED)
    assert calls(stage) == before


def test_a_token_replaced_a_while_ago_adds_no_factor(stage: Stage) -> None:
    browser = log_in(stage)
    log_in(stage, step_up=browser.browser_token)
    stage.pass_time(seconds=31)

    answer = log_in(stage, step_up=browser.browser_token)

    assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, Reason.NO_SESSION)


# --- endings win


def test_a_logout_during_a_step_up_wins(stage: Stage) -> None:
    browser = log_in(stage)
    with (
        stage.mosaic.state.gates.hold(Endpoint.PASSWORD_AUTHENTICATE) as gate,
        stage.meanwhile(lambda: log_in(stage, step_up=browser.browser_token)) as raised,
    ):
        gate.wait_arrived()
        stage.ask("shop", requests.Logout(browser_token=browser.browser_token))
        gate.release()
        answer = raised.result(timeout=60)

    assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, Reason.LOGGED_OUT)
    assert (answer.tokens, answer.browser_token) == (None, None)


@pytest.mark.parametrize("is_told", [False, True], ids=["Mosaic not told yet", "Mosaic told"])
def test_after_a_logout_during_a_step_up_mosaic_is_told_by_the_id_that_it_gave_with_it(
    stage: Stage,
    is_told: bool,  # noqa: FBT001
) -> None:
    browser = log_in(stage)
    state = stage.mosaic.state
    (session,) = state.live_sessions("ada")
    state.faults.add(Endpoint.PASSWORD_AUTHENTICATE, "rotate_session_id", times=1)
    with (
        state.gates.hold(Endpoint.PASSWORD_AUTHENTICATE) as gate,
        stage.meanwhile(lambda: log_in(stage, step_up=browser.browser_token)) as raised,
    ):
        gate.wait_arrived()
        state.sessions.forget_id(session.session_id)
        stage.ask("shop", requests.Logout(browser_token=browser.browser_token))
        if is_told:
            assert stage.tell_mosaic() == ["confirmed"]
        gate.release()
        answer = raised.result(timeout=60)

    assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, Reason.LOGGED_OUT)
    assert len(state.live_sessions("ada")) == 1
    assert stage.tell_mosaic() == ["confirmed"]
    assert state.live_sessions("ada") == []


def test_a_session_that_mosaic_has_lost_is_ended_and_none_opened_instead(stage: Stage) -> None:
    browser = log_in(stage)
    (live,) = stage.mosaic.state.live_sessions("ada")
    stage.mosaic.state.end_session(live.session_id)

    answer = log_in(stage, step_up=browser.browser_token)

    assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, Reason.GONE_AT_IDP)
    assert [session.end_cause for session in stage.sessions()] == ["gone_at_idp"]
    assert stage.mosaic.state.live_sessions("ada") == []


def test_a_session_whose_id_changed_under_a_step_up_lives_on_and_the_app_asks_again(
    stage: Stage,
) -> None:
    browser = log_in(stage)
    state = stage.mosaic.state
    (session,) = state.live_sessions("ada")
    old_id = session.session_id
    with (
        state.gates.hold(Endpoint.PASSWORD_AUTHENTICATE, before=True) as gate,
        stage.meanwhile(lambda: log_in(stage, step_up=browser.browser_token)) as raised,
    ):
        gate.wait_arrived()
        state.faults.add("session/authenticate", "rotate_session_id", times=1)
        assert browse(stage, browser.browser_token).verdict is Verdict.AUTHENTICATED
        state.sessions.forget_id(old_id)
        gate.release()
        first = raised.result(timeout=60)
    second = log_in(stage, step_up=browser.browser_token)

    assert (first.verdict, first.reason) == (
        Verdict.TEMPORARILY_UNAVAILABLE,
        Reason.SESSION_CHANGED,
    )
    assert second.verdict is Verdict.AUTHENTICATED
    assert [row.ended_at for row in stage.sessions()] == [None]


def test_a_logout_that_reaches_mosaic_during_a_step_up_is_the_reason(stage: Stage) -> None:
    browser = log_in(stage)
    with (
        stage.mosaic.state.gates.hold(Endpoint.PASSWORD_AUTHENTICATE, before=True) as gate,
        stage.meanwhile(lambda: log_in(stage, step_up=browser.browser_token)) as raised,
    ):
        gate.wait_arrived()
        stage.ask("shop", requests.Logout(browser_token=browser.browser_token))
        assert stage.tell_mosaic() == ["confirmed"]
        gate.release()
        answer = raised.result(timeout=60)

    assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, Reason.LOGGED_OUT)


def test_the_security_key_of_another_user_is_no_factor_of_this_one(stage: Stage) -> None:
    browser = log_in(stage)
    bobs = PasskeyDevice(is_discoverable=False)

    answer = by_key(stage, bobs, "bob", owner="bob", step_up=browser.browser_token)

    assert answer.verdict is Verdict.ACCESS_DENIED
    assert [session.amr for session in stage.sessions()] == [["pwd"]]
    assert browse(stage, browser.browser_token).verdict is Verdict.AUTHENTICATED


def test_another_users_proof_changes_nothing(stage: Stage) -> None:
    browser = log_in(stage)
    before = stage.sessions()

    answer = prove(stage, methods.Password("bob", "bob's"), step_up=browser.browser_token)

    assert answer.verdict is Verdict.ACCESS_DENIED
    assert stage.sessions() == before
    assert browse(stage, browser.browser_token).verdict is Verdict.AUTHENTICATED


def test_tokens_of_somebody_else_quarantine_the_session(stage: Stage) -> None:
    browser = log_in(stage)
    stage.mosaic.state.faults.add(
        Endpoint.PASSWORD_AUTHENTICATE, "change_claims", changes={"sub": "mallory"}
    )

    answer = log_in(stage, step_up=browser.browser_token)

    assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, Reason.QUARANTINED)
    assert [session.end_cause for session in stage.sessions()] == ["quarantined"]
    assert stage.tell_mosaic() == ["confirmed"]


@pytest.mark.parametrize("way", WAYS)
def test_a_session_that_mosaic_does_not_find_for_a_login_that_names_none_is_a_refusal(
    sqlite_stage: Stage, way: str
) -> None:
    stage = sqlite_stage
    sign_in, _, _ = WAYS[way]
    gone = {"message": "Session not found", "error_code": 400}
    for endpoint in Endpoint:
        if endpoint.endswith("/authenticate") and endpoint != Endpoint.SESSION_AUTHENTICATE:
            stage.mosaic.state.faults.add(endpoint, "status", status=400, body=gone, times=1)

    answer = sign_in(stage)

    assert (answer.verdict, answer.reason) == (Verdict.ACCESS_DENIED, Reason.REFUSED_BY_IDP)
    assert stage.sessions() == []


# --- what no app can be answered with


def _nested(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


UNSENDABLE = {
    "no number": float("nan"),
    "no end": float("inf"),
    "nested": _nested(31),
    "nested deep": _nested(900),
}


@pytest.mark.parametrize("value", UNSENDABLE.values(), ids=UNSENDABLE)
def test_what_a_first_step_shows_is_an_answer_or_the_operators_business(
    sqlite_stage: Stage, value: Any
) -> None:
    stage = sqlite_stage
    stage.mosaic.state.social.add_account("google", "ada-there")
    begun = begin(stage, methods.BeginSocial("google", BACK))
    brought = visit_provider(begun["authorization_url"], "ada-there")
    faults = stage.mosaic.state.faults
    faults.add(Endpoint.SOCIAL_VERIFY, "change_answer", changes={"claims": {"x": value}})
    faults.add(Endpoint.WEBAUTHN_START, "change_answer", changes={"x": value})

    with capture_logs() as logs:
        step = methods.VerifySocial(brought["code"], brought["state"])
        answers = [
            begin(stage, step, login=begun["login"]),
            begin(stage, methods.BeginWebauthn()),
        ]

    assert {(answer.verdict, answer.reason) for answer in answers} == {
        (Verdict.TEMPORARILY_UNAVAILABLE, Reason.IDP_UNAVAILABLE)
    }
    assert len(told_operator(logs)) == 2


def test_what_is_larger_in_an_answer_than_it_came_is_none_either(sqlite_stage: Stage) -> None:
    options = {"credential_request_options": {"x": "é" * 200_000}}  # two bytes each, and six
    sqlite_stage.mosaic.state.faults.add(
        Endpoint.WEBAUTHN_START,
        "status",
        status=200,
        text=json.dumps(options, ensure_ascii=False),
        content_type="application/json",
    )

    answer = begin(sqlite_stage, methods.BeginWebauthn())

    assert (answer.verdict, answer.reason) == (
        Verdict.TEMPORARILY_UNAVAILABLE,
        Reason.IDP_UNAVAILABLE,
    )


def shown_by(stage: Stage, name: str, value: str) -> Reply:
    """Take the first step whose answer has the text of that name, which is *value*."""
    fields: dict[str, Any] = {}
    step: Any = methods.IssueOtp(*MAIL)
    endpoint = Endpoint.OTP_SEND
    if name == "challenge":
        step, endpoint = methods.BeginTotpTransaction(), Endpoint.TOTP_TRANSACTION_START
        fields = {"step_up": log_in(stage).browser_token, "approval_data": PAYMENT}
    if name in {"authorization_url", "transaction_id"}:
        step, endpoint = methods.BeginSocial("google", BACK), Endpoint.SOCIAL_START
    if name == "transaction_id":
        stage.mosaic.state.social.add_account("google", "ada-there")
        begun = begin(stage, step)
        brought = visit_provider(begun["authorization_url"], "ada-there")
        step, endpoint = (
            methods.VerifySocial(brought["code"], brought["state"]),
            Endpoint.SOCIAL_VERIFY,
        )
        fields = {"login": begun["login"]}
    body = json.dumps({"claims": {}, name: value}, ensure_ascii="\ud800" in value)
    stage.mosaic.state.faults.add(
        endpoint, "status", status=200, text=body, content_type="application/json", times=1
    )
    return begin(stage, step, **fields)


@pytest.mark.parametrize("name", ["code", "challenge", "authorization_url", "transaction_id"])
@pytest.mark.parametrize(
    "value",
    ["\ud800", "a\x00", "\x1b[2J", "é" * 300_000, "x" * 10_000],
    ids=["half a character", "NUL", "a control character", "larger than it came", "long"],
)
def test_a_text_of_a_first_step_that_no_app_can_go_on_with_is_the_operators_business(
    sqlite_stage: Stage, name: str, value: str
) -> None:
    with capture_logs() as logs:
        answer = shown_by(sqlite_stage, name, value)

    assert (answer.verdict, answer.reason) == (
        Verdict.TEMPORARILY_UNAVAILABLE,
        Reason.IDP_UNAVAILABLE,
    )
    assert len(told_operator(logs)) == 1


@pytest.mark.parametrize("name", ["code", "challenge", "authorization_url", "transaction_id"])
def test_a_text_of_a_first_step_may_hold_other_letters_and_be_long(
    sqlite_stage: Stage, name: str
) -> None:
    answer = shown_by(sqlite_stage, name, "é" * 2_000)

    assert answer.verdict is Verdict.OK
    assert len(answer["login"]) <= MAX_SEALED_CHARACTERS


@pytest.mark.parametrize("session_id", ["\ud800", "a\x00", "\x1b[2J", "é", "", 7, ["a"]], ids=repr)
def test_a_session_id_that_is_none_leaves_it_unknown_what_came_of_the_login(
    sqlite_stage: Stage, session_id: Any
) -> None:
    sqlite_stage.mosaic.state.faults.add(
        Endpoint.PASSWORD_AUTHENTICATE, "change_answer", changes={"session_id": session_id}
    )

    answer = log_in(sqlite_stage)

    assert (answer.verdict, answer.reason) == (
        Verdict.TEMPORARILY_UNAVAILABLE,
        Reason.OUTCOME_UNKNOWN,
    )
    assert sqlite_stage.sessions() == []


# --- what an app may show tells nothing

LEFT_OUT = {"login", "expires_in", "state", "code"}


def _suspended(stage: Stage) -> str:
    stage.mosaic.state.change_user("bob", is_active=False)
    return "bob@example.com"


ACCOUNTS: dict[str, Callable[[Stage], str]] = {
    "known": lambda _: "ada@example.com",
    "unknown": lambda _: "eve@example.com",
    "suspended": _suspended,
}
SENDS = [
    methods.SendOtp("email", "?", "email"),
    methods.IssueOtp("?", "email"),
    methods.SendLink(BACK, "?", "email"),
    methods.IssueLink(BACK, "?", "email"),
]


@pytest.mark.parametrize("step", SENDS, ids=lambda step: type(step).__name__)
def test_the_first_step_tells_nothing_of_an_account(sqlite_stage: Stage, step: Any) -> None:
    seen = set()
    for find in ACCOUNTS.values():
        named = type(step)(**{**step.fields(), "identifier": find(sqlite_stage)})
        begun = begin(sqlite_stage, named)
        shown = {name: len(str(value)) for name, value in begun.data.items()}
        assert begun["login"] not in seen
        seen.add((begun.verdict, begun.reason, tuple(sorted(shown.items()))))

    assert len(seen) == 1, seen


def test_the_second_step_tells_nothing_of_an_account(sqlite_stage: Stage) -> None:
    seen = set()
    for find in ACCOUNTS.values():
        step = methods.SendOtp("email", find(sqlite_stage), "email")
        begun = begin(sqlite_stage, step)
        answer = prove(sqlite_stage, methods.Code("000000x"), login=begun["login"])
        seen.add((answer.verdict, answer.reason, answer.retry_after, answer.detail))

    assert seen == {(Verdict.ACCESS_DENIED, Reason.INVALID_CREDENTIALS, None, None)}


@pytest.mark.parametrize("status", [400, 401])
def test_a_password_tells_nothing_of_an_account(sqlite_stage: Stage, status: Any) -> None:
    sqlite_stage.mosaic.state.policy.change(wrong_proof_status=status, wrong_proofs_allowed=1)
    _suspended(sqlite_stage)
    tries = [("ada", "wrong"), ("ada", PASSWORD), ("nobody", "x"), ("bob", "bob's"), ("bob", "x")]

    answers = [prove(sqlite_stage, methods.Password(*tried)) for tried in tries]

    told = {(answer.verdict, answer.reason, answer.retry_after) for answer in answers}
    assert told == {(Verdict.ACCESS_DENIED, Reason.INVALID_CREDENTIALS, None)}
    assert sqlite_stage.sessions() == []


def test_only_an_app_that_may_hear_it_is_told_who_is_there(sqlite_stage: Stage) -> None:
    stage = sqlite_stage
    stage.add_app("staff", methods=("password", "otp"), capabilities=("reveals_accounts",))
    _suspended(stage)
    stage.mosaic.state.attempts.lock("ada", "pwd")

    begun = [
        begin(stage, methods.SendOtp("email", name, "email"), "staff")
        for name in ("bob@example.com", "eve@example.com")
    ]
    answers = [
        prove(stage, methods.Password(*tried), "staff")
        for tried in (("ada", PASSWORD), ("bob", "bob's"))
    ]

    all_of_them: list[Any] = [*begun, *answers]
    told = [(answer.verdict, answer.reason) for answer in all_of_them]
    assert told == [
        (Verdict.ACCESS_DENIED, Reason.USER_NOT_ACTIVE),
        (Verdict.ACCESS_DENIED, Reason.USER_UNKNOWN),
        (Verdict.ACCESS_DENIED, Reason.USER_LOCKED),
        (Verdict.ACCESS_DENIED, Reason.USER_NOT_ACTIVE),
    ]
    shop = prove(stage, methods.Password("bob", "bob's"))
    assert shop.reason == Reason.INVALID_CREDENTIALS


@pytest.mark.parametrize("status", [400, 401])
def test_a_wrong_proof_costs_neither_the_client_token_nor_the_breaker(
    sqlite_stage: Stage, status: Any
) -> None:
    state = sqlite_stage.mosaic.state
    state.policy.change(wrong_proof_status=status, wrong_proofs_allowed=1000)
    log_in(sqlite_stage)
    fetched = state.calls.count(Endpoint.TOKEN)

    for number in range(30):
        prove(sqlite_stage, methods.Password(f"nobody-{number}", "x"))

    assert state.calls.count(Endpoint.TOKEN) == fetched
    assert state.calls.count(Endpoint.PASSWORD_AUTHENTICATE) == 31
    assert log_in(sqlite_stage).verdict is Verdict.AUTHENTICATED


# What Mosaic answers to who is locked out, or may not, is on no page of its own.
LOCKS: list[dict[str, Any]] = [
    {"message": "Password is locked", "error_code": 403},
    {"message": ["Password is locked"], "error_code": "403"},
    {"message": "Forbidden", "error_code": "auth_password_locked"},
    {"message": "Locked out", "error_code": 403, "ts_error_code": "auth_totp_locked"},
    {"message": "Password is locked", "error": "Forbidden", "statusCode": 403},
    {"message": "Account temporarily locked, try again in 15 minutes", "error_code": 403},
    {"message": "User may not sign in with this client", "error_code": 403},
    {"message": "Too many failed attempts", "error_code": 403},
    {"message": "Password expired", "error_code": "auth_password_expired"},
    {"message": "Temporary password must be changed", "error_code": 403},
]
LOCKABLE = {
    "pwd": methods.Password("ada", PASSWORD),
    "totp": methods.Totp("123456", *MAIL),
    "mobile_biometrics": methods.MobileBiometrics("c", "s", "k", "ada"),
}


@pytest.mark.parametrize("method", LOCKABLE)
@pytest.mark.parametrize("is_proven", [True, False], ids=["token in use", "fresh token"])
def test_who_locks_a_user_out_costs_the_app_neither_token_nor_operator(
    sqlite_stage: Stage,
    method: str,
    is_proven: bool,  # noqa: FBT001
) -> None:
    stage, state = sqlite_stage, sqlite_stage.mosaic.state
    for said in LOCKS:
        stage.redis.flushall()
        stage.services.mosaic._client_tokens._slots.clear()
        state.attempts.unlock("ada", method)
        if is_proven:
            assert log_in(stage).verdict is Verdict.AUTHENTICATED
        state.policy.change(locked_answer=said)
        state.attempts.lock("ada", method)
        fetched = state.calls.count(Endpoint.TOKEN)

        with capture_logs() as logs:
            answers = [prove(stage, LOCKABLE[method]) for _ in range(6)]
        state.attempts.unlock("ada", "pwd")

        told = [(answer.verdict, answer.reason) for answer in answers]
        wrong = (Verdict.ACCESS_DENIED, Reason.INVALID_CREDENTIALS)
        limited = (Verdict.ACCESS_DENIED, Reason.TOO_MANY_ATTEMPTS)
        assert told == [*[wrong] * 5, limited], said
        assert state.calls.count(Endpoint.TOKEN) == fetched + (not is_proven), said
        assert told_operator(logs) == [], said


@pytest.mark.parametrize("said", LOCKS[:5], ids=str)
def test_an_app_that_may_hear_it_is_told_of_a_lock_however_mosaic_words_it(
    sqlite_stage: Stage, said: dict[str, Any]
) -> None:
    sqlite_stage.add_app("staff", methods=("password",), capabilities=("reveals_accounts",))
    sqlite_stage.mosaic.state.policy.change(locked_answer=said)
    sqlite_stage.mosaic.state.attempts.lock("ada", "pwd")

    answer = log_in(sqlite_stage, "staff")

    assert (answer.verdict, answer.reason) == (Verdict.ACCESS_DENIED, Reason.USER_LOCKED)


def test_a_client_without_the_right_to_a_method_is_not_taken_for_a_wrong_proof(
    sqlite_stage: Stage,
) -> None:
    stage = sqlite_stage
    for message in (
        "Forbidden",
        "Insufficient scope: users:authenticate",
        "The client lacks the role",
        "Password login is not enabled for this app",
    ):
        stage.mosaic.state.faults.add(
            Endpoint.PASSWORD_AUTHENTICATE, "status", status=403, message=message, times=1
        )
        with capture_logs() as logs:
            answer = log_in(stage)

        told = (answer.verdict, answer.reason)
        assert told == (Verdict.TEMPORARILY_UNAVAILABLE, Reason.CLIENT_REFUSED), message
        assert len(told_operator(logs)) == 1, message


@pytest.mark.parametrize("status", [400, 401])
def test_a_wrong_code_that_mosaic_calls_a_token_is_a_wrong_proof(
    sqlite_stage: Stage, status: int
) -> None:
    """The code of an authenticator app is sent in a field `token`."""
    stage, state = sqlite_stage, sqlite_stage.mosaic.state
    log_in(stage)
    fetched = state.calls.count(Endpoint.TOKEN)
    state.faults.add(Endpoint.TOTP_AUTHENTICATE, "status", status=status, message="Invalid token")

    answers = [prove(stage, methods.Totp("1", *MAIL)) for _ in range(6)]

    reasons = [answer.reason for answer in answers]
    assert reasons == [*[Reason.INVALID_CREDENTIALS] * 5, Reason.TOO_MANY_ATTEMPTS]
    assert state.calls.count(Endpoint.TOKEN) == fetched


def test_a_client_token_that_was_revoked_is_replaced_and_no_proof_sent_twice(
    sqlite_stage: Stage,
) -> None:
    log_in(sqlite_stage)
    sqlite_stage.mosaic.state.revoke_client_tokens()
    before = sqlite_stage.mosaic.state.calls.count(Endpoint.PASSWORD_AUTHENTICATE)

    refused = log_in(sqlite_stage)
    after = log_in(sqlite_stage)

    assert refused.reason == Reason.CLIENT_REFUSED
    assert after.verdict is Verdict.AUTHENTICATED
    assert sqlite_stage.mosaic.state.calls.count(Endpoint.PASSWORD_AUTHENTICATE) == before + 2


PAYMENT = {"payee": "bob"}
TOKEN_IS_OVER: list[dict[str, Any]] = [
    {"error": "Unauthorized", "message": "The access token has been revoked"},
    {
        "error": "unauthorized",
        "message": "Full authentication is required to access this resource",
    },
    {"error": "invalid_token"},
    {"error": "invalid_token", "error_description": "The access token expired"},
]


def totp(stage: Stage) -> tuple[Any, str | None]:
    state = stage.mosaic.state
    secret = state.authenticator_apps.enrol("ada")["secret"]
    return methods.Totp(totp_code(secret, state.clock.now()), *MAIL), None


PROOFS: dict[Endpoint, Callable[[Stage], tuple[Any, str | None]]] = {
    Endpoint.PASSWORD_AUTHENTICATE: password,
    Endpoint.OTP_AUTHENTICATE: code,
    Endpoint.TOTP_AUTHENTICATE: totp,
    Endpoint.LINK_AUTHENTICATE: link,
    Endpoint.SOCIAL_AUTHENTICATE: social,
}


def right_proof(stage: Stage, endpoint: Endpoint) -> tuple[Any, dict[str, Any]]:
    """Return a proof that Mosaic takes, and what it is sent with."""
    if endpoint is not Endpoint.TOTP_TRANSACTION_AUTHENTICATE:
        proof, login = PROOFS[endpoint](stage)
        return proof, {"login": login}
    token = str(log_in(stage).browser_token)
    begun, approval = ask_by_app(stage, token, approval_data=PAYMENT)
    return approval, {"login": begun["login"], "step_up": token}


@pytest.mark.parametrize("endpoint", [*PROOFS, Endpoint.TOTP_TRANSACTION_AUTHENTICATE])
@pytest.mark.parametrize("body", TOKEN_IS_OVER, ids=str)
def test_a_right_proof_beside_a_dead_client_token_counts_as_no_guess(
    sqlite_stage: Stage, endpoint: Endpoint, body: dict[str, Any]
) -> None:
    stage, state = sqlite_stage, sqlite_stage.mosaic.state
    proof, sent_with = right_proof(stage, endpoint)
    log_in(stage)
    fetched = state.calls.count(Endpoint.TOKEN)
    for _ in range(5):  # one more wrong guess would be too many
        state.faults.add(endpoint, "status", status=401, body=body, times=1)
        with capture_logs() as logs:
            refused = prove(stage, proof, **sent_with)

        told = (refused.verdict, refused.reason)
        assert told == (Verdict.TEMPORARILY_UNAVAILABLE, Reason.CLIENT_REFUSED)
        assert len(told_operator(logs)) == 1

    assert prove(stage, proof, **sent_with).verdict is Verdict.AUTHENTICATED
    assert state.calls.count(Endpoint.TOKEN) == fetched + 1


def test_a_401_proves_no_client_token(sqlite_stage: Stage) -> None:
    """Else the next refusal without a word would be taken for a wrong guess."""
    state = sqlite_stage.mosaic.state
    answers = [(401, "Invalid credentials"), (403, "No")]
    told = []
    for status, message in answers:
        state.faults.add(
            Endpoint.PASSWORD_AUTHENTICATE, "status", status=status, message=message, times=1
        )
        told.append(log_in(sqlite_stage).reason)

    assert told == [Reason.INVALID_CREDENTIALS, Reason.CLIENT_REFUSED]


NOT_LET_IN = [
    "Unauthorized",
    "jwt expired",
    "Invalid or expired token",
    "Access token is invalid",
    "Token is invalid",
    "Who are you?",
]
FIRST_STEPS: dict[Endpoint, Any] = {
    Endpoint.OTP_SEND: methods.SendOtp("email", *MAIL),
    Endpoint.LINK_SEND: methods.SendLink(BACK, *MAIL),
    Endpoint.SOCIAL_START: methods.BeginSocial("google", BACK),
    Endpoint.TOTP_TRANSACTION_START: methods.BeginTotpTransaction(),
}


def take_first(stage: Stage, endpoint: Endpoint) -> Reply:
    fields: dict[str, Any] = {}
    if endpoint is Endpoint.TOTP_TRANSACTION_START:
        fields = {"step_up": log_in(stage).browser_token, "approval_data": PAYMENT}
    return begin(stage, FIRST_STEPS[endpoint], **fields)


@pytest.mark.parametrize("endpoint", FIRST_STEPS)
@pytest.mark.parametrize("status", [401, 403])
def test_a_first_step_is_taken_once_more_with_a_fresh_client_token(
    sqlite_stage: Stage, endpoint: Endpoint, status: int
) -> None:
    state = sqlite_stage.mosaic.state
    for message in NOT_LET_IN:
        sqlite_stage.redis.flushall()  # of the limit on what is sent to one name
        log_in(sqlite_stage)
        before = state.calls.count(endpoint), state.calls.count(Endpoint.TOKEN)
        sqlite_stage.pass_time(seconds=6)
        state.faults.add(endpoint, "status", status=status, message=message, times=1)

        begun = take_first(sqlite_stage, endpoint)

        after = state.calls.count(endpoint), state.calls.count(Endpoint.TOKEN)
        assert begun.verdict is Verdict.OK, message
        assert after == (before[0] + 2, before[1] + 1), message


NO_RIGHT = [
    "User is not authorized to access this resource",
    "User does not have the required role",
    "Not authorized to perform this operation",
    "Access denied",
]


@pytest.mark.parametrize("endpoint", FIRST_STEPS)
@pytest.mark.parametrize("message", NO_RIGHT)
def test_a_first_step_without_the_right_to_it_is_tried_with_a_fresh_token_and_told_to_an_operator(
    sqlite_stage: Stage, endpoint: Endpoint, message: str
) -> None:
    state = sqlite_stage.mosaic.state
    log_in(sqlite_stage)
    fetched = state.calls.count(Endpoint.TOKEN)
    state.faults.add(endpoint, "status", status=403, message=message)

    with capture_logs() as logs:
        begun = take_first(sqlite_stage, endpoint)

    told = (begun.verdict, begun.reason)
    assert told == (Verdict.TEMPORARILY_UNAVAILABLE, Reason.CLIENT_REFUSED)
    assert (state.calls.count(endpoint), state.calls.count(Endpoint.TOKEN)) == (2, fetched + 1)
    assert len(told_operator(logs)) == 1


@pytest.mark.parametrize("endpoint", [*PROOFS, Endpoint.TOTP_TRANSACTION_AUTHENTICATE])
@pytest.mark.parametrize("message", NO_RIGHT)
def test_a_right_proof_of_a_client_without_the_right_counts_as_no_guess(
    sqlite_stage: Stage, endpoint: Endpoint, message: str
) -> None:
    stage, state = sqlite_stage, sqlite_stage.mosaic.state
    proof, sent_with = right_proof(stage, endpoint)
    log_in(stage)
    state.faults.add(endpoint, "status", status=403, message=message, times=5)

    with capture_logs() as logs:
        refused = [prove(stage, proof, **sent_with) for _ in range(5)]

    assert {answer.reason for answer in refused} == {Reason.CLIENT_REFUSED}
    assert len(told_operator(logs)) == 5
    assert prove(stage, proof, **sent_with).verdict is Verdict.AUTHENTICATED


@pytest.mark.parametrize("endpoint", FIRST_STEPS)
def test_a_first_step_is_taken_no_third_time(sqlite_stage: Stage, endpoint: Endpoint) -> None:
    state = sqlite_stage.mosaic.state
    log_in(sqlite_stage)
    state.faults.add(endpoint, "status", status=401, message="jwt expired")

    begun = take_first(sqlite_stage, endpoint)

    assert begun.reason is Reason.CLIENT_REFUSED
    assert state.calls.count(endpoint) == 2


def test_a_first_step_whose_second_answer_is_lost_is_not_taken_again(sqlite_stage: Stage) -> None:
    state = sqlite_stage.mosaic.state
    log_in(sqlite_stage)
    state.faults.add(Endpoint.OTP_SEND, "status", status=401, message="jwt expired", times=1)
    sent = sqlite_stage.seal("shop", logins.Start(step=methods.SendOtp("email", *MAIL)))
    with (
        state.gates.hold(Endpoint.OTP_SEND) as gate,
        sqlite_stage.meanwhile(lambda: reply_to(sqlite_stage, sent)) as begun,
    ):
        gate.wait_arrived()
        state.faults.add(Endpoint.OTP_SEND, "drop_answer", times=1)
        gate.release()
        answer = begun.result(timeout=60)

    assert answer.reason is Reason.OUTCOME_UNKNOWN
    assert state.calls.count(Endpoint.OTP_SEND) == 2


@pytest.mark.parametrize("message", NOT_LET_IN)
def test_the_code_of_a_provider_is_not_sent_twice_for_the_client_tokens_sake(
    sqlite_stage: Stage, message: str
) -> None:
    state = sqlite_stage.mosaic.state
    state.social.add_account("google", "ada-there")
    begun = begin(sqlite_stage, methods.BeginSocial("google", BACK))
    brought = visit_provider(begun["authorization_url"], "ada-there")
    step = methods.VerifySocial(brought["code"], brought["state"])
    state.faults.add(Endpoint.SOCIAL_VERIFY, "status", status=401, message=message, times=1)

    refused = begin(sqlite_stage, step, login=begun["login"])
    sent = state.calls.count(Endpoint.SOCIAL_VERIFY)
    again = begin(sqlite_stage, step, login=begun["login"])

    assert (refused.reason, sent) == (Reason.CLIENT_REFUSED, 1)
    assert again.verdict is Verdict.OK


@pytest.mark.parametrize("body", [{"message": "Invalid code"}, {"error": "invalid_grant"}])
def test_a_401_that_names_the_providers_code_is_about_the_code(
    sqlite_stage: Stage, body: dict[str, Any]
) -> None:
    state = sqlite_stage.mosaic.state
    begun = begin(sqlite_stage, methods.BeginSocial("google", BACK))
    state.faults.add(Endpoint.SOCIAL_VERIFY, "status", status=401, body=body)
    fetched = state.calls.count(Endpoint.TOKEN)

    answer = begin(sqlite_stage, methods.VerifySocial("c", begun["state"]), login=begun["login"])

    assert (answer.verdict, answer.reason) == (
        Verdict.ACCESS_DENIED,
        Reason.INVALID_CREDENTIALS,
    )
    log_in(sqlite_stage)
    assert state.calls.count(Endpoint.TOKEN) == fetched


def test_a_user_locked_out_at_mosaic_in_a_step_up_is_told_so(sqlite_stage: Stage) -> None:
    browser = by_sms(sqlite_stage)
    sqlite_stage.mosaic.state.change_user("ada", is_active=False)

    answer = log_in(sqlite_stage, step_up=browser.browser_token)

    assert (answer.verdict, answer.reason) == (Verdict.ACCESS_DENIED, Reason.NOT_ALLOWED)


def test_the_log_names_the_slug_and_no_app_hears_it(sqlite_stage: Stage) -> None:
    begun = begin(sqlite_stage, methods.SendOtp("sms", *PHONE))
    with capture_logs() as logs:
        begin(sqlite_stage, methods.SendOtp("email", "eve@example.com", "email"))
        answer = prove(sqlite_stage, methods.Code("000000x"), login=begun["login"])

    said = {line["event"]: line["detail"] for line in logs if "detail" in line}
    assert said["login_step_refused"].endswith("(user_not_found)")
    assert said["login_refused"].endswith("(auth_invalid_credentials)")
    assert (answer.reason, answer.detail) == (Reason.INVALID_CREDENTIALS, None)


def test_wishes_that_mosaic_does_not_grant_are_the_apps_to_mend(sqlite_stage: Stage) -> None:
    sqlite_stage.mosaic.state.add_client("client-shop", "secret-of-shop", resources=["a"])

    answer = log_in(sqlite_stage, wishes=Wishes(resource="https://other.example"))

    assert (answer.verdict, answer.reason) == (Verdict.INVALID_REQUEST, Reason.OPTIONS_REFUSED)


BROWSER = Wishes(user_agent="Mozilla/5.0", ip_address="192.0.2.7")


@pytest.mark.parametrize("wishes", [None, BROWSER], ids=["bare", "with the browser's"])
@pytest.mark.parametrize(
    "step", [methods.SendLink(BACK, *MAIL), methods.BeginSocial("google", BACK)], ids=str
)
def test_a_redirect_uri_that_mosaic_does_not_allow_is_named(
    sqlite_stage: Stage, step: Any, wishes: Wishes | None
) -> None:
    sqlite_stage.mosaic.state.add_client(
        "client-shop", "secret-of-shop", redirect_uris=["https://other.example"]
    )

    begun = begin(sqlite_stage, step, wishes=wishes, device_id="phone")

    assert (begun.verdict, begun.reason) == (Verdict.INVALID_REQUEST, Reason.OPTIONS_REFUSED)
    assert begun.detail == "redirect_uri"


@pytest.mark.parametrize(
    ("message", "is_blamed"),
    [
        ("identifier must be a phone number", False),
        (["identifier must be a phone number"], False),
        ("Invalid input", False),
        (["device_id must be a string"], True),
        ("client_attributes.ip_address must be an IP address", True),
    ],
)
def test_what_an_app_passes_on_of_the_browser_is_blamed_only_where_it_is_named(
    sqlite_stage: Stage,
    message: Any,
    is_blamed: bool,  # noqa: FBT001
) -> None:
    body = {"message": message, "error_code": "system_invalid_input"}
    sqlite_stage.mosaic.state.faults.add(Endpoint.OTP_SEND, "status", status=400, body=body)

    begun = begin(sqlite_stage, methods.SendOtp("sms", *PHONE), wishes=BROWSER, device_id="phone")

    expected = (
        (Verdict.INVALID_REQUEST, Reason.OPTIONS_REFUSED)
        if is_blamed
        else (Verdict.ACCESS_DENIED, Reason.REFUSED_BY_IDP)
    )
    assert (begun.verdict, begun.reason) == expected
