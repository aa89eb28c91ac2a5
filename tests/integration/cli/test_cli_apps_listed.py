"""Listing apps."""

from __future__ import annotations

import pytest

from tests.integration.cli.apps_rig import SECRET, add
from tests.integration.cli.cli_rig import run, told
from tests.stage import Stage


def test_apps_are_listed_with_their_keys_and_policy(sqlite_stage: Stage) -> None:
    key = add("--require-amr", "mfa", "--require-any-amr", "sms", "--max-age", "600")

    printed = run("apps", "list").stdout

    assert f"{key.kid} " in printed
    assert "amr mfa, amr sms, at most 600 s old" in printed
    (listed,) = told("apps", "list")
    assert listed.pop("created_at").endswith("Z")
    assert listed == {
        "app_id": "shop",
        "client_id": "client-shop",
        "token_endpoint_auth_method": "client_secret_post",
        "amr_all_of": ["mfa"],
        "amr_any_of": ["sms"],
        "max_age_seconds": 600,
        "capabilities": [],
        "methods": [],
        "transfer_url": None,
        "tickets_from": [],
        "base_url": None,
        "token_url": None,
        "jwks_url": None,
        "issuer": None,
        "session_lifetime_seconds": None,
        "notice_method": None,
        "notice_address": None,
        "notify_on_expiry": False,
        "kids": [key.kid],
        "disabled_at": None,
    }


def test_what_is_set_of_an_app_is_shown_by_the_option_that_sets_it(sqlite_stage: Stage) -> None:
    add(
        *("--require-amr", "mfa", "--require-amr", "pwd", "--methods", "password,otp"),
        *("--allow", "offline", "--token-url", "https://login.example/t"),
    )
    run("apps", "set", "shop", "--session-lifetime", "3600")

    lines = [line.split(maxsplit=1) for line in run("apps", "show", "shop").stdout.splitlines()]

    shown = {name: text.strip() for name, text in lines}
    assert shown["require-amr"] == "mfa, pwd"
    assert shown["token-url"] == "https://login.example/t"
    assert shown["session-lifetime"] == "3600"
    assert shown["base-url"] == shown["transfer-url"] == "-"
    assert (shown["methods"], shown["allow"]) == ("password, otp", "offline")
    assert told("apps", "show", "shop") == told("apps", "list")[0]


@pytest.mark.parametrize("listing", [("list",), ("show", "shop")])
def test_no_listing_tells_a_key_or_a_secret(sqlite_stage: Stage, listing: tuple[str, ...]) -> None:
    key = add()

    for result in (run("apps", *listing), run("apps", *listing, "--json")):
        assert key.text().partition(".")[2] not in result.output
        assert SECRET not in result.output
