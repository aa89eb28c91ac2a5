"""Every call can be made to go wrong, and what it was asked can be read afterwards."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from simulator.idp.contract import PUBLISHED
from simulator.idp.endpoints import Endpoint
from simulator.idp.state import MosaicState
from tests.unit.simulator.app import AMR_BY_METHOD, EMAIL, App, Method

every_endpoint = pytest.mark.parametrize("endpoint", Endpoint)
every_method = pytest.mark.parametrize(
    ("method", "endpoint"),
    [
        (AMR_BY_METHOD["password"][0], "password/authenticate"),
        (AMR_BY_METHOD["sms_code"][0], "otp/authenticate"),
        (AMR_BY_METHOD["link"][0], "link/email/authenticate"),
        (AMR_BY_METHOD["totp"][0], "totp/authenticate"),
        (AMR_BY_METHOD["totp_transaction"][0], "totp/transaction/authenticate"),
        (AMR_BY_METHOD["social"][0], "social/authenticate"),
        (AMR_BY_METHOD["passkey"][0], "webauthn/authenticate"),
        (AMR_BY_METHOD["biometrics"][0], "mobile-biometrics/authenticate"),
    ],
)


def ask(shop: App, endpoint: Endpoint) -> httpx.Response:
    published = PUBLISHED[endpoint]
    path = published.paths[0]
    for name, value in (("provider", "google"), ("user_id", "ada"), ("username", "ada")):
        path = path.replace(f"{{{name}}}", value)
    return shop.http.request(published.method, path)


@every_endpoint
def test_any_call_can_be_answered_with_any_body(
    state: MosaicState, shop: App, endpoint: Endpoint
) -> None:
    said = {"message": "User is not active", "error_code": 403, "ts_error_code": "user_not_active"}
    state.faults.add(endpoint, "status", status=403, body=said, times=1)
    state.faults.add(
        endpoint,
        "status",
        status=503,
        text="<h1>Sorry</h1>",
        content_type="text/html",
        headers={"Retry-After": "7.5"},
    )

    first, second = ask(shop, endpoint), ask(shop, endpoint)

    assert (first.status_code, first.json()) == (403, said)
    assert (second.status_code, second.text) == (503, "<h1>Sorry</h1>")
    assert second.headers["content-type"].startswith("text/html")
    assert second.headers["retry-after"] == "7.5"
    assert state.calls.count(endpoint, client_id=state.calls.log()[-1].client_id) >= 2


@every_endpoint
def test_any_call_can_be_dropped_or_kept_waiting(
    state: MosaicState, shop: App, endpoint: Endpoint
) -> None:
    state.faults.add(endpoint, "drop_request", times=1)
    with pytest.raises(httpx.RemoteProtocolError):
        ask(shop, endpoint)
    state.faults.add(endpoint, "latency", seconds=0.05)
    begun = time.monotonic()

    ask(shop, endpoint)

    assert time.monotonic() - begun >= 0.05


@every_method
def test_a_login_whose_answer_is_lost_has_happened_all_the_same(
    state: MosaicState, shop: App, method: Method, endpoint: str
) -> None:
    state.faults.add(endpoint, "drop_answer", times=1)

    with pytest.raises(httpx.RemoteProtocolError):
        method(shop)

    assert len(state.live_sessions("ada")) == 1


@every_method
def test_a_login_can_be_answered_in_half(
    state: MosaicState, shop: App, method: Method, endpoint: str
) -> None:
    state.faults.add(endpoint, "cut_body", times=1)

    with pytest.raises(httpx.RemoteProtocolError):
        method(shop)


@every_method
def test_a_login_can_be_answered_with_a_body_that_is_a_little_off(
    state: MosaicState, shop: App, method: Method, endpoint: str
) -> None:
    state.faults.add(
        endpoint, "change_answer", status=201, changes={"token_type": None}, without=["expires_in"]
    )
    state.faults.add(
        endpoint,
        "change_claims",
        changes={"amr": "pwd", "auth_time": "1700000000", "nbf": None},
        without=["acr"],
    )

    answer = method(shop)

    told = shop.claims(answer.json()["id_token"])
    assert (answer.status_code, answer.json()["token_type"]) == (201, None)
    assert "expires_in" not in answer.json()
    assert (told["amr"], told["auth_time"], told["nbf"]) == ("pwd", "1700000000", None)
    assert "acr" not in told


def test_a_refusal_is_not_changed_into_something_else(state: MosaicState, shop: App) -> None:
    state.faults.add("*", "change_answer", status=201, changes={"x": 1})

    refusal = shop.post("session/authenticate", session_id="gone")

    assert (refusal.status_code, refusal.json()["message"]) == (400, "Session not found")


def test_planted_answers_are_not_held_against_the_pages(state: MosaicState, shop: App) -> None:
    state.faults.add("session/logout", "status", status=200, body={"error": "maintenance"})

    shop.post("session/logout", session_id="any")

    assert state.calls.complaints() == []


def test_calls_are_found_by_what_they_carried(state: MosaicState, shop: App, forum: App) -> None:
    session_id = shop.password().json()["session_id"]
    shop.post("otp/send", channel="sms", **EMAIL)
    shop.post("otp/authenticate", passcode="123456", **EMAIL)
    forum.post("session/authenticate", session_id=session_id)
    forum.http.get("/cis/v1/auth/users/ada/sessions")

    def found(*which: Any, **fields: Any) -> list[str]:
        return [call.endpoint for call in state.calls.find(*which, **fields)]

    assert found(passcode="123456") == ["otp/authenticate"]
    assert found("otp/send", passcode="123456") == []
    assert found("otp/authenticate", "forum") == []
    assert found(session_id=session_id) == ["session/authenticate"]
    assert found(user_id="ada") == ["sessions/list"]
    assert found(client_id="forum") == ["token", "session/authenticate", "sessions/list"]
    with pytest.raises(ValueError, match="otp/sent"):
        found("otp/sent")
