"""Writing a receipt costs what its user has, not what the installation owes."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event, insert, text, update

from models import IdpSession, Logout, Notice, new_id
from session_client.contract import LogoutScope
from simulator.server import SimulatorServer
from tests.stage import Stage


@pytest.mark.parametrize("scope", [LogoutScope.USER, LogoutScope.DEVICE])
def test_writing_it_looks_at_nobody_elses_deliveries_when_an_outage_has_made_many(
    postgres_url: str, redis_url: str, mosaic: SimulatorServer, scope: LogoutScope
) -> None:
    with Stage(postgres_url, redis_url, mosaic) as stage:
        stage.add_app("desk", capabilities=("logout_user",))
        stage.registered("ada", "desk", device_id="phone")
        _owe_thousands(stage)
        asked: list[tuple[str, Any]] = []

        @event.listens_for(stage.services.store.engine, "before_cursor_execute")
        def note(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> None:
            if statement.startswith("SELECT idp_sessions.id \n") and "notices" in statement:
                asked.append((statement, parameters))

        device_id = "phone" if scope is LogoutScope.DEVICE else None
        stage.log_out(app_id="desk", scope=scope, device_id=device_id)

        ((statement, parameters),) = asked
        with stage.services.store.read() as connection:
            explained = connection.exec_driver_sql(
                f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}", parameters
            ).scalar_one()
        assert _rows_looked_at(explained[0]["Plan"]) < 20


def _owe_thousands(stage: Stage) -> None:
    """Have Mosaic and an app owed more than the planner has heard of: it last looked before."""
    (ada,) = stage.sessions()
    ids = [new_id() for _ in range(5000)]
    twins = [
        {**ada._mapping, "id": each, "user_id": str(each), "session_hash": each.bytes}
        for each in ids
    ]
    now = stage.now()
    due = {"created_at": now, "give_up_at": now, "next_attempt_at": now, "woken_at": now}
    done = {"closed_at": now, "outcome": "confirmed"}
    deliveries = [{"id": new_id(), "idp_session_id": each, **due, **done} for each in ids]
    with stage.services.store.write() as connection:
        connection.execute(insert(IdpSession), twins)
        connection.execute(
            insert(Logout), [{**delivery, "requested_by": "desk"} for delivery in deliveries]
        )
        to_apps = [{**delivery, "app_id": "desk", "cause": "logout"} for delivery in deliveries]
        connection.execute(insert(Notice), to_apps)
        connection.execute(text("ANALYZE"))
        for table in (Logout, Notice):
            connection.execute(update(table).values(closed_at=None, outcome=None))


def _rows_looked_at(plan: dict[str, Any]) -> float:
    rows = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)
    parts: float = sum(_rows_looked_at(part) for part in plan.get("Plans", ()))
    return float(rows * plan["Actual Loops"] + parts)
