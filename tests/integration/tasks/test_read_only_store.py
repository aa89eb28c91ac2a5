"""A PostgreSQL that takes no writes, as a replica after a failover: it passes by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Select, func, literal_column, make_url, select, text
from structlog.testing import capture_logs

from sandbox.postgres_server import PostgresDatabases
from session_client.contract import Reason, Verdict
from simulator.server import SimulatorServer
from tests.integration.outbox.propagation_rig import by_queue, owed, the_notice
from tests.stage import Stage, redis_client
from worker.errors import StoreUnavailable
from worker.maintenance.expire import expire_sessions
from worker.storage.database import Store, make_engine
from worker.tasks import maintenance as maintenance_tasks
from worker.tasks import notices as notice_tasks

POOL = 4
NEXT: Select[Any] = select(func.nextval(literal_column("'written'")))


class Failover:
    """Makes a database read-only and takes that back; all who connect from then on find it so."""

    def __init__(self, server: PostgresDatabases, url: str) -> None:
        self._server = make_url(server.url()).set(drivername="postgresql")
        self._database = sql.Identifier(str(make_url(url).database))

    def to_replica(self) -> None:
        self._alter("SET default_transaction_read_only = on")

    def back(self) -> None:
        self._alter("RESET default_transaction_read_only")

    def _alter(self, how: str) -> None:
        url = self._server.render_as_string(hide_password=False)
        with psycopg.connect(url, autocommit=True, connect_timeout=60) as connection:
            connection.execute(sql.SQL(f"ALTER DATABASE {{}} {how}").format(self._database))


@pytest.fixture
def failover(postgres: PostgresDatabases, postgres_url: str) -> Failover:
    return Failover(postgres, postgres_url)


@pytest.fixture
def shared(postgres_url: str, redis_url: str, mosaic: SimulatorServer) -> Iterator[Stage]:
    """Two apps, and a session that both share."""
    with Stage(postgres_url, redis_url, mosaic) as stage:
        stage.add_app("shop")
        by_queue(stage, "forum")
        yield stage


def fail_over(stage: Stage, failover: Failover) -> None:
    failover.to_replica()
    stage.services.store.close()  # it has ended all connections


def log_out(stage: Stage) -> Any:
    return stage.log_out(session_ref=str(stage.sessions()[0].id))


@pytest.mark.parametrize(
    ("ask", "yes"),
    [
        (lambda stage: stage.silent_auth("ada", "forum"), Verdict.AUTHENTICATED),
        (log_out, Verdict.OK),
        (lambda stage: stage.remember(stage.login("ada", "shop")), Verdict.OK),
    ],
    ids=["silent_auth", "logout", "register"],
)
def test_who_asks_while_the_store_is_read_only_is_told_to_try_later(
    shared: Stage, failover: Failover, ask: Callable[[Stage], Any], yes: Verdict
) -> None:
    shared.registered("ada", "shop")
    fail_over(shared, failover)

    with capture_logs() as logs:
        refused = ask(shared)
    failover.back()
    shared.redis.flushall()  # identical requests are told the same for a moment
    after = ask(shared)

    assert (refused.verdict, refused.reason) == (
        Verdict.TEMPORARILY_UNAVAILABLE,
        Reason.STORE_UNAVAILABLE,
    )
    assert [log["detail"] for log in logs if log["event"] == "request_put_off"] == [
        "the database is read-only, a replica perhaps (ReadOnlySqlTransaction)"
    ]
    assert after.verdict is yes


def test_a_sweep_of_a_read_only_store_is_skipped_and_the_next_one_works(
    shared: Stage, failover: Failover, redis_url: str
) -> None:
    owed(shared)
    shared.pass_time(seconds=11)
    fail_over(shared, failover)

    with redis_client(redis_url) as client, capture_logs() as logs:
        client.delete("idp", "notify")
        maintenance_tasks.sweep()
        assert (client.llen("idp"), client.llen("notify")) == (0, 0)
        failover.back()
        maintenance_tasks.sweep()
        assert (client.llen("idp"), client.llen("notify")) == (1, 1)

    assert [log["event"] for log in logs] == ["sweep_skipped"]


def test_a_delivery_met_by_a_read_only_store_is_left_to_the_sweep(
    shared: Stage, failover: Failover
) -> None:
    notice_id = owed(shared)
    fail_over(shared, failover)

    notice_tasks.deliver(str(notice_id))
    failover.back()

    assert (the_notice(shared).attempts, the_notice(shared).closed_at) == (0, None)
    notice_tasks.deliver(str(notice_id))
    assert the_notice(shared).attempts == 1


def test_maintenance_of_a_read_only_store_is_unavailable(shared: Stage, failover: Failover) -> None:
    shared.registered("ada", "shop")
    shared.pass_time(days=15)
    fail_over(shared, failover)

    with pytest.raises(StoreUnavailable, match="read-only"):
        expire_sessions(shared.services, override_guard=True)
    failover.back()

    assert expire_sessions(shared.services, override_guard=True).rows["expired"] == 1


# --- connections


def by_store(store: Store) -> None:
    store.run(NEXT, {})


def by_writing(store: Store) -> None:
    with store.write() as connection:
        connection.execute(NEXT)


@pytest.fixture
def store(postgres_url: str) -> Iterator[Store]:
    store = Store(make_engine(postgres_url, pool_size=POOL))
    with store.write() as connection:
        connection.execute(text("CREATE SEQUENCE written"))
    yield store
    store.close()


@pytest.mark.parametrize("write", [by_store, by_writing])
def test_connections_to_a_replica_are_given_up_at_the_first_write_that_fails(
    store: Store, failover: Failover, write: Callable[[Store], None]
) -> None:
    failover.to_replica()
    store.close()
    lent = [store.engine.raw_connection() for _ in range(POOL)]
    for connection in lent:
        connection.close()

    with pytest.raises(StoreUnavailable, match="read-only"):
        write(store)
    failover.back()

    for _ in range(2 * POOL):
        write(store)
    assert store.engine.pool.checkedout() == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("write", [by_store, by_writing])
def test_who_reads_while_connections_are_given_up_reads_on(
    store: Store, failover: Failover, write: Callable[[Store], None]
) -> None:
    failover.to_replica()
    store.close()

    with store.read() as connection:
        before = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
        with pytest.raises(StoreUnavailable, match="read-only"):
            write(store)
        after = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()

    assert before == after
