"""What is asked of the database again and again costs what is found, not what has been.

The statements are those that are sent while all that is done regularly is done once; the tables are
filled by what the models say of them. So neither list has to be kept.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest
from sqlalchemy import JSON, Boolean, Column, DateTime, Integer, LargeBinary, Table, Uuid, event

from models import RETENTION, Base, Retention
from simulator.server import SimulatorServer
from tests.integration.cli.cli_rig import told
from tests.integration.operations.doctor_rig import living
from tests.stage import Stage
from worker.maintenance import last_runs
from worker.maintenance.last_runs import Run
from worker.monitoring.gauges import sources
from worker.operations import live_count, overview
from worker.operations.live_health import Live
from worker.tasks import maintenance

ROWS: Final = 20_000  # of each table; the planner looks at all of as many
LIVE: Final = 2_000  # of the sessions
MAX_LOOKED_AT: Final = 1_000
GROWING: Final = [
    table
    for table in Base.metadata.sorted_tables
    # What operators do by hand is never much.
    if RETENTION[table.name] is not Retention.KEPT and table.name != "operator_actions"
]

# As they are in a month's history; all that is not here is said by the column's type.
IS_LIVE: Final = f"mod(n, {ROWS // LIVE}) = 0"
AGO: Final = f"(timestamptz '{{now}}' - n * interval '29 days' / {ROWS})"
LATER: Final = f"(timestamptz '{{now}}' + n * interval '13 days' / {ROWS})"
FEW_FAILED: Final = "CASE WHEN n <= 3 THEN 'failed' ELSE 'confirmed' END"
VALUES: Final = {
    "idp_sessions.expires_at": f"CASE WHEN {IS_LIVE} THEN {LATER} ELSE {AGO} END",
    "idp_sessions.check_expiry_at": f"CASE WHEN {IS_LIVE} THEN {LATER} ELSE {AGO} END",
    "idp_sessions.ended_at": f"CASE WHEN NOT {IS_LIVE} THEN {AGO} END",
    "idp_sessions.end_cause": f"CASE WHEN NOT {IS_LIVE} THEN 'logout' END",
    "idp_sessions.sealed_session_id": f"CASE WHEN {IS_LIVE} THEN '\\x00'::bytea END",
    "tickets.expires_at": f"(timestamptz '{{now}}' - n * interval '59 minutes' / {ROWS})",
    **{
        f"{table}.{column}": value
        for table in ("logouts", "notices", "user_revocations", "login_calls")
        for column, value in (("closed_at", AGO), ("outcome", FEW_FAILED))
    },
    "login_calls.outcome": "'answered'",
}


@pytest.fixture
def stage(
    postgres_url: str,
    redis_url: str,
    mosaic: SimulatorServer,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Stage]:
    """An installation whose tables hold a month, with nothing due.

    Small as they are, so are the limits: the planner weighs one against the other.
    """
    monkeypatch.setattr(live_count, "_DUE_AT_ONCE", 100)
    monkeypatch.setattr(live_count, "FEW", 500)
    limits = {"guard_count": "10", "maintenance_batch": "10"}
    with living(postgres_url, redis_url, mosaic, **limits) as stage:
        now = stage.now().isoformat()
        with stage.services.store.write() as connection:
            for table in GROWING:
                connection.exec_driver_sql(_filling(table).format(now=now))
        with stage.services.store.read() as connection:  # in no transaction
            connection.exec_driver_sql("VACUUM ANALYZE")
            overview.store_counts(stage.services, connection)  # all that live are counted seldom
        yield stage


def _filling(table: Table) -> str:
    values = {column.name: _value(table, column) for column in table.columns}
    wanted = {name: value for name, value in values.items() if value is not None}
    return (
        f"INSERT INTO {table.name} ({', '.join(wanted)})"  # noqa: S608 - the models' own names
        f" SELECT {', '.join(wanted.values())} FROM generate_series(1, {ROWS}) AS n"
    )


def _value(table: Table, column: Column[Any]) -> str | None:
    if given := VALUES.get(f"{table.name}.{column.name}"):
        return given
    if column.nullable or (column.server_default is not None and not column.primary_key):
        return None
    if column.name == "app_id":
        return "'shop'"
    # A row and what refers to it, with a foreign key or without, have the same number.
    whose = table.name if column.name == "id" else column.name.removesuffix("_id") + "s"
    by_type = {
        Uuid: f"md5('{whose}' || n)::uuid",
        LargeBinary: f"sha256(('{column}' || n)::bytea)",
        JSON: "'[]'::json",
        Boolean: "false",
        Integer: "0",
        DateTime: AGO,
    }
    kind = getattr(column.type, "impl_instance", column.type)
    return next((value for type_, value in by_type.items() if isinstance(kind, type_)), "'x' || n")


@contextmanager
def looked_at(stage: Stage) -> Iterator[dict[str, tuple[float, str]]]:
    """Collect how many rows of growing tables each statement looks at, and its plan."""
    found: dict[str, tuple[float, str]] = {}

    def note(connection: Any, _: Any, statement: str, parameters: Any, *__: Any) -> None:
        if not re.match("(SELECT|UPDATE|DELETE|WITH) ", statement) or statement in found:
            return
        found[statement] = 0, ""  # else it would note how it explains this
        explained = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}"
        plan = connection.exec_driver_sql(explained, parameters).scalar_one()[0]["Plan"]
        found[statement] = _rows_looked_at(plan), str(plan)

    engine = stage.services.store.engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        yield found
    finally:
        event.remove(engine, "before_cursor_execute", note)


def _rows_looked_at(plan: dict[str, Any]) -> float:
    parts: float = sum(_rows_looked_at(part) for part in plan.get("Plans", ()))
    if plan.get("Relation Name") not in RETENTION:
        return parts
    removed = plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Index Recheck", 0)
    return float((plan["Actual Rows"] + removed) * plan["Actual Loops"] + parts)


def scrape(stage: Stage) -> None:
    for source in sources(stage.services):
        assert source.ask().is_in_time()


def purge(stage: Stage) -> None:
    stage.redis.delete(last_runs.key_of(Run.PURGE_HISTORY))  # else it would not be due
    maintenance.purge_history()


REGULAR: Final[dict[str, Callable[[Stage], object]]] = {
    "a scrape": scrape,
    "status": lambda _: told("status"),
    "doctor": lambda _: told("doctor"),
    "top": lambda stage: Live(stage.services, every=1.0).look(),
    "a sweep": lambda _: maintenance.sweep(),
    "an expiry": lambda _: maintenance.expire_sessions(),
    "a purge": purge,
}


def test_what_is_asked_regularly_looks_at_few_rows_however_many_there_are(stage: Stage) -> None:
    asked: dict[tuple[str, str], tuple[float, str]] = {}
    for what, ask in REGULAR.items():
        with looked_at(stage) as found:
            ask(stage)
        assert found, what
        asked |= {(what, statement): rows for statement, rows in found.items()}

    dear = [f"{what}: {s}\n{rows}" for (what, s), rows in asked.items() if rows[0] > MAX_LOOKED_AT]
    assert not dear, "\n\n".join(dear)


@pytest.mark.parametrize("at_once", [1, 100])
def test_of_sessions_whose_look_is_due_those_that_have_been_used_are_counted_as_live(
    sqlite_stage: Stage, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(live_count, "_DUE_AT_ONCE", at_once)
    sqlite_stage.add_app("shop")
    for user in ("ada", "bob", "eve"):
        sqlite_stage.registered(user)
    sqlite_stage.pass_time(days=13)
    for user in ("ada", "bob"):
        sqlite_stage.silent_auth(user, "shop")
    sqlite_stage.pass_time(days=2)  # no expiry has run
    sqlite_stage.registered("dan")

    assert told("status", expect=69)["live_sessions"] == 3
