"""What a logout waits for, and what its receipt tells: real worker, beat and simulator."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from kombu import Connection

from sandbox.processes import poll_until
from sandbox.stack import Stack
from session_client import (
    ConfigurationError,
    InvalidRequest,
    LoginRequired,
    LogoutNotice,
    LogoutReceipt,
    LogoutWait,
    Reason,
    SessionClient,
    broker,
    contract,
    open_notice,
)
from tests.acceptance.client_rig import Apps, working
from tests.heard import authenticated

PATIENT = 30.0
QUICK_RETRIES = {
    "sweep_every_seconds": 0.5,
    "delivery_retry_seconds": 0.5,
    "delivery_retry_max_seconds": 1,
    "delivery_wake_again_seconds": 0.5,
}


@pytest.fixture(scope="module")
def apps() -> Iterator[Apps]:
    with Stack(settings=QUICK_RETRIES) as stack:
        stack.migrate()
        apps = Apps(stack, "shop")
        apps.keys["billing"] = stack.add_app("billing", "--notice-queue", "billing-notices")
        apps.clients["billing"] = apps.client("billing")
        stack.beat()
        with working(stack):
            yield apps
        apps.close()


@pytest.fixture
def shop(apps: Apps) -> SessionClient:
    return apps.clients["shop"]


def shared_session(apps: Apps, user_id: str) -> str:
    """Sign in at the shop and silently at billing; return the session's name."""
    ref = apps.register(user_id).session_ref
    answer = apps.clients["billing"].silent_auth(user_id=user_id, timeout=20)
    assert authenticated(answer).session_ref == ref
    return str(ref)


def next_notice(apps: Apps, user_id: str) -> LogoutNotice:
    """Take messages off billing's queue, as its Celery worker would, up to one about *user_id*.

    What comes before may be about another: until it is confirmed, a notice is sent again.
    """
    while (notice := _any_notice(apps)).user_id != user_id:
        pass
    return notice


def _any_notice(apps: Apps) -> LogoutNotice:
    options = broker.transport_options(client_name="billing")
    with Connection(apps.stack.broker_url, transport_options=options) as connection:
        queue = connection.SimpleQueue("billing-notices")
        message: Any = queue.get(timeout=PATIENT)
        message.ack()
        queue.close()
    assert message.headers["task"] == contract.LOGOUT_NOTICE_TASK
    _, kwargs, _ = message.payload
    assert set(kwargs) == {"app_id", "envelope"}
    return open_notice(kwargs["envelope"], app_id="billing", app_keys=[apps.keys["billing"]])


def test_a_logout_that_waits_for_mosaic_returns_once_mosaic_has_ended_the_session(
    apps: Apps, shop: SessionClient
) -> None:
    session = apps.register("ida").session_ref

    receipt = shop.logout(user_id="ida", session_ref=session, wait="idp", timeout=PATIENT)

    assert (receipt.sessions_ended, receipt.idp_confirmed, receipt.idp_pending) == (1, 1, 0)


def test_a_logout_that_waits_for_all_returns_once_the_other_app_has_confirmed(
    apps: Apps, shop: SessionClient
) -> None:
    session = shared_session(apps, "ada")
    with ThreadPoolExecutor(1) as threads:
        logout = threads.submit(
            shop.logout, user_id="ada", session_ref=session, wait=LogoutWait.ALL, timeout=PATIENT
        )
        notice = next_notice(apps, "ada")
        was_waiting = not logout.done()
        apps.clients["billing"].confirm(notice, timeout=PATIENT)
        receipt = logout.result()

    assert was_waiting
    assert (notice.user_id, notice.session_ref, notice.cause) == ("ada", session, "logout")
    assert (receipt.apps_confirmed, receipt.apps_pending) == (("billing",), ())
    assert (receipt.idp_confirmed, receipt.idp_pending) == (1, 0)
    apps.clients["billing"].confirm(notice, timeout=PATIENT)  # again, harmlessly


def test_a_logout_whose_time_is_up_returns_the_receipt_as_it_stands_and_it_can_be_asked_for_later(
    apps: Apps, shop: SessionClient
) -> None:
    session = shared_session(apps, "eve")

    early = shop.logout(user_id="eve", session_ref=session, wait="all", timeout=10)

    assert (early.apps_confirmed, early.apps_pending) == ((), ("billing",))
    silent = shop.silent_auth(user_id="eve", timeout=20)
    assert silent == LoginRequired(Reason.LOGGED_OUT)

    # Not confirmed, so it comes again: the same notice.
    first, again = next_notice(apps, "eve"), next_notice(apps, "eve")
    assert first.notice_id == again.notice_id
    apps.clients["billing"].confirm(again, timeout=PATIENT)

    def all_done() -> LogoutReceipt | None:
        receipt = shop.receipt(str(early.receipt_id), timeout=20)
        return receipt if receipt.has_reached(LogoutWait.ALL) else None

    late = poll_until(all_done, PATIENT)
    assert late is not None
    assert late.receipt_id == early.receipt_id
    assert late.apps_confirmed == ("billing",)


def test_a_receipt_of_another_app_is_none(apps: Apps, shop: SessionClient) -> None:
    receipt = shop.logout(user_id="nobody", session_id="unknown", timeout=PATIENT)

    with pytest.raises(InvalidRequest, match=Reason.NO_RECEIPT):
        apps.clients["billing"].receipt(str(receipt.receipt_id), timeout=20)


def test_nobody_can_wait_for_something_else(shop: SessionClient) -> None:
    with pytest.raises(ConfigurationError, match="wait"):
        shop.logout(user_id="ada", session_id="s", wait="everybody")
