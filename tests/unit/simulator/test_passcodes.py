from __future__ import annotations

from typing import Any

import pytest

from simulator.idp.state import MosaicState
from tests.unit.simulator.app import EMAIL, PHONE, App

SMS = {"channel": "sms", **PHONE}
EXTRAS: dict[str, Any] = {
    "expires_in": 5,
    "email_content": {"subject": "Your code", "primaryColor": "#6981FF", "senderName": "Shop"},
    "custom_sms_input": {"custom_message": "{otp} is your code for {app}", "sender_id": "Shop"},
    "approval_data": {"transaction_id": "eFII_2-.x", "sum": "200"},
    "client_attributes": {"user_agent": "Firefox", "ip_address": "203.0.113.1"},
    "device_id": "laptop",
    "generate_request_id": False,
}


def refusal(answer: Any) -> tuple[int, object]:
    return answer.status_code, answer.json()["error_code"]


@pytest.mark.parametrize(
    ("channel", "address"), [("email", "ada@example.com"), ("sms", "+100"), ("direct", "")]
)
@pytest.mark.parametrize(
    "whom",
    [
        EMAIL,
        PHONE,
        {"identifier": "ada", "identifier_type": "user_id"},
        {"identifier": "ada", "identifier_type": "username"},
    ],
    ids=lambda whom: whom["identifier_type"],
)
def test_a_code_goes_where_the_channel_says_whatever_the_user_is_named_by(
    state: MosaicState, shop: App, channel: str, address: str, whom: dict[str, str]
) -> None:
    sent = shop.post("otp/send", channel=channel, **whom, **EXTRAS)

    (message,) = state.outbox.sent("ada")
    assert (message.channel, message.address) == (channel, address)
    assert sent.json().get("code") == (message.code if channel == "direct" else None)
    assert sent.json()["approval_data"] == EXTRAS["approval_data"]
    assert shop.post("otp/authenticate", passcode=message.code, **whom).status_code == 200
    assert state.calls.complaints() == []


def test_a_code_can_be_sent_to_an_address_of_the_apps_choice(state: MosaicState, shop: App) -> None:
    shop.post("otp/send", channel="email", custom_email="new@example.com", **EMAIL)
    shop.post("otp/send", channel="sms", custom_phone_number="+999", **PHONE)

    assert [one.address for one in state.outbox.sent("ada")] == ["new@example.com", "+999"]


def test_a_code_is_good_only_under_the_two_identifiers_it_was_sent_to(shop: App) -> None:
    shop.post("otp/send", channel="email", **EMAIL)
    code = shop.code()

    for other in (
        {**EMAIL, "identifier_type": "username"},
        {"identifier": "ada", "identifier_type": "user_id"},
        {**EMAIL, "identifier": "ADA@example.com"},
    ):
        wrong = shop.post("otp/authenticate", passcode=code, **other)
        assert refusal(wrong) == (400, "auth_invalid_credentials")
    assert shop.post("otp/authenticate", passcode=code, **EMAIL).status_code == 200


def test_what_was_approved_is_a_claim_of_the_id_token(shop: App) -> None:
    shop.post("otp/send", channel="sms", approval_data={"sum": "200"}, **PHONE)

    answer = shop.post("otp/authenticate", passcode=shop.code(), **PHONE)

    assert shop.claims(answer.json()["id_token"])["approval_data"] == {"sum": "200"}


def test_a_code_works_once(shop: App) -> None:
    shop.post("otp/send", channel="email", **EMAIL)
    code = shop.code()

    first = shop.post("otp/authenticate", passcode=code, **EMAIL)
    again = shop.post("otp/authenticate", passcode=code, **EMAIL)

    assert first.status_code == 200
    assert refusal(again) == (400, "auth_invalid_credentials")


def test_a_code_is_no_longer_good_once_another_was_sent(shop: App) -> None:
    shop.post("otp/send", channel="email", **EMAIL)
    old = shop.code()
    shop.post("otp/send", channel="email", **EMAIL)
    new = shop.code()

    if old != new:  # one in a million is the same code
        assert shop.post("otp/authenticate", passcode=old, **EMAIL).status_code == 400
    assert shop.post("otp/authenticate", passcode=new, **EMAIL).status_code == 200


