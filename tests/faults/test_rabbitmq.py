"""RabbitMQ for the queues and Redis for the rest: the way for those who outgrow one Redis."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

import pytest
from kombu import Connection, Queue
from prometheus_client import CollectorRegistry, generate_latest

from sandbox.processes import poll_until
from sandbox.rabbitmq import CLASSIC, QUORUM, RabbitMQ, find_rabbitmq
from sandbox.redis_server import RedisServer
from sandbox.stack import PREFIX
from session_client import Authenticated, LoginRequired, NotAcknowledged
from tests.faults.looking import largest, log_lines, registered, wait_until_mosaic_is_told
from tests.faults.rabbitmq_rig import Api, brokered_by, stack_on
from tests.integration.cli.cli_rig import run, told
from tests.integration.outbox.propagation_rig import by_queue
from tests.stage import Stage
from worker.celery_support import other_brokers
from worker.errors import BrokerUnavailable
from worker.monitoring.gauges import Facts, sources
from worker.operations import queue_depth
from worker.wiring import Services

pytestmark = pytest.mark.skipif(find_rabbitmq() is None, reason="install rabbitmq-server")

REFUSED = "Cannot connect to amqp"
ALL_RIGHTS = {"configure": ".*", "write": ".*", "read": ".*"}
REJECTED = '"message_rejected"'
# A queue of one connection is never a quorum queue.
OF_HALL = {"x-queue-type": "classic"}


@pytest.mark.parametrize("kind", [CLASSIC, QUORUM])
def test_a_job_of_a_worker_that_was_killed_is_done_by_the_next(
    rabbitmq: RabbitMQ, own_redis: RedisServer, kind: str
) -> None:
    patient = {f"{PREFIX}MOSAIC_TIMEOUT_SECONDS": "8", f"{PREFIX}DELIVERY_LEASE_SECONDS": "17"}
    with (
        stack_on(rabbitmq.url(kind), own_redis, **patient) as (stack, client),
        ThreadPoolExecutor(1) as thread,
    ):
        first = stack.worker("-c", "2")
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


@pytest.mark.parametrize("kind", [CLASSIC, QUORUM])
def test_a_restart_of_rabbitmq_stops_no_process_and_a_logout_is_sent_again(
    rabbitmq: RabbitMQ, own_redis: RedisServer, kind: str
) -> None:
    with stack_on(rabbitmq.url(kind), own_redis) as (stack, client):
        started = [stack.worker("-c", "2"), stack.beat()]
        pids = [process.pid for process in started]
        session = registered(stack, client)
        ending = partial(client.logout, user_id="ada", session_ref=session.session_ref)
        rabbitmq.control("stop_app")
        try:
            with pytest.raises(NotAcknowledged) as failed:
                ending(timeout=3)
        finally:
            rabbitmq.control("start_app")
        ending(request_id=failed.value.request_id, timeout=90)

        assert isinstance(client.silent_auth(user_id="ada", timeout=60), LoginRequired)
        wait_until_mosaic_is_told(stack)
        assert [process.pid for process in started] == pids
        assert all(process.is_alive for process in started)


def test_a_small_body_that_would_open_to_a_huge_one_takes_no_memory(
    rabbitmq: RabbitMQ, own_redis: RedisServer
) -> None:
    url = rabbitmq.url(CLASSIC)
    with stack_on(url, own_redis) as (stack, client):
        worker = stack.worker("-c", "2")
        client.status(user_id="ada", timeout=60)
        before = largest(worker)

        with Connection(url) as connection, connection.Producer() as producer:
            producer.publish(
                b"[]" + b" " * 400 * 2**20,
                routing_key="sessions",
                content_type="application/json",
                content_encoding="utf-8",
                compression="bzip2",
                headers={"task": "sessions.status", "id": "r" * 22},
            )
        poll_until(lambda: REJECTED in worker.log_text(), 60, what="it to be dropped")
        client.status(user_id="ada", timeout=60)

        assert largest(worker) - before < 60 * 2**20


@contextmanager
def one_user_more(rabbitmq: RabbitMQ, **rights: str) -> Iterator[str]:
    """Gives the URL for a user who has all *rights* but those."""
    api = Api(rabbitmq)
    api.put("users", "other", password="other", tags="")
    api.put("permissions", CLASSIC, "other", **ALL_RIGHTS | rights)
    try:
        yield rabbitmq.url(CLASSIC).replace("guest:guest", "other:other")
    finally:
        api.delete("users", "other")


def test_a_worker_that_rabbitmq_refuses_tries_now_and_then_until_it_is_let_in_again(
    rabbitmq: RabbitMQ, own_redis: RedisServer
) -> None:
    with (
        one_user_more(rabbitmq) as url,
        stack_on(rabbitmq.url(CLASSIC), own_redis, CELERY_BROKER_URL=url) as (stack, client),
    ):
        worker = stack.worker("-c", "2")
        rabbitmq.control("clear_permissions", "-p", CLASSIC, "other")
        rabbitmq.control("close_all_connections", "asked for by a test")
        poll_until(lambda: worker.log_text().count(REFUSED) > 6, 90, what="it to try again")
        Api(rabbitmq).put("permissions", CLASSIC, "other", **ALL_RIGHTS)
        registered(stack, client)

        # What Celery says, with a traceback, of one that does nothing else.
        assert "Frequent restarts" not in worker.log_text()


def test_a_logout_is_answered_though_rabbitmq_refuses_what_it_wakes(
    rabbitmq: RabbitMQ, own_redis: RedisServer
) -> None:
    users = [f"user-{number}" for number in range(4)]
    with (
        one_user_more(rabbitmq, write="^(?!amq)") as url,  # by the default exchange they go
        stack_on(rabbitmq.url(CLASSIC), own_redis, CELERY_BROKER_URL=url) as (stack, client),
    ):
        worker = stack.worker("-c", "1")
        refs = {user: registered(stack, client, user).session_ref for user in users}
        for user, ref in refs.items():
            client.logout(user_id=user, session_ref=ref, timeout=60)
        events = [line["event"] for line in log_lines(worker)]

    assert "wake_up_not_sent" in events
    assert "task_bug" not in events


# --- what operators see


def put(connection: Connection, queue: str, messages: int, **kind: Any) -> None:
    """Have *queue* hold so many messages more; returns when the broker has them."""
    declared = Queue(queue, routing_key=queue, **kind)
    with connection.Producer() as producer:
        for number in range(messages):
            producer.publish(number, routing_key=queue, declare=[declared])


def shown(services: Services) -> list[str]:
    """What a worker's metrics show."""
    registry = CollectorRegistry()
    registry.register(Facts(sources(services), lambda: (0, 8)))
    return generate_latest(registry).decode().splitlines()


