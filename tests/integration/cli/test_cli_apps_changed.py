"""Changing an app: only what is given changes, and what cannot be meant changes nothing."""

from __future__ import annotations

import pytest

from session_client import requests
from session_client.contract import Reason, Verdict
from tests.integration.cli.apps_rig import SECRET, add, row
from tests.integration.cli.cli_rig import complaint, run, told
from tests.stage import Stage


def change(*arguments: str, stdin: str | None = None) -> str:
    return run("apps", "set", "shop", *arguments, stdin=stdin).stdout


def test_a_process_that_served_an_app_serves_it_again_with_its_new_secret(stage: Stage) -> None:
    stage.mosaic.state.add_client("client-shop", SECRET)
    stage.keys["shop"] = add("--allow", "silent_by_user")
    stage.registered("ada", "shop")
    before = stage.silent_auth("ada", "shop")

    stage.mosaic.state.add_client("client-shop", "the new one")
    stage.mosaic.state.revoke_client_tokens()
    refused = stage.silent_auth("ada", "shop")
    change("--client-secret-file", "-", stdin="the new one\n")
    stage.reread_apps()

    assert before.verdict is Verdict.AUTHENTICATED
    assert refused.reason == Reason.CLIENT_REFUSED
    assert stage.silent_auth("ada", "shop").verdict is Verdict.AUTHENTICATED


def test_a_new_secret_is_kept_sealed_and_nothing_else_changes(stage: Stage) -> None:
    add("--require-amr", "mfa", "--max-age", "600", "--notice-queue", "shop-notices")
    stage.add_app("forum")
    before = row(stage, "shop"), row(stage, "forum")

    printed = change("--client-secret-file", "-", stdin="the-new-canary\n")

    shop, forum = row(stage, "shop"), row(stage, "forum")
    secret = shop.sealed_client_secret
    assert secret != before[0].sealed_client_secret
    assert shop._asdict() == before[0]._asdict() | {"sealed_client_secret": secret}
    assert forum == before[1]
    assert "canary" not in printed + repr(shop)
    assert "Workers notice within 5 seconds" in printed


def test_only_what_is_given_changes(sqlite_stage: Stage) -> None:
    add("--require-amr", "mfa", "--require-amr", "pwd", "--max-age", "600")
    secret = row(sqlite_stage).sealed_client_secret

    change("--require-amr", "sms", "--issuer", "https://i.example", "--session-lifetime", "3600")

    app = row(sqlite_stage)
    assert (app.amr_all_of, app.max_age_seconds) == (["sms"], 600)
    assert (app.issuer, app.session_lifetime_seconds) == ("https://i.example", 3600)
    assert app.sealed_client_secret == secret


def test_every_choice_can_be_taken_back(sqlite_stage: Stage) -> None:
    add()
    as_added = row(sqlite_stage)
    given = {
        "--require-amr": "mfa",
        "--require-any-amr": "sms",
        "--max-age": "600",
        "--methods": "password",
        "--base-url": "https://b.example",
        "--token-url": "https://t.example",
        "--jwks-url": "https://j.example",
        "--issuer": "https://i.example",
        "--session-lifetime": "3600",
    }

    change(*(word for option in given.items() for word in option))
    changed = row(sqlite_stage)
    for option in given:
        change("--unset", option.removeprefix("--"))
    change("--allow", "logout_user", "--allow", "offline")
    change("--deny", "logout_user", "--deny", "offline")

    kept = [name for name in as_added._fields if getattr(as_added, name) == getattr(changed, name)]
    assert len(as_added) - len(kept) == len(given)
    assert row(sqlite_stage) == as_added


def test_a_capability_given_later_is_one(stage: Stage) -> None:
    key = add()
    stage.keys["shop"] = key
    asked = requests.Logout(user_id="ada", everywhere=True)
    before = stage.ask("shop", asked)

    change("--allow", "logout_user")
    stage.reread_apps()

    assert before.reason == Reason.NOT_PERMITTED
    assert stage.ask("shop", asked).verdict is Verdict.OK


def test_capabilities_are_given_and_taken_one_by_one(stage: Stage) -> None:
    add("--allow", "silent_by_user", "--allow", "logout_user")

    change("--allow", "offline")
    given = row(stage).capabilities
    change("--deny", "logout_user", "--allow", "revoke_user")

    assert given == ["logout_user", "offline", "silent_by_user"]
    assert row(stage).capabilities == ["offline", "revoke_user", "silent_by_user"]
    assert told("apps", "show", "shop")["capabilities"] == row(stage).capabilities


def test_where_tickets_are_taken_is_given_and_taken_back(sqlite_stage: Stage) -> None:
    sqlite_stage.add_app("hub")
    sqlite_stage.add_app("portal")
    add("--transfer-url", "https://shop.example/in", "--tickets-from", "hub")

    change("--tickets-from", "hub, portal")
    more = row(sqlite_stage).tickets_from
    change("--unset", "transfer-url", "--unset", "tickets-from")

    assert more == ["hub", "portal"]
    assert (row(sqlite_stage).transfer_url, row(sqlite_stage).tickets_from) == (None, [])


def test_an_app_whose_ticket_source_is_gone_can_still_be_changed(sqlite_stage: Stage) -> None:
    sqlite_stage.add_app("hub")
    add("--transfer-url", "https://shop.example/in", "--tickets-from", "hub")
    run("apps", "remove", "hub")

    change("--max-age", "600")

    assert row(sqlite_stage).max_age_seconds == 600


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--tickets-from", "hub"), "give both, or neither"),
        (("--transfer-url", "http://x.example", "--tickets-from", "hub"), "needs https"),
        (("--transfer-url", "https://x.example", "--tickets-from", "hub"), "no app 'hub'"),
        (("--base-url", "nonsense"), "base-url needs an http(s) URL"),
        (("--jwks-url", "https://u:canary@h"), "jwks-url needs an http(s) URL"),
        (("--max-age", "60", "--client-secret-file", "-"), "secret must not be empty"),
    ],
)
def test_a_change_that_cannot_be_meant_changes_nothing(
    sqlite_stage: Stage, arguments: tuple[str, ...], words: str
) -> None:
    add()
    before = row(sqlite_stage)

    message = complaint("apps", "set", "shop", *arguments, stdin="\n")

    assert words in message
    assert "canary" not in message
    assert row(sqlite_stage) == before


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--max-age", "60", "--unset", "max-age"),
        ("--unset", "client-secret-file"),
        ("--unset", "allow"),
        ("--allow", "offline", "--deny", "offline"),
    ],
)
def test_a_change_says_what_and_says_it_once(
    sqlite_stage: Stage, arguments: tuple[str, ...]
) -> None:
    add()

    run("apps", "set", "shop", *arguments, expect=2)
