"""Connections to RabbitMQ that are lost, that swallow what is sent, and that take nothing."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import amqp
import pytest
from kombu import Connection
from kombu.common import eventloop
from pytest_mock import MockerFixture

from sandbox.ports import HOST
from sandbox.processes import poll_until
from sandbox.proxy import FaultProxy
from sandbox.rabbitmq import CLASSIC, QUORUM, RabbitMQ, find_rabbitmq
from sandbox.redis_server import RedisServer
from sandbox.stack import PREFIX, START_SECONDS
from session_client import Authenticated, BrokerUnavailable
from tests.faults.conftest import PATIENT
from tests.faults.looking import log_lines, registered
from tests.faults.rabbitmq_rig import stack_on

pytestmark = pytest.mark.skipif(find_rabbitmq() is None, reason="install rabbitmq-server")

CONNECTED = '"Connected to amqp'


@pytest.fixture
def proxy(rabbitmq: RabbitMQ) -> Iterator[FaultProxy]:
    with FaultProxy(HOST, rabbitmq.port) as proxy:
        yield proxy


def through(proxy: FaultProxy, rabbitmq: RabbitMQ) -> str:
    """The broker's URL by way of *proxy*."""
    return rabbitmq.url(CLASSIC).replace(str(rabbitmq.port), str(proxy.port))


@contextmanager
def taking_nothing(rabbitmq: RabbitMQ) -> Iterator[None]:
    """As when its memory is used up as far as it may be."""
    rabbitmq.control("set_vm_memory_high_watermark", "0.00001")
    try:
        yield
    finally:
        rabbitmq.control("set_vm_memory_high_watermark", "0.6")


@contextmanager
def closing_silent_connections_soon(rabbitmq: RabbitMQ) -> Iterator[None]:
    """Have it close a connection made within that has said nothing for some seconds."""
    rabbitmq.control("eval", "application:set_env(rabbit, heartbeat, 2).")
    try:
        yield
    finally:
        rabbitmq.control("eval", "application:set_env(rabbit, heartbeat, 60).")


def wait_until_rabbitmq_closes_a_silent_connection(url: str) -> None:
    with Connection(url, heartbeat=60) as silent, pytest.raises(OSError, match=r"closed|reset"):
        deque(eventloop(silent, timeout=60), maxlen=0)


# --- of a worker


def test_a_job_under_way_when_the_connection_is_lost_leaves_no_worker_that_takes_none(
    rabbitmq: RabbitMQ, own_redis: RedisServer
) -> None:
    with (
        stack_on(rabbitmq.url(CLASSIC), own_redis, **PATIENT) as (stack, client),
        ThreadPoolExecutor(1) as thread,
    ):
        worker = stack.worker("-c", "4")
        registered(stack, client)
        with stack.mosaic.gates.hold("session/authenticate") as gate:
            asking = thread.submit(client.silent_auth, user_id="ada", timeout=60)
            gate.wait_arrived()
            rabbitmq.control("close_all_connections", "--vhost", CLASSIC, "asked for by a test")
            poll_until(lambda: worker.log_text().count(CONNECTED) == 2, 30, what="it to reconnect")
            for _ in range(4):
                client.status(user_id="ada", timeout=30)
            gate.release()

        assert isinstance(asking.result(), Authenticated)
        # py-amqp's connection is for one thread; how two of them fare is luck.
        asked = [line for line in log_lines(worker) if line["event"].startswith("basic.qos")]
        assert [line for line in asked if "task" in line] == []


def test_a_worker_whose_link_swallows_everything_makes_a_new_one(
    rabbitmq: RabbitMQ, proxy: FaultProxy, own_redis: RedisServer
) -> None:
    url = through(proxy, rabbitmq)
    with stack_on(rabbitmq.url(CLASSIC), own_redis, CELERY_BROKER_URL=url) as (stack, client):
        worker = stack.worker("-c", "2")
        registered(stack, client)
        proxy.black_hole()  # neither side is told

        # Within the lifetime of a request, as the message that went into the hole comes again.
        assert isinstance(client.silent_auth(user_id="ada", timeout=60), Authenticated)
        assert worker.log_text().count(CONNECTED) == 2


