"""Signing in, and adding a factor, by every method: from the app to Mosaic and back."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select

from models import BrowserToken
from session_client import Wishes, methods, requests
from session_client.contract import Reason, Verdict
from session_client.login_steps import FirstStep
from simulator.idp.endpoints import Endpoint
from tests.integration.logins.login_rig import (
    BACK,
    FACTORS,
    MAIL,
    PASSWORD,
    PHONE,
    WAYS,
    begin,
    browse,
    by_sms,
    by_totp,
    log_in,
    prove,
    restarted,
    visit,
)
from tests.stage import Stage, claims_of

pytestmark = pytest.mark.usefixtures("people")


@pytest.mark.parametrize("way", WAYS)
def test_a_user_signs_in_and_is_known_at_every_app(stage: Stage, way: str) -> None:
    sign_in, method, amr = WAYS[way]

    answer = sign_in(stage)

    assert answer.verdict is Verdict.AUTHENTICATED, answer
    assert answer.tokens is not None
    assert claims_of(answer.tokens.access_token)["sub"] == "ada"
    assert claims_of(str(answer.tokens.id_token))["aud"] == "client-shop"
    assert (answer.user_id, answer.amr) == ("ada", (amr,))
    (session,) = stage.sessions()
    assert (str(session.id), session.user_id, session.amr) == (answer.session_ref, "ada", [amr])
    assert answer.expires_at == session.expires_at
    assert stage.events() == [("signed_in", method)]
    assert browse(stage, answer.browser_token).user_id == "ada"
    assert stage.mosaic.state.calls.complaints() == []


@pytest.mark.parametrize("way", [way for way in FACTORS if way != "password"])
def test_a_factor_is_added_to_the_session_of_this_browser(stage: Stage, way: str) -> None:
    sign_in, method, amr = FACTORS[way]
    before = log_in(stage)

    answer = sign_in(stage, step_up=before.browser_token)

    assert answer.verdict is Verdict.AUTHENTICATED, answer
    assert answer.session_ref == before.session_ref
    assert set(answer.amr) == {"pwd", "mfa", amr}
    assert len(stage.mosaic.state.live_sessions("ada")) == len(stage.sessions()) == 1
    assert stage.events()[-1] == ("factor_added", method)
    assert browse(stage, before.browser_token).reason == Reason.TOKEN_REPLACED
    assert browse(stage, answer.browser_token).verdict is Verdict.AUTHENTICATED
    assert stage.mosaic.state.calls.complaints() == []


def test_a_password_is_a_second_factor_too(stage: Stage) -> None:
    before = by_sms(stage)

    answer = log_in(stage, step_up=before.browser_token)

    assert (answer.session_ref, set(answer.amr)) == (before.session_ref, {"pwd", "sms", "mfa"})


@pytest.mark.parametrize("provider", ["google", "facebook", "apple", "tiktok"])
def test_every_social_provider_is_asked_by_its_own_name(sqlite_stage: Stage, provider: str) -> None:
    begun, verified = visit(sqlite_stage, provider)

    answer = prove(sqlite_stage, methods.Social("ada"), login=verified["login"])

    assert f"/_provider/{provider}" in begun["authorization_url"]
    assert answer.verdict is Verdict.AUTHENTICATED


def test_a_login_too_weak_gives_no_tokens_but_the_browser_may_step_up(stage: Stage) -> None:
    stage.add_app("bank", methods=("password", "totp"), amr_all_of=("mfa",))

    weak = log_in(stage, "bank")
    strong = by_totp(stage, app_id="bank", step_up=weak.browser_token)

    assert (weak.verdict, weak.reason) == (Verdict.INTERACTION_REQUIRED, Reason.AMR_MISSING)
    assert (weak.tokens, weak.missing_amr, weak.user_id) == (None, ("mfa",), "ada")
    assert strong.verdict is Verdict.AUTHENTICATED
    assert strong.session_ref == weak.session_ref


def test_a_login_in_a_browser_ends_the_session_it_came_with(stage: Stage) -> None:
    first = log_in(stage)
    browse(stage, first.browser_token)

    second = log_in(stage, replaces=first.browser_token)

    assert second.verdict is Verdict.AUTHENTICATED
    assert stage.session(UUID(first.session_ref)).end_cause == "replaced"
    assert browse(stage, first.browser_token).reason == Reason.REPLACED
    assert stage.tell_mosaic() == ["confirmed"]
    assert len(stage.mosaic.state.live_sessions("ada")) == 1


def test_a_login_of_another_user_ends_the_first_ones_session_too(stage: Stage) -> None:
    first = log_in(stage)

    second = prove(stage, methods.Password("bob", "bob's"), replaces=first.browser_token)

    assert (second.verdict, second.user_id) == (Verdict.AUTHENTICATED, "bob")
    assert browse(stage, first.browser_token).reason == Reason.REPLACED


def test_what_the_app_wants_of_its_tokens_is_passed_on(sqlite_stage: Stage) -> None:
    wishes = Wishes(
        resource="https://api.example",
        org_id="acme",
        claims={"id_token": {"email": None}},
        user_agent="Firefox",
        ip_address="192.0.2.1",
    )

    answer = log_in(sqlite_stage, wishes=wishes, device_id="laptop")

    assert answer.tokens is not None
    assert claims_of(str(answer.tokens.id_token))["email"] == "ada@example.com"
    assert sqlite_stage.sessions()[0].device_id == "laptop"
    assert sqlite_stage.mosaic.state.calls.complaints() == []


@pytest.mark.parametrize("way", WAYS)
def test_a_device_is_kept_here_and_told_mosaic_only_where_its_pages_have_it(
    sqlite_stage: Stage, way: str
) -> None:
    sign_in, method, _ = WAYS[way]

    answer = sign_in(sqlite_stage, device_id="laptop")

    assert answer.verdict is Verdict.AUTHENTICATED, answer
    assert sqlite_stage.sessions()[0].device_id == "laptop"
    calls = sqlite_stage.mosaic.state.calls
    is_told = any(call.fields.get("device_id") == "laptop" for call in calls.log())
    assert is_told == (method not in {"password", "social", "webauthn"})
    assert calls.complaints() == []


@pytest.mark.parametrize("way", FACTORS)
def test_mosaic_is_told_of_a_device_with_a_factor_only_where_its_pages_have_it(
    sqlite_stage: Stage, way: str
) -> None:
    add, method, _ = FACTORS[way]
    token = log_in(sqlite_stage).browser_token

    answer = add(sqlite_stage, step_up=token, device_id="laptop")

    assert answer.verdict is Verdict.AUTHENTICATED, answer
    calls = sqlite_stage.mosaic.state.calls
    is_told = any(call.fields.get("device_id") == "laptop" for call in calls.log())
    assert is_told == (method not in {"password", "social", "webauthn"})
    assert calls.complaints() == []


@pytest.mark.parametrize(
    "step",
    [
        methods.SendOtp("sms", *PHONE),
        methods.IssueOtp(*MAIL),
        methods.SendLink(BACK, *MAIL),
        methods.IssueLink(BACK, *MAIL),
        methods.BeginSocial("google", BACK),
        methods.BeginWebauthn(),
    ],
    ids=lambda step: type(step).__name__,
)
def test_a_first_step_tells_of_a_device_only_where_mosaics_pages_have_it(
    sqlite_stage: Stage, step: FirstStep[Any]
) -> None:
    begun = begin(sqlite_stage, step, device_id="laptop")

    assert begun.verdict is Verdict.OK
    calls = sqlite_stage.mosaic.state.calls
    is_told = any(call.fields.get("device_id") == "laptop" for call in calls.log())
    assert is_told == (step.method not in {"social", "webauthn"})
    assert calls.complaints() == []


def test_the_browser_token_is_new_and_stored_as_a_hash(sqlite_stage: Stage) -> None:
    answer = log_in(sqlite_stage)

    with sqlite_stage.services.store.read() as connection:
        (row,) = connection.execute(select(BrowserToken.__table__)).all()
    assert (row.issued_to, row.origin, row.replaced_at) == ("shop", "login", None)
    assert str(answer.browser_token).removeprefix("msb1_") not in repr(sqlite_stage.dump())


def test_a_browser_is_signed_out_by_its_token_after_a_login(stage: Stage) -> None:
    answer = log_in(stage)

    receipt = stage.ask("forum", requests.Logout(browser_token=answer.browser_token))

    assert receipt.sessions_ended == 1
    assert browse(stage, answer.browser_token).reason == Reason.LOGGED_OUT


def test_every_character_is_legal_in_a_password(sqlite_stage: Stage) -> None:
    assert "\x00" in PASSWORD
    assert log_in(sqlite_stage).verdict is Verdict.AUTHENTICATED


# --- how long ago it was, whether or not Mosaic's tokens tell


@pytest.mark.parametrize("renews", [False, True])
def test_a_factor_makes_a_session_fresh_for_as_long_as_the_app_says(
    *, stage: Stage, renews: bool
) -> None:
    stage.add_app("bank", methods=("totp",), silent_by_user=False, max_age_seconds=3600)
    stage.mosaic.state.policy.change(factor_renews_auth_time=renews)
    login = log_in(stage)
    stage.pass_time(hours=2)
    browser = by_totp(stage, step_up=login.browser_token).browser_token

    first = browse(stage, browser, "bank")
    shared = browse(stage, browser, "bank")
    stage.pass_time(minutes=59)
    later = browse(stage, browser, "bank")
    stage.pass_time(minutes=2)
    too_late = browse(stage, browser, "bank")

    for answer in (first, shared, later):
        assert answer.verdict is Verdict.AUTHENTICATED, answer
        assert answer.authenticated_at == stage.sessions()[0].authenticated_at
    assert too_late.reason == Reason.MAX_AGE_EXCEEDED
    assert stage.mosaic.state.calls.complaints() == []


def test_a_factor_makes_a_session_fresh_for_who_shares_an_answer_too(stage: Stage) -> None:
    stage.add_app("bank", methods=("totp",), silent_by_user=False, max_age_seconds=3600)
    stage.mosaic.state.policy.change(factor_renews_auth_time=False)
    login = log_in(stage)
    stage.pass_time(hours=2)
    browser = by_totp(stage, step_up=login.browser_token).browser_token

    with restarted(stage, reuse_seconds=60.0):
        answers = [browse(stage, browser, "bank") for _ in range(2)]

    assert [answer.verdict for answer in answers] == [Verdict.AUTHENTICATED] * 2
    assert answers[0].authenticated_at == answers[1].authenticated_at
    assert stage.mosaic.state.calls.count(Endpoint.SESSION_AUTHENTICATE) == 1


@pytest.mark.parametrize("renews", [False, True])
def test_a_factor_makes_refresh_tokens_good_again(*, stage: Stage, renews: bool) -> None:
    stage.add_app(
        "bank", methods=("password", "totp"), capabilities=("offline",), max_age_seconds=3600
    )
    stage.mosaic.state.policy.change(factor_renews_auth_time=renews)
    login = log_in(stage, "bank")
    stage.pass_time(hours=2)
    raised = by_totp(stage, app_id="bank", step_up=login.browser_token)
    assert raised.verdict is Verdict.AUTHENTICATED, raised
    assert raised.tokens is not None
    assert raised.tokens.refresh_token is not None

    refreshed = stage.ask("bank", requests.Refresh(refresh_token=raised.tokens.refresh_token))

    assert refreshed.verdict is Verdict.AUTHENTICATED, refreshed
    assert refreshed.authenticated_at == raised.authenticated_at


def test_a_time_that_silent_authentications_renew_is_told_to_no_app(stage: Stage) -> None:
    login = log_in(stage)
    stage.mosaic.state.policy.change(silent_renews_auth_time=True)
    stage.pass_time(minutes=50)

    answer = browse(stage, login.browser_token)

    # The app's own pages would take the login for one of now.
    assert answer.authenticated_at == login.authenticated_at
