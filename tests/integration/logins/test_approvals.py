"""Users approve something, such as a payment, by one more factor: Mosaic's ID token says what."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
from structlog.testing import capture_logs

from session_client import logins, methods
from session_client.contract import Reason, Verdict
from simulator.controls.devices import PasskeyDevice
from simulator.idp.endpoints import Endpoint
from tests.heard import Heard
from tests.integration.logins.login_rig import (
    BACK,
    MAIL,
    Reply,
    ask_by_app,
    begin,
    browse,
    last_code,
    log_in,
    prove,
    restarted,
)
from tests.integration.mosaic.gateway_rig import told_operator
from tests.stage import Stage, claims_of

pytestmark = pytest.mark.usefixtures("people")

PAYMENT = {"payee": "DE02120300000000202051", "amount": "12.50", "currency": "EUR"}
OTHER = PAYMENT | {"payee": "DE02500105170137075030"}

Prove = Callable[..., Heard]


def ask_by_code(stage: Stage, token: str, **asked: Any) -> tuple[Reply, methods.Code]:
    begun = begin(stage, methods.SendOtp("sms"), step_up=token, **asked)
    return begun, methods.Code(last_code(stage))


def ask_by_direct_code(stage: Stage, token: str, **asked: Any) -> tuple[Reply, methods.Code]:
    begun = begin(stage, methods.IssueOtp(), step_up=token, **asked)
    return begun, methods.Code(begun["code"])


def ask_by_passkey(stage: Stage, token: str, **asked: Any) -> tuple[Reply, methods.Webauthn]:
    device = PasskeyDevice()
    stage.mosaic.state.passkeys.register("ada", device.credential_id, device.public_key)
    begun = begin(stage, methods.BeginWebauthn(), step_up=token, **asked)
    return begun, methods.Webauthn(device.answer(begun["options"]))


WAYS: dict[str, tuple[Callable[..., tuple[Reply, Any]], str]] = {
    "a code by text message": (ask_by_code, "otp/authenticate"),
    "a code that the app brings": (ask_by_direct_code, "otp/authenticate"),
    "a passkey": (ask_by_passkey, "webauthn/authenticate"),
    "an authenticator app": (ask_by_app, "totp/transaction/authenticate"),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_user_approves_and_the_app_is_told_what(stage: Stage, way: str) -> None:
    ask, _ = WAYS[way]
    before = log_in(stage)
    token = str(before.browser_token)

    begun, proof = ask(stage, token, approval_data=PAYMENT)
    answer = prove(stage, proof, login=begun["login"], step_up=token)

    assert answer.verdict is Verdict.AUTHENTICATED, answer
    assert answer.approval_data == PAYMENT
    assert answer.tokens is not None
    assert claims_of(str(answer.tokens.id_token))["approval_data"] == PAYMENT
    assert answer.session_ref == before.session_ref
    assert "mfa" in answer.amr
    assert browse(stage, answer.browser_token).approval_data is None
    assert stage.mosaic.state.calls.complaints() == []


@pytest.mark.parametrize("way", [way for way in WAYS if way != "an authenticator app"])
def test_where_nothing_was_asked_nothing_is_approved(sqlite_stage: Stage, way: str) -> None:
    ask, _ = WAYS[way]
    token = str(log_in(sqlite_stage).browser_token)

    begun, proof = ask(sqlite_stage, token)
    answer = prove(sqlite_stage, proof, login=begun["login"], step_up=token)

    assert (answer.verdict, answer.approval_data) == (Verdict.AUTHENTICATED, None)


def test_the_same_request_again_says_again_what_was_approved(sqlite_stage: Stage) -> None:
    token = str(log_in(sqlite_stage).browser_token)
    begun, proof = ask_by_code(sqlite_stage, token, approval_data=PAYMENT)
    asked = logins.Authenticate(proof=proof, login=begun["login"], step_up=token)
    sent = sqlite_stage.seal("shop", asked)

    first = sqlite_stage.deliver(sent)
    sqlite_stage.redis.flushall()
    again = sqlite_stage.deliver(sent)

    assert first.approval_data == again.approval_data == PAYMENT


def test_another_process_completes_what_was_begun(sqlite_stage: Stage) -> None:
    token = str(log_in(sqlite_stage).browser_token)
    begun, proof = ask_by_code(sqlite_stage, token, approval_data=PAYMENT)

    with restarted(sqlite_stage):
        answer = prove(sqlite_stage, proof, login=begun["login"], step_up=token)

    assert answer.approval_data == PAYMENT


@pytest.mark.parametrize("way", ["a code by text message", "a code that the app brings"])
def test_a_code_that_approves_something_else_is_a_wrong_code(stage: Stage, way: str) -> None:
    """As where two tabs ask, and the code of the one is typed in the other."""
    ask, _ = WAYS[way]
    before = log_in(stage)
    token = str(before.browser_token)
    first, _ = ask(stage, token, approval_data=PAYMENT)
    stage.redis.flushall()  # codes are not sent one upon the other
    _, proof = ask(stage, token, approval_data=OTHER)

    answer = prove(stage, proof, login=first["login"], step_up=token)

    assert (answer.verdict, answer.reason) == (Verdict.ACCESS_DENIED, Reason.INVALID_CREDENTIALS)
    assert answer.tokens is None
    (session,) = stage.sessions()
    assert session.ended_at is None
    assert browse(stage, token).verdict is Verdict.AUTHENTICATED


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "fault",
    [
        ("change_claims", {"without": ["approval_data"]}),
        ("change_claims", {"changes": {"approval_data": "12.50"}}),
        ("missing_id_token", {}),
    ],
    ids=["no claim", "no object", "no ID token"],
)
def test_what_no_token_says_is_not_approved(
    sqlite_stage: Stage, way: str, fault: tuple[str, dict[str, Any]]
) -> None:
    ask, endpoint = WAYS[way]
    kind, details = fault
    token = str(log_in(sqlite_stage).browser_token)
    begun, proof = ask(sqlite_stage, token, approval_data=PAYMENT)
    sqlite_stage.mosaic.state.faults.add(endpoint, kind, times=1, **details)

    answer = prove(sqlite_stage, proof, login=begun["login"], step_up=token)

    assert answer.reason == Reason.OUTCOME_UNKNOWN
    assert (answer.tokens, answer.approval_data) == (None, None)
    assert browse(sqlite_stage, token).verdict is Verdict.AUTHENTICATED


def test_an_unheard_answer_approves_nothing(sqlite_stage: Stage) -> None:
    """A silent authentication tells that the factor is there, and not what it approved."""
    token = str(log_in(sqlite_stage).browser_token)
    begun, proof = ask_by_code(sqlite_stage, token, approval_data=PAYMENT)
    sqlite_stage.mosaic.state.faults.add("otp/authenticate", "drop_answer", times=1)

    with capture_logs() as logs:
        answer = prove(sqlite_stage, proof, login=begun["login"], step_up=token)

    assert answer.reason == Reason.OUTCOME_UNKNOWN
    assert answer.approval_data is None
    assert told_operator(logs) == []  # there is nothing to mend


def test_another_users_passkey_approves_nothing(sqlite_stage: Stage) -> None:
    token = str(log_in(sqlite_stage).browser_token)
    device = PasskeyDevice()
    sqlite_stage.mosaic.state.passkeys.register("bob", device.credential_id, device.public_key)
    begun = begin(sqlite_stage, methods.BeginWebauthn(), step_up=token, approval_data=PAYMENT)
    proof = methods.Webauthn(device.answer(begun["options"]))

    answer = prove(sqlite_stage, proof, login=begun["login"], step_up=token)

    assert answer.verdict is not Verdict.AUTHENTICATED
    assert answer.approval_data is None


def test_what_is_to_be_approved_is_in_no_log_and_in_clear_nowhere(
    sqlite_stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    token = str(log_in(sqlite_stage).browser_token)
    begun, proof = ask_by_code(sqlite_stage, token, approval_data=PAYMENT)
    prove(sqlite_stage, proof, login=begun["login"], step_up=token)

    written = capsys.readouterr()
    payee = PAYMENT["payee"]
    assert payee not in written.out + written.err
    assert payee not in repr(sqlite_stage.dump())
    assert payee.encode() not in base64.urlsafe_b64decode(begun["login"])


@pytest.mark.parametrize("step", [methods.SendOtp("sms"), methods.BeginTotpTransaction()])
def test_mosaic_is_asked_with_the_words_of_the_app(sqlite_stage: Stage, step: Any) -> None:
    sqlite_stage.mosaic.state.authenticator_apps.enrol("ada")
    token = str(log_in(sqlite_stage).browser_token)

    begin(sqlite_stage, step, step_up=token, approval_data=PAYMENT)

    call = sqlite_stage.mosaic.state.calls.log()[-1]
    assert call.endpoint in {Endpoint.OTP_SEND, Endpoint.TOTP_TRANSACTION_START}
    assert call.fields["approval_data"] == PAYMENT
    assert (call.fields["identifier"], call.fields["identifier_type"]) == ("ada", "user_id")


def test_a_user_without_an_authenticator_app_is_refused_at_its_code(sqlite_stage: Stage) -> None:
    token = str(log_in(sqlite_stage).browser_token)
    begun = begin(
        sqlite_stage, methods.BeginTotpTransaction(), step_up=token, approval_data=PAYMENT
    )

    answer = prove(
        sqlite_stage, methods.TotpTransaction("123456"), login=begun["login"], step_up=token
    )

    assert answer.verdict is Verdict.ACCESS_DENIED


@pytest.mark.parametrize("way", WAYS)
def test_wrong_codes_and_keys_of_approvals_count_as_wrong_second_factors(
    sqlite_stage: Stage, way: str
) -> None:
    stage, (ask, endpoint) = sqlite_stage, WAYS[way]
    token = str(log_in(stage).browser_token)
    begun, right = ask(stage, token, approval_data=PAYMENT)
    refusal = {"message": "Wrong", "error_code": 400}
    stage.mosaic.state.faults.add(endpoint, "status", status=400, body=refusal, times=5)
    answers = [prove(stage, right, login=begun["login"], step_up=token) for _ in range(6)]
    again = begin(stage, methods.BeginWebauthn(), step_up=token)

    reasons = [answer.reason for answer in answers]
    assert reasons == [*[Reason.INVALID_CREDENTIALS] * 5, Reason.TOO_MANY_ATTEMPTS]
    assert again.reason == Reason.TOO_MANY_ATTEMPTS


def test_an_app_needs_the_grant_for_transactions(sqlite_stage: Stage) -> None:
    sqlite_stage.add_app("desk", methods=("password", "totp"))
    token = str(log_in(sqlite_stage, "desk").browser_token)

    refused = begin(
        sqlite_stage, methods.BeginTotpTransaction(), "desk", step_up=token, approval_data=PAYMENT
    )

    assert (refused.verdict, refused.reason) == (Verdict.UNAUTHORIZED, Reason.NOT_PERMITTED)


def test_a_password_and_a_link_are_not_in_between(sqlite_stage: Stage) -> None:
    """A handle leads to its own proof alone: no weaker one completes what was to be approved."""
    token = str(log_in(sqlite_stage).browser_token)
    begun, _ = ask_by_passkey(sqlite_stage, token, approval_data=PAYMENT)
    other = begin(sqlite_stage, methods.SendLink(BACK, *MAIL))

    by_code = prove(sqlite_stage, methods.Code("123456"), login=begun["login"], step_up=token)
    by_link = prove(
        sqlite_stage,
        methods.Link(last_code(sqlite_stage), other["state"]),
        login=begun["login"],
        step_up=token,
    )

    assert by_code.reason == by_link.reason == Reason.WRONG_BROWSER
