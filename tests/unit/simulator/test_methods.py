"""What is true of every method: the session it joins, what it may ask for, what it says back."""

from __future__ import annotations

from typing import Any

import pytest

from simulator.idp.state import MosaicState
from tests.unit.simulator.app import AMR_BY_METHOD, PHONE, App, Method

WISHES: dict[str, Any] = {
    "resource": "https://orders.example",
    "claims": {"id_token": {"email": None}, "access_token": {}},
    "org_id": "acme",
    "client_attributes": {"user_agent": "Firefox", "ip_address": "203.0.113.1"},
}
# What no page of theirs shows: a device.
WITHOUT_DEVICE = (App.password, App.social, App.passkey)

every_method = pytest.mark.parametrize(
    ("method", "amr"), [*AMR_BY_METHOD.values()], ids=[*AMR_BY_METHOD]
)


@every_method
def test_a_proof_opens_a_session_of_its_user(
    state: MosaicState, shop: App, method: Method, amr: str
) -> None:
    answer = method(shop)

    assert shop.amr(answer) == [amr]
    assert [one.session_id for one in state.live_sessions("ada")] == [answer.json()["session_id"]]


@every_method
def test_every_documented_wish_is_taken(
    state: MosaicState, shop: App, method: Method, amr: str
) -> None:
    device = {} if method in WITHOUT_DEVICE else {"device_id": "d" * 80}

    answer = method(shop, **WISHES, **device).json()

    told = shop.claims(answer["id_token"])
    assert (told["email"], told["org_id"], told["aud"]) == ("ada@example.com", "acme", "shop")
    assert shop.claims(answer["access_token"])["aud"] == "https://orders.example"
    assert state.calls.complaints() == []


@pytest.mark.parametrize("method", WITHOUT_DEVICE)
def test_a_device_is_complained_of_where_no_page_has_it(
    state: MosaicState, shop: App, method: Method
) -> None:
    method(shop, device_id="laptop")

    assert state.calls.complaints() != []


@every_method
def test_a_proof_joins_the_session_it_names(
    state: MosaicState, shop: App, forum: App, method: Method, amr: str
) -> None:
    session_id = state.login("ada", forum.client_id, ["face"]).session_id
    state.clock.advance(1000)

    answer = method(shop, session_id=session_id)

    assert answer.json()["session_id"] == session_id
    assert shop.amr(answer) == ["face", amr, "mfa"]
    (session,) = state.live_sessions()
    assert session.auth_time == pytest.approx(state.clock.now(), abs=5)
    assert session.expires_at == pytest.approx(state.clock.now() + 14 * 86_400, abs=5)


def test_a_factor_may_leave_the_time_of_the_login_as_it_was(state: MosaicState, shop: App) -> None:
    login = state.login("ada", shop.client_id, ["face"])
    (before,) = [session.auth_time for session in state.live_sessions()]
    state.policy.change(factor_renews_auth_time=False)
    state.clock.advance(1000)

    answer = shop.password(session_id=login.session_id).json()

    assert shop.claims(answer["id_token"])["auth_time"] == int(before)


@every_method
def test_a_dead_session_is_not_joined_and_no_proof_is_used_up(
    state: MosaicState, shop: App, method: Method, amr: str
) -> None:
    session_id = state.login("ada", "shop").session_id
    state.end_session(session_id)

    answer = method(shop, session_id=session_id)

    assert (answer.status_code, answer.json()["message"]) == (400, "Session not found")
    proof = state.calls.log()[-1]
    again = {name: told for name, told in proof.fields.items() if name != "session_id"}
    path = again.pop("provider", None)
    where = proof.endpoint.replace("social/", f"social/{path}/")
    assert shop.post(where, **again).status_code == 200


@every_method
def test_another_users_session_is_not_joined(
    state: MosaicState, shop: App, method: Method, amr: str
) -> None:
    session_id = state.login("bob", "shop", ["face"]).session_id

    answer = method(shop, session_id=session_id)

    assert answer.status_code == 400
    assert "not found" not in answer.text.lower()  # the session is not gone
    assert [session.amr for session in state.live_sessions()] == [["face"]]


def test_a_suspended_user_gets_no_more_tokens(state: MosaicState, shop: App) -> None:
    begun = shop.password().json()
    state.change_user("ada", is_active=False)

    silent = shop.post("session/authenticate", session_id=begun["session_id"])
    refreshed = shop.post("token/refresh", refresh_token=begun["refresh_token"])
    state.change_user("ada", is_active=True)

    for refusal in (silent, refreshed):
        assert (refusal.status_code, refusal.json()["message"]) == (403, "User is not active")
    for path, fields in (
        ("session/authenticate", {"session_id": begun["session_id"]}),
        ("token/refresh", {"refresh_token": begun["refresh_token"]}),
    ):
        assert shop.post(path, **fields).status_code == 200


def test_a_user_suspended_between_the_two_steps_does_not_get_in(
    state: MosaicState, shop: App
) -> None:
    shop.post("otp/send", channel="sms", **PHONE)
    code = shop.code()
    state.change_user("ada", is_active=False)

    refusal = shop.post("otp/authenticate", passcode=code, **PHONE)

    assert (refusal.status_code, refusal.json()["message"]) == (403, "User is not active")
    assert state.live_sessions() == []


@every_method
def test_a_resource_that_is_not_configured_is_refused(
    state: MosaicState, shop: App, method: Method, amr: str
) -> None:
    state.add_client("shop", "secret", resources=["https://orders.example"])

    assert method(shop, resource="https://elsewhere.example").status_code == 400
    assert state.live_sessions() == []
    assert method(shop, resource="https://orders.example").status_code == 200


def test_without_a_resource_the_access_token_is_for_the_users_own_api(shop: App) -> None:
    answer = shop.password().json()

    told = shop.claims(answer["access_token"])
    assert (told["aud"], told["client_id"], told["sub"]) == ("userid-api", "shop", "ada")


def test_acr_lists_the_levels_reached(state: MosaicState, shop: App) -> None:
    first = shop.password().json()
    second = shop.sms_code(session_id=first["session_id"]).json()

    assert shop.claims(first["id_token"])["acr"].split() == ["1"]
    assert shop.claims(second["id_token"])["acr"].split() == ["1", "2"]


def test_the_same_factor_twice_makes_no_mfa(state: MosaicState, shop: App) -> None:
    first = shop.sms_code().json()

    assert shop.amr(shop.sms_code(session_id=first["session_id"])) == ["sms"]


@pytest.mark.parametrize(
    ("algorithm", "published", "said"),
    [
        ("RS256", "signing", "RS256"),
        ("PS256", "signing", "PS256"),
        ("PS256", "RS256", "RS256"),
        ("RS256", "none", None),
    ],
)
def test_published_keys_say_the_algorithm_the_policy_wants(
    state: MosaicState, shop: App, algorithm: str, published: str, said: str | None
) -> None:
    state.policy.change(signing_algorithm=algorithm, published_algorithm=published)

    (key,) = shop.http.get("/cis/oidc/jwks").json()["keys"]

    assert key.get("alg") == said
    assert key["use"] == "sig"
