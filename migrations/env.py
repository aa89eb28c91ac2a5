"""Runs migrations one at a time, and never waits long for a lock.

An ALTER TABLE that waits behind an open reader blocks all later readers; with a lock timeout it
fails instead, and can be repeated at a quieter moment.
"""

from __future__ import annotations

from typing import Any

from alembic import context
from sqlalchemy import Connection, text

from migrations.target import database_url
from models import Base
from worker.database import make_engine

LOCK_TIMEOUT_MS = 4000
ADVISORY_LOCK = 0x4D6F7361  # "Mosa": two deployments at once take turns


def _migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def _guard(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        # Timeouts are the worker's by default (`make_engine`). Without them for a moment: they
        # would also end the wait for our turn, and the second deployment would fail.
        connection.execute(text("SET statement_timeout = 0"))
        connection.execute(text("SET lock_timeout = 0"))
        connection.execute(text(f"SELECT pg_advisory_lock({ADVISORY_LOCK})"))
        connection.execute(text(f"SET lock_timeout = {LOCK_TIMEOUT_MS}"))
        connection.commit()
    else:
        # SQLite alters a table by dropping it and copying it; with foreign keys on, the drop
        # deletes every row that refers to it. No transaction may be open: then it does nothing.
        driver: Any = connection.connection.driver_connection
        driver.execute("PRAGMA foreign_keys=OFF")


def run() -> None:
    """Run what alembic asked for, on the database the settings (or a test) name."""
    if context.is_offline_mode():
        context.configure(
            url=database_url(context.config), target_metadata=Base.metadata, literal_binds=True
        )
        with context.begin_transaction():
            context.run_migrations()
        return
    engine = make_engine(database_url(context.config), pool_size=1)
    try:
        with engine.connect() as connection:
            _guard(connection)
            _migrate(connection)
    finally:
        # Closing the connection also gives the advisory lock back, whatever happened.
        engine.dispose()


run()
