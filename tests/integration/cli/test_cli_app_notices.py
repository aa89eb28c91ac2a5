"""Where an app is told of endings: given when it is added, changed, taken back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from models import NoticeMethod
from sandbox.ports import free_port
from simulator.server import SimulatorServer
from tests.integration.cli.apps_rig import ADD, SECRET, add, row
from tests.integration.cli.cli_rig import complaint, run, told
from tests.integration.operations.doctor_rig import elsewhere
from tests.integration.outbox.propagation_rig import signing
from tests.stage import Stage


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


def test_what_is_left_in_a_queue_that_is_used_no_more_is_told(sqlite_stage: Stage) -> None:
    add("--notice-queue", "shop-notices")
    sqlite_stage.redis.lpush("shop-notices", "one", "another")

    kept = run("apps", "set-notice", "shop", "--notice-queue", "shop-notices").stderr
    moved = run("apps", "set-notice", "shop", "--notice-queue", "new-notices").stderr
    gone = run("apps", "set-notice", "shop", "--none").stderr

    assert "2 messages are left in queue shop-notices" in moved
    assert "delete the queue at the broker" in moved
    assert (kept, gone) == ("", "")


def test_an_address_can_be_taken_away_while_the_broker_is_away(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with Stage(sqlite_url, redis_url, mosaic) as stage:
        stage.add_app("shop", notice_method=NoticeMethod.QUEUE, notice_address="shop-notices")
        with elsewhere(stage, broker_url=f"redis://127.0.0.1:{free_port()}/0"):
            done = run("apps", "set-notice", "shop", "--none")

    assert "shop is not told any more" in done.stdout
    assert done.stderr == ""


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
