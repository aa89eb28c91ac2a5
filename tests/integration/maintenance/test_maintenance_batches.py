"""Expiring and purging in batches: whole, beside others, and with nothing left behind."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import RFC_4122, UUID

import pytest
from sqlalchemy import event, insert, select, update

from models import AppSession, BrowserToken, IdpSession, Logout, SessionAlias, SessionEvent
from simulator.server import SimulatorServer
from tests.integration.outbox.propagation_rig import by_queue, notices
from tests.stage import Stage
from worker.logout.end_sessions import delivery
from worker.maintenance import last_runs
from worker.maintenance.expire import expire_sessions
from worker.maintenance.last_runs import Run
from worker.maintenance.purge import purge_history
from worker.storage import database
from worker.tasks import maintenance as tasks

StageWith = Callable[..., Stage]

BATCH = 3
MANY = 2 * BATCH + 1
UUID7 = 7
NAMING = (AppSession, BrowserToken, SessionAlias)
CHOICE = "FOR UPDATE SKIP LOCKED"


@pytest.fixture
def stage_with(redis_url: str, mosaic: SimulatorServer) -> Iterator[StageWith]:
    """Make a stage on a store, with small batches."""
    with ExitStack() as stages:

        def make(url: str, **overrides: str) -> Stage:
            small = {"maintenance_batch": str(BATCH), "keep_ended_days": "10"}
            stage = stages.enter_context(Stage(url, redis_url, mosaic, **(small | overrides)))
            stage.add_app("shop")
            return stage

        yield make


def expire(stage: Stage) -> dict[str, int]:
    return expire_sessions(stage.services).rows


def purge(stage: Stage) -> int:
    return purge_history(stage.services).rows["sessions"]


def overdue(stage: Stage, count: int = MANY) -> list[UUID]:
    """Have sessions that are past their time, all at the very same moment."""
    refs = [stage.registered(f"user-{number}") for number in range(count)]
    change(stage, refs, expires_at=stage.now() + timedelta(days=14))
    stage.pass_time(days=15)
    return refs


def purgeable(stage: Stage, count: int = MANY) -> list[UUID]:
    """Have sessions that ended long ago, all at the very same moment."""
    refs = overdue(stage, count)
    expire(stage)
    change(stage, refs, ended_at=stage.now())
    stage.pass_time(days=11)
    return refs


def change(stage: Stage, refs: list[UUID], **values: datetime) -> None:
    with stage.services.store.write() as connection:
        connection.execute(update(IdpSession).where(IdpSession.id.in_(refs)).values(**values))


def trail(stage: Stage, name: str) -> list[Any]:
    """Return what was written of that name, oldest first."""
    named = select(SessionEvent.__table__).where(SessionEvent.event == name)
    with stage.services.store.read() as connection:
        return list(connection.execute(named.order_by(SessionEvent.id)).all())


def live(stage: Stage) -> set[UUID]:
    return {session.id for session in stage.sessions() if session.ended_at is None}


# --- expiry


def test_each_session_is_ended_once_with_one_row_in_the_trail_for_all_of_a_batch(
    store_url: str, stage_with: StageWith
) -> None:
    stage = stage_with(store_url)
    overdue(stage)
    young = stage.registered("bob")

    assert expire(stage) == {"expired": MANY}

    assert live(stage) == {young}
    ended = [session for session in stage.sessions() if session.id != young]
    for session in ended:
        assert (session.end_cause, session.sealed_session_id) == ("expired", None)
        assert session.version == 2
    rows = trail(stage, "expired")
    assert {row.at: row.detail for row in rows} == {
        at: str(count) for at, count in Counter(session.ended_at for session in ended).items()
    }
    assert [row.detail for row in rows] == [str(BATCH), str(BATCH), "1"]
    for row in rows:
        assert row.correlation_id == "maintenance.expire_sessions"
        assert (row.idp_session_id, row.user_id, row.app_id) == (None, None, None)
    assert trail(stage, "ended") == []
    assert expire(stage) == {"expired": 0}
    assert trail(stage, "expired") == rows


def test_a_session_in_use_is_looked_at_again_when_it_expires_now(
    store_url: str, stage_with: StageWith
) -> None:
    stage = stage_with(store_url)
    used = [stage.registered(f"used-{number}") for number in range(MANY)]
    unused = [stage.registered(f"unused-{number}") for number in range(MANY)]
    stage.pass_time(days=13)
    for number in range(MANY):
        stage.silent_auth(f"used-{number}", "shop")
    stage.pass_time(days=2)

    assert expire(stage) == {"expired": MANY}

    sessions = {session.id: session for session in stage.sessions()}
    assert live(stage) == set(used)
    for ref in used:
        assert sessions[ref].check_expiry_at == sessions[ref].expires_at > stage.now()
        assert sessions[ref].version == 1  # who is using it need not begin anew
    assert {sessions[ref].end_cause for ref in unused} == {"expired"}
    stage.pass_time(days=13)
    assert expire(stage) == {"expired": MANY}
    assert live(stage) == set()


def test_a_session_that_was_inserted_without_its_turn_has_it_in_the_next_run(
    store_url: str, stage_with: StageWith
) -> None:
    stage = stage_with(store_url)
    (expired, *_), young = overdue(stage), stage.registered("bob")
    change(stage, [expired, young], check_expiry_at=datetime(1970, 1, 1, tzinfo=UTC))

    assert expire(stage) == {"expired": MANY}

    (left,) = [session for session in stage.sessions() if session.ended_at is None]
    assert (left.id, left.check_expiry_at) == (young, left.expires_at)


def test_each_session_past_a_cap_has_one_full_row_in_the_trail(
    store_url: str, stage_with: StageWith
) -> None:
    stage = stage_with(store_url, session_absolute_cap_seconds="86400")
    refs = [stage.registered(f"user-{number}") for number in range(MANY)]
    stage.pass_time(days=2)
    begin_ms = time.time_ns() // 1_000_000

    assert expire(stage) == {"expired": 0, "capped": MANY}

    sessions = {session.id: session for session in stage.sessions()}
    rows = trail(stage, "ended")
    assert Counter(row.idp_session_id for row in rows) == Counter(refs)
    assert len({row.id for row in rows}) == MANY
    for row in rows:
        session = sessions[row.idp_session_id]
        assert (row.user_id, row.at) == (session.user_id, session.ended_at)
        assert (row.app_id, row.detail) == (None, "cap_reached")
        assert row.correlation_id == "maintenance.expire_sessions"
        # They tell the time, like all our ids (RFC 9562, section 5.7).
        assert (row.id.version, row.id.variant) == (UUID7, RFC_4122)
        assert begin_ms <= row.id.int >> 80 <= time.time_ns() // 1_000_000


def test_each_app_that_asked_is_told_once_of_each_expired_session(
    store_url: str, stage_with: StageWith
) -> None:
    stage = stage_with(store_url)
    by_queue(stage, "stock", notify_on_expiry=True)
    by_queue(stage, "forum")
    refs = [stage.registered(f"user-{number}") for number in range(MANY)]
    for number in range(MANY):
        stage.silent_auth(f"user-{number}", "stock")
        stage.silent_auth(f"user-{number}", "forum")
    stage.pass_time(days=15)

    assert expire(stage) == {"expired": MANY}

    told = Counter((row.idp_session_id, row.app_id) for row in notices(stage))
    assert told == Counter((ref, "stock") for ref in refs)


def test_all_past_a_cap_are_ended_in_batches_and_mosaic_is_owed_each(
    store_url: str, stage_with: StageWith
) -> None:
    stage = stage_with(store_url, session_absolute_cap_seconds="86400")
    by_queue(stage, "forum")
    refs = [stage.registered(f"user-{number}") for number in range(MANY)]
    stage.silent_auth("user-0", "forum")
    stage.pass_time(days=2)

    assert expire(stage) == {"expired": 0, "capped": MANY}

    assert Counter(row.idp_session_id for row in stage.logouts()) == Counter(refs)
    assert [(row.idp_session_id, row.app_id) for row in notices(stage)] == [(refs[0], "forum")]


def test_a_batch_takes_as_few_statements_however_large(
    postgres_url: str, stage_with: StageWith
) -> None:
    stage = stage_with(postgres_url, maintenance_batch="1000")
    overdue(stage, 30)

    with writes(stage) as written:
        assert expire(stage) == {"expired": 30}

    assert [" ".join(statement.split()[:3]) for statement in written] == [
        "WITH ended AS",
        "INSERT INTO session_events",
    ]


def test_a_batch_past_a_cap_takes_as_few_statements_for_the_trail_however_large(
    postgres_url: str, stage_with: StageWith
) -> None:
    stage = stage_with(postgres_url, maintenance_batch="1000", session_absolute_cap_seconds="86400")
    for number in range(30):
        stage.registered(f"user-{number}")
    stage.pass_time(days=2)

    with writes(stage) as written:
        assert expire(stage) == {"expired": 0, "capped": 30}

    # Row by row the trail alone would be thirty.
    assert [one for one in written if "session_events" in one and "WITH" not in one] == []


def test_a_batch_reads_no_more_than_its_own_rows_however_many_are_overdue(
    postgres_url: str, stage_with: StageWith
) -> None:
    stage = stage_with(postgres_url, maintenance_batch="500")
    multiply(stage, overdue(stage, 1)[0], 5000)

    with plans(stage) as explained:
        done = expire_sessions(stage.services, override_guard=True)

    assert done.rows == {"expired": 5001}
    assert len(explained) == 2 * 11  # to choose a batch, and to end it
    assert [plan for plan in explained if "Seq Scan on idp_sessions" in plan] == []


def multiply(stage: Stage, session: UUID, count: int) -> None:
    """Have so many sessions more like this one."""
    columns = [column.name for column in IdpSession.__table__.columns]
    own = {"id": "gen_random_uuid()", "session_hash": "sha256(n::text::bytea)"}
    with stage.services.store.write() as connection:
        connection.exec_driver_sql(
            f"INSERT INTO idp_sessions ({', '.join(columns)})"  # noqa: S608 - our own names
            f" SELECT {', '.join(own.get(name, name) for name in columns)}"
            f" FROM idp_sessions, generate_series(1, {count}) AS n WHERE id = '{session}'"
        )
    with stage.services.store.read() as connection:
        connection.exec_driver_sql("ANALYZE idp_sessions")


@contextmanager
def plans(stage: Stage) -> Iterator[list[str]]:
    """Collect how PostgreSQL means to choose and to end sessions, each time before it does."""
    found: list[str] = []

    def note(connection: Any, _: Any, statement: str, parameters: Any, *__: Any) -> None:
        if ("UPDATE idp" in statement or CHOICE in statement) and "EXPLAIN" not in statement:
            plan = connection.exec_driver_sql(f"EXPLAIN {statement}", parameters).scalars()
            found.append("\n".join(plan))

    engine = stage.services.store.engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(engine, "before_cursor_execute", note)


def test_a_batch_does_not_pass_again_by_what_was_put_off(
    postgres_url: str, stage_with: StageWith
) -> None:
    stage = stage_with(postgres_url)
    for number in range(MANY):
        stage.pass_time(seconds=1)
        stage.registered(f"user-{number}")
    stage.pass_time(days=13)
    for number in range(MANY):
        stage.silent_auth(f"user-{number}", "shop")
    stage.pass_time(days=2)
    begun_at: list[datetime] = []

    def note(*arguments: Any) -> None:
        _, _, statement, parameters, *_ = arguments
        if CHOICE in statement:
            begun_at.append(parameters["reached"])

    engine = stage.services.store.engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        assert expire(stage) == {"expired": 0}
    finally:
        event.remove(engine, "before_cursor_execute", note)

    assert len(live(stage)) == MANY
    assert len(begun_at) == len(set(begun_at)) == -(-MANY // BATCH)
    assert begun_at == sorted(begun_at)


@contextmanager
def writes(stage: Stage) -> Iterator[list[str]]:
    """Collect the statements that write, one by one also where many are sent together."""
    found: list[str] = []

    def note(*arguments: Any) -> None:
        _, _, statement, parameters, _, is_many = arguments
        if any(word in statement for word in ("INSERT INTO", "UPDATE idp", "DELETE FROM")):
            found.extend([statement] * (len(parameters) if is_many else 1))

    engine = stage.services.store.engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(engine, "before_cursor_execute", note)


def test_expiry_does_not_wait_for_a_renewal_and_the_renewal_wins(
    postgres_url: str, stage_with: StageWith
) -> None:
    stage = stage_with(postgres_url)
    refs = overdue(stage)
    renewed, untouched = refs[0], refs[1]
    later = stage.now() + timedelta(days=14)

    with stage.services.store.write() as connection:
        connection.execute(
            update(IdpSession).where(IdpSession.id == renewed).values(expires_at=later)
        )
        locked = select(IdpSession.id).where(IdpSession.id == untouched).with_for_update()
        connection.execute(locked)
        # Would fail after the lock timeout if it waited.
        assert expire(stage) == {"expired": MANY - 2}
        assert live(stage) == {renewed, untouched}

    assert expire(stage) == {"expired": 1}
    assert live(stage) == {renewed}


# --- purging


def test_all_that_ended_at_one_moment_are_purged(store_url: str, stage_with: StageWith) -> None:
    stage = stage_with(store_url)
    purgeable(stage)

    assert purge(stage) == MANY
    assert stage.sessions() == []


def test_what_mosaic_must_be_told_stays_among_all_that_goes(
    store_url: str, stage_with: StageWith
) -> None:
    stage = stage_with(store_url)
    refs = purgeable(stage)
    owed = refs[::2]
    owe(stage, owed)

    assert purge(stage) == MANY - len(owed)
    assert {session.id for session in stage.sessions()} == set(owed)
    assert len(stage.logouts()) == len(owed)


def owe(stage: Stage, refs: list[UUID]) -> None:
    with stage.services.store.write() as connection:
        connection.execute(insert(Logout), deliveries(stage, refs))


def deliveries(stage: Stage, refs: list[UUID]) -> list[dict[str, Any]]:
    now = stage.now()
    return [delivery(ref, "shop", now, now + timedelta(days=14)) for ref in refs]


def test_a_delivery_that_comes_up_after_its_session_was_chosen_is_kept(
    store_url: str, stage_with: StageWith
) -> None:
    stage = stage_with(store_url)
    (first, *others) = purgeable(stage)

    with after_the_first_choice(
        stage, lambda connection: connection.execute(insert(Logout), deliveries(stage, [first]))
    ):
        assert purge(stage) == len(others)

    assert [session.id for session in stage.sessions()] == [first]
    assert [row.idp_session_id for row in stage.logouts()] == [first]
    # And nothing of it has gone, though it was chosen.
    for table in (AppSession, BrowserToken):
        assert named_in(stage, table) == {first}


def test_nothing_that_names_a_session_outlives_it(store_url: str, stage_with: StageWith) -> None:
    stage = stage_with(store_url)
    for number in range(MANY):
        stage.registered(f"user-{number}")
        stage.mosaic.state.faults.add("session/authenticate", "rotate_session_id", times=1)
        stage.silent_auth(f"user-{number}", "shop")
    young = stage.registered("bob")
    stage.pass_time(days=15)
    keep = {young} | {stage.registered("ada")}
    with stage.services.store.write() as connection:
        later = {"expires_at": stage.now() + timedelta(days=30)}
        connection.execute(update(IdpSession).where(IdpSession.id == young).values(later))
    expire(stage)
    assert len(named_in(stage, SessionAlias)) == MANY
    stage.pass_time(days=11)

    assert purge(stage) == MANY

    assert {session.id for session in stage.sessions()} == keep
    assert {table: named_in(stage, table) for table in NAMING} == {
        AppSession: keep,
        BrowserToken: keep,
        SessionAlias: set(),
    }


def named_in(stage: Stage, table: Any) -> set[UUID]:
    with stage.services.store.read() as connection:
        return set(connection.execute(select(table.idp_session_id)).scalars())


@contextmanager
def after_the_first_choice(stage: Stage, act: Callable[[Any], Any]) -> Iterator[None]:
    """Do *act* when the first batch is chosen and nothing of it is deleted yet."""
    done: list[str] = []

    def note(*arguments: Any) -> None:
        connection, _, statement, *_ = arguments
        is_choice = "LIMIT" in statement and "idp_sessions.ended_at <=" in statement
        if is_choice and not done:
            done.append(statement)
            act(connection)

    engine = stage.services.store.engine
    event.listen(engine, "after_cursor_execute", note)
    try:
        yield
    finally:
        event.remove(engine, "after_cursor_execute", note)
    assert done


def test_purging_waits_for_nobody(postgres_url: str, stage_with: StageWith) -> None:
    stage = stage_with(postgres_url)
    busy, *others = purgeable(stage)

    with stage.services.store.write() as connection:
        connection.execute(select(IdpSession.id).where(IdpSession.id == busy).with_for_update())
        assert purge(stage) == len(others)

    assert [session.id for session in stage.sessions()] == [busy]
    assert purge(stage) == 1


def test_purges_at_once_count_each_session_once(store_url: str, stage_with: StageWith) -> None:
    stage = stage_with(store_url)
    purgeable(stage, 12)

    counts = stage.at_once(*[lambda: purge(stage)] * 3)

    assert sum(counts) == 12
    assert stage.sessions() == []


def test_a_table_that_is_too_slow_keeps_no_other_from_being_purged(
    postgres_url: str, stage_with: StageWith
) -> None:
    stage = stage_with(postgres_url)
    overdue(stage)
    expire(stage)
    stage.pass_time(days=400)
    with stage.services.store.write() as held:
        held.exec_driver_sql("LOCK TABLE session_events")
        counts = purge_history(stage.services)

    assert (counts.rows["sessions"], counts.rows["events"]) == (MANY, 0)
    assert not counts.is_complete
    assert purge_history(stage.services).is_complete


def test_a_run_of_which_nothing_came_does_not_count_as_one(
    postgres_url: str, stage_with: StageWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "PG_OPTIONS", database.PG_OPTIONS + " -c lock_timeout=200")
    stage = stage_with(postgres_url)
    overdue(stage)
    with stage.services.store.write() as held:
        held.exec_driver_sql("LOCK TABLE idp_sessions IN EXCLUSIVE MODE")
        tasks.expire_sessions()

    assert last_runs.ages(stage.services.redis)[Run.EXPIRE_SESSIONS] is None
    tasks.expire_sessions()
    assert last_runs.ages(stage.services.redis)[Run.EXPIRE_SESSIONS] is not None
