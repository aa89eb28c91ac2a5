"""What a login asks of the database: its statements are half of what it costs the worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event

from session_client.contract import Verdict
from tests.integration.sign_in.login_rig import furnish, log_in
from tests.stage import Stage


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


def test_a_login_looks_for_nothing_that_a_new_session_cannot_have(stage: Stage) -> None:
    """No row to lock or to change, no older token, no ticket: it is inserted as it shall be."""
    furnish(stage)

    with statements(stage) as run:
        assert log_in(stage).verdict is Verdict.AUTHENTICATED

    changing = [text for text in run if text.startswith(("UPDATE", "DELETE")) or "FOR UP" in text]
    assert [text.split()[:2] for text in changing] == [["UPDATE", "login_calls"]]
