"""Statements handed to the driver answer, and fail, as they do in SQLAlchemy's own hands."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Integer,
    MetaData,
    Select,
    String,
    Table,
    bindparam,
    func,
    insert,
    literal,
    literal_column,
    select,
    text,
)
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from models import App, AppSession, Base, IdpSession, SessionEvent, new_id
from sandbox.ports import free_port
from sandbox.postgres_server import PostgresServer
from simulator.controls.gates import wait_until
from tests.integration.storage.pg_locks import ADVISORY_LOCKS
from worker.errors import StoreUnavailable
from worker.sessions import audit
from worker.sessions.queries import _CANDIDATES
from worker.sign_in import slide
from worker.storage import database
from worker.storage.database import Store, make_engine
from worker.storage.libpq import PreparedStatement
from worker.storage.prepared import DriverStatement

NOW = datetime(2031, 3, 9, 11, 30, 15, 123456, tzinfo=UTC)
POOL = 4
LOCK = -(2**62)  # as the locks of users are: half of them negative
WHO_AM_I: Select[Any] = select(func.pg_backend_pid())
SLEEP: Select[Any] = select(func.pg_sleep(bindparam("seconds", type_=Float)), literal("theirs"))
DIE: Select[Any] = select(func.pg_terminate_backend(func.pg_backend_pid()))
SAY: Select[Any] = select(bindparam("word", type_=String))
LOCKS_HELD: Select[Any] = select(func.count()).select_from(text(ADVISORY_LOCKS))
PREPARED: Select[Any] = (
    select(func.count())
    .select_from(text("pg_prepared_statements"))
    .where(text("statement LIKE '%pg_prepared_statements%' AND name LIKE 'ours%'"))
)

Run = Callable[[Store, Select[Any], Mapping[str, Any]], Any]


@contextmanager
def store_of(url: str, pool_size: int = POOL) -> Iterator[Store]:
    """A store that has all its connections back in the end."""
    store = Store(make_engine(url, pool_size=pool_size))
    try:
        yield store
        assert store.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    finally:
        store.close()


@pytest.fixture
def store(postgres_url: str) -> Iterator[Store]:
    with store_of(postgres_url) as store:
        yield store


@pytest.fixture
def both(store_url: str) -> Iterator[Store]:
    """A store on each database in turn."""
    with store_of(store_url) as store:
        yield store


def by_driver(store: Store, statement: Select[Any], parameters: Mapping[str, Any]) -> Any:
    return DriverStatement(statement, store.engine.dialect).run(store.engine, parameters)


def by_sqlalchemy(store: Store, statement: Select[Any], parameters: Mapping[str, Any]) -> Any:
    with store.engine.begin() as connection:
        return connection.execute(statement, parameters).all()


def by_store(store: Store, statement: Select[Any], parameters: Mapping[str, Any]) -> Any:
    return store.run(statement, parameters)


def by_reading(store: Store, statement: Select[Any], parameters: Mapping[str, Any]) -> Any:
    with store.read() as connection:
        return connection.execute(statement, parameters).all()


def typed(rows: Sequence[Sequence[Any]]) -> list[list[tuple[type, Any, Any]]]:
    """Return each value with its type and zone: moments are equal in any zone."""
    return [[(type(value), value, getattr(value, "tzinfo", None)) for value in row] for row in rows]


def add_sessions(store: Store) -> UUID:
    """Add an app, a session of each kind and one of somebody else; return the oldest one's id."""
    app = {
        "app_id": "shop",
        "client_id": "client",
        "sealed_client_secret": b"sealed",
        "amr_all_of": [],
        "amr_any_of": [],
        "capabilities": [],
        "created_at": NOW,
    }
    rows = [
        session(user_id="ada", authenticated_at=NOW - timedelta(hours=1), amr=["pwd", "ü"]),
        session(user_id="ada", sealed_session_id=bytes(range(256))),
        session(user_id="ada", device_id="100%"),
        session(user_id="ada", device_id="another"),
        session(user_id="ada", expires_at=NOW),
        session(user_id="ada", ended_at=NOW, end_cause="logout"),
        session(user_id="bob"),
    ]
    with store.write() as connection:
        connection.execute(insert(App), [app])
        for row in rows:
            connection.execute(insert(IdpSession), [row])
    found: UUID = rows[0]["id"]
    return found


