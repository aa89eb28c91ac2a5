from __future__ import annotations

from typing import Any

import pytest

from simulator.controls.devices import Phone
from simulator.idp.state import MosaicState
from tests.unit.simulator.app import PHONE, App


def finish(shop: App, phone: Phone, challenge: str, **changes: Any) -> int:
    proof = {
        "challenge": challenge,
        "signature": phone.sign(challenge),
        "key_id": phone.key_id,
        "user_id": "ada",
    }
    return shop.post("mobile-biometrics/authenticate", **{**proof, **changes}).status_code


@pytest.mark.parametrize("is_rsa", [True, False])
@pytest.mark.parametrize("whom", [{"user_id": "ada"}, PHONE])
def test_a_phone_signs_mosaics_challenge(
    state: MosaicState, shop: App, whom: dict[str, str], *, is_rsa: bool
) -> None:
    phone = shop.phone(is_rsa=is_rsa)
    wanted = {"approval_data": {"sum": "200"}, "timeout": 60, "device_id": "phone"}
    begun = shop.post("mobile-biometrics/start", **whom, **wanted).json()

    answer = shop.post(
        "mobile-biometrics/authenticate",
        challenge=begun["challenge"],
        signature=phone.sign(begun["challenge"]),
        key_id=phone.key_id,
        user_id="ada",
    )

    assert shop.claims(answer.json()["id_token"])["approval_data"] == {"sum": "200"}
    assert state.calls.complaints() == []


def test_a_phone_signs_a_challenge_of_its_own_once(shop: App) -> None:
    phone = shop.phone()

    assert [finish(shop, phone, "made by the phone") for _ in range(2)] == [200, 400]


def test_a_wrong_signature_proves_nothing_and_too_many_lock(state: MosaicState, shop: App) -> None:
    phone, other = shop.phone(), Phone()
    state.add_user("bob", username="bob")
    bobs = Phone("bobs")
    state.biometrics.register("bob", bobs.key_id, bobs.public_key)

    wrong = [
        finish(shop, phone, "a", signature=other.sign("a")),
        finish(shop, phone, "a", signature="rubbish"),
        finish(shop, phone, "a", key_id="unknown"),
        finish(shop, bobs, "a"),
        finish(shop, phone, "a", signature=phone.sign("b")),
    ]

    assert wrong == [400] * 5
    assert finish(shop, phone, "a") == 403


def test_a_challenge_is_for_one_user_and_for_its_time(state: MosaicState, shop: App) -> None:
    phone = shop.phone()
    state.add_user("bob")
    bobs = shop.post("mobile-biometrics/start", user_id="bob").json()["challenge"]
    mine = shop.post("mobile-biometrics/start", user_id="ada", timeout=30).json()["challenge"]
    assert finish(shop, phone, bobs) == 400

    state.clock.advance(31)

    assert finish(shop, phone, mine) == 400


def test_a_user_registers_and_deletes_a_key_with_their_own_token(
    state: MosaicState, shop: App
) -> None:
    phone = Phone("mine")
    mine = {"Authorization": f"Bearer {shop.password().json()['access_token']}"}
    key = {"publicKey": phone.public_key, "publicKeyId": "mine", "os": "iOS"}
    more = {"encryptionType": "ec", "displayName": "My phone", "device_id": "phone"}

    def ask(what: str, **fields: str) -> Any:
        path = f"/cis/v1/auth/mobile-biometrics/{what}"
        return shop.http.post(path, json=fields, headers=mine)

    registered = ask("register", **key, **more)
    taken = ask("register", **key)
    no_key = ask("register", **{**key, "publicKeyId": "other", "publicKey": "rubbish"})
    signed = finish(shop, phone, "a")
    deleted = [ask("delete", publicKeyId="mine").status_code for _ in range(2)]

    assert (registered.status_code, signed) == (201, 200)
    assert (taken.status_code, taken.json()["error_code"]) == (409, 409)
    assert taken.json()["ts_error_code"] == "auth_authenticator_already_registered"
    assert no_key.json()["ts_error_code"] == "auth_invalid_key_encoding"
    assert deleted == [204, 404]
    assert finish(shop, phone, "b") == 400


def test_a_key_of_another_kind_is_refused(shop: App) -> None:
    mine = {"Authorization": f"Bearer {shop.password().json()['access_token']}"}
    ed25519 = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="
    key = {"publicKey": ed25519, "publicKeyId": "k", "os": "iOS"}

    answer = shop.http.post("/cis/v1/auth/mobile-biometrics/register", json=key, headers=mine)

    assert answer.json()["ts_error_code"] == "auth_invalid_key_type"


def test_nobody_is_challenged_who_does_not_exist(shop: App) -> None:
    assert shop.post("mobile-biometrics/start", user_id="nobody").status_code == 404
    assert shop.post("mobile-biometrics/start").status_code == 400
    assert shop.post("mobile-biometrics/start", user_id="ada", **PHONE).status_code == 400
