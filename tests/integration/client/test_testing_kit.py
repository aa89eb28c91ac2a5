"""What the testing kit does for the tests of an app."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient

from session_client import (
    AppKey,
    AsyncSessionClient,
    Authenticated,
    BeginSocial,
    BeginWebauthn,
    Code,
    CodeIssued,
    Denied,
    InvalidNotice,
    IssueLink,
    IssueOtp,
    Link,
    LinkIssued,
    LoginRequired,
    LogoutNotice,
    LogoutReceipt,
    MobileBiometrics,
    NotAnswered,
    Password,
    Registered,
    SendOtp,
    SessionClient,
    StepUpRequired,
    Ticket,
    Tokens,
    Totp,
    Unauthorized,
    Webauthn,
    WebauthnBegun,
    times,
)
from session_client._pretend.planned import Planned
from session_client.contract import challenge_of
from session_client.flask import MemoryMarks, Sessions
from session_client.logins import Authenticate, Start
from session_client.requests import (
    ConfirmNotice,
    IssueTicket,
    Receipt,
    Refresh,
    Register,
    Request,
    SilentAuth,
)
from session_client.testing import NotPretended, SessionWorker, no_session_worker, session_worker

__all__ = ["no_session_worker", "session_worker"]  # an app names the plugin in its conftest.py

CLIENT = SessionClient(broker_url="redis://nobody", app_id="shop", app_key=AppKey.generate())
TOKEN = "msb1_" + "y" * 43
VERIFIER = "v" * 43


def issue_ticket() -> object:
    return CLIENT.ticket(browser_token=TOKEN, for_app="forum", challenge="x" * 43)


def begin_webauthn() -> object:
    return CLIENT.start(BeginWebauthn())


def confirm() -> None:
    CLIENT.confirm(LogoutNotice(notice_id="n", user_id="ada", session_ref=None))


def register() -> object:
    return CLIENT.register(user_id="ada", session_id="s", id_token="i.i.i")


@pytest.fixture
def client() -> FlaskClient:
    app = Flask("shop")
    app.secret_key = "s" * 32
    sessions = Sessions(app, CLIENT, marks=MemoryMarks(), notices="/logout-notice")

    @app.get("/account")
    @sessions.signed_in(amr=["mfa"])
    def account() -> str:
        return sessions.user.user_id

    @app.get("/")
    @sessions.signed_in
    def home() -> str:
        return sessions.user.user_id

    return app.test_client()


def test_a_stronger_page_asks_for_a_code(
    session_worker: SessionWorker, client: FlaskClient
) -> None:
    ada = session_worker.sign_in("ada", amr=["pwd"])
    client.set_cookie(*ada.cookie)

    answer = client.get("/account", headers=session_worker.page)

    assert answer.location == "/step-up?next=/account"
    assert client.get("/", headers=session_worker.page).text == "ada"


def test_a_notice_is_real_and_ends_the_session_here(
    session_worker: SessionWorker, client: FlaskClient
) -> None:
    ada = session_worker.sign_in("ada")
    client.set_cookie(*ada.cookie)
    assert client.get("/", headers=session_worker.page).text == "ada"

    session_worker.end(ada)
    assert client.get("/", headers=session_worker.page).text == "ada"  # nobody has told it yet
    told = client.post("/logout-notice", data=session_worker.notice(ada))

    assert told.status_code == 200
    assert not session_worker.is_live(ada)
    assert client.get("/", headers=session_worker.page).location == "/login?next=/"
    forged = session_worker.notice(ada)["logout_token"][:-4] + "AAAA"
    assert client.post("/logout-notice", data={"logout_token": forged}).status_code == 400
    with pytest.raises(InvalidNotice):
        CLIENT.verify_logout_token(session_worker.notice(ada, "forum")["logout_token"])


def test_an_outage_and_an_answer_can_be_planned(
    session_worker: SessionWorker, client: FlaskClient
) -> None:
    ada = session_worker.sign_in("ada")
    client.set_cookie(*ada.cookie)
    session_worker.next(SilentAuth, NotAnswered())
    session_worker.next(SilentAuth, LoginRequired("revoked"))
    weak = StepUpRequired(reason="amr_missing", user_id="ada", session_ref="r")
    session_worker.next(SilentAuth, weak)
    session_worker.next(Authenticate, Denied("too_many_attempts"))

    answers = [client.get("/", headers=session_worker.page) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [503, 303, 303, 200]
    assert answers[2].location == "/step-up?next=/"
    assert CLIENT.authenticate(Password("ada", "password")) == Denied("too_many_attempts")
    assert [called.task.value for called in session_worker.calls[:2]] == [
        "sessions.silent_auth"
    ] * 2


def test_a_policy_and_an_age_hold_for_all(session_worker: SessionWorker) -> None:
    ada = session_worker.sign_in("ada", age=100)
    _, token = ada.cookie

    too_old = CLIENT.silent_auth(browser_token=token, max_age=99)
    session_worker.policy = ["mfa"]
    too_weak = CLIENT.silent_auth(browser_token=token)

    assert isinstance(too_old, StepUpRequired)
    assert too_old.max_age_exceeded
    assert isinstance(too_weak, StepUpRequired)
    assert too_weak.missing_amr == ("mfa",)


@pytest.mark.parametrize(
    ("ask", "request_class"),
    [
        (register, "Register"),
        (confirm, "ConfirmNotice"),
        (lambda: CLIENT.start(BeginSocial("google", "https://a.example")), "Start"),
        (
            lambda: CLIENT.authenticate(MobileBiometrics("c", "signed", "k", "ada")),
            "Authenticate",
        ),
        (lambda: CLIENT.logout(user_id="ada", session_id="s"), "Logout"),
    ],
    ids=["register", "confirm", "start", "authenticate", "logout"],
)
def test_what_the_model_does_not_know_says_how_to_plan_it(
    session_worker: SessionWorker, ask: Callable[[], object], request_class: str
) -> None:
    with pytest.raises(NotPretended, match=rf"session_worker\.next\({request_class}, …\)") as no:
        ask()

    assert no.value.request == request_class


@pytest.mark.parametrize(
    ("call", "planned", "ask"),
    [
        (
            IssueTicket,
            Ticket(ticket="t", transfer_url="https://forum.example/transfer", expires_in=60),
            issue_ticket,
        ),
        (
            Start,
            WebauthnBegun(login="l", expires_in=600, options={"challenge": "c"}),
            begin_webauthn,
        ),
        (Register, Registered(session_ref="r", expires_in=60.0, browser_token=TOKEN), register),
        (Receipt, LogoutReceipt(receipt_id="r", idp_pending=1), lambda: CLIENT.receipt("r")),
        (ConfirmNotice, None, confirm),
    ],
    ids=["ticket", "start", "register", "receipt", "confirm"],
)
def test_a_planned_answer_is_what_the_call_returns(
    session_worker: SessionWorker,
    call: type[Request[object]],
    planned: Planned,
    ask: Callable[[], object],
) -> None:
    session_worker.next(call, planned)

    answer = ask()

    if isinstance(answer, Registered):
        assert answer.expires_in == pytest.approx(60, abs=1)
        answer = replace(answer, expires_in=60.0)
    assert answer == planned


def test_a_planned_login_is_as_old_as_it_says(session_worker: SessionWorker) -> None:
    tokens = Tokens(access_token="a", token_type="bearer", expires_in=60, refresh_token="r2")
    planned = Authenticated(
        user_id="ada", session_ref="r", tokens=tokens, amr=("pwd",), auth_age=100.0
    )
    session_worker.next(Refresh, planned)

    answer = CLIENT.refresh("r1")

    assert isinstance(answer, Authenticated)
    assert replace(answer, auth_age=100.0) == planned
    assert answer.auth_age == pytest.approx(100, abs=1)


def test_a_link_and_a_code_that_the_app_brings_can_be_begun(session_worker: SessionWorker) -> None:
    session_worker.add_user("ada")

    link = CLIENT.start(IssueLink("https://a.example", "ada", "user_id"))
    assert isinstance(link, LinkIssued)
    nobody = CLIENT.start(IssueOtp(), step_up="msb1_" + "x" * 43)
    late = CLIENT.authenticate(Totp("1"), step_up="msb1_" + "x" * 43)
    answer = CLIENT.authenticate(Link(link.code, link.state), login=link.login)

    assert nobody == late == LoginRequired("no_session")
    assert isinstance(answer, Authenticated)
    assert answer.amr == ("eml",)


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Let so much time pass, for the client too."""
    now = times.now
    monkeypatch.setattr(times, "now", lambda: now() + timedelta(seconds=seconds))


