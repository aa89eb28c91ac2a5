"""A logout counts once it is acknowledged: with workers that come late, or never."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from sandbox.processes import poll_until
from sandbox.stack import Stack
from session_client import InvalidRequest, NotAcknowledged, Reason, SessionClient, requests
from tests.acceptance.client_rig import Apps, count, working

PATIENT = 120.0  # more than a worker may take to start


@pytest.fixture(scope="module")
def apps() -> Iterator[Apps]:
    with Stack() as stack:
        stack.migrate()
        apps = Apps(stack, "shop")
        yield apps
        apps.close()


@pytest.fixture
def shop(apps: Apps) -> SessionClient:
    return apps.clients["shop"]


@pytest.fixture
def broker(apps: Apps) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(apps.stack.broker_url) as broker:
        broker.flushall()
        yield broker


def lose_everything(broker: redis.Redis) -> None:
    """Empty Redis once nobody works on a second copy, whose answer would come after it."""
    poll_until(lambda: broker.llen("logout") == broker.hlen("unacked") == 0, 60)
    broker.flushall()


def test_a_logout_is_published_until_a_worker_has_committed_it(
    apps: Apps, shop: SessionClient, broker: redis.Redis
) -> None:
    before = count(apps.stack, "logout_requests")
    with ThreadPoolExecutor(1) as threads:
        logout = threads.submit(shop.logout, user_id="ada", session_id="late", timeout=PATIENT)
        poll_until(lambda: broker.llen("logout") >= 2, 60)
        assert not logout.done()

        with working(apps.stack):
            receipt = logout.result()

    assert receipt.receipt_id is not None
    assert count(apps.stack, "logout_requests") == before + 1


def test_a_logout_whose_message_was_lost_is_published_again(
    apps: Apps, shop: SessionClient, broker: redis.Redis
) -> None:
    with ThreadPoolExecutor(1) as threads:
        logout = threads.submit(shop.logout, user_id="ada", session_id="lost", timeout=PATIENT)
        poll_until(lambda: broker.llen("logout") == 1, 60)
        broker.delete("logout")
        poll_until(lambda: broker.llen("logout") >= 1, 60)

        with working(apps.stack):
            assert logout.result().receipt_id is not None


def test_a_logout_that_no_worker_takes_is_not_acknowledged_and_can_be_repeated(
    apps: Apps, shop: SessionClient, broker: redis.Redis
) -> None:
    before = count(apps.stack, "logout_requests")
    with pytest.raises(NotAcknowledged, match="not acknowledged") as caught:
        shop.logout(user_id="ada", session_id="never", timeout=0.4)
    request_id = caught.value.request_id
    assert request_id in str(caught.value)
    assert count(apps.stack, "logout_requests") == before

    with working(apps.stack):
        receipt = shop.logout(
            user_id="ada", session_id="never", request_id=request_id, timeout=PATIENT
        )

    assert receipt.receipt_id is not None
    assert count(apps.stack, "logout_requests") == before + 1


def test_a_logout_repeated_after_a_lost_answer_finds_its_receipt(
    apps: Apps, shop: SessionClient, broker: redis.Redis
) -> None:
    request_id = requests.new_request_id()
    with working(apps.stack):
        first = shop.logout(
            user_id="ada", session_id="again", request_id=request_id, timeout=PATIENT
        )
        lose_everything(broker)  # the answer, and the worker's short memory
        second = shop.logout(
            user_id="ada", session_id="again", request_id=request_id, timeout=PATIENT
        )

        assert (second.receipt_id, second.sessions_ended) == (
            first.receipt_id, first.sessions_ended
        )  # fmt: skip


def test_a_request_id_used_for_another_logout_is_refused(
    apps: Apps, shop: SessionClient, broker: redis.Redis
) -> None:
    request_id = requests.new_request_id()
    with working(apps.stack):
        shop.logout(user_id="ada", session_id="one", request_id=request_id, timeout=PATIENT)
        lose_everything(broker)

        with pytest.raises(InvalidRequest, match=Reason.REQUEST_ID_REUSED):
            shop.logout(user_id="ada", session_id="two", request_id=request_id, timeout=PATIENT)
