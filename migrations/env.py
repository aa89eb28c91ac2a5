"""Runs migrations one at a time, says what it does, and never waits long for a lock.

An ALTER TABLE that waits behind an open reader blocks all later readers. So it waits for less than
a user would notice, lets pass what has queued up behind it, and tries again for a while.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from alembic import command, context
from alembic.runtime.migration import MigrationInfo
from alembic.util import CommandError
from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from migrations.indexes import SEES_NOTHING
from migrations.target import database_url, head, revision_of
from models import Base, OperatorAction
from worker.errors import ConfigurationError
from worker.sessions import operator_trail
from worker.sessions.operator_trail import Action
from worker.storage.database import make_engine
from worker.storage.prepared import refuses_writes

# A migration may take its time; that for a lock is measured by users.
OPTIONS = "-c statement_timeout=0 -c lock_timeout=500"
LOCK_PAUSE_SECONDS = 1.0
LOCK_PATIENCE_SECONDS = 60.0
LOCK_NOT_AVAILABLE = "55P03"
NO_PERMISSION = "42501"
_IS_NEW = "is_new"
ADVISORY_LOCK = 0x4D6F7361  # "Mosa": two deployments at once take turns
TURN_PAUSE_SECONDS = 0.2


def _say(line: str) -> None:
    """Tell the operator who runs a command; a caller from Python passes a function of its own."""
    context.config.attributes["say"](line)


def ignore(_: str) -> None:
    """Say nothing."""


def _after_step(*_: Any, **arguments: Any) -> None:
    """Write a step down, in its own transaction, and say it."""
    step: MigrationInfo = arguments["step"]
    script: Any = step.up_revision
    _record(arguments["ctx"].connection, step)
    _say(f"{'up to' if step.is_upgrade else 'back from'} {script.revision}: {script.doc}")


def _record(connection: Connection, step: MigrationInfo) -> None:
    """Write in the operators' trail who did it, where the schema has one that we can write to.

    A new database is made, and not changed.
    """
    there = inspect(connection)
    table = OperatorAction.__tablename__
    if context.config.attributes[_IS_NEW] or not there.has_table(table):
        return
    # Of another release's trail we know nothing.
    if {c.name for c in OperatorAction.__table__.columns} != {
        column["name"] for column in there.get_columns(table)
    }:
        return
    operator_trail.record(
        connection,
        Action.SCHEMA_CHANGED,
        at=datetime.now(UTC),
        before={"revision": _one(step.source_revision_ids)},
        after={"revision": _one(step.destination_revision_ids)},
    )


def _one(revisions: tuple[str, ...]) -> str | None:
    return revisions[0] if revisions else None


def _migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        transaction_per_migration=True,
        on_version_apply=_after_step,
    )
    with context.begin_transaction():
        context.run_migrations()


def _migrate_patiently(connection: Connection) -> None:
    """Try again while other connections hold a table; what is already migrated stays so."""
    until = None  # from the first that was in use: an index may have been built for long before
    while True:
        try:
            _migrate(connection)
        except OperationalError as error:
            if _state(error) != LOCK_NOT_AVAILABLE:
                raise
            until = until or time.monotonic() + LOCK_PATIENCE_SECONDS
            if time.monotonic() > until:
                raise
            connection.rollback()
            _say(f"a table is in use: trying again in {LOCK_PAUSE_SECONDS:g} s")
            time.sleep(LOCK_PAUSE_SECONDS)
        else:
            return


@contextmanager
def _our_turn(connection: Connection) -> Iterator[None]:
    """Wait until no other process migrates, and have other processes wait for us."""
    if connection.dialect.name == "sqlite":
        # SQLite alters a table by dropping it and copying it; with foreign keys on, the drop
        # deletes every row that refers to it. No transaction may be open: then it does nothing.
        driver: Any = connection.connection.driver_connection
        driver.execute("PRAGMA foreign_keys=OFF")
        yield
        return
    # By a transaction of its own, on another connection: a lock of the session would stay with its
    # server when a pooler gives us the next one, and no process could migrate any more.
    our_turn = text(f"SELECT pg_try_advisory_xact_lock({ADVISORY_LOCK})")
    is_said = False
    while True:
        # Each try by itself: an index that is built concurrently waits for all who saw the database
        # before, also for one that would wait here until it is built.
        with connection.engine.begin() as turn:
            if turn.execute(our_turn).scalar_one():
                turn.execute(text(SEES_NOTHING))
                yield
                return
        if not is_said:
            _say("another process migrates: waiting for our turn")
            is_said = True
        time.sleep(TURN_PAUSE_SECONDS)


@contextmanager
def _connected() -> Iterator[Connection]:
    """Give a connection. What an operator can put right is said in a line, not in a traceback."""
    try:
        engine = make_engine(database_url(context.config), pool_size=1, options=OPTIONS)
    except ConfigurationError as error:
        raise CommandError(str(error)) from None
    try:
        connection = engine.connect()
    except SQLAlchemyError as error:
        cause = type(getattr(error, "orig", None) or error).__name__
        raise CommandError(
            f"the database does not answer ({cause}). Is it running, and is DATABASE_URL right?"
        ) from None
    try:
        with connection:
            yield connection
    except DBAPIError as error:
        trouble = _trouble(error)
        if trouble is None:
            raise
        raise CommandError(trouble) from None
    finally:
        engine.dispose()


def _trouble(error: DBAPIError) -> str | None:
    """Say what an operator must put right before it can work; None for anything else."""
    if refuses_writes(error.orig):
        return "the database is read-only: is DATABASE_URL that of a replica?"
    if _state(error) == LOCK_NOT_AVAILABLE:
        return "a table stayed in use for a minute: run it again when less is done"
    if _state(error) == NO_PERMISSION:
        return "the user in DATABASE_URL may not change the schema: migrate as its owner"
    if isinstance(error, OperationalError):
        return f"the database ended it ({type(error.orig).__name__}): run it again"
    return None


def _state(error: DBAPIError) -> object:
    return getattr(error.orig, "sqlstate", None)


def run() -> None:
    """Run what alembic asked for, on the database the settings (or a test) name."""
    if context.is_offline_mode():
        context.configure(
            url=database_url(context.config), target_metadata=Base.metadata, literal_binds=True
        )
        with context.begin_transaction():
            context.run_migrations()
        return
    config = context.config
    by_default = ignore if config.cmd_opts is None else config.print_stdout
    config.attributes.setdefault("say", by_default)
    with _connected() as connection, _our_turn(connection):
        before = revision_of(connection)
        context.config.attributes[_IS_NEW] = before is None
        connection.commit()
        _migrate_patiently(connection)
        _say_where(connection, before)


def _say_where(connection: Connection, before: str | None) -> None:
    """Tell where the database stands, if it was asked to be brought there."""
    cmd: Any = getattr(context.config.cmd_opts, "cmd", [command.upgrade])
    if cmd[0] not in (command.upgrade, command.downgrade):
        return
    now = revision_of(connection)
    is_ready = "as this release needs" if now == head() else f"this release needs {head()}"
    done = ": there was nothing to do" if now == before else ""
    _say(f"the database is at {now or 'nothing'}, {is_ready}{done}")


run()
