"""The store's transactions: no lost update, no shared socket, errors in our own words."""

from __future__ import annotations

import os
import socket
import sqlite3
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import Engine, Select, column, make_url, select, table, text
from sqlalchemy.exc import IntegrityError

from sandbox.ports import free_port
from tests.stage import Stage
from worker import wiring
from worker.errors import StoreDiskFails, StoreUnavailable
from worker.operations.dependencies import check_takes_writes
from worker.settings import model
from worker.storage.database import SQLITE_BUSY_TIMEOUT_MS, Store, make_engine

WRITERS, ROUNDS = 6, 20
TCP: Final = ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT")
SHOWN: Final = ("application_name", "lock_timeout", "work_mem", "statement_timeout", "timezone")


def test_read_then_write_loses_no_update(store_url: str) -> None:
    store = Store(make_engine(store_url, pool_size=WRITERS))
    with store.write() as connection:
        connection.execute(text("CREATE TABLE counter (n INTEGER NOT NULL)"))
        connection.execute(text("INSERT INTO counter VALUES (0)"))

    def count(_: int) -> None:
        for _round in range(ROUNDS):
            with store.write() as connection:
                query: Select[int] = select(column("n")).select_from(table("counter"))
                seen = connection.execute(query.with_for_update()).scalar_one()
                connection.execute(text("UPDATE counter SET n = :n"), {"n": seen + 1})

    with ThreadPoolExecutor(WRITERS) as threads:
        list(threads.map(count, range(WRITERS)))

    with store.read() as connection:
        assert connection.execute(text("SELECT n FROM counter")).scalar_one() == WRITERS * ROUNDS
    store.close()


def test_a_reader_on_sqlite_waits_for_no_writer(sqlite_url: str) -> None:
    store = Store(make_engine(sqlite_url))
    path = sqlite_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as writer:
        writer.isolation_level = None
        writer.execute("BEGIN IMMEDIATE")

        with store.read() as connection:
            assert connection.execute(text("SELECT count(*) FROM apps")).scalar_one() == 0

        writer.execute("ROLLBACK")
    store.close()


def test_a_database_without_space_is_unavailable_and_says_so(sqlite_url: str) -> None:
    def write_much() -> None:
        with store.write() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 1")
            connection.exec_driver_sql("CREATE TABLE large AS SELECT zeroblob(1000000)")

    with closing(Store(make_engine(sqlite_url, pool_size=1))) as store:
        with pytest.raises(StoreDiskFails, match=r"the database's disk is full .*: free space"):
            write_much()

        check_takes_writes(store)  # one that needs no more space is done


def test_a_locked_sqlite_is_unavailable_after_the_busy_timeout(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "worker.storage.database.SQLITE_BUSY_TIMEOUT_MS", SQLITE_BUSY_TIMEOUT_MS // 100
    )
    store = Store(make_engine(sqlite_url))
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as writer:
        writer.isolation_level = None
        writer.execute("BEGIN IMMEDIATE")

        with pytest.raises(StoreUnavailable, match="file locked"), store.write():
            pass

        writer.execute("ROLLBACK")
    store.close()


def test_a_database_that_is_away_is_unavailable() -> None:
    store = Store(make_engine(f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/nothing"))

    with pytest.raises(StoreUnavailable), store.read():
        pass

    store.close()


@contextmanager
def engine_of(url: str) -> Iterator[Engine]:
    engine = make_engine(url)
    try:
        yield engine
    finally:
        engine.dispose()


def tcp_options(engine: Engine) -> dict[str, int]:
    """What the system was told about the socket of a connection."""
    connection = engine.raw_connection()
    driver: Any = connection.driver_connection
    with closing(socket.socket(fileno=os.dup(driver.pgconn.socket))) as found:
        told = {name: found.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in TCP}
    connection.close()
    return told


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere they are called otherwise")
def test_a_postgresql_that_goes_silent_is_given_up_within_seconds(postgres_url: str) -> None:
    with engine_of(postgres_url) as engine:
        told = tcp_options(engine)

    assert told == {
        "TCP_KEEPIDLE": 5,
        "TCP_KEEPINTVL": 5,
        "TCP_KEEPCNT": 3,
        "TCP_USER_TIMEOUT": 15_000,
    }


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere they are called otherwise")
def test_what_the_url_says_of_a_connection_wins(postgres_url: str) -> None:
    theirs = {
        "keepalives_idle": "77",
        "tcp_user_timeout": "88000",
        "application_name": "theirs",
        "options": "-c lock_timeout=4321 -c work_mem=7MB",
    }
    url = make_url(postgres_url).update_query_dict(theirs)

    with engine_of(url.render_as_string(hide_password=False)) as engine:
        told = tcp_options(engine)
        with engine.connect() as connection:
            shown = [connection.execute(text(f"SHOW {name}")).scalar_one() for name in SHOWN]

    assert (told["TCP_KEEPIDLE"], told["TCP_USER_TIMEOUT"]) == (77, 88_000)
    assert told["TCP_KEEPINTVL"] == 5
    assert shown == ["theirs", "4321ms", "7MB", "15s", "UTC"]


def test_a_broken_rule_is_not_called_unavailable_and_quotes_no_values(store_url: str) -> None:
    store = Store(make_engine(store_url))
    insert = text("INSERT INTO app_keys (id, app_id, kid) VALUES (:id, :app, :kid)")

    with pytest.raises(IntegrityError) as caught, store.write() as connection:
        connection.execute(insert, {"id": "0" * 32, "app": "canary-app", "kid": "canary-kid"})

    assert "[SQL parameters hidden" in str(caught.value)
    store.close()


@pytest.mark.filterwarnings("ignore:This process.*fork:DeprecationWarning")
def test_a_forked_child_makes_its_own_connections(stage: Stage) -> None:
    inherited = wiring.current()
    assert inherited is stage.services

    child = os.fork()
    if child == 0:  # pragma: no cover - counted in the parent only
        # Whatever happens here, the child must end here and not run the rest of the suite.
        code = 1
        try:
            model.current.cache_clear()
            mine = wiring.current()
            code = 0 if mine is not inherited and mine.store is not inherited.store else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert wiring.current() is inherited


def test_a_sqlite_file_is_in_wal_mode(sqlite_url: str) -> None:
    store = Store(make_engine(sqlite_url))

    with store.read() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
        assert connection.execute(text("PRAGMA foreign_keys")).scalar_one() == 1
        # 2 is FULL: a commit is on the disk before an app hears of it.
        assert connection.execute(text("PRAGMA synchronous")).scalar_one() == 2

    store.close()
    assert Path(sqlite_url.removeprefix("sqlite:///")).exists()
