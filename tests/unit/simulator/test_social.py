from __future__ import annotations

from typing import Any

import pytest

from simulator.controls.devices import visit_provider
from simulator.idp.state import MosaicState
from simulator.idp.store.social import PROVIDERS
from tests.unit.simulator.app import BACK, App

every_provider = pytest.mark.parametrize("provider", PROVIDERS)


def begin(shop: App, provider: str = "google", **more: Any) -> str:
    started = shop.post(f"social/{provider}/start", redirect_uri=BACK, **more)
    return str(started.json()["authorization_url"])


@every_provider
def test_a_visit_to_a_provider_tells_whose_account_it_is(
    state: MosaicState, shop: App, provider: str
) -> None:
    told = {"email": "ada@example.com", "email_verified": True}
    state.social.add_account(provider, "12345", **told)

    brought = visit_provider(begin(shop, provider, state="s" * 50), "12345")
    verified = shop.post(f"social/{provider}/verify", **brought).json()

    assert brought["state"] == "s" * 50
    assert verified["claims"] == {"sub": "12345", **told}


@every_provider
def test_the_app_says_which_user_an_account_belongs_to(
    state: MosaicState, shop: App, provider: str
) -> None:
    state.add_user("eve")
    state.social.add_account(provider, "12345")
    brought = visit_provider(begin(shop, provider, state="s"), "12345")
    ticket = shop.post(f"social/{provider}/verify", **brought).json()["transaction_id"]

    answer = shop.post(f"social/{provider}/authenticate", transaction_id=ticket, user_id="eve")
    again = shop.post(f"social/{provider}/authenticate", transaction_id=ticket, user_id="eve")

    assert shop.claims(answer.json()["id_token"])["sub"] == "eve"
    assert again.status_code == 400


def test_an_unknown_user_is_not_found_and_the_transaction_can_be_used_for_another(
    state: MosaicState, shop: App
) -> None:
    state.social.add_account("google", "12345")
    brought = visit_provider(begin(shop), "12345")
    ticket = shop.post("social/google/verify", **brought).json()["transaction_id"]

    nobody = shop.post("social/google/authenticate", transaction_id=ticket, user_id="nobody")
    ada = shop.post("social/google/authenticate", transaction_id=ticket, user_id="ada")

    assert (nobody.status_code, nobody.json()["message"]) == (404, "User not found")
    assert ada.status_code == 200


def test_a_code_is_good_once_with_its_own_state_app_and_provider(
    state: MosaicState, shop: App, forum: App
) -> None:
    state.social.add_account("google", "12345")

    def code(**changes: str) -> dict[str, str]:
        return {**visit_provider(begin(shop, state="right"), "12345"), **changes}

    used = code()
    statuses = [
        shop.post("social/google/verify", **used).status_code,
        shop.post("social/google/verify", **used).status_code,
        shop.post("social/google/verify", **code(state="wrong")).status_code,
        shop.post("social/facebook/verify", **code()).status_code,
        forum.post("social/google/verify", **code()).status_code,
    ]

    assert statuses == [200, 400, 400, 400, 400]


def test_a_visit_that_takes_too_long_has_ended(state: MosaicState, shop: App) -> None:
    state.social.add_account("google", "12345")
    brought = visit_provider(begin(shop), "12345")

    state.clock.advance(601)

    assert shop.post("social/google/verify", **brought).status_code == 400


def test_the_provider_asks_who_is_there(state: MosaicState, shop: App) -> None:
    state.social.add_account("tiktok", "<ada>")
    url = begin(shop, "tiktok")

    page = shop.http.get(url)

    assert "&lt;ada&gt;" in page.text
    with pytest.raises(LookupError, match="no such account"):
        visit_provider(url, "a stranger")
    with pytest.raises(LookupError, match="ended"):
        visit_provider(url.replace("ticket=", "ticket=x"), "<ada>")
    assert shop.http.get(url.replace("tiktok", "google")).status_code == 400


@pytest.mark.parametrize(
    ("path", "fields", "status"),
    [
        ("social/myspace/start", {"redirect_uri": BACK}, 404),
        ("social/google/start", {"redirect_uri": "https://evil.example"}, 400),
        ("social/google/start", {"redirect_uri": BACK, "state": "s" * 51}, 400),
        ("social/google/verify", {"code": "c"}, 400),
        ("social/google/authenticate", {"transaction_id": "guessed", "user_id": "ada"}, 400),
    ],
)
def test_a_wrong_step_is_refused(
    state: MosaicState, shop: App, path: str, fields: dict[str, str], status: int
) -> None:
    state.add_client("shop", "secret", redirect_uris=[BACK])

    assert shop.post(path, **fields).status_code == status


def test_an_account_at_an_unknown_provider_is_a_mistake_of_the_test(state: MosaicState) -> None:
    with pytest.raises(ValueError, match="providers are"):
        state.social.add_account("myspace", "12345")