@pytest.mark.parametrize(("minutes", "seconds"), [({}, 600), ({"expires_in": 2}, 120)])
def test_a_code_that_came_too_late_is_told_from_a_wrong_one(
    state: MosaicState, shop: App, minutes: dict[str, int], seconds: int
) -> None:
    shop.post("otp/send", channel="email", **EMAIL, **minutes)
    code = shop.code()

    state.clock.advance(seconds + 1)

    late = shop.post("otp/authenticate", passcode=code, **EMAIL)
    wrong = shop.post("otp/authenticate", passcode="wrong", **EMAIL)
    assert refusal(late) == (400, "auth_otp_passcode_expired")
    assert refusal(wrong) == (400, "auth_invalid_credentials")


def test_wrong_codes_lock_the_right_one_too_until_another_is_sent(shop: App) -> None:
    shop.post("otp/send", channel="sms", **PHONE)
    code = shop.code()

    wrong = [refusal(shop.post("otp/authenticate", passcode="x", **PHONE)) for _ in range(5)]
    locked = shop.post("otp/authenticate", passcode=code, **PHONE)

    assert wrong == [(400, "auth_invalid_credentials")] * 5
    assert refusal(locked) == (403, "auth_locked")
    assert shop.sms_code().status_code == 200


def test_a_request_id_that_was_generated_must_come_back(shop: App) -> None:
    sent = shop.post("otp/send", channel="sms", generate_request_id=True, **PHONE).json()
    code = {"passcode": shop.code(), **PHONE}

    missing = shop.post("otp/authenticate", **code)
    foreign = shop.post("otp/authenticate", request_id="guessed", **code)
    right = shop.post("otp/authenticate", request_id=sent["request_id"], **code)

    assert refusal(missing) == (400, "system_invalid_input")
    assert refusal(foreign) == (400, "auth_invalid_credentials")
    assert right.status_code == 200


def test_a_request_id_nobody_generated_is_taken_no_notice_of(shop: App) -> None:
    assert shop.sms_code(request_id="of the app's own").status_code == 200


@pytest.mark.parametrize(
    ("change", "wanted", "expected"),
    [
        ({}, {**SMS, "identifier": "+999"}, (404, "user_not_found")),
        ({}, {**SMS, "identifier_type": "email"}, (404, "user_not_found")),
        ({}, {**SMS, "identifier_type": "loyalty_card"}, (404, "user_not_found")),
        ({"is_active": False}, SMS, (403, "user_not_active")),
        ({"phone": None}, {**EMAIL, "channel": "sms"}, (404, "user_phone_number_missing")),
        ({"email": None}, {**SMS, "channel": "email"}, (404, "user_email_address_missing")),
    ],
)
def test_a_code_that_cannot_be_sent_is_refused_in_the_documented_words(
    state: MosaicState, shop: App, change: Any, wanted: Any, expected: tuple[int, str]
) -> None:
    state.change_user("ada", **change)

    assert refusal(shop.post("otp/send", **wanted)) == expected
    assert state.outbox.sent() == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"channel": "fax"},
        {"expires_in": "5"},
        {"generate_request_id": "yes"},
        {"email_content": {"bodyText": "no subject"}},
        {"custom_sms_input": {"custom_message": "no placeholders"}},
        {"custom_sms_input": {"custom_message": "{otp} {app}" + "x" * 140}},
        {"custom_sms_input": {"sender_id": "twelve chars"}},
        {"approval_data": {"sum": "2 euros"}},
        {"approval_data": {"nested": {}}},
        {"approval_data": {f"k{n}": "v" for n in range(11)}},
        {"device_id": "d" * 81},
        {"surprise": 1},
    ],
)
def test_a_field_that_is_not_as_published_is_invalid_input(
    state: MosaicState, shop: App, wrong: dict[str, Any]
) -> None:
    answer = shop.post("otp/send", **{"channel": "sms", **PHONE, **wrong})

    assert refusal(answer) == (400, "system_invalid_input")
    assert state.outbox.sent() == []
