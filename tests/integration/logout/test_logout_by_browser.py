"""Logging a browser out by its token: whatever once named a session may end it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest

from session_client import requests
from session_client.contract import LogoutScope, Reason, Verdict
from tests.integration.outbox.propagation_rig import by_queue
from tests.stage import Stage
from worker.sessions import browser_tokens

NOBODYS = "msb1_" + "x" * 43
A_UUID = "01a20879-0918-724e-bc9e-5bb1911c801a"


@pytest.fixture
def apps(stage: Stage) -> Stage:
    """Every app wants to be told in its queue."""
    for app_id in ("shop", "forum", "blog"):
        by_queue(stage, app_id, silent_by_user=False)
    return stage


@pytest.fixture
def browser(apps: Stage) -> Iterator[Any]:
    """A session that shop has registered, and the login it came of."""
    login = apps.login("ada", "shop")
    answer = apps.remember(login)
    yield answer
    assert apps.tell_mosaic() == ["confirmed"]
    assert not apps.mosaic.state.is_live(login.session_id)


def leave(stage: Stage, token: str, app_id: str = "forum") -> Any:
    return stage.ask(app_id, requests.Logout(browser_token=token))


def test_a_browser_is_logged_out_by_its_token_alone_at_an_app_that_shares_nothing(
    apps: Stage, browser: Any
) -> None:
    receipt = leave(apps, browser.browser_token)

    assert (receipt.verdict, receipt.reason) == (Verdict.OK, None)
    assert (receipt.sessions_ended, receipt.idp_pending) == (1, 1)
    assert receipt.apps_pending == ("shop",)
    assert apps.session(UUID(browser.session_ref)).end_cause == "logout"
    assert apps.browse(browser.browser_token).reason == Reason.LOGGED_OUT
    again = apps.ask("forum", requests.Receipt(receipt_id=receipt.receipt_id))
    assert (again.sessions_ended, again.apps_pending) == (1, ("shop",))


def test_a_replaced_token_still_logs_out(apps: Stage, browser: Any) -> None:
    with apps.services.store.write() as connection:
        browser_tokens.replace(connection, apps.services, browser.browser_token)
    apps.pass_time(days=1)

    receipt = leave(apps, browser.browser_token)

    assert receipt.sessions_ended == 1


def test_a_token_of_an_ended_session_gets_a_receipt_of_what_is_still_owed(
    apps: Stage, browser: Any
) -> None:
    leave(apps, browser.browser_token)

    receipt = leave(apps, browser.browser_token, "blog")

    assert (receipt.verdict, receipt.reason) == (Verdict.OK, None)
    assert (receipt.sessions_ended, receipt.idp_pending) == (0, 1)


def test_a_token_that_names_nobody_is_no_alarm(apps: Stage) -> None:
    login = apps.signed_in()

    for garbage in (NOBODYS, "msb1_", "' OR 1=1", "m" * 4096, "\x00\n", A_UUID):
        sent = apps.seal("forum", requests.Logout(browser_token=garbage))
        first, second = apps.deliver(sent), apps.deliver(sent)

        for receipt in (first, second):
            assert (receipt.verdict, receipt.reason) == (Verdict.OK, Reason.NO_SESSION), garbage
            assert (receipt.sessions_ended, receipt.idp_pending) == (0, 0)
        assert first.receipt_id == second.receipt_id
    assert apps.browse(login.browser_token).verdict is Verdict.AUTHENTICATED


def test_a_logout_that_names_none_or_several_changes_nothing(apps: Stage) -> None:
    payloads: list[dict[str, Any]] = [
        {"browser_token": NOBODYS, "user_id": "ada"},
        {"browser_token": NOBODYS, "session_ref": str(uuid4())},
        {"browser_token": NOBODYS, "session_id": "one"},
        {"browser_token": NOBODYS, "device_id": "laptop"},
        {"browser_token": NOBODYS, "scope": "user"},
        {"browser_token": NOBODYS, "scope": "device"},
        {"browser_token": ""},
        {"session_ref": str(uuid4())},
        {"scope": "user"},
        {},
    ]
    apps.signed_in()
    before = apps.dump()

    for payload in payloads:
        answer = apps.ask("shop", requests.Logout(browser_token=NOBODYS), payload=payload)
        told = (answer.verdict, answer.reason)
        assert told == (Verdict.INVALID_REQUEST, Reason.INVALID_PAYLOAD), payload
    assert apps.dump() == before


def test_a_logout_everywhere_takes_every_browsers_token_along(apps: Stage) -> None:
    by_queue(apps, "desk", capabilities=("logout_user",))
    browsers = [apps.signed_in() for _ in range(3)]

    apps.log_out(app_id="desk", scope=LogoutScope.USER)

    reasons = {apps.browse(browser.browser_token).reason for browser in browsers}
    assert reasons == {Reason.LOGGED_OUT}