def test_what_lasts_a_while_is_over_after_it(
    session_worker: SessionWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_worker.allow("offline")
    session_worker.allow_tickets("shop", "shop", "https://shop.example/transfer")
    _, token = session_worker.sign_in("ada").cookie
    carried = [
        CLIENT.ticket(browser_token=token, for_app="shop", challenge=challenge_of(VERIFIER))
        for _ in range(2)
    ]
    first, second = (given.ticket for given in carried if isinstance(given, Ticket))
    arrived = CLIENT.silent_auth(ticket=first, verifier=VERIFIER, replaces=token)
    assert isinstance(arrived, Authenticated)
    refreshing = str(arrived.tokens.refresh_token)
    CLIENT.refresh(refreshing)
    code = CLIENT.start(IssueOtp("ada", "user_id"))
    assert isinstance(code, CodeIssued)

    just_replaced = LoginRequired("token_replaced")
    assert CLIENT.authenticate(Totp("1"), step_up=token) == just_replaced  # not by a factor
    later(monkeypatch, 31)
    assert CLIENT.silent_auth(browser_token=token) == LoginRequired("no_session")
    assert CLIENT.authenticate(Totp("1"), step_up=token) == LoginRequired("no_session")
    later(monkeypatch, 30)
    late = CLIENT.silent_auth(ticket=second, verifier=VERIFIER)
    assert late == LoginRequired("ticket_refused")
    assert CLIENT.refresh(refreshing) == LoginRequired("refresh_refused")
    later(monkeypatch, 540)
    assert CLIENT.authenticate(Code(code.code), login=code.login) == Denied("code_expired")


def test_nothing_is_refreshed_without_the_capability_nor_beyond_the_policy(
    session_worker: SessionWorker,
) -> None:
    session_worker.add_user("ada")
    plain = CLIENT.authenticate(Password("ada", "password"))
    assert isinstance(plain, Authenticated)
    assert plain.tokens.refresh_token is None
    with pytest.raises(Unauthorized, match="not_permitted"):
        CLIENT.refresh("made up")

    session_worker.allow("offline")
    answer = CLIENT.authenticate(Password("ada", "password"))
    assert isinstance(answer, Authenticated)
    session_worker.policy = ["mfa"]

    assert isinstance(CLIENT.refresh(str(answer.tokens.refresh_token)), StepUpRequired)


def test_a_passkey_and_an_authenticator_app_make_their_user(session_worker: SessionWorker) -> None:
    begun = CLIENT.start(BeginWebauthn())
    assert isinstance(begun, WebauthnBegun)
    signed = session_worker.add_passkey("ada").answer(begun.options)

    by_passkey = CLIENT.authenticate(Webauthn(signed), login=begun.login)
    by_code = CLIENT.authenticate(Totp(session_worker.totp_for("bob"), "bob", "user_id"))

    assert isinstance(by_passkey, Authenticated)
    assert isinstance(by_code, Authenticated)
    assert (by_passkey.user_id, by_code.user_id) == ("ada", "bob")


def test_a_code_that_was_sent_to_nobody_is_asked_for_in_vain_and_the_error_says_what_to_do(
    session_worker: SessionWorker,
) -> None:
    session_worker.add_user("ada", phone="+441632960000")
    with pytest.raises(LookupError, match=r"to 'ada', but to \[\]: begin a login"):
        session_worker.code_for("ada")

    CLIENT.start(SendOtp("sms", "+441632960001", "phone_number"))
    with pytest.raises(LookupError, match=r"but to \['\+441632960001'\].*add_user"):
        session_worker.code_for("ada")

    CLIENT.start(SendOtp("sms", "+441632960000", "phone_number"))
    assert session_worker.code_for("ada").isdecimal()


def test_a_capability_is_given_by_name(session_worker: SessionWorker) -> None:
    session_worker.sign_in("ada")
    with pytest.raises(Unauthorized, match="not_permitted"):
        CLIENT.silent_auth(user_id="ada")

    for capability in ("silent_by_user", "logout_user", "revoke_user"):
        session_worker.allow(capability)

    assert isinstance(CLIENT.silent_auth(user_id="ada"), Authenticated)
    receipt = CLIENT.logout(user_id="ada", everywhere=True, wait="all")
    assert receipt.sessions_ended == 1
    session_worker.sign_in("ada")  # at another app, and not known to this one
    revoked = CLIENT.revoke_user("ada", wait="idp")
    assert (revoked.sessions_ended, revoked.idp_user, revoked.session_refs) == (
        1,
        "confirmed",
        receipt.session_refs,
    )
    assert CLIENT.check().capabilities == {"silent_by_user", "logout_user", "revoke_user"}


def test_it_stands_behind_async_clients_too(session_worker: SessionWorker) -> None:
    key = AppKey.generate()
    client = AsyncSessionClient(broker_url="redis://nobody", app_id="forum", app_key=key)

    answer = asyncio.run(client.silent_auth(browser_token="msb1_" + "x" * 43))

    assert answer == LoginRequired("no_session")


def test_without_the_fixture_a_call_fails_and_names_it() -> None:
    with pytest.raises(AssertionError, match="session_worker"):
        CLIENT.silent_auth(browser_token="msb1_" + "x" * 43)