@pytest.mark.parametrize("kind", [CLASSIC, QUORUM])
def test_what_waits_is_told_and_no_age_is_made_up(
    rabbitmq: RabbitMQ, sqlite_stage: Stage, kind: str
) -> None:
    for app in ("desk", "forum", "hall"):
        by_queue(sqlite_stage, app)
    url = rabbitmq.url(kind)
    confirmed = {"confirm_publish": True}
    with (
        Connection(url, transport_options=confirmed) as connection,
        brokered_by(url, sqlite_stage) as services,
    ):
        there = queue_depth.read(url).waiting  # of the other test's workers
        put(connection, "login", 3)
        put(connection, "desk-notices", 2)
        # Nobody has declared forum's, and hall's is another connection's alone.
        put(connection, "hall-notices", 1, exclusive=True, durable=False, queue_arguments=OF_HALL)
        said = told("status", expect=69)
        printed = run("status", expect=69)
        frame = run("top", "--once").stdout
        lines = shown(services)

    assert said["queues"] == {**there, "login": there["login"] + 3}
    assert (said["oldest_waiting_seconds"], said["unacknowledged"]) == (None, None)
    assert said["notice_queues"] == {
        "desk": {"queue": "desk-notices", "waiting": 2, "oldest_waiting_seconds": None},
        "forum": {"queue": "forum-notices", "waiting": 0, "oldest_waiting_seconds": None},
    }
    assert f"{there['login'] + 3}, the broker tells no age" in printed.stdout
    assert "2, the broker tells no age" in printed.stdout
    assert "broker" not in printed.stderr
    assert re.search(rf"^login +{there['login'] + 3} .* -$", frame, re.MULTILINE)
    assert "taken, not done unknown" in frame
    for line in (
        f'mosaic_sessions_queue_depth{{queue="login"}} {there["login"] + 3}.0',
        'mosaic_sessions_notice_queue_depth{app="desk"} 2.0',
        'mosaic_sessions_notice_queue_depth{app="forum"} 0.0',
        'mosaic_sessions_source_up{source="broker"} 1.0',
        'mosaic_sessions_source_up{source="notice_queues"} 1.0',
    ):
        assert line in lines
    untold = (
        "mosaic_sessions_queue_old",
        "mosaic_sessions_notice_queue_old",
        "mosaic_sessions_jobs_un",
    )
    assert [line for line in lines if line.startswith(untold)] == []


def test_a_broker_that_refuses_us_is_one_line_without_what_was_sent(
    rabbitmq: RabbitMQ, sqlite_stage: Stage
) -> None:
    by_queue(sqlite_stage, "desk")
    wrong = {
        "AccessRefused": rabbitmq.url(CLASSIC).replace("guest:guest", "guest:pw-canary"),
        "NotAllowed": rabbitmq.url("nowhere-canary"),
    }
    for error, url in wrong.items():
        with brokered_by(url, sqlite_stage) as services:
            said = told("status", expect=69)
            lines = shown(services)

        (problem,) = (one for one in said["problems"] if "broker" in one)
        assert problem == (
            f"the broker refuses us ({error}): are user, password and virtual host in "
            "CELERY_BROKER_URL right?"
        )
        assert (said["queues"], said["notice_queues"]) == (None, None)
        assert "canary" not in str(said)
        assert 'mosaic_sessions_source_up{source="broker"} 0.0' in lines
        assert not [one for one in lines if one.startswith("mosaic_sessions_queue_depth")]


def test_a_broker_that_hangs_once_it_is_connected_is_not_awaited(rabbitmq: RabbitMQ) -> None:
    def asked() -> Generator[str]:
        with rabbitmq.stopped():  # until it was given up
            yield "auth"

    queues = asked()
    with closing(queues), pytest.raises(BrokerUnavailable, match="does not answer"):
        other_brokers.depths(rabbitmq.url(CLASSIC), queues)