def session(**fields: Any) -> dict[str, Any]:
    row_id = new_id()
    row = {
        "id": row_id,
        "session_hash": row_id.bytes,
        "sealed_session_id": b"sealed",
        "registered_by": "shop",
        "amr": ["pwd"],
        "amr_as_of": NOW,
        "authenticated_at": NOW,
        "created_at": NOW,
        "last_used_at": NOW,
        "expires_at": NOW + timedelta(days=1),
        "version": 1,
    }
    return row | fields


def of_ada(*, with_device: bool = False) -> dict[str, Any]:
    parameters = {"user_id": "ada", "now": NOW, "most": 10}
    return parameters | ({"device_id": "100%"} if with_device else {})


def renewal(session_id: UUID, **changes: Any) -> dict[str, Any]:
    event = audit.event(
        audit.AUTHENTICATED,
        at=NOW,
        session=session_id,
        user_id="canary-user",
        by=audit.Cause(app_id="shop", correlation_id=None),
    )
    parameters = {
        "session": session_id,
        "version_read": 1,
        "used_at": NOW + timedelta(minutes=1),
        "slid_to": NOW + timedelta(days=2),
        "token_issued_at": NOW,
        "token_expires_at": NOW + timedelta(minutes=5),
        **{f"event_{name}": value for name, value in event.items()},
    }
    return parameters | changes


def fill_pool(store: Store) -> None:
    lent = [store.engine.raw_connection() for _ in range(POOL)]
    for connection in lent:
        connection.close()


def terminate_all(url: str) -> None:
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def failures(store: Store, calls: int = 2 * POOL) -> int:
    count = 0
    for _ in range(calls):
        try:
            store.run(WHO_AM_I, {})
        except StoreUnavailable:
            count += 1
    return count


# --- rows


@pytest.mark.parametrize("with_device", [False, True])
def test_candidates_come_as_sqlalchemy_returns_them(both: Store, *, with_device: bool) -> None:
    oldest = add_sessions(both)
    parameters = of_ada(with_device=with_device)

    rows = both.run(_CANDIDATES[with_device], parameters)

    assert len(rows) == (1 if with_device else 2)
    assert (rows[-1][0] == oldest) == (not with_device)
    assert typed(rows) == typed(by_reading(both, _CANDIDATES[with_device], parameters))


@pytest.mark.parametrize("with_device", [False, True])
def test_moments_are_utc_whatever_zone_the_server_keeps(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, *, with_device: bool
) -> None:
    monkeypatch.setattr(database, "PG_OPTIONS", "-c timezone=Asia/Tokyo")
    with store_of(postgres_url) as store:
        add_sessions(store)
        parameters = of_ada(with_device=with_device)

        rows = store.run(_CANDIDATES[with_device], parameters)

        moments = [value for row in rows for value in row if isinstance(value, datetime)]
        assert moments
        assert all(moment.tzinfo is UTC for moment in moments)
        assert typed(rows) == typed(by_reading(store, _CANDIDATES[with_device], parameters))


def test_a_moment_of_another_zone_is_the_same_moment(store: Store) -> None:
    add_sessions(store)
    tokyo = datetime.fromisoformat("2031-03-09T20:30:15.123456+09:00")

    assert store.run(_CANDIDATES[False], {**of_ada(), "now": tokyo}) == store.run(
        _CANDIDATES[False], of_ada()
    )


@pytest.mark.parametrize("limit", [0, 1])
def test_no_more_rows_come_than_were_asked_for(both: Store, limit: int) -> None:
    add_sessions(both)

    assert len(both.run(_CANDIDATES[False], {**of_ada(), "most": limit})) == limit


