"""The schema changes while users come and go (scenario F23).

How long somebody is blocked is read from PostgreSQL itself, so that a slow machine proves nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, create_engine, inspect, text

from migrations.target import HERE, head
from sandbox.postgres_server import PostgresServer
from sandbox.processes import poll_until
from sandbox.redis_server import RedisServer
from sandbox.stack import Stack
from session_client import SessionClient, Verdict
from tests.faults.conftest import SHORT_TIMES
from tests.faults.looking import registered
from tests.heard import told

COLUMN = "colour"
BLOCKED_SECONDS = 5.0  # then a worker gives up by its own lock_timeout
ADDITIVE = f'''"""Add a column

Why: a test.
Safe while the previous release runs: yes.
"""

import sqlalchemy as sa
from alembic import op

revision = "9999"
down_revision = "{head()}"


def upgrade():
    op.add_column("idp_sessions", sa.Column("{COLUMN}", sa.String()))


def downgrade():
    op.drop_column("idp_sessions", "{COLUMN}")
'''
# An exclusive lock is only ever the migration's; everybody else waits behind it.
WAITING = text(
    "SELECT mode = 'AccessExclusiveLock', waitstart,"
    " extract(epoch FROM clock_timestamp() - waitstart)"
    " FROM pg_locks WHERE NOT granted AND locktype = 'relation' AND waitstart IS NOT NULL"
)


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
def stack(own_redis: RedisServer, own_postgres: PostgresServer) -> Iterator[Stack]:
    url = own_postgres.create_database("sessions")
    with Stack(redis=own_redis, database_url=url, settings=SHORT_TIMES) as stack:
        stack.migrate()
        yield stack


@pytest.fixture
def engine(stack: Stack) -> Iterator[Engine]:
    engine = create_engine(stack.environment["DATABASE_URL"])
    yield engine
    engine.dispose()


@pytest.fixture
def next_release(tmp_path: Path) -> Path:
    """Return the Alembic configuration of a release with one more, additive migration."""
    (tmp_path / "9999_add_a_column.py").write_text(ADDITIVE)
    ini = tmp_path / "alembic.ini"
    ini.write_text(
        f"[alembic]\nscript_location = {HERE}\nprepend_sys_path = {HERE.parent}\n"
        f"path_separator = newline\nversion_locations = {HERE / 'versions'}\n {tmp_path}\n"
    )
    return ini


class Waits:
    """Who waited for a table while this watched."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.attempts: set[datetime] = set()  # of the migration, by when each began to wait
        self.others: list[float] = []  # seconds

    @contextmanager
    def watched(self) -> Iterator[None]:
        stop = threading.Event()

        def watch() -> None:
            with self._engine.connect().execution_options(
                isolation_level="AUTOCOMMIT"
            ) as connection:
                while not stop.wait(0.02):
                    self._look(connection)

        with ThreadPoolExecutor(1) as threads:
            watching = threads.submit(watch)
            try:
                yield
            finally:
                stop.set()
            watching.result()

    def _look(self, connection: Connection) -> None:
        for is_migration, since, seconds in connection.execute(WAITING):
            if is_migration:
                self.attempts.add(since)
            else:
                self.others.append(float(seconds))


@contextmanager
def users_come_and_go(stack: Stack, client: SessionClient) -> Iterator[list[Verdict]]:
    """One writer: each user registers, is signed in silently and logs out."""
    stop = threading.Event()
    verdicts: list[Verdict] = []

    def live() -> None:
        number = 0
        while not stop.is_set():
            user = f"user-{number}"
            session = registered(stack, client, user)
            ask = partial(client.silent_auth, user_id=user, timeout=20)
            verdicts.append(told(ask)[0])
            client.logout(user_id=user, session_ref=session.session_ref, timeout=20)
            number += 1

    with ThreadPoolExecutor(1) as threads:
        living = threads.submit(live)
        try:
            yield verdicts
        finally:
            stop.set()
        living.result()


@contextmanager
def long_reader(engine: Engine) -> Iterator[None]:
    """Hold a table as a backup would."""
    with engine.connect() as connection:
        connection.execute(text("SELECT count(*) FROM idp_sessions"))
        yield


def columns(engine: Engine) -> set[str]:
    return {column["name"] for column in inspect(engine).get_columns("idp_sessions")}


@pytest.mark.usefixtures("patient_mosaic")
def test_a_migration_up_and_down_beside_a_long_reader_blocks_no_request_for_long(
    stack: Stack, engine: Engine, next_release: Path
) -> None:
    key = stack.add_app("shop")
    worker = stack.worker("-c", "4")
    with (
        SessionClient(broker_url=stack.broker_url, app_id="shop", app_key=key) as client,
        users_come_and_go(stack, client) as verdicts,
        ThreadPoolExecutor(1) as operator,
    ):
        for words in (("upgrade", "head"), ("downgrade", "-1")):
            waits = Waits(engine)
            with waits.watched():
                with long_reader(engine):
                    done = operator.submit(stack.run, "alembic", "-c", str(next_release), *words)
                    poll_until(
                        lambda: (
                            (len(waits.attempts) >= 2 and waits.others)  # noqa: B023
                            or done.done()  # noqa: B023
                        ),
                        60,
                        what="the migration to try again, and somebody to wait meanwhile",
                    )
                    assert not done.done(), done.result()
                done.result(timeout=60)

            # It waits for half a second at a time; without that, as long as the reader reads.
            assert max(waits.others) < BLOCKED_SECONDS
            assert (COLUMN in columns(engine)) == (words[0] == "upgrade")
            served = len(verdicts)
            poll_until(lambda: len(verdicts) > served + 3, 60, what="users to go on")  # noqa: B023

    assert set(verdicts) == {Verdict.AUTHENTICATED}
    assert worker.is_alive
