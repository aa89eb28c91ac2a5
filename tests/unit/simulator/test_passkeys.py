from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from simulator.controls.devices import NoKeyFoundError, PasskeyDevice
from simulator.idp.state import MosaicState
from tests.unit.simulator.app import App

WRONG = (400, "webauthn_encoded_result")


def start(shop: App, **fields: Any) -> Any:
    return shop.post("webauthn/authenticate/start", **{"client_id": "shop", **fields})


def finish(shop: App, result: str) -> tuple[int, object]:
    answer = shop.post("webauthn/authenticate", webauthn_encoded_result=result)
    return answer.status_code, answer.json().get("error_code")


@pytest.fixture
def device(state: MosaicState) -> PasskeyDevice:
    device = PasskeyDevice()
    state.passkeys.register("ada", device.credential_id, device.public_key)
    return device


@pytest.mark.parametrize(
    "whom",
    [{}, {"username": "ada"}, {"identifier": "ada@example.com"}, {"identifier": "+100"}],
)
def test_a_browser_starts_without_any_token(
    shop: App, device: PasskeyDevice, whom: dict[str, str]
) -> None:
    shop_token = shop.http.headers.pop("Authorization")
    more = {"timeout": 30, "approval_data": {"sum": "200"}}
    started = start(shop, **whom, **more).json()
    shop.http.headers["Authorization"] = shop_token

    answer = shop.post("webauthn/authenticate", webauthn_encoded_result=device.answer(started))

    options = started["credential_request_options"]
    allowed = [{"type": "public-key", "id": device.credential_id}] if whom else []
    assert (options["rpId"], options["timeout"]) == ("apps.example.com", 30_000)
    assert options["allowCredentials"] == allowed
    told = shop.claims(answer.json()["id_token"])
    assert (told["sub"], told["approval_data"]) == ("ada", {"sum": "200"})


def test_a_challenge_is_answered_once(shop: App, device: PasskeyDevice) -> None:
    started = start(shop).json()

    # Signed anew, so that it is not the counter that gives the second one away.
    assert [finish(shop, device.answer(started))[0] for _ in range(2)] == [200, 400]


def test_a_signature_for_another_site_proves_nothing(state: MosaicState, shop: App) -> None:
    for phished in (
        PasskeyDevice(origin="https://apps.example.com.evil.example"),
        PasskeyDevice(domain="evil.example"),
    ):
        state.passkeys.register("ada", phished.credential_id, phished.public_key)
        assert finish(shop, phished.answer(start(shop).json())) == WRONG


def test_another_key_cannot_answer_for_a_passkey(
    shop: App, state: MosaicState, device: PasskeyDevice
) -> None:
    stranger = PasskeyDevice()
    unknown = stranger.answer(start(shop).json())
    stranger.credential_id = device.credential_id
    forged = stranger.answer(start(shop).json())

    assert finish(shop, unknown) == WRONG
    assert finish(shop, forged) == WRONG


def test_a_passkey_of_somebody_else_is_no_answer_for_a_named_user(
    shop: App, state: MosaicState, device: PasskeyDevice
) -> None:
    state.add_user("bob")
    bobs = PasskeyDevice()
    state.passkeys.register("bob", bobs.credential_id, bobs.public_key)

    assert finish(shop, bobs.answer(start(shop, username="ada").json())) == WRONG


def test_a_key_that_is_not_discoverable_answers_only_who_names_its_user(
    shop: App, state: MosaicState
) -> None:
    key = PasskeyDevice(is_discoverable=False)
    state.passkeys.register("ada", key.credential_id, key.public_key)

    with pytest.raises(NoKeyFoundError):
        key.answer(start(shop).json())

    assert finish(shop, key.answer(start(shop, username="ada").json()))[0] == 200


def test_a_cloned_passkey_is_found_out_by_its_counter(shop: App, device: PasskeyDevice) -> None:
    earlier = device.answer(start(shop).json())
    later = device.answer(start(shop).json())

    assert finish(shop, later)[0] == 200
    assert finish(shop, earlier) == WRONG


def test_a_challenge_is_for_one_app_and_for_its_time(
    state: MosaicState, shop: App, forum: App, device: PasskeyDevice
) -> None:
    foreign = device.answer(start(shop).json())
    late = device.answer(start(shop, timeout=30).json())
    assert finish(forum, foreign) == WRONG

    state.clock.advance(31)

    assert finish(shop, late) == WRONG


@pytest.mark.parametrize(
    "result",
    [
        "?",
        base64.b64encode(b"no json").decode(),
        base64.b64encode(b"[]").decode(),
        base64.b64encode(b'{"webauthn_session_id": 1, "credential": {}}').decode(),
        base64.b64encode(b'{"webauthn_session_id": "x", "credential": {}}').decode(),
    ],
)
def test_rubbish_is_a_wrong_result(shop: App, result: str) -> None:
    assert finish(shop, result) == WRONG


def test_a_result_without_its_response_is_a_wrong_one(shop: App, device: PasskeyDevice) -> None:
    result = json.loads(base64.b64decode(device.answer(start(shop).json())))
    del result["credential"]["response"]

    assert finish(shop, base64.b64encode(json.dumps(result).encode()).decode()) == WRONG


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"client_id": "nobody"}, (404, "client_not_found")),
        ({"username": "ada"}, (401, "no_credentials_registered")),
        ({"username": "nobody"}, (401, "no_credentials_registered")),
        ({"username": "u" * 65}, (400, "invalid_request")),
        ({"timeout": 29}, (400, "invalid_request")),
        ({"timeout": 601}, (400, "invalid_request")),
    ],
)
def test_a_start_that_cannot_be_is_refused_in_the_documented_words(
    shop: App, fields: dict[str, Any], expected: tuple[int, str]
) -> None:
    answer = start(shop, **fields)

    assert (answer.status_code, answer.json()["error_code"]) == expected


def test_a_phone_answers_for_the_browser_that_polls(
    state: MosaicState, shop: App, device: PasskeyDevice
) -> None:
    begun = shop.post(
        "webauthn/cross-device/authenticate/init",
        client_id="shop",
        username="ada",
        approval_data={"sum": "200"},
    ).json()
    statuses = [_status(shop, begun)]
    early = shop.post("webauthn/cross-device/authenticate/start", **begun)
    shop.post("webauthn/cross-device/attach-device", **begun)
    statuses.append(_status(shop, begun))

    started = shop.post("webauthn/cross-device/authenticate/start", **begun).json()

    assert statuses == ["pending", "attached"]
    assert (early.status_code, early.json()["error_code"]) == (400, "invalid_request")
    assert finish(shop, device.answer(started))[0] == 200


def test_an_aborted_ticket_leads_nowhere(
    state: MosaicState, shop: App, device: PasskeyDevice
) -> None:
    begun = shop.post("webauthn/cross-device/authenticate/init", client_id="shop").json()

    aborted = shop.post("webauthn/cross-device/abort", **begun)

    assert (aborted.status_code, _status(shop, begun)) == (204, "aborted")
    assert shop.post("webauthn/cross-device/attach-device", **begun).status_code == 400
    state.clock.advance(601)
    late = shop.http.get("/cis/v1/auth/webauthn/cross-device/status", params=begun)
    assert late.json()["error_code"] == "cross_device_ticket_not_found"


def _status(shop: App, begun: dict[str, str]) -> str:
    answer = shop.http.get("/cis/v1/auth/webauthn/cross-device/status", params=begun)
    return str(answer.json()["status"])
