"""Seeing from outside that somebody waits for a row."""

from __future__ import annotations

from sqlalchemy import text

from tests.stage import Stage


def somebody_waits_for_a_lock(stage: Stage) -> bool:
    """Whether a statement on this PostgreSQL database waits for another's commit."""
    with stage.services.store.read() as connection:
        waiting = text(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        return bool(connection.execute(waiting).scalar_one())