@pytest.mark.parametrize("pool", ["threads", "processes"])
def test_a_worker_that_waits_for_its_jobs_to_stop_keeps_them(
    rabbitmq: RabbitMQ, own_redis: RedisServer, pool: str
) -> None:
    patient = {f"{PREFIX}MOSAIC_TIMEOUT_SECONDS": "30", f"{PREFIX}DELIVERY_LEASE_SECONDS": "61"}
    url = rabbitmq.url(CLASSIC)
    with (
        closing_silent_connections_soon(rabbitmq),
        stack_on(url, own_redis, **patient) as (stack, client),
        ThreadPoolExecutor(1) as thread,
    ):
        first = stack.worker("-P", pool, "-c", "2", name="first")
        registered(stack, client)
        with stack.mosaic.gates.hold("session/authenticate") as gate:
            asking = thread.submit(client.silent_auth, user_id="ada", timeout=60)
            gate.wait_arrived()
            first.send(signal.SIGTERM)
            first.wait_for_line("Warm shutdown")
            second = stack.worker("-c", "2", name="second")
            for _ in range(2):
                wait_until_rabbitmq_closes_a_silent_connection(url)
            gate.release()

        assert isinstance(asking.result(), Authenticated)
        assert first.wait(timeout=60) == 0
        assert "sessions.silent_auth[" not in second.log_text()


def test_a_worker_told_to_stop_while_rabbitmq_hangs_leaves_its_grace_to_the_jobs(
    rabbitmq: RabbitMQ, own_redis: RedisServer
) -> None:
    with stack_on(rabbitmq.url(CLASSIC), own_redis) as (stack, _):
        worker = stack.worker("-c", "2")
        with rabbitmq.stopped():
            # Seven answers are waited for, five seconds each if it is by the broker's options.
            assert worker.terminate(timeout=28) == 0


@pytest.mark.parametrize("kind", [CLASSIC, QUORUM])
def test_a_queue_that_is_deleted_as_a_worker_begins_to_take_is_taken_from_again(
    rabbitmq: RabbitMQ, own_redis: RedisServer, kind: str
) -> None:
    with stack_on(rabbitmq.url(kind), own_redis) as (stack, client):
        worker = stack.start(
            *("worker", "celery", "-A", "tests.faults.queue_deleting_worker", "worker", "-c", "2")
        )
        worker.wait_for_line("ready.", timeout=START_SECONDS)
        registered(stack, client)

        assert isinstance(client.silent_auth(user_id="ada", timeout=60), Authenticated)
        assert worker.log_text().count(CONNECTED) > 1


# --- of an app


def test_what_a_dead_link_swallows_goes_by_a_new_one(
    rabbitmq: RabbitMQ, proxy: FaultProxy, own_redis: RedisServer
) -> None:
    url = through(proxy, rabbitmq)
    with stack_on(url, own_redis, CELERY_BROKER_URL=rabbitmq.url(CLASSIC)) as (stack, client):
        stack.worker("-c", "2")
        registered(stack, client)

        proxy.black_hole()  # with a message on a queue that is declared
        client.status(user_id="ada", timeout=30)
        proxy.black_hole()  # and with the declaration of one that is not
        assert isinstance(client.silent_auth(user_id="ada", timeout=30), Authenticated)


def test_a_rabbitmq_that_takes_nothing_is_unavailable_until_it_takes_something_again(
    rabbitmq: RabbitMQ, own_redis: RedisServer, mocker: MockerFixture
) -> None:
    close: Any = amqp.Channel.close
    awaited = list[bool]()

    def note(channel: Any, *words: Any, **named: Any) -> Any:
        awaited.append(channel.connection is not None)
        return close(channel, *words, **named)

    with stack_on(rabbitmq.url(CLASSIC), own_redis) as (stack, client):
        stack.worker("-c", "2")
        registered(stack, client)
        with taking_nothing(rabbitmq):
            mocker.patch.object(amqp.Channel, "close", note)
            for _ in range(2):  # by the kept connection and by a new one
                with pytest.raises(BrokerUnavailable, match="TimeoutError"):
                    client.silent_auth(user_id="ada", timeout=5)
            mocker.stopall()
        assert isinstance(client.silent_auth(user_id="ada", timeout=60), Authenticated)

    assert not any(awaited)  # nor does it confirm a closing: the caller would wait for it in vain
