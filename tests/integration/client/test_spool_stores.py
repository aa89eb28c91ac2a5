"""What a spool asks of its store, on SQLite and on PostgreSQL, alone and from many at once."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

import psycopg
import pytest

from session_client import (
    AppKey,
    LogoutSpool,
    PostgresSpool,
    SessionClient,
    SpoolCounts,
    SpooledLogout,
    SqliteSpool,
)
from session_client.spool import Settlement, sql
from tests.integration.client.client_rig import KEY, Responder

Store: TypeAlias = SqliteSpool | PostgresSpool
Opener = Callable[[], Any]


@pytest.fixture(params=["sqlite", "postgresql"])
def connect(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """A connection of the app's own, to the database that the spool is in."""
    if request.param == "sqlite":
        return lambda: sqlite3.connect(tmp_path / "app.db", timeout=60)
    url = str(request.getfixturevalue("postgres_url")).replace("+psycopg", "")
    return lambda: psycopg.connect(url)


@pytest.fixture
def store(connect: Opener, tmp_path: Path) -> Store:
    return open_store(connect, tmp_path)


def open_store(connect: Opener, folder: Path) -> Store:
    with closing(connect()) as connection:
        if isinstance(connection, sqlite3.Connection):
            return SqliteSpool(folder / "app.db")
    return PostgresSpool(connect)


def add(store: Store, *names: str) -> None:
    for name in names:
        store.add(SpooledLogout(name, f"envelope of {name}"))


def names(found: list[SpooledLogout]) -> list[str]:
    return [one.request_id for one in found]


def test_the_oldest_are_claimed_first_and_by_one_at_a_time(store: Store) -> None:
    add(store, "a", "b", "c")
    assert names(store.claim("one", 2, 60)) == ["a", "b"]
    assert names(store.claim("two", 2, 60)) == ["c"]
    assert store.claim("three", 2, 60) == []
    assert store.counts() == SpoolCounts(waiting=3, refused=0)


def test_a_claim_ends_with_its_lease_and_whoever_had_it_settles_nothing_then(store: Store) -> None:
    add(store, "a")
    assert [one.attempts for one in store.claim("dead", 1, 0.01)] == [1]
    time.sleep(0.05)
    (again,) = store.claim("living", 1, 60)
    assert again.attempts == 2

    store.settle("dead", Settlement(acknowledged=["a"]))
    assert store.counts().waiting == 1
    store.settle("living", Settlement(acknowledged=["a"]))
    assert store.counts().waiting == 0


def test_what_became_of_a_batch_is_written_in_one_go(store: Store) -> None:
    add(store, "gone", "refused", "anew", "later", "soon", "untold")
    store.claim("one", 10, 60)
    store.settle(
        "one",
        Settlement(
            acknowledged=["gone"],
            refused={"refused": "unauthorized: wrong_key"},
            replaced={"anew": SpooledLogout("new-id", "new envelope")},
            released={"later": 3600.0, "soon": 0.0},
        ),
    )

    assert store.counts() == SpoolCounts(waiting=4, refused=1)
    (refused,) = store.refused()
    assert (refused.request_id, refused.refused) == ("refused", "unauthorized: wrong_key")
    due = store.claim("two", 10, 60)
    assert [(one.request_id, one.envelope) for one in due] == [
        ("new-id", "new envelope"),  # in its old place
        ("soon", "envelope of soon"),
    ]


def test_one_added_again_under_its_id_is_there_once_and_due(store: Store) -> None:
    add(store, "a")
    store.claim("one", 1, 60)
    store.settle("one", Settlement(refused={"a": "why"}))
    store.add(SpooledLogout("a", "2"))

    assert store.refused() == []
    (again,) = store.claim("two", 5, 60)
    assert again.envelope == "2"
    store.settle("two", Settlement(released={"a": 3600.0}))
    store.add(SpooledLogout("a", "3"))
    (again,) = store.claim("three", 5, 60)
    assert again.envelope == "3"


def test_who_only_looks_waits_for_no_transaction_of_the_app(
    store: Store, connect: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "_BUSY_SECONDS", 0.1)
    with closing(connect()) as own:
        store.add(SpooledLogout("a", "1"), own)  # not committed yet

        assert store.counts() == SpoolCounts(waiting=0, refused=0)
        assert store.refused() == []


