"""Runs migrations one at a time, and never waits long for a lock.

An ALTER TABLE that waits behind an open reader blocks all later readers. So it waits for less than
a user would notice, lets those pass who have queued up behind it, and tries again for a while.
"""

from __future__ import annotations

import logging
import time
from typing import Any

from alembic import context
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

from migrations.target import database_url
from models import Base
from worker.database import make_engine

LOCK_TIMEOUT_MS = 500
LOCK_PAUSE_SECONDS = 1.0
LOCK_PATIENCE_SECONDS = 60.0
LOCK_NOT_AVAILABLE = "55P03"
ADVISORY_LOCK = 0x4D6F7361  # "Mosa": two deployments at once take turns

log = logging.getLogger("alembic.env")


def _migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def _migrate_patiently(connection: Connection) -> None:
    """Try again while others hold a table; what is already migrated stays so."""
    until = time.monotonic() + LOCK_PATIENCE_SECONDS
    while True:
        try:
            _migrate(connection)
        except OperationalError as error:
            is_locked = getattr(error.orig, "sqlstate", None) == LOCK_NOT_AVAILABLE
            if not is_locked or time.monotonic() > until:
                raise
            connection.rollback()
            log.warning("a table is in use: trying again in %g s", LOCK_PAUSE_SECONDS)
            time.sleep(LOCK_PAUSE_SECONDS)
        else:
            return


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
            _migrate_patiently(connection)
    finally:
        # Closing the connection also gives the advisory lock back, whatever happened.
        engine.dispose()


run()
