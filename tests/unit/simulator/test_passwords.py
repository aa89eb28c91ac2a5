from __future__ import annotations

import json

import pytest

from simulator.idp.state import MosaicState
from tests.unit.simulator.app import App


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ({}, "ada"),
        ({"username_type": "username"}, "ada"),
        ({"username_type": "email"}, "ada@example.com"),
        ({"username_type": "phone_number"}, "+100"),
        ({"username_type": "user_id"}, "u-1"),
    ],
)
def test_a_user_is_found_by_the_identifier_whose_type_is_said(
    state: MosaicState, shop: App, kind: dict[str, str], name: str
) -> None:
    state.change_user("ada", email=None, phone=None, username=None)
    state.add_user("u-1", password="pw", email="ada@example.com", phone="+100", username="ada")

    answer = shop.post("password/authenticate", username=name, password="pw", **kind)

    assert shop.claims(answer.json()["id_token"])["sub"] == "u-1"


@pytest.mark.parametrize("kind", [{}, {"username_type": "phone_number"}])
def test_the_right_name_under_the_wrong_type_finds_nobody(
    state: MosaicState, shop: App, kind: dict[str, str]
) -> None:
    state.change_user("ada", password="pw")

    answer = shop.post("password/authenticate", username="ada@example.com", password="pw", **kind)

    assert answer.status_code == 400


@pytest.mark.parametrize("password", ["päss wörd", "a\x00b\x1f", "😀", "\ud800", "p" * 5000])
def test_a_password_may_hold_any_character(state: MosaicState, shop: App, password: str) -> None:
    state.change_user("ada", password=password)
    shop.http.headers["Content-Type"] = "application/json"
    written = json.dumps({"username": "ada", "password": password})  # httpx cannot write "\\ud800"

    right = shop.http.post("/cis/v1/auth/password/authenticate", content=written)
    wrong = shop.post("password/authenticate", username="ada", password="another")

    assert (right.status_code, wrong.status_code) == (200, 400)


def test_wrong_passwords_lock_the_user_for_a_while(state: MosaicState, shop: App) -> None:
    state.change_user("ada", password="pw")

    wrong = [_try(shop, "no") for _ in range(5)]
    locked = _try(shop, "pw")
    state.clock.advance(15 * 60 + 1)
    later = _try(shop, "pw")

    assert wrong == [(400, 400)] * 5
    assert locked == (403, "auth_locked")
    assert later[0] == 200


def test_a_right_password_starts_the_count_anew(state: MosaicState, shop: App) -> None:
    state.change_user("ada", password="pw")

    for _ in range(3):
        statuses = [_try(shop, "no")[0] for _ in range(4)]
        assert [*statuses, _try(shop, "pw")[0]] == [400, 400, 400, 400, 200]


def test_a_tenant_may_answer_401_to_a_wrong_proof(state: MosaicState, shop: App) -> None:
    state.change_user("ada", password="pw")
    state.policy.change(wrong_proof_status=401)

    assert _try(shop, "no") == (401, 401)


def test_a_test_locks_and_unlocks_a_user_itself(state: MosaicState, shop: App) -> None:
    state.change_user("ada", password="pw")

    state.attempts.lock("ada", "pwd")
    locked = _try(shop, "pw")
    state.attempts.unlock("ada", "pwd")

    assert (locked, _try(shop, "pw")[0]) == ((403, "auth_locked"), 200)


def test_a_tenant_may_word_its_lock_in_another_way(state: MosaicState, shop: App) -> None:
    state.policy.change(locked_answer={"message": "Password is locked", "error_code": 403})
    state.attempts.lock("ada", "pwd")

    answer = shop.post("password/authenticate", username="ada", password="pw")

    assert answer.status_code == 403
    assert answer.json() == {"message": "Password is locked", "error_code": 403}
    assert state.calls.complaints() == []  # what no page tells is held against none


def _try(shop: App, password: str) -> tuple[int, object]:
    answer = shop.post("password/authenticate", username="ada", password=password)
    return answer.status_code, answer.json().get("error_code")
