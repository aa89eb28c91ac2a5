"""Seeing from outside that a statement waits for a row, and leading several into a ring."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NoReturn
from uuid import UUID

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import SQLAlchemyError

from models import IdpSession
from simulator.controls.gates import wait_until
from tests.stage import Stage
from worker.storage import database

# A server is shared with other tests.
ADVISORY_LOCKS = (
    "(SELECT granted FROM pg_locks JOIN pg_database AS here ON here.oid = pg_locks.database"
    " WHERE locktype = 'advisory' AND here.datname = current_database()) AS advisory_locks"
)
DEADLOCK = "40P01"

Act = Callable[[], Any]


@contextmanager
def patient_locks() -> Iterator[None]:
    """Make stores that wait long for a row: on a busy machine others keep theirs for seconds."""
    times = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
    patient = "".join(f" -c {name}=60000" for name in times)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "PG_OPTIONS", database.PG_OPTIONS + patient)
        yield


@pytest.fixture
def failures(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of the errors that the database comes to answer with."""
    seen: list[str] = []
    say = database._raise_in_our_words

    def note(error: SQLAlchemyError) -> NoReturn:
        seen.append(getattr(getattr(error, "orig", None), "sqlstate", None) or repr(error))
        say(error)

    monkeypatch.setattr(database, "_raise_in_our_words", note)
    return seen


def waiting_for_locks(stage: Stage) -> int:
    """Return how many statements on this PostgreSQL database wait for another's commit."""
    with stage.services.store.read() as connection:
        waiting = text(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return int(connection.execute(waiting).scalar_one())


def one_behind_the_other(stage: Stage, held: UUID, acts: list[Act]) -> list[Any]:
    """Do *acts* while the row of a session is held, and let it go when all wait or are done."""
    with ThreadPoolExecutor(len(acts)) as threads:
        doing: list[Future[Any]] = []
        with stage.services.store.write() as connection:
            connection.execute(select(IdpSession.id).where(IdpSession.id == held).with_for_update())
            for act in acts:
                doing.append(threads.submit(act))
                wait_until(lambda: waiting_for_locks(stage) >= open_ones(doing), 60)
        return [each.result() for each in doing]


def open_ones(doing: list[Future[Any]]) -> int:
    return sum(not each.done() for each in doing)
