"""What the testing kit does for the tests of an app."""

from __future__ import annotations

import asyncio

import pytest
from flask import Flask
from flask.testing import FlaskClient

from session_client import (
    AppKey,
    AsyncSessionClient,
    Denied,
    InvalidNotice,
    LoginRequired,
    NotAnswered,
    Password,
    SessionClient,
    StepUpRequired,
)
from session_client.flask import MemoryMarks, Sessions
from session_client.logins import Authenticate
from session_client.requests import SilentAuth
from session_client.testing import SessionWorker, no_session_worker, session_worker

__all__ = ["no_session_worker", "session_worker"]  # an app names the plugin in its conftest.py

CLIENT = SessionClient(broker_url="redis://nobody", app_id="shop", app_key=AppKey.generate())


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


def test_it_stands_behind_async_clients_too(session_worker: SessionWorker) -> None:
    key = AppKey.generate()
    client = AsyncSessionClient(broker_url="redis://nobody", app_id="forum", app_key=key)

    answer = asyncio.run(client.silent_auth(browser_token="msb1_" + "x" * 43))

    assert answer == LoginRequired("no_session")


def test_without_the_fixture_a_call_fails_and_names_it() -> None:
    with pytest.raises(AssertionError, match="session_worker"):
        CLIENT.silent_auth(browser_token="msb1_" + "x" * 43)
