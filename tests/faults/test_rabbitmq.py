"""RabbitMQ for the queues and Redis for the rest: the way for those who outgrow one Redis."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from sandbox.rabbitmq import CLASSIC, QUORUM, RabbitMQ, find_rabbitmq
from sandbox.redis_server import RedisServer
from sandbox.stack import Stack
from session_client import Authenticated, LoginRequired, SessionClient
from tests.faults.conftest import SHORT_TIMES
from tests.faults.looking import registered, wait_until_mosaic_is_told

pytestmark = pytest.mark.skipif(find_rabbitmq() is None, reason="install rabbitmq-server")


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[RabbitMQ]:
    with RabbitMQ() as server:
        yield server


@pytest.mark.parametrize("kind", [CLASSIC, QUORUM])
def test_a_job_of_a_worker_that_was_killed_is_done_by_the_next(
    rabbitmq: RabbitMQ, own_redis: RedisServer, kind: str
) -> None:
    url = rabbitmq.url(kind)
    with Stack(redis=own_redis, broker_url=url, settings=SHORT_TIMES) as stack:
        stack.environment["REDIS_URL"] = own_redis.url()
        stack.environment["MOSAIC_SESSIONS_MOSAIC_TIMEOUT_SECONDS"] = "8"
        stack.environment["MOSAIC_SESSIONS_DELIVERY_LEASE_SECONDS"] = "17"
        stack.migrate()
        key = stack.add_app("shop")
        first = stack.worker("-c", "2")
        with (
            SessionClient(
                broker_url=url, reply_url=own_redis.url(), app_id="shop", app_key=key
            ) as client,
            ThreadPoolExecutor(1) as thread,
        ):
            session = registered(stack, client)
            with stack.mosaic.gates.hold("session/authenticate") as gate:
                asking = thread.submit(client.silent_auth, user_id="ada", timeout=60)
                gate.wait_arrived()
                first.kill()
                gate.release()
            stack.worker("-c", "2", name="second")

            assert isinstance(asking.result(), Authenticated)
            client.logout(user_id="ada", session_ref=session.session_ref, timeout=60)
            assert isinstance(client.silent_auth(user_id="ada", timeout=60), LoginRequired)
            wait_until_mosaic_is_told(stack)
