from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from simulator.idp.errors import RefusedError
from simulator.idp.state import MosaicState
from tests.unit.simulator.app import App

NEW: dict[str, Any] = {
    "email": "bob@example.com",
    "phone_number": "+200",
    "username": "bob",
    "credentials": {"password": "pw", "force_replace": False},
    "name": {"first_name": "Bob"},
    "custom_data": {"tier": "gold"},
    "secondary_emails": ["b@example.com"],
    "language": "en",
}


def create(shop: App, **fields: Any) -> Any:
    return shop.http.post("/cis/v1/users", json=fields)


def test_an_app_creates_a_user_who_can_sign_in_at_once(state: MosaicState, shop: App) -> None:
    created = create(shop, **NEW)
    told = shop.http.get("/cis/v1/users/username/bob")

    answer = shop.post("password/authenticate", username="bob", password="pw")

    user = created.json()["result"]
    assert (created.status_code, user["status"]) == (201, "Active")
    assert (user["email"]["value"], user["phone_number"]["value"]) == ("bob@example.com", "+200")
    assert told.json()["result"] == user
    assert shop.claims(answer.json()["id_token"])["sub"] == user["user_id"]
    assert state.calls.complaints() == []


@pytest.mark.parametrize(
    "taken", [{"email": "ada@example.com"}, {"phone_number": "+100"}, {"username": "ada"}]
)
def test_no_two_users_share_an_identifier(
    state: MosaicState, shop: App, taken: dict[str, str]
) -> None:
    answer = create(shop, **{**NEW, **taken})

    assert (answer.status_code, answer.json()["error_code"]) == (409, 409)
    assert answer.json()["ts_error_code"] == "user_identifier_taken"
    assert shop.http.get("/cis/v1/users/username/bob").status_code == 404


def test_a_test_cannot_share_an_identifier_out_either(state: MosaicState) -> None:
    state.add_user("bob")

    with pytest.raises(RefusedError):
        state.add_user("eve", phone="+100")
    with pytest.raises(RefusedError):
        state.change_user("bob", email="ada@example.com")
    with pytest.raises(LookupError):
        state.change_user("nobody", email="x@example.com")


def test_a_user_may_have_a_username_alone(shop: App) -> None:
    assert create(shop, username="bob", credentials={"password": "pw"}).status_code == 201


def test_a_name_given_up_can_be_taken(state: MosaicState, shop: App) -> None:
    state.change_user("ada", phone="+101")

    assert create(shop, phone_number="+100").status_code == 201
    assert create(shop, phone_number="+101").status_code == 409


def test_adding_a_user_again_replaces_what_was_known(state: MosaicState, shop: App) -> None:
    state.add_user("ada", password="new")

    answer = shop.post("password/authenticate", username="ada", password="new")

    assert answer.status_code == 200
    assert state.users.find("phone_number", "+100") is None


@pytest.mark.parametrize(
    "fields",
    [{"language": "en"}, {}, {**NEW, "surprise": 1}, {**NEW, "credentials": {}}, {"email": 7}],
)
def test_a_user_of_the_wrong_shape_is_not_created(shop: App, fields: dict[str, Any]) -> None:
    answer = create(shop, **fields)

    assert answer.status_code == 400
    assert isinstance(answer.json()["message"], list)


def test_only_apps_create_and_look_up(shop: App) -> None:
    del shop.http.headers["Authorization"]

    assert create(shop, **NEW).status_code == 401
    assert shop.http.get("/cis/v1/users/username/ada").status_code == 401


def test_a_hundred_kilobytes_of_custom_data_fit_an_id_token(state: MosaicState, shop: App) -> None:
    state.change_user("ada", password="pw", custom_data={"x": "y" * 100_000})
    wanted = {"id_token": {"custom_data": None}}

    answer = shop.post("password/authenticate", username="ada", password="pw", claims=wanted)

    payload = answer.json()["id_token"].split(".")[1]  # more than a careful library will read
    told = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    assert len(told["custom_data"]["x"]) == 100_000
