from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from simulator.idp.state import MosaicState
from tests.unit.simulator.app import BACK, EMAIL, App


def send(shop: App, **more: Any) -> Any:
    return shop.post("link/email/send", **{"redirect_uri": BACK, **EMAIL, **more})


def redeem(shop: App, **fields: Any) -> Any:
    return shop.post("link/email/authenticate", **fields)


@pytest.mark.parametrize(
    "whom",
    [
        {"email": "ada@example.com"},
        EMAIL,
        {"identifier": "+100", "identifier_type": "phone_number"},
        {"identifier": "ada", "identifier_type": "user_id"},
    ],
)
def test_a_link_goes_to_the_users_address_and_brings_code_and_state_back(
    state: MosaicState, shop: App, whom: dict[str, str]
) -> None:
    wanted = {
        "redirect_uri": f"{BACK}?shop=1",
        "state": "x y&z",
        "email_expiration": 5,
        "channel": "email",
        "email_content": {"subject": "Sign in", "linkText": "here"},
        "client_attributes": {"ip_address": "203.0.113.1"},
        "device_id": "laptop",
        "generate_request_id": False,
    }

    sent = shop.post("link/email/send", **wanted, **whom)

    (message,) = state.outbox.sent("ada")
    brought = parse_qs(urlsplit(message.link or "").query)
    assert sent.json() == {"message": "Email sent successfully"}
    assert message.address == "ada@example.com"
    assert brought == {"shop": ["1"], "code": [message.code], "state": ["x y&z"]}
    assert redeem(shop, code=message.code).status_code == 200
    assert state.calls.complaints() == []


def test_a_link_works_once(shop: App) -> None:
    send(shop)
    code = shop.code()

    assert [redeem(shop, code=code).status_code for _ in range(2)] == [200, 400]


def test_an_older_link_works_beside_a_newer_one(shop: App) -> None:
    send(shop)
    older = shop.code()
    send(shop)

    assert redeem(shop, code=older).status_code == 200
    assert redeem(shop, code=shop.code()).status_code == 200


@pytest.mark.parametrize(("minutes", "seconds"), [({}, 600), ({"email_expiration": 1}, 60)])
def test_a_link_expires(
    state: MosaicState, shop: App, minutes: dict[str, int], seconds: int
) -> None:
    send(shop, **minutes)
    state.clock.advance(seconds + 1)

    late = redeem(shop, code=shop.code())

    assert late.json() == {"message": "Invalid magic link code", "error_code": "400"}


def test_the_code_of_a_direct_link_is_answered_and_sent_to_nobody(
    state: MosaicState, shop: App
) -> None:
    sent = send(shop, channel="direct").json()

    (message,) = state.outbox.sent("ada")
    assert (sent["code"], message.address) == (message.code, "")


def test_a_request_id_that_was_generated_must_come_back_with_the_code(shop: App) -> None:
    sent = send(shop, generate_request_id=True).json()
    code = shop.code()

    assert redeem(shop, code=code).status_code == 400
    assert redeem(shop, code=code, request_id="guessed").status_code == 400
    assert redeem(shop, code=code, request_id=sent["request_id"]).status_code == 200


@pytest.mark.parametrize(
    ("change", "fields", "expected"),
    [
        ({}, {"redirect_uri": "https://evil.example"}, (400, "redirect_uri is not")),
        ({"is_active": False}, {}, (403, "User is not active")),
        ({}, {"identifier": "eve@example.com"}, (404, "User not found")),
        ({"email": None}, {"identifier": "+100", "identifier_type": "phone_number"}, (404, "User")),
    ],
)
def test_a_link_that_cannot_be_sent_is_refused_with_a_numeric_string(
    state: MosaicState, shop: App, change: Any, fields: Any, expected: tuple[int, str]
) -> None:
    state.add_client("shop", "secret", redirect_uris=[BACK])
    state.change_user("ada", **change)

    answer = send(shop, **fields)

    status, message = expected
    assert (answer.status_code, answer.json()["error_code"]) == (status, str(status))
    assert answer.json()["message"].startswith(message)
    assert state.outbox.sent() == []


def test_a_dead_session_is_said_with_a_numeric_string(state: MosaicState, shop: App) -> None:
    send(shop)

    answer = redeem(shop, code=shop.code(), session_id="gone")

    assert answer.json() == {"message": "Session not found", "error_code": "400"}


@pytest.mark.parametrize(
    "fields",
    [
        {"redirect_uri": BACK},
        {"redirect_uri": BACK, "identifier": "ada"},
        {"redirect_uri": BACK, "email": "ada@example.com", **EMAIL},
        EMAIL,
    ],
)
def test_a_link_needs_one_way_to_name_the_user_and_one_alone(
    shop: App, fields: dict[str, str]
) -> None:
    assert shop.post("link/email/send", **fields).status_code == 400