def test_a_renewal_returns_what_sqlalchemy_returns(store: Store) -> None:
    session_id = add_sessions(store)

    theirs = by_sqlalchemy(store, slide._ALL_IN_ONE, renewal(session_id))
    ours = by_driver(store, slide._ALL_IN_ONE, renewal(session_id))

    assert ours == [[NOW + timedelta(days=2)]]
    assert typed(ours) == typed(theirs)


def test_a_renewal_writes_what_sqlalchemy_writes(store: Store) -> None:
    session_id = add_sessions(store)
    written = []
    for run in (by_sqlalchemy, by_driver):
        run(store, slide._ALL_IN_ONE, renewal(session_id, event_id=UUID(int=1)))
        written.append(
            [
                by_reading(store, select(table.__table__).order_by(text("1")), {})
                for table in (IdpSession, AppSession, SessionEvent)
            ]
        )
        with store.write() as connection:
            connection.execute(text("DELETE FROM session_events"))
            connection.execute(text("DELETE FROM app_sessions"))

    assert [len(rows) for rows in written[0]] == [7, 1, 1]
    assert written[0] == written[1]


def test_a_renewal_of_a_changed_session_returns_nothing_and_writes_nothing(store: Store) -> None:
    session_id = add_sessions(store)

    assert store.run(slide._ALL_IN_ONE, renewal(session_id, version_read=2)) == []

    assert by_reading(store, select(SessionEvent.id), {}) == []
    assert by_reading(store, select(AppSession.app_id), {}) == []


@pytest.mark.parametrize("word", ["100%", "%s %(word)s %%", "'; --", "ü\n\\", ""])
def test_values_may_hold_anything(both: Store, word: str) -> None:
    assert [list(row) for row in both.run(SAY, {"word": word})] == [[word]]


def test_a_statement_may_hold_percent_signs_and_values_of_its_own(store: Store) -> None:
    columns: list[Any] = [
        literal_column("'a%b'").label("a"),
        literal("c%d").label("c"),
        (bindparam("number", type_=Integer) % literal(7)).label("rest"),
    ]
    statement = select(*columns)

    assert store.run(statement, {"number": 23}) == [["a%b", "c%d", 2]]
    assert typed(store.run(statement, {"number": 23})) == typed(
        by_reading(store, statement, {"number": 23})
    )


def test_a_naive_moment_is_refused_before_anything_is_sent(store: Store) -> None:
    with pytest.raises(ValueError, match="without a zone"):
        store.run(_CANDIDATES[False], {**of_ada(), "now": NOW.replace(tzinfo=None)})

    assert store.engine.pool.checkedin() == 0  # type: ignore[attr-defined]


def test_what_it_writes_is_committed_when_it_returns(store: Store, postgres_url: str) -> None:
    session_id = add_sessions(store)

    store.run(slide._ALL_IN_ONE, renewal(session_id))

    with psycopg.connect(postgres_url.replace("+psycopg", "")) as other:
        found = other.execute("SELECT user_id FROM session_events").fetchall()
    assert found == [("canary-user",)]


def test_a_statement_in_turn_waits_for_its_lock_and_sees_what_was_committed(
    store: Store, postgres_url: str
) -> None:
    session_id = add_sessions(store)
    events: Select[Any] = select(SessionEvent.user_id)
    with (
        psycopg.connect(postgres_url.replace("+psycopg", "")) as other,
        ThreadPoolExecutor(1) as thread,
    ):
        other.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        waiting = thread.submit(store.run_in_turn, LOCK, events, {})
        held = f"SELECT count(*) FROM {ADVISORY_LOCKS} WHERE NOT granted"  # noqa: S608 - ours
        wait_until(lambda: other.execute(held).fetchone() == (1,), 60)
        store.run(slide._ALL_IN_ONE, renewal(session_id))
        other.commit()

        assert waiting.result() == [["canary-user"]]


