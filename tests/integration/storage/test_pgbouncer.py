"""Behind PgBouncer, which gives each transaction whatever server is free.

What one transaction tells its server, and does not take back, the next one of anybody finds there.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from alembic import command
from sqlalchemy import Select, column, func, make_url, select, table, text

from migrations.target import config_for, head, revision_of
from sandbox.pgbouncer import PgBouncer, find_pgbouncer
from sandbox.postgres_server import PostgresDatabases
from sandbox.processes import poll_until
from session_client.contract import Verdict
from simulator.server import SimulatorServer
from tests.databases import set_isolation
from tests.integration.storage.pg_locks import ADVISORY_LOCKS
from tests.stage import Stage
from worker.errors import StoreUnavailable
from worker.storage import database
from worker.storage.database import Store, make_engine
from worker.storage.pooler import is_pooled

pytestmark = pytest.mark.skipif(find_pgbouncer() is None, reason="install the package pgbouncer")

ADVISORY_LOCK = 0x4D6F7361  # as in migrations/env.py, which only Alembic can import
NAMES = (
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "TimeZone",
    "transaction_isolation",
)
SHOWN: Select[Any] = select(*(func.current_setting(name) for name in NAMES))
OURS = ("15s", "5s", "30s", "UTC", "read committed")
USERS = 12


@pytest.fixture(scope="module", params=["as it comes", "options ignored"])
def pooler(request: pytest.FixtureRequest, postgres: PostgresDatabases) -> Iterator[PgBouncer]:
    ignoring = {"ignore_startup_parameters": "options"}
    with PgBouncer(postgres.url(), ignoring if request.param != "as it comes" else {}) as pooler:
        yield pooler


@pytest.fixture
def pooled_url(pooler: PgBouncer, postgres_url: str) -> str:
    set_isolation(postgres_url, "repeatable read")
    return pooler.url(postgres_url)


@pytest.fixture
def store(pooled_url: str) -> Iterator[Store]:
    with closing(Store(make_engine(pooled_url))) as store:
        yield store


def test_users_come_go_and_are_signed_in_at_once(
    pooled_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    users = [f"user-{number}" for number in range(USERS)]
    with Stage(pooled_url, redis_url, mosaic) as stage, ThreadPoolExecutor(USERS) as threads:
        stage.add_app("shop")
        stage.add_app("forum")
        sessions = dict(zip(users, threads.map(stage.registered, users), strict=True))
        for _ in range(7):  # the driver prepares what it has run five times
            asked = list(threads.map(stage.silent_auth, users))
            assert {answer.verdict for answer in asked} == {Verdict.AUTHENTICATED}
        ended = list(threads.map(lambda u: stage.log_out(u, session_ref=str(sessions[u])), users))
        asked = list(threads.map(stage.silent_auth, users))

    assert {receipt.sessions_ended for receipt in ended} == {1}
    assert {answer.verdict for answer in asked} == {Verdict.LOGIN_REQUIRED}


def by_reading(store: Store) -> Any:
    with store.read() as connection:
        return tuple(connection.execute(SHOWN).one())


def by_writing(store: Store) -> Any:
    with store.write() as connection:
        return tuple(connection.execute(SHOWN).one())


def by_running(store: Store) -> Any:
    (row,) = store.run(SHOWN, {})
    return tuple(row)


def test_each_transaction_has_our_time_outs_and_leaves_none_behind(
    store: Store, pooled_url: str
) -> None:
    plain = make_url(pooled_url).set(drivername="postgresql")
    with psycopg.connect(plain.render_as_string(hide_password=False), autocommit=True) as stranger:
        (before,) = stranger.execute("SHOW statement_timeout").fetchone() or ()

        assert {by_reading(store), by_writing(store), by_running(store)} == {OURS}

        (after,) = stranger.execute("SHOW statement_timeout").fetchone() or ()
    assert before == after == "0"


def test_what_the_url_says_wins(pooled_url: str) -> None:
    url = make_url(pooled_url).update_query_dict({"options": "-c lock_timeout=4321 --work_mem=7MB"})
    with (
        closing(Store(make_engine(url.render_as_string(hide_password=False)))) as store,
        store.read() as connection,
    ):
        told = connection.execute(text("SHOW lock_timeout")).scalar_one()
        more = connection.execute(text("SHOW work_mem")).scalar_one()

    assert (told, more) == ("4321ms", "7MB")


def test_a_statement_that_takes_too_long_is_given_up(
    pooled_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "PG_OPTIONS", "-c statement_timeout=300")
    slow: Select[Any] = select(func.pg_sleep(30))
    with closing(Store(make_engine(pooled_url))) as store:
        with pytest.raises(StoreUnavailable, match="QueryCanceled"):
            store.run(slow, {})
        with pytest.raises(StoreUnavailable, match="QueryCanceled"), store.read() as connection:
            connection.execute(slow)


def test_nothing_is_prepared(store: Store) -> None:
    prepared: Select[Any] = select(func.count()).select_from(table("pg_prepared_statements"))
    for _ in range(10):
        assert store.run(prepared, {}) == [(0,)]
        with store.read() as connection:
            assert connection.execute(prepared).scalar_one() == 0
            assert is_pooled(connection.connection.driver_connection)


def test_a_statement_in_turn_holds_its_lock_for_one_transaction(store: Store) -> None:
    is_held: Select[Any] = select(func.count()).select_from(text(ADVISORY_LOCKS))

    assert store.run_in_turn(ADVISORY_LOCK, is_held, {}) == [(1,)]
    assert store.run(is_held, {}) == [(0,)]


def test_a_deployment_waits_for_its_turn_and_leaves_no_lock(
    pooler: PgBouncer, postgres: PostgresDatabases
) -> None:
    name = f"pooled_{uuid4().hex}"
    straight = postgres.create_database(name)
    advisory = table("pg_locks", column("locktype"), column("granted"))
    all_of_them = select(func.count()).where(advisory.c.locktype == "advisory")
    held = all_of_them.where(advisory.c.granted)
    config, said = config_for(pooler.url(straight)), list[str]()
    config.attributes["say"] = said.append
    engine = make_engine(straight)
    with engine.connect() as other, ThreadPoolExecutor(1) as thread:
        turn = other.begin()
        other.execute(select(func.pg_advisory_xact_lock(ADVISORY_LOCK)))
        deploying = thread.submit(command.upgrade, config, "head")
        poll_until(lambda: said or deploying.done(), 60)
        assert not deploying.done()
        turn.commit()
        deploying.result(60)

        assert revision_of(other) == head()
        assert other.execute(held).scalar_one() == 0
    engine.dispose()
    postgres.drop_database(name)
