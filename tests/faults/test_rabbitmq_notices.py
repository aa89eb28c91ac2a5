"""An app that is dead on its own queue of a RabbitMQ: as on Redis, each notice lies there once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from kombu import Connection, Queue

from sandbox.rabbitmq import CLASSIC, QUORUM, RabbitMQ
from session_client import times
from simulator.server import SimulatorServer
from tests.faults.rabbitmq_rig import Api, brokered_by
from tests.integration.outbox.propagation_rig import QUEUE, by_queue, notices
from tests.stage import Stage
from worker.outbox import notice_delivery

BOUND = 3


class App:
    """The app's own queue, at which messages are put and taken."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._queue = Queue(QUEUE)
        self._queue(connection.channel()).declare()

    def publish(self, queue: str, task: str, kwargs: dict[str, Any]) -> datetime:
        del task
        with self._connection.Producer() as producer:
            producer.publish(kwargs, routing_key=queue)
        return times.now()

    @property
    def waiting(self) -> int:
        channel: Any = self._connection.channel()
        return int(channel.queue_declare(QUEUE, passive=True).message_count)

    def take(self) -> None:
        taken: Any = self._queue(self._connection.channel()).get()
        taken.ack()


@pytest.fixture(params=[CLASSIC, QUORUM])
def host(request: pytest.FixtureRequest, rabbitmq: RabbitMQ) -> Iterator[str]:
    with Api(rabbitmq).virtual_host("told", request.param) as name:
        yield rabbitmq.url(name)


def attempt(stage: Stage, app: App) -> None:
    """Do what the sweep wakes a while later: each open notice is tried once more."""
    stage.pass_time(minutes=6)
    for row in notices(stage):
        if row.closed_at is None:
            notice_delivery.deliver(stage.services, row.id, app.publish)


def test_an_apps_queue_holds_each_notice_once_and_no_more_than_its_bound(
    host: str, sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    confirmed = {"confirm_publish": True}
    with (
        Stage(sqlite_url, redis_url, mosaic, notice_queue_max_messages=str(BOUND)) as stage,
        Connection(host, transport_options=confirmed) as connection,
        brokered_by(host, stage) as services,
    ):
        stage.services = services
        app = App(connection)
        stage.add_app("shop")
        by_queue(stage, "forum")
        for user in range(BOUND + 2):
            ref = stage.registered(f"user-{user}", "shop")
            stage.silent_auth(f"user-{user}", "forum")
            stage.log_out(f"user-{user}", session_ref=str(ref))

        attempt(stage, app)
        first = app.waiting
        for _ in range(3):
            attempt(stage, app)
        unread = [row.last_error for row in notices(stage)]

        for _ in range(BOUND):
            app.take()  # and nothing comes of it
        attempt(stage, app)

        assert (first, app.waiting) == (BOUND, BOUND)
        assert len([one for one in unread if one.startswith("NoticeUndelivered: not taken")]) == 3
        assert len([one for one in unread if "the queue is full, 3 messages wait" in one]) == 2


def test_a_kept_connection_that_broke_meanwhile_is_made_anew(
    host: str, rabbitmq: RabbitMQ, sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with (
        Stage(sqlite_url, redis_url, mosaic) as stage,
        Connection(host, transport_options={"confirm_publish": True}) as connection,
        brokered_by(host, stage) as services,
    ):
        stage.services = services
        app = App(connection)
        stage.add_app("shop")
        by_queue(stage, "forum")
        ref = stage.registered("ada", "shop")
        stage.silent_auth("ada", "forum")
        stage.log_out("ada", session_ref=str(ref))
        attempt(stage, app)

        rabbitmq.control("close_all_connections", "a test")
        connection.collect()
        attempt(stage, App(connection))

        assert "not taken yet" in notices(stage)[0].last_error