def test_who_has_no_thread_waits_for_a_lock_as_long_as_is_said_and_may_try_again(
    store: Store, connect: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "_BUSY_SECONDS", 3600.0)
    client = SessionClient(
        broker_url="redis://127.0.0.1:1/0", app_id="shop", app_key=AppKey.generate()
    )
    spool = LogoutSpool(client, store, thread=False)
    with closing(connect()) as own:
        is_sqlite = isinstance(own, sqlite3.Connection)
        own.cursor().execute("BEGIN IMMEDIATE" if is_sqlite else "LOCK TABLE spooled_logouts")
        for within in (0.05, 0.0):
            with pytest.raises((sqlite3.OperationalError, psycopg.errors.LockNotAvailable)):
                spool.logout(user_id="ada", session_id="s", within=within)

    spool.logout(user_id="ada", session_id="s", within=3600.0)
    assert store.counts().waiting == 1


def test_with_the_app_s_own_connection_it_is_part_of_its_transaction(
    store: Store, connect: Opener
) -> None:
    client = SessionClient(
        broker_url="redis://127.0.0.1:1/0", app_id="shop", app_key=AppKey.generate()
    )
    spool = LogoutSpool(client, store, thread=False)
    with closing(connect()) as own:
        own.cursor().execute("CREATE TABLE accounts (name TEXT)")
        spool.logout(user_id="ada", session_id="s", connection=own)
        own.rollback()
    assert store.counts().waiting == 0

    with closing(connect()) as own:
        spool.logout(user_id="ada", session_id="s", connection=own)
        assert store.counts().waiting == 0  # nobody else sees it yet
        own.commit()
    assert store.counts().waiting == 1


def test_many_may_make_and_use_one_table_at_once(connect: Opener, tmp_path: Path) -> None:
    def use(number: int) -> None:
        mine = open_store(connect, tmp_path)
        add(mine, f"{number}")

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(use, range(24)))

    assert open_store(connect, tmp_path).counts().waiting == 24


def test_a_new_file_that_somebody_writes_to_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with (
        closing(sqlite3.connect(path, check_same_thread=False, isolation_level=None)) as own,
        ThreadPoolExecutor(1) as threads,
    ):
        own.execute("BEGIN IMMEDIATE")  # as another process that makes its tables there
        making = threads.submit(SqliteSpool, path)
        wait([making], 0.2)
        own.execute("COMMIT")

        assert making.result(60).counts() == SpoolCounts(waiting=0, refused=0)


def test_of_two_thousand_rows_four_drainers_take_each_once_while_the_app_adds_more(
    store: Store, connect: Opener, tmp_path: Path
) -> None:
    with closing(connect()) as connection:
        for number in range(2000):
            store.add(SpooledLogout(f"{number}", "x"), connection)
        connection.commit()

    def drain(name: str) -> list[str]:
        mine, taken = open_store(connect, tmp_path), []
        while claimed := names(mine.claim(name, 200, 60)):
            mine.settle(name, Settlement(acknowledged=claimed))
            taken += claimed
        return taken

    with ThreadPoolExecutor(5) as threads:
        drained = list(threads.map(drain, ["a", "b", "c", "d"]))
        added = threads.submit(add, store, "late")
    added.result()

    taken = Counter(name for one in drained for name in one)
    assert set(taken.values()) == {1}
    assert sum(taken.values()) + store.counts().waiting == 2001


def test_what_two_drainers_deliver_is_published_once(
    store: Store, connect: Opener, redis_url: str, tmp_path: Path
) -> None:
    with (
        Responder(redis_url) as worker,
        SessionClient(broker_url=redis_url, app_id="shop", app_key=KEY) as client,
        ThreadPoolExecutor(2) as threads,
    ):
        spool = LogoutSpool(client, store, thread=False)
        with closing(connect()) as connection:
            for number in range(500):
                spool.logout(user_id="ada", session_id=f"s{number}", connection=connection)
            connection.commit()
        drains = [
            LogoutSpool(client, open_store(connect, tmp_path), thread=False) for _ in range(2)
        ]
        assert sum(threads.map(lambda one: one.deliver(timeout=60), drains)) == 500

    ids = [request["request_id"] for request in worker.requests]
    assert len(ids) == len(set(ids)) == 500
    assert store.counts() == SpoolCounts(waiting=0, refused=0)