def test_a_statement_in_turn_that_fails_leaves_no_lock_and_nothing_written(store: Store) -> None:
    session_id = add_sessions(store)
    refused = renewal(session_id, event_user_id="canary\0user")

    for _ in range(POOL + 1):
        with pytest.raises(DataError):
            store.run_in_turn(LOCK, slide._ALL_IN_ONE, refused)

    assert store.run(LOCKS_HELD, {}) == [[0]]
    assert by_reading(store, select(SessionEvent.id), {}) == []
    assert store.run_in_turn(LOCK, slide._ALL_IN_ONE, renewal(session_id)) != []


def test_statements_are_made_once(store: Store) -> None:
    for number in range(10):
        store.run(SAY, {"word": str(number)})
        store.run(WHO_AM_I, {})

    assert len(store._ready) == 2


VALUES: dict[type, Any] = {
    bool: True,
    bytes: b"\x00%\\",
    datetime: NOW,
    int: 7,
    object: {"ü": [1, None], "%s": "'"},  # JSON
    str: "ü'%",
    UUID: UUID(int=7),
}


@pytest.mark.parametrize("is_null", [False, True], ids=["a value", "null"])
@pytest.mark.parametrize(
    "column",
    {str(c.type): c for table in Base.metadata.tables.values() for c in table.columns}.values(),
    ids=lambda column: str(column.type),
)
def test_a_value_of_each_kind_that_is_stored_is_written_into_a_column(
    store: Store, column: Column[Any], *, is_null: bool
) -> None:
    """Where a statement inserts what it selects, the server knows no type by the column."""
    table = Table("kept", MetaData(), Column("what", column.type))
    plain = getattr(column.type, "impl_instance", column.type)
    value = None if is_null else VALUES[plain.python_type]
    with store.write() as connection:
        table.create(connection)
    insertion = insert(table).from_select(["what"], select(bindparam("value", type_=column.type)))
    inserted = insertion.returning(table.c.what).cte("inserted")

    assert store.run(select(inserted.c.what), {"value": value}) == [[value]]


def test_a_connection_prepares_a_statement_once_whatever_its_values_are(
    postgres_url: str,
) -> None:
    count = PREPARED.add_columns(bindparam("number", type_=BigInteger))
    with store_of(postgres_url, pool_size=1) as store:
        for number in (1, None, 2**15, 2**31, -(2**62)):
            assert store.run(count, {"number": number}) == [[1, number]]


@pytest.mark.parametrize("in_turn", [False, True], ids=["by itself", "in turn"])
def test_a_statement_is_prepared_anew_where_a_rollback_has_forgotten_it(
    postgres_url: str, *, in_turn: bool
) -> None:
    """Each by itself: the next one was prepared after it."""
    with store_of(postgres_url, pool_size=1) as store:
        session_id = add_sessions(store)
        run = partial(store.run_in_turn, LOCK) if in_turn else store.run
        assert run(slide._ALL_IN_ONE, renewal(session_id)) != []
        roll_back_with_prepared_statements(store)
        assert store.run(SAY, {"word": "mine"}) == [["mine"]]

        assert run(slide._ALL_IN_ONE, renewal(session_id)) == [[NOW + timedelta(days=2)]]

        assert store.run(SAY, {"word": "mine"}) == [["mine"]]
        assert store.run(LOCKS_HELD, {}) == [[0]]
        assert len(by_reading(store, select(SessionEvent.id), {})) == 2


def roll_back_with_prepared_statements(store: Store) -> None:
    """Of a connection that psycopg has prepared statements on, the server forgets all then."""
    with store.engine.connect() as connection:
        connection.execute(text("BEGIN"))
        for _ in range(10):
            connection.execute(WHO_AM_I)
        connection.connection.rollback()
        known = connection.execute(text("SELECT count(*) FROM pg_prepared_statements"))
        assert known.scalar_one() == 0


