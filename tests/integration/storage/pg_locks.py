"""Seeing from outside that somebody waits for a row."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import text

from tests.stage import Stage
from worker.storage import database

# A server is shared with other tests.
ADVISORY_LOCKS = (
    "(SELECT granted FROM pg_locks JOIN pg_database AS here ON here.oid = pg_locks.database"
    " WHERE locktype = 'advisory' AND here.datname = current_database()) AS advisory_locks"
)


@contextmanager
def patient_locks() -> Iterator[None]:
    """Make stores that wait long for a row: on a busy machine others keep theirs for seconds."""
    times = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout")
    patient = "".join(f" -c {name}=60000" for name in times)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "PG_OPTIONS", database.PG_OPTIONS + patient)
        yield


def somebody_waits_for_a_lock(stage: Stage) -> bool:
    """Whether a statement on this PostgreSQL database waits for another's commit."""
    with stage.services.store.read() as connection:
        waiting = text(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return bool(connection.execute(waiting).scalar_one())
