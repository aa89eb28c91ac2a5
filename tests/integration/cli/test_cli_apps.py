from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from models import App, AppKey
from session_client import requests
from session_client.contract import Reason, Verdict
from session_client.keys import AppKey as ClientKey
from simulator.server import SimulatorServer
from tests.integration.cli.cli_rig import complaint, run, told
from tests.integration.outbox.propagation_rig import signing
from tests.stage import Stage
from worker.operations.app_description import AppError

SECRET = "client-secret-canary-09d1"
ADD = ("apps", "add", "shop", "--client-id", "client-shop", "--client-secret-file", "-")


def add(*arguments: str) -> ClientKey:
    printed = run(*ADD, "--quiet", *arguments, stdin=f"{SECRET}\n").stdout
    return ClientKey.parse(printed)


def row(stage: Stage, app_id: str = "shop") -> Any:
    with stage.services.store.read() as connection:
        return connection.execute(select(App.__table__).where(App.app_id == app_id)).one()


def ask_with(stage: Stage, key: ClientKey) -> Any:
    stage.keys["shop"] = key
    stage.services.apps._apps.clear()  # as after RELOAD_AFTER_SECONDS
    return stage.ask("shop", requests.Status(user_id="ada"))


# --- adding


def test_the_printed_key_seals_requests_that_are_served(stage: Stage) -> None:
    key = add()

    assert ask_with(stage, key).verdict is Verdict.OK


def test_an_added_app_signs_users_in_with_its_secret(sqlite_stage: Stage) -> None:
    sqlite_stage.mosaic.state.add_client("client-shop", SECRET)
    sqlite_stage.keys["shop"] = add("--allow", "silent_by_user")
    sqlite_stage.registered("ada", "shop")

    assert sqlite_stage.silent_auth("ada", "shop").verdict is Verdict.AUTHENTICATED


def test_what_changes_an_app_says_in_json_how_it_is_now(sqlite_stage: Stage) -> None:
    made = json.loads(run(*ADD, "--json", stdin=SECRET).stdout)
    kid = told("apps", "rotate-key", "shop")["kid"]
    now = [
        told("apps", "set", "shop", "--max-age", "60")["max_age_seconds"],
        told("apps", "retire-key", "shop", made["kid"])["kids"],
        told("apps", "set-notice", "shop", "--notice-queue", "q")["notice_address"],
        told("apps", "disable", "shop")["disabled_at"] is not None,
        told("apps", "enable", "shop")["disabled_at"],
        told("apps", "remove", "shop"),
    ]

    assert ClientKey.parse(made["app_key"]).kid == made["kid"]
    assert now == [60, [kid], "q", True, None, {"removed": "shop"}]


def test_quiet_prints_the_key_and_nothing_else(sqlite_stage: Stage) -> None:
    result = run(*ADD, "--quiet", stdin=SECRET)

    assert result.stdout.count("\n") == 1
    assert ClientKey.parse(result.stdout).text() == result.stdout.strip()
    assert result.stderr == ""


def test_the_key_is_shown_with_the_setting_it_belongs_to(sqlite_stage: Stage) -> None:
    printed = run(*ADD, stdin=SECRET).stdout

    (kid,) = told("apps", "list")[0]["kids"]
    assert any(line.startswith(f"{kid}.") for line in printed.splitlines())
    assert "shown this once" in printed
    assert "`app_key`" in printed


def test_every_option_reaches_the_store(sqlite_stage: Stage) -> None:
    sqlite_stage.add_app("hub")
    add(
        *("--require-amr", "mfa", "--require-amr", "pwd", "--require-any-amr", "sms"),
        *("--require-any-amr", "otp", "--max-age", "600", "--allow", "logout_user"),
        *("--methods", "password,otp", "--transfer-url", "https://shop.example/in"),
        *("--tickets-from", "hub"),
        *("--base-url", "https://b.example", "--token-url", "https://t.example/token"),
        *("--jwks-url", "https://j.example/jwks", "--issuer", "https://i.example"),
        *("--session-lifetime", "3600"),
    )

    app = row(sqlite_stage)
    assert (app.amr_all_of, app.amr_any_of) == (["mfa", "pwd"], ["sms", "otp"])
    assert (app.max_age_seconds, app.session_lifetime_seconds) == (600, 3600)
    assert app.capabilities == ["logout_user"]
    assert (app.methods, app.tickets_from) == (["password", "otp"], ["hub"])
    assert app.transfer_url == "https://shop.example/in"
    assert (app.base_url, app.token_url) == ("https://b.example", "https://t.example/token")
    assert (app.jwks_url, app.issuer) == ("https://j.example/jwks", "https://i.example")


