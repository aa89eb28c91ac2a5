from __future__ import annotations

import base64
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from simulator.controls.devices import totp_code
from simulator.idp.state import MosaicState
from tests.unit.simulator.app import EMAIL, App


@pytest.mark.parametrize(
    ("at", "code"),
    [
        (59, "287082"),
        (1111111109, "081804"),
        (1111111111, "050471"),
        (1234567890, "005924"),
        (2000000000, "279037"),
        (20000000000, "353130"),
    ],
)
def test_codes_are_those_of_rfc_6238(at: int, code: str) -> None:
    secret = base64.b32encode(b"12345678901234567890").decode()  # its appendix B, SHA-1, 8 digits

    assert totp_code(secret, at) == code


def try_code(shop: App, code: str, **more: Any) -> Any:
    fields = {"token": code, "identifier": "ada@example.com", **more}
    return shop.post("totp/authenticate", **fields)


@pytest.mark.parametrize(
    "whom",
    [
        {},
        {"identifier_type": "email"},
        {"identifier": "+100", "identifier_type": "phone_number"},
        {"identifier": "ada", "identifier_type": "user_id"},
    ],
)
def test_a_user_is_named_by_e_mail_unless_a_type_is_said(
    state: MosaicState, shop: App, whom: dict[str, str]
) -> None:
    code = totp_code(shop.secret(), state.clock.now())

    assert try_code(shop, code, **whom).status_code == 200


@pytest.mark.parametrize(("off", "status"), [(-60, 400), (-30, 200), (30, 200), (60, 400)])
def test_a_clock_may_be_one_step_off(state: MosaicState, shop: App, off: int, status: int) -> None:
    state.clock.advance(15 - state.clock.now() % 30)  # the middle of a step
    code = totp_code(shop.secret(), state.clock.now() + off)

    assert try_code(shop, code).status_code == status


def test_a_code_works_once(state: MosaicState, shop: App) -> None:
    code = totp_code(shop.secret(), state.clock.now())

    assert [try_code(shop, code).status_code for _ in range(2)] == [200, 400]


def test_wrong_codes_lock_until_the_app_unlocks(state: MosaicState, shop: App) -> None:
    secret = shop.secret()
    wrong = [try_code(shop, "x").status_code for _ in range(5)]

    code = totp_code(secret, state.clock.now())
    locked = try_code(shop, code)
    unlocked = shop.http.post("/cis/v1/users/ada/totp/unlock")

    assert wrong == [400] * 5
    assert (locked.status_code, locked.json()["error_code"]) == (403, "auth_locked")
    assert unlocked.status_code == 204
    assert try_code(shop, code).status_code == 200


def test_a_user_enrols_an_app_with_their_own_token(state: MosaicState, shop: App) -> None:
    mine = {"Authorization": f"Bearer {shop.password().json()['access_token']}"}
    path = "/cis/v1/auth/totp/register"

    enrolled = shop.http.post(path, json={"label": "My phone"}, headers=mine)
    again = shop.http.post(path, json={}, headers=mine)
    other = shop.http.post(path, json={"allow_override": True}, headers=mine)
    secret = other.json()["secret"]

    query = parse_qs(urlsplit(enrolled.json()["uri"]).query)
    assert (enrolled.status_code, query["secret"]) == (201, [enrolled.json()["secret"]])
    assert (again.status_code, other.status_code) == (400, 201)
    assert try_code(shop, totp_code(secret, state.clock.now())).status_code == 200


@pytest.mark.parametrize("path", ["/cis/v1/users/me/totp/revoke", "/cis/v1/users/ada/totp/revoke"])
def test_a_revoked_app_signs_nobody_in(state: MosaicState, shop: App, path: str) -> None:
    secret = shop.secret()
    mine = {"Authorization": f"Bearer {shop.password().json()['access_token']}"}
    headers = mine if "/me/" in path else None

    assert shop.http.post(path, headers=headers).status_code == 204
    assert try_code(shop, totp_code(secret, state.clock.now())).status_code == 400


def test_a_client_token_is_not_a_users_token(shop: App) -> None:
    assert shop.http.post("/cis/v1/users/me/totp/revoke").status_code == 401
    for token in (shop.password().json()["id_token"], "rubbish"):
        headers = {"Authorization": f"Bearer {token}"}
        assert shop.http.post("/cis/v1/users/me/totp/revoke", headers=headers).status_code == 401


def test_a_transactions_code_approves_that_transaction_alone(state: MosaicState, shop: App) -> None:
    secret, path = shop.secret(), "totp/transaction/authenticate"
    begin = {"approval_data": {"sum": "200"}, **EMAIL}
    first = shop.post("totp/transaction/start", **begin).json()
    second = shop.post("totp/transaction/start", **begin).json()
    now = state.clock.now()

    whom = {"identifier": "ada@example.com"}
    plain = shop.post(path, token=totp_code(secret, now), **whom)
    stale = shop.post(path, token=totp_code(secret, now, first["challenge"]), **whom)
    right = shop.post(path, token=totp_code(secret, now, second["challenge"]), **whom)
    state.clock.advance(30)
    later = totp_code(secret, state.clock.now(), second["challenge"])
    again = shop.post(path, token=later, **whom)

    statuses = [answer.status_code for answer in (plain, stale, right, again)]
    assert statuses == [400, 400, 200, 400]
    assert shop.claims(right.json()["id_token"])["approval_data"] == {"sum": "200"}
