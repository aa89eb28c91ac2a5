"""Adding an app, disabling it and removing it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from models import AppKey
from session_client.contract import Reason, Verdict
from session_client.keys import AppKey as ClientKey
from tests.integration.cli.apps_rig import ADD, SECRET, add, ask_with, row
from tests.integration.cli.cli_rig import complaint, run, told
from tests.stage import Stage
from worker import wiring
from worker.mosaic import ClientSecret
from worker.operations.app_description import AppError


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
    assert known.mosaic.credential == ClientSecret(SECRET)


def test_where_answers_are_in_another_redis_than_messages_the_app_is_to_be_told(
    sqlite_stage: Stage, tmp_path: Path
) -> None:
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n", encoding="utf-8")
    elsewhere = sqlite_stage.settings.model_copy(
        update={"redis_url": sqlite_stage.settings.broker_url}
    )

    def said_of(app_id: str) -> str:
        named = ("--client-id", f"client-{app_id}", "--client-secret-file", str(file))
        return run("apps", "add", app_id, *named).stdout

    assert "SESSION_REPLY_URL" not in said_of("shop")
    with wiring.use(replace(sqlite_stage.services, settings=elsewhere)):
        assert "SESSION_REPLY_URL" in said_of("forum")


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