def test_the_secret_is_read_from_a_file_and_kept_sealed(
    sqlite_stage: Stage, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n", encoding="utf-8")

    result = run("apps", "add", "shop", "--client-id", "c", "--client-secret-file", str(file))

    assert SECRET not in result.output
    assert SECRET.encode() not in row(sqlite_stage).sealed_client_secret
    known = sqlite_stage.services.apps.find("shop")
    assert known is not None
    assert known.mosaic.client_secret == SECRET


def test_at_a_terminal_the_secret_is_asked_for_and_not_echoed(
    sqlite_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.cli.common.is_at_a_terminal", lambda: True)

    result = run("apps", "add", "shop", "--client-id", "c", "--quiet", stdin=f"{SECRET}\n")

    assert SECRET not in result.output
    assert "Client secret" in result.stderr
    assert ClientKey.parse(result.stdout).kid in told("apps", "list")[0]["kids"]


def test_without_a_terminal_the_secret_needs_a_file(sqlite_stage: Stage) -> None:
    message = complaint("apps", "add", "shop", "--client-id", "c", stdin=SECRET)

    assert "--client-secret-file" in message


def test_no_option_takes_a_secret_that_ps_would_show() -> None:
    printed = run("apps", "add", "--help").stdout

    assert "--client-secret-file" in printed
    assert "--client-secret " not in printed
    run("apps", "add", "shop", "--client-id", "c", "--client-secret", SECRET, expect=2)


def test_an_empty_secret_is_refused(sqlite_stage: Stage) -> None:
    assert "must not be empty" in complaint(*ADD, stdin="\n")


def test_a_secret_that_is_no_text_is_refused_without_quoting_it(
    sqlite_stage: Stage, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_bytes(SECRET.encode() + b"\xff")

    message = complaint(*ADD[:-1], str(file))

    assert "UTF-8" in message
    assert SECRET not in message


def test_an_app_is_added_once(sqlite_stage: Stage) -> None:
    add()

    assert "an app 'shop' or a client 'client-shop' exists" in complaint(*ADD, stdin=SECRET)


@pytest.mark.parametrize("app_id", ["Shop", "a b", "reply:x", "-", "x" * 65])
def test_an_app_id_that_could_not_be_part_of_a_key_is_refused(
    sqlite_stage: Stage, app_id: str
) -> None:
    message = complaint(
        *("apps", "add", "--client-id", "c", "--client-secret-file", "-", "--", app_id),
        stdin=SECRET,
    )

    assert "an app id has lower-case letters" in message


@pytest.mark.parametrize("option", ["--base-url", "--token-url", "--jwks-url"])
@pytest.mark.parametrize("url", ["nonsense", "ftp://x", "https://u:pw-canary@h", "https://h?x"])
def test_an_address_that_cannot_be_called_is_refused(
    sqlite_stage: Stage, option: str, url: str
) -> None:
    message = complaint(*ADD, option, url, stdin=SECRET)

    assert f"{option.removeprefix('--')} needs an http(s) URL" in message
    assert "canary" not in message
    assert told("apps", "list") == []


@pytest.mark.parametrize(
    "arguments",
    [
        ("--max-age", "0"),
        ("--max-age", "99999999999"),
        ("--session-lifetime", "-1"),
        ("--allow", "everything"),
        ("--capability", "logout_user"),
        ("--deny", "logout_user"),
        ("--methods", "password,telepathy"),
        ("--methods", "password otp"),
        ("--methods", "password,,otp"),
        ("--methods", ""),
        ("--tickets-from", ","),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_written(
    sqlite_stage: Stage, arguments: tuple[str, ...]
) -> None:
    run(*ADD, *arguments, expect=2, stdin=SECRET)

    assert told("apps", "list") == []


TICKETS: dict[str, Any] = {"transfer_url": "https://shop.example/in", "tickets_from": ("hub",)}


@pytest.mark.parametrize(
    ("choices", "words"),
    [
        ({"capabilities": ("fly",)}, "unknown capability fly; known: logout_user"),
        ({"methods": ("telepathy",)}, "unknown method telepathy; known: link, "),
        ({"tickets_from": ("hub",)}, "give both, or neither"),
        ({"transfer_url": "https://shop.example/in"}, "give both, or neither"),
        (TICKETS | {"tickets_from": ("Hub!",)}, "names apps, by their app ids"),
        (TICKETS | {"tickets_from": ("shop",)}, "no tickets from itself"),
        (TICKETS | {"transfer_url": "nonsense"}, "transfer-url needs an http"),
        (TICKETS | {"transfer_url": "https://u:canary@shop.example"}, "without user, query"),
        (TICKETS | {"transfer_url": "https://shop.example/in?next=x"}, "without user, query"),
        (TICKETS | {"transfer_url": "http://shop.example/in"}, "needs https"),
        (TICKETS, "there is no app 'hub'"),
        ({"max_age_seconds": 0}, "positive numbers"),
        ({"session_lifetime_seconds": -1}, "positive numbers"),
        ({"base_url": "nonsense"}, "base-url needs"),
    ],
)
def test_other_callers_are_refused_the_same(
    sqlite_stage: Stage, choices: dict[str, Any], words: str
) -> None:
    with pytest.raises(AppError, match=words):
        sqlite_stage.add_app("shop", **choices)


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1:8000", "[::1]"])
def test_a_ticket_may_travel_in_clear_within_one_machine_alone(
    sqlite_stage: Stage, host: str
) -> None:
    sqlite_stage.add_app("hub")

    add("--transfer-url", f"http://{host}/in", "--tickets-from", "hub")

    assert row(sqlite_stage).transfer_url == f"http://{host}/in"


def test_an_app_that_is_added_may_do_nothing_it_was_not_given(sqlite_stage: Stage) -> None:
    add()

    app = row(sqlite_stage)
    assert (app.capabilities, app.methods, app.transfer_url, app.tickets_from) == ([], [], None, [])


# --- changing


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
    stage.services.apps._apps.clear()  # as after RELOAD_AFTER_SECONDS

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
    stage.services.apps._apps.clear()  # as after RELOAD_AFTER_SECONDS

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


# --- listing


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


# --- notices


@pytest.fixture
def signing_stage(sqlite_url: str, redis_url: str, mosaic: SimulatorServer) -> Iterator[Stage]:
    """A stage that can sign what it tells apps."""
    with signing(sqlite_url, redis_url, mosaic, notice_private_addresses="false") as stage:
        yield stage


def notice_of(app_id: str = "shop") -> tuple[Any, Any, Any]:
    (app,) = [app for app in told("apps", "list") if app["app_id"] == app_id]
    return app["notice_method"], app["notice_address"], app["notify_on_expiry"]


def test_an_app_is_added_with_its_notice_url(signing_stage: Stage) -> None:
    add("--notice-url", "https://shop.example/logout?token=canary", "--notify-on-expiry")

    app = row(signing_stage)
    assert (app.notice_method, app.notify_on_expiry) == ("backchannel", True)
    assert app.notice_address == "https://shop.example/logout?token=canary"


def test_a_listing_tells_the_notice_address_without_its_query(signing_stage: Stage) -> None:
    add("--notice-url", "https://shop.example/logout?token=canary", "--notify-on-expiry")

    assert notice_of() == ("backchannel", "https://shop.example/logout", True)
    printed = run("apps", "list").stdout
    assert "backchannel https://shop.example/logout, also of expiry" in printed
    assert "canary" not in printed


def test_an_app_is_added_with_its_notice_queue_and_told_there(stage: Stage) -> None:
    stage.add_app("forum")
    stage.mosaic.state.add_client("client-shop", SECRET)
    stage.keys["shop"] = add("--notice-queue", "shop-notices")
    session = stage.registered("ada", "shop")
    stage.silent_auth("ada", "forum")

    receipt = stage.log_out("ada", "forum", session_ref=str(session))

    assert notice_of() == ("queue", "shop-notices", False)
    assert receipt.apps_pending == ("shop",)


REFUSED_NOTICES = [
    (
        ("--notice-url", "http://shop.example/x"),
        "only https is allowed (see MOSAIC_SESSIONS_NOTICE_",
    ),
    (("--notice-url", "https://127.0.0.1/x"), "a loopback address (see MOSAIC_SESSIONS_NOTICE_"),
    (("--notice-url", "https://localhost/x"), "this machine (see MOSAIC_SESSIONS_NOTICE_"),
    (("--notice-url", "https://169.254.1.1/x"), "is a link-local address"),
    (("--notice-url", "https://user:canary@shop.example"), "no user and password"),
    (("--notice-queue", "logout"), "must be the app's own"),
    (("--notice-queue", "notify"), "must be the app's own"),
    (("--notice-queue", ""), "a notice queue's name"),
    (("--notice-queue", "a b\n"), "a notice queue's name"),
]


@pytest.mark.parametrize(("arguments", "words"), REFUSED_NOTICES)
def test_a_notice_address_that_cannot_be_told_is_refused(
    sqlite_stage: Stage, arguments: tuple[str, ...], words: str
) -> None:
    message = complaint(*ADD, *arguments, stdin=SECRET)

    assert words in message
    assert "canary" not in message
    assert told("apps", "list") == []


def test_a_notice_that_nobody_could_sign_is_refused_before_the_first_logout(
    sqlite_stage: Stage,
) -> None:
    url = ("--notice-url", "https://shop.example/out")
    added = complaint(*ADD, *url, stdin=SECRET)
    add("--notice-queue", "shop-notices")
    changed = complaint("apps", "set-notice", "shop", *url)

    assert added == changed
    assert "MOSAIC_SESSIONS_NOTICE_ISSUER and MOSAIC_SESSIONS_NOTICE_SIGNING_KEYS" in added
    assert notice_of() == ("queue", "shop-notices", False)


def test_expiry_without_an_address_is_refused(sqlite_stage: Stage) -> None:
    assert "needs a notice address" in complaint(*ADD, "--notify-on-expiry", stdin=SECRET)


def test_an_app_is_told_in_one_way(sqlite_stage: Stage) -> None:
    run(*ADD, "--notice-url", "https://x.example", "--notice-queue", "x", expect=2, stdin=SECRET)


def test_where_an_app_is_told_is_changed_and_expiry_is_kept(signing_stage: Stage) -> None:
    add("--notice-queue", "shop-notices", "--notify-on-expiry")

    run("apps", "set-notice", "shop", "--notice-url", "https://shop.example/out")
    kept = notice_of()
    run("apps", "set-notice", "shop", "--notice-queue", "other", "--no-notify-on-expiry")

    assert kept == ("backchannel", "https://shop.example/out", True)
    assert notice_of() == ("queue", "other", False)


def test_an_app_that_is_not_told_any_more_gets_no_notices(stage: Stage) -> None:
    stage.add_app("forum")
    stage.mosaic.state.add_client("client-shop", SECRET)
    stage.keys["shop"] = add("--notice-queue", "shop-notices", "--notify-on-expiry")
    session = stage.registered("ada", "shop")
    stage.silent_auth("ada", "forum")

    run("apps", "set-notice", "shop", "--none")

    assert notice_of() == (None, None, False)
    assert stage.log_out("ada", "forum", session_ref=str(session)).apps_pending == ()


@pytest.mark.parametrize(("arguments", "words"), REFUSED_NOTICES)
def test_a_change_is_checked_like_a_new_app(
    sqlite_stage: Stage, arguments: tuple[str, ...], words: str
) -> None:
    add("--notice-queue", "shop-notices")

    assert words in complaint("apps", "set-notice", "shop", *arguments)
    assert notice_of() == ("queue", "shop-notices", False)


def test_expiry_cannot_be_told_to_nobody(sqlite_stage: Stage) -> None:
    add()

    message = complaint("apps", "set-notice", "shop", "--none", "--notify-on-expiry")

    assert "needs a notice address" in message


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--notify-on-expiry",),
        ("--none", "--notice-queue", "q"),
        ("--notice-url", "https://x.example", "--notice-queue", "q"),
    ],
)
def test_a_change_of_notices_says_one_way(sqlite_stage: Stage, arguments: tuple[str, ...]) -> None:
    add()

    run("apps", "set-notice", "shop", *arguments, expect=2)


# --- keys


def test_a_rotated_key_works_beside_the_old_one(sqlite_stage: Stage) -> None:
    old = add()

    new = ClientKey.parse(run("apps", "rotate-key", "shop", "--quiet").stdout)

    assert told("apps", "list")[0]["kids"] == [old.kid, new.kid]
    assert ask_with(sqlite_stage, old).verdict is Verdict.OK
    assert ask_with(sqlite_stage, new).verdict is Verdict.OK


def test_rotating_says_how_to_retire_the_old_key(sqlite_stage: Stage) -> None:
    add()

    assert "apps retire-key shop KID" in run("apps", "rotate-key", "shop").stdout


def test_a_retired_key_opens_nothing_any_more(sqlite_stage: Stage) -> None:
    old = add()
    new = ClientKey.parse(run("apps", "rotate-key", "shop", "--quiet").stdout)

    run("apps", "retire-key", "shop", old.kid)

    assert told("apps", "list")[0]["kids"] == [new.kid]
    assert ask_with(sqlite_stage, old).reason == Reason.WRONG_KEY
    assert ask_with(sqlite_stage, new).verdict is Verdict.OK


def test_the_last_key_is_not_retired(sqlite_stage: Stage) -> None:
    key = add()

    assert "rotate first" in complaint("apps", "retire-key", "shop", key.kid)
    assert told("apps", "list")[0]["kids"] == [key.kid]


def test_a_key_the_app_does_not_have_is_not_retired(sqlite_stage: Stage) -> None:
    add()

    assert "no live key 'dead'" in complaint("apps", "retire-key", "shop", "dead")


# --- disabling and removing


def test_a_disabled_app_is_refused_until_it_is_enabled(sqlite_stage: Stage) -> None:
    key = add()

    run("apps", "disable", "shop")
    refused = ask_with(sqlite_stage, key)
    run("apps", "enable", "shop")

    assert refused.reason == Reason.APP_DISABLED
    assert ask_with(sqlite_stage, key).verdict is Verdict.OK


def test_a_removed_app_leaves_no_key_behind(stage: Stage) -> None:
    add()

    run("apps", "remove", "shop")

    assert told("apps", "list") == []
    with stage.services.store.read() as connection:
        assert connection.execute(select(AppKey.id)).all() == []


def test_an_app_that_shares_a_session_is_not_removed(stage: Stage) -> None:
    stage.add_app("shop")
    stage.registered("ada", "shop")

    assert "disable it instead" in complaint("apps", "remove", "shop")


@pytest.mark.parametrize(
    "arguments",
    [
        ("rotate-key",),
        ("show",),
        ("disable",),
        ("enable",),
        ("remove",),
        ("set", "--max-age", "60"),
        ("set-notice", "--none"),
    ],
)
def test_an_app_that_is_not_there_is_said_to_be_missing(
    sqlite_stage: Stage, arguments: tuple[str, ...]
) -> None:
    message = complaint("apps", *arguments, "nobody")

    assert "there is no app 'nobody' (mosaic-sessions apps list)" in message
