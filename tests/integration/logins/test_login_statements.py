"""What a login asks of the database: its statements are half of what it costs the worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from sqlalchemy import event

from session_client.contract import Verdict
from tests.integration.logins.login_rig import furnish, log_in
from tests.stage import Stage
from worker.storage.libpq import PreparedStatement


@contextmanager
def statements(stage: Stage) -> Iterator[list[str]]:
    """Give the list of the statements that run meanwhile."""
    run: list[str] = []
    engine = stage.services.store.engine

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        run.append(" ".join(statement.split()))

    event.listen(engine, "before_cursor_execute", note)
    yield run
    event.remove(engine, "before_cursor_execute", note)


def test_a_login_looks_for_nothing_that_a_new_session_cannot_have(sqlite_stage: Stage) -> None:
    """No row to lock or to change, no older token, no ticket: it is inserted as it shall be."""
    furnish(sqlite_stage)

    with statements(sqlite_stage) as run:
        assert log_in(sqlite_stage).verdict is Verdict.AUTHENTICATED

    changing = [text for text in run if text.startswith(("UPDATE", "DELETE")) or "FOR UP" in text]
    assert [text.split()[:2] for text in changing] == [["UPDATE", "login_calls"]]


@pytest.mark.parametrize("brings", ["no token", "one of a session that has ended"])
def test_on_postgresql_a_login_is_stored_in_one_statement(
    postgres_stage: Stage, monkeypatch: pytest.MonkeyPatch, brings: str
) -> None:
    furnish(postgres_stage)
    token = log_in(postgres_stage).browser_token
    postgres_stage.log_out("ada", session_ref=str(postgres_stage.sessions()[0].id))
    sent: list[str] = []
    execute, run = psycopg.Cursor.execute, PreparedStatement.run

    def note(cursor: Any, query: Any, *arguments: Any, **named: Any) -> Any:
        sent.append(str(query).split()[0])
        return execute(cursor, query, *arguments, **named)

    def note_prepared(
        statement: PreparedStatement, connection: Any, values: Any, lock: int | None = None
    ) -> Any:
        sent.append(statement.sql.split()[0] + (" in turn" if lock is not None else ""))
        return run(statement, connection, values, lock)

    monkeypatch.setattr(psycopg.Cursor, "execute", note)
    monkeypatch.setattr(PreparedStatement, "run", note_prepared)
    replaces = token if brings.startswith("one") else None
    assert log_in(postgres_stage, replaces=replaces).verdict is Verdict.AUTHENTICATED

    known = 1 if replaces is None else 2  # was it asked before; what its browser had
    assert sent == ["SELECT", "WITH", *["SELECT"] * (known - 1), "WITH in turn"]