def test_threads_get_their_own_rows(postgres_url: str) -> None:
    with store_of(postgres_url, pool_size=2) as store:

        def ask(thread: int) -> bool:
            words = [f"{thread}-{number}" for number in range(50)]
            return all(store.run(SAY, {"word": word}) == [[word]] for word in words)

        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(ask, range(8)))


# --- errors


def error_of(run: Run, store: Store, statement: Select[Any], parameters: Mapping[str, Any]) -> Any:
    with pytest.raises(DBAPIError) as caught:
        run(store, statement, parameters)
    return caught.value


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"event_app_id": "canary-ghost"}, IntegrityError),
        ({"version_read": 2**40}, DataError),
        ({"event_user_id": "canary\0user"}, DataError),
    ],
    ids=["a broken rule", "a number too large", "a text with a zero"],
)
def test_what_the_database_refuses_is_the_error_sqlalchemy_raises(
    store: Store, changes: Mapping[str, Any], kind: type[DBAPIError]
) -> None:
    parameters = renewal(add_sessions(store), **changes)

    theirs = error_of(by_sqlalchemy, store, slide._ALL_IN_ONE, parameters)
    ours = error_of(by_store, store, slide._ALL_IN_ONE, parameters)

    assert type(ours) is type(theirs) is kind
    assert type(ours.orig) is type(theirs.orig)
    assert ours.connection_invalidated is theirs.connection_invalidated is False
    assert by_reading(store, select(SessionEvent.id), {}) == []


def test_an_error_carries_neither_statement_nor_parameters(store: Store) -> None:
    parameters = renewal(add_sessions(store), event_app_id="canary-ghost")

    error = error_of(by_store, store, slide._ALL_IN_ONE, parameters)

    assert error.statement is None
    assert error.params is None
    assert "INSERT" not in str(error)
    assert "canary-user" not in str(error)


def test_a_parameter_that_is_missing_is_our_own_mistake(store: Store) -> None:
    with pytest.raises(KeyError):
        store.run(SAY, {})

    assert store.engine.pool.checkedin() == 0  # type: ignore[attr-defined]


