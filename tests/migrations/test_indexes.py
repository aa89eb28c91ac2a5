"""Indexes are replaced while the table is in use: no user waits, and it may be stopped."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from alembic import command
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, text

from migrations.target import HERE, config_for
from models import new_id
from sandbox.postgres_server import PostgresDatabases
from simulator.controls.gates import wait_until
from worker.storage import database
from worker.storage.database import make_engine

BEFORE, AFTER = "0008", "0009"
NEW = {
    "ix_idp_sessions_live_by_check": "(check_expiry_at, id) WHERE (ended_at IS NULL)",
    "ix_idp_sessions_live_by_user": "(user_id) WHERE (ended_at IS NULL)",
}
OLD = {
    "ix_idp_sessions_live_by_expiry": "(expires_at, id) WHERE (ended_at IS NULL)",
    "ix_idp_sessions_live_by_user": "(user_id, expires_at) WHERE (ended_at IS NULL)",
}


@pytest.fixture
def url(postgres: PostgresDatabases) -> Iterator[str]:
    """A PostgreSQL database before the indexes are replaced, with a session."""
    name = f"indexes_{uuid4().hex}"
    url = postgres.create_database(name)
    command.upgrade(config_for(url), BEFORE)
    yield url
    postgres.drop_database(name)


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = make_engine(url, options="-c lock_timeout=20000")
    with engine.begin() as connection:
        add_session(connection)
    yield engine
    engine.dispose()


def add_session(connection: Connection) -> None:
    now = datetime.now(UTC)
    session = new_id()
    connection.execute(
        text(
            "INSERT INTO idp_sessions (id, user_id, session_hash, sealed_session_id, registered_by,"
            " amr, authenticated_at, amr_as_of, created_at, last_used_at, expires_at) VALUES"
            " (:id, 'ada', :hash, :hash, 'shop', '[]', :now, :now, :now, :now, :now)"
        ),
        {"id": session, "hash": session.bytes, "now": now},
    )


def indexes(engine: Engine) -> dict[str, str]:
    """The valid indexes of live sessions, and what they hold."""
    query = text(
        "SELECT relname, pg_get_indexdef(indexrelid) FROM pg_index"
        " JOIN pg_class ON pg_class.oid = indexrelid"
        " WHERE indrelid = 'idp_sessions'::regclass AND indisvalid"
        " AND relname LIKE 'ix_idp_sessions_live_by_%' AND relname NOT LIKE '%_by_age'"
    )
    with engine.connect() as connection:
        return {
            name: definition.partition(" btree ")[2]
            for name, definition in connection.execute(query)
        }


def building(engine: Engine) -> list[int]:
    """The processes of the server that build an index."""
    query = text(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND state = 'active' AND query LIKE 'CREATE INDEX%' AND wait_event_type = 'Lock'"
    )
    with engine.connect() as connection:
        return list(connection.execute(query).scalars())


@contextmanager
def while_one_writes(engine: Engine) -> Iterator[None]:
    """Hold a change of a session, which a build waits for, as in a transaction that takes long."""
    with engine.connect() as writer:
        held = writer.begin()
        writer.execute(text("UPDATE idp_sessions SET user_id = 'eve'"))
        yield
        held.rollback()


@contextmanager
def upgrading(url: str, engine: Engine) -> Iterator[Future[Any]]:
    """Have an upgrade stand amid the build of an index, in a thread."""
    with ThreadPoolExecutor(1) as thread, while_one_writes(engine):
        upgrade = thread.submit(command.upgrade, config_for(url), AFTER)
        wait_until(lambda: bool(building(engine)) or upgrade.done(), 60)
        yield upgrade


def test_others_read_and_write_while_an_index_is_built(url: str, engine: Engine) -> None:
    with upgrading(url, engine) as upgrade:
        with engine.begin() as connection:
            connection.execute(text("SET LOCAL lock_timeout = '10s'"))
            add_session(connection)
            found = connection.execute(text("SELECT count(*) FROM idp_sessions")).scalar_one()
        assert not upgrade.done()
    upgrade.result(timeout=60)

    assert found == 2
    assert indexes(engine) == NEW
    command.downgrade(config_for(url), BEFORE)
    assert indexes(engine) == OLD


def test_a_build_may_take_longer_than_a_transaction_may_do_nothing(
    url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of the migration and that of our turn wait for it, and do nothing meanwhile."""
    options = f"{database.PG_OPTIONS} -c idle_in_transaction_session_timeout=300"
    monkeypatch.setattr(database, "PG_OPTIONS", options)
    seconds = text(
        "SELECT extract(epoch FROM clock_timestamp() - query_start) FROM pg_stat_activity"
        " WHERE pid = ANY(:pids)"
    )
    with upgrading(url, engine) as upgrade, engine.connect() as connection:
        pids = {"pids": building(engine)}
        wait_until(lambda: connection.execute(seconds, pids).scalar_one() > 1, 60)
    upgrade.result(timeout=60)

    assert indexes(engine) == NEW


