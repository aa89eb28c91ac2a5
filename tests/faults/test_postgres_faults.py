"""PostgreSQL is restarted under load."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import create_engine, text

from sandbox.postgres_server import PostgresServer
from sandbox.processes import poll_until
from sandbox.redis_server import RedisServer
from sandbox.stack import Stack
from session_client import SessionClient
from tests.faults.conftest import SHORT_TIMES
from tests.faults.looking import registered

LOGOUTS = 20


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    with PostgresServer(fsync=True) as server:
        yield server


@pytest.fixture
def stack(own_redis: RedisServer, own_postgres: PostgresServer) -> Iterator[Stack]:
    url = own_postgres.create_database("sessions")
    with Stack(redis=own_redis, database_url=url, settings=SHORT_TIMES) as stack:
        stack.migrate()
        yield stack


@pytest.mark.parametrize("kill", [False, True], ids=["restarted", "killed"])
def test_a_database_restart_under_load_loses_no_logout(
    stack: Stack, own_postgres: PostgresServer, *, kill: bool
) -> None:
    key = stack.add_app("shop")
    worker = stack.worker("-c", "4")
    stack.beat()
    users = [f"user-{number}" for number in range(LOGOUTS)]
    with SessionClient(broker_url=stack.broker_url, app_id="shop", app_key=key) as client:
        sessions = {user: registered(stack, client, user) for user in users}

        def log_out(user: str) -> None:
            client.logout(user_id=user, session_ref=sessions[user].session_ref, timeout=90)
            if user == users[LOGOUTS // 3]:
                own_postgres.restart(kill=kill)

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(log_out, users))
        poll_until(lambda: not stack.mosaic.live_sessions(), 120, what="Mosaic to be told of all")

    assert worker.is_alive
    engine = create_engine(str(stack.environment["DATABASE_URL"]))
    with engine.connect() as connection:
        poll_until(
            lambda: (
                connection.execute(
                    text("SELECT count(*) FROM logouts WHERE outcome = 'confirmed'")
                ).scalar_one()
                == LOGOUTS
            ),
            90,
            what="all deliveries to be closed",
        )
        query = text("SELECT count(*), sum(sessions_ended) FROM logout_requests")
        assert tuple(connection.execute(query).one()) == (LOGOUTS, LOGOUTS)
    engine.dispose()