@pytest.mark.parametrize("run", [by_store, by_reading])
def test_a_statement_that_takes_too_long_is_unavailable_and_costs_no_connection(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.setattr(database, "PG_OPTIONS", "-c statement_timeout=1000")
    with store_of(postgres_url) as store:
        before = store.run(WHO_AM_I, {})

        with pytest.raises(StoreUnavailable, match="QueryCanceled"):
            run(store, SLEEP, {"seconds": 30})

        assert store.run(WHO_AM_I, {}) == before


def test_a_server_that_ends_the_connection_is_the_error_sqlalchemy_raises(store: Store) -> None:
    theirs = error_of(by_sqlalchemy, store, DIE, {})
    ours = error_of(by_driver, store, DIE, {})

    assert type(ours) is type(theirs) is OperationalError
    assert ours.connection_invalidated is theirs.connection_invalidated is True
    assert ours.statement is None


@pytest.mark.parametrize("run", [by_store, by_reading])
def test_a_server_that_ends_the_connection_is_unavailable(store: Store, run: Run) -> None:
    with pytest.raises(StoreUnavailable, match=r"^the database does not answer \(\w+\)$"):
        run(store, DIE, {})

    assert store.run(SAY, {"word": "mine"}) == [["mine"]]


def test_a_server_that_ends_the_connection_in_other_words_is_unavailable(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To PostgreSQL 17 a transaction that takes too long is an error of no connection's kind."""
    monkeypatch.setattr(database, "PG_OPTIONS", "-c transaction_timeout=300")
    with store_of(postgres_url) as store:
        with pytest.raises(StoreUnavailable, match="the database does not answer"):
            store.run(SLEEP, {"seconds": 30})

        assert store.run(SAY, {"word": "mine"}) == [["mine"]]


def test_of_many_lost_connections_only_the_first_costs_a_call(
    store: Store, postgres_url: str
) -> None:
    fill_pool(store)
    terminate_all(postgres_url)

    assert failures(store) == 1


def test_who_has_a_connection_when_another_is_lost_gives_it_back_to_the_same_pool(
    store: Store,
) -> None:
    with store.read() as connection:
        with pytest.raises(StoreUnavailable):
            store.run(DIE, {})

        assert connection.execute(WHO_AM_I).scalar_one()
        assert store.engine.pool.checkedout() == 1  # type: ignore[attr-defined]


def test_a_server_that_was_away_costs_no_call_once_it_is_back() -> None:
    with PostgresServer() as server, store_of(server.url()) as store:
        fill_pool(store)

        server.stop()
        assert failures(store) == 2 * POOL
        server.start()

        assert failures(store) == 0


def test_a_restart_nobody_noticed_costs_one_call() -> None:
    with PostgresServer() as server, store_of(server.url()) as store:
        fill_pool(store)

        server.restart(kill=True)

        assert failures(store) == 1


def test_a_server_that_cannot_be_reached_is_the_error_sqlalchemy_raises() -> None:
    with store_of(f"postgresql+psycopg://nobody@127.0.0.1:{free_port()}/nothing") as store:
        theirs = error_of(by_sqlalchemy, store, SAY, {"word": "canary"})
        ours = error_of(by_driver, store, SAY, {"word": "canary"})

        assert type(ours) is type(theirs) is OperationalError
        assert ours.connection_invalidated is theirs.connection_invalidated is False
        with pytest.raises(StoreUnavailable):
            store.run(SAY, {"word": "canary"})


@pytest.mark.parametrize("run", [by_store, by_reading])
def test_when_all_connections_are_lent_the_store_is_unavailable(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.setattr(database, "POOL_TIMEOUT_SECONDS", 0.05)
    with store_of(postgres_url, pool_size=1) as store:
        lent = [store.engine.raw_connection() for _ in range(5)]

        with pytest.raises(StoreUnavailable, match=PoolTimeout.__name__):
            run(store, SAY, {"word": "mine"})

        for connection in lent:
            connection.close()
        assert store.run(SAY, {"word": "mine"}) == [["mine"]]


def test_what_sqlite_refuses_is_unavailable_as_well(sqlite_url: str) -> None:
    with store_of(sqlite_url) as store:
        with store.write() as connection:
            connection.execute(text("ALTER TABLE idp_sessions RENAME TO elsewhere"))

        with pytest.raises(StoreUnavailable):
            store.run(_CANDIDATES[False], of_ada())


# --- interruptions


class Interrupted(Exception):  # noqa: N818 - it is none of the errors that anybody expects
    pass


@contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    def interrupt(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_the_answer_of_an_interrupted_call_is_not_read_by_the_next(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR), interrupted_after(0.3), pytest.raises(Interrupted):
        store.run(SLEEP, {"seconds": 2})

    assert store.run(SAY, {"word": "mine"}) == [["mine"]]
    assert not caplog.records  # nobody had to find out that the connection is of no use


def test_an_interrupted_statement_in_turn_keeps_neither_its_lock_nor_what_it_wrote(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = add_sessions(store)
    run = PreparedStatement._answer

    def run_and_be_interrupted(*given: Any) -> None:
        run(*given)
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(PreparedStatement, "_answer", run_and_be_interrupted)
        with pytest.raises(Interrupted):
            store.run_in_turn(LOCK, slide._ALL_IN_ONE, renewal(session_id))

    wait_until(lambda: store.run(LOCKS_HELD, {}) == [[0]], 60)
    assert by_reading(store, select(SessionEvent.id), {}) == []


def test_an_interruption_closes_its_own_connection_and_no_other(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_pool(store)

    with interrupted_after(0.2), pytest.raises(Interrupted):
        store.run(SLEEP, {"seconds": 1})

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a connection was made although others are there")

    pool: Any = store.engine.pool
    pool._creator = refuse
    lent = [store.engine.raw_connection() for _ in range(POOL - 1)]
    for connection in lent:
        connection.close()