def test_patience_with_a_table_in_use_begins_when_it_is_first_found_in_use(
    url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An index may have been built for longer than a migration waits for a table."""
    seconds, passed = time.monotonic, [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: seconds() + sum(passed))
    said: list[str] = []
    with engine.connect() as reader:

        def say(line: str) -> None:
            said.append(line)
            if line.startswith("building"):
                passed.append(3600)  # for as long as this build takes
            elif line.startswith("a table is in use"):
                reader.rollback()

        reader.execute(text("SELECT count(*) FROM idp_sessions"))  # the build does not mind it
        config = config_for(url)
        config.attributes["say"] = say
        command.upgrade(config, AFTER)

    assert [line for line in said if line.startswith("a table")] == [
        "a table is in use: trying again in 1 s"
    ]
    assert indexes(engine) == NEW


def test_a_build_that_was_stopped_is_begun_anew(url: str, engine: Engine) -> None:
    with upgrading(url, engine) as upgrade:
        with engine.connect() as connection:
            for pid in building(engine):
                connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        with pytest.raises(CommandError, match="run it again"):
            upgrade.result(timeout=60)
    left = indexes(engine)
    with engine.connect() as connection:
        broken = text("SELECT count(*) FROM pg_index WHERE NOT indisvalid")
        is_broken = connection.execute(broken).scalar_one()

    command.upgrade(config_for(url), AFTER)

    assert (left, is_broken) == (OLD, 1)
    assert indexes(engine) == NEW
    with engine.connect() as connection:
        assert connection.execute(broken).scalar_one() == 0


def test_a_deployment_that_waits_for_its_turn_keeps_no_build_waiting(
    url: str, engine: Engine
) -> None:
    """A build waits for every transaction that saw the database before."""
    with upgrading(url, engine) as first:
        second = subprocess.Popen(  # noqa: S603 - our own words
            [sys.executable, "-u", "-m", "alembic", "upgrade", AFTER],
            cwd=HERE.parent,
            env={"PATH": os.environ["PATH"], "DATABASE_URL": url},  # noqa: TID251
            stdout=subprocess.PIPE,
            text=True,
        )
        assert second.stdout is not None
        waits = second.stdout.readline()
        assert not first.done()
    first.result(timeout=60)
    rest, _ = second.communicate(timeout=120)

    assert waits == "another process migrates: waiting for our turn\n"
    assert "there was nothing to do" in rest
    assert second.returncode == 0
    assert indexes(engine) == NEW


def test_what_0012_builds_waits_for_no_lock_that_keeps_writers_waiting(
    url: str, engine: Engine
) -> None:
    command.upgrade(config_for(url), "0011")
    # As each INSERT and UPDATE of a worker's does, until its commit.
    write = text("LOCK TABLE logouts, user_revocations, login_calls IN ROW EXCLUSIVE MODE")
    queued = text(
        "SELECT count(*) FROM pg_locks JOIN pg_database AS here ON here.oid = pg_locks.database"
        " WHERE here.datname = current_database() AND locktype = 'relation' AND NOT granted"
    )
    with engine.connect() as writer, ThreadPoolExecutor(1) as thread:
        held = writer.begin()
        writer.execute(write)
        upgrade = thread.submit(command.upgrade, config_for(url), "0012")
        wait_until(lambda: bool(building(engine)) or upgrade.done(), 60)
        with engine.begin() as connection:
            waiting = connection.execute(queued).scalar_one()
            connection.execute(write)
        is_done = upgrade.done()
        held.rollback()
    upgrade.result(timeout=60)

    assert (waiting, is_done) == (0, False)
