"""Migrations build exactly the models, on both databases, and come down again."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import JSON, Connection, Engine, inspect, select, text

from migrations.target import HERE, config_for, head, knows, revision_of
from models import AppSession, Base
from sandbox.postgres_server import PostgresDatabases
from simulator.controls.gates import wait_until
from simulator.server import SimulatorServer
from tests.stage import Stage
from worker.storage import database
from worker.storage.database import make_engine

ROOT = HERE.parent
ADVISORY_LOCK = 0x4D6F7361  # as in migrations/env.py, which only Alembic can import
SCRIPTS = ScriptDirectory.from_config(config_for())


def schema(connection: Connection) -> dict[str, Any]:
    """Everything there is, by name: columns, keys, constraints, indexes and their conditions."""
    found = inspect(connection)
    is_postgres = connection.dialect.name == "postgresql"
    return {
        table: {
            "columns": {
                column["name"]: (str(column["type"]), column["nullable"], column["default"])
                for column in found.get_columns(table)
            },
            "primary key": found.get_pk_constraint(table),
            "foreign keys": _by_name(found.get_foreign_keys(table)),
            "unique": _by_name(found.get_unique_constraints(table)),
            "checks": {
                check["name"]: re.sub(r"\s+", " ", str(check["sqltext"]))
                for check in found.get_check_constraints(table)
            },
            "indexes": _postgres_indexes(connection, table)
            if is_postgres
            else _sqlite_indexes(connection, table),
            "options": _postgres_options(connection, table) if is_postgres else None,
        }
        for table in found.get_table_names()
        if table != "alembic_version"
    }


def _is_other_default(_context: Any, _found: Any, column: Any, *_: Any) -> bool | None:
    # PostgreSQL cannot compare two values of JSON; `schema` compares how they are written. None
    # leaves the others to Alembic.
    return False if isinstance(column.type, JSON) else None


def _by_name(found: Any) -> dict[str, Any]:
    return {one["name"]: {k: v for k, v in one.items() if k != "comment"} for one in found}


def _postgres_indexes(connection: Connection, table: str) -> dict[str, str]:
    query = text("SELECT indexname, indexdef FROM pg_indexes WHERE tablename = :table")
    return {row[0]: row[1] for row in connection.execute(query, {"table": table})}


def _postgres_options(connection: Connection, table: str) -> list[str] | None:
    query = text("SELECT reloptions FROM pg_class WHERE oid = CAST(:table AS regclass)")
    found: list[str] | None = connection.execute(query, {"table": table}).scalar_one()
    return found


def _sqlite_indexes(connection: Connection, table: str) -> dict[str, str]:
    query = text("SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = :table")
    rows = connection.execute(query, {"table": table})
    return {row[0]: re.sub(r"\s+", " ", row[1] or "") for row in rows}


def test_migrations_build_exactly_the_models(empty_url: str, engine: Engine) -> None:
    command.upgrade(config_for(empty_url), "head")
    with engine.connect() as connection:
        migrated = schema(connection)
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": _is_other_default}
        )
        assert compare_metadata(context, Base.metadata) == []
    command.downgrade(config_for(empty_url), "base")

    with engine.begin() as connection:
        Base.metadata.create_all(connection)
        modelled = schema(connection)

    assert migrated == modelled
    assert set(migrated) == set(Base.metadata.tables)


def test_alembic_itself_sees_no_difference(empty_url: str) -> None:
    command.upgrade(config_for(empty_url), "head")

    command.check(config_for(empty_url))


def test_every_step_goes_up_down_and_up_again(empty_url: str, engine: Engine) -> None:
    config = config_for(empty_url)
    for script in reversed(list(SCRIPTS.walk_revisions())):
        command.upgrade(config, script.revision)
        command.downgrade(config, "-1")
        command.upgrade(config, script.revision)

    command.downgrade(config, "base")

    with engine.connect() as connection:
        assert set(inspect(connection).get_table_names()) == {"alembic_version"}
        assert revision_of(connection) is None


def test_running_them_twice_is_harmless(empty_url: str, engine: Engine) -> None:
    command.upgrade(config_for(empty_url), "head")
    command.upgrade(config_for(empty_url), "head")

    with engine.connect() as connection:
        assert revision_of(connection) == head()


def test_there_is_one_head_and_one_line_of_history() -> None:
    revisions = list(SCRIPTS.walk_revisions())

    assert SCRIPTS.get_heads() == [head()]
    assert [script.down_revision for script in revisions] == [
        *(script.revision for script in revisions[1:]),
        None,
    ]


def test_a_revision_of_a_newer_release_is_not_ours() -> None:
    assert knows(head())
    assert not knows("9999")


@pytest.mark.parametrize("path", sorted((HERE / "versions").glob("*.py")), ids=lambda p: p.name)
def test_a_migration_is_numbered_and_answers_three_questions(path: Path) -> None:
    script = next(s for s in SCRIPTS.walk_revisions() if Path(s.path) == path)

    assert re.fullmatch(r"\d{4}_[a-z0-9_]+\.py", path.name)
    assert path.name.startswith(f"{script.revision}_")
    assert re.search(r"(?m)^Why: \w", script.longdoc)
    assert re.search(r"(?m)^Safe while the previous release runs: (yes|no)\b", script.longdoc)
    assert re.search(r"(?m)^Lost when it is taken back: \w", script.longdoc)


def alembic(url: str, *words: str, expect: int = 0) -> str:
    """Run the command with nothing but the database's URL, and return what it says."""
    done = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, "-m", "alembic", *words],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "DATABASE_URL": url},  # noqa: TID251
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == expect, done.stdout
    return done.stdout


def test_the_command_says_what_it_did(empty_url: str, engine: Engine) -> None:
    first = alembic(empty_url, "upgrade", "head")
    second = alembic(empty_url, "upgrade", "head")
    back = alembic(empty_url, "downgrade", "base")

    steps = [f"{script.revision}: {script.doc}" for script in SCRIPTS.walk_revisions()]
    at_head = f"the database is at {head()}, as this release needs"
    first, back = (re.sub(r"(?m)^building ix_.*\n", "", text) for text in (first, back))
    assert first.splitlines() == [*(f"up to {step}" for step in reversed(steps)), at_head]
    assert second.splitlines() == [f"{at_head}: there was nothing to do"]
    assert back.splitlines() == [
        *(f"back from {step}" for step in steps),
        f"the database is at nothing, this release needs {head()}",
    ]
    with engine.connect() as connection:
        assert revision_of(connection) is None


def test_a_database_of_a_checkout_whose_0008_replaced_the_index_itself_can_be_taken_back(
    empty_url: str, engine: Engine
) -> None:
    command.upgrade(config_for(empty_url), "0008")
    with engine.begin() as connection:
        for statement in (
            "DROP INDEX ix_idp_sessions_live_by_expiry",
            "CREATE INDEX ix_idp_sessions_live_by_check ON idp_sessions (check_expiry_at, id)",
        ):
            connection.execute(text(statement))

    command.downgrade(config_for(empty_url), "0007")

    names = {index["name"] for index in inspect(engine).get_indexes("idp_sessions")}
    assert "ix_idp_sessions_live_by_expiry" in names
    assert "ix_idp_sessions_live_by_check" not in names


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("postgresql+psycopg://u:canary@127.0.0.1:1/x", "the database does not answer"),
        ("sqlite:////nowhere/x.db", "the database does not answer"),
        ("mysql://u:canary@127.0.0.1/x", "DATABASE_URL: needs"),
    ],
)
def test_the_command_says_in_one_line_that_it_cannot_reach_the_database(url: str, why: str) -> None:
    (line,) = alembic(url, "upgrade", "head", expect=255).strip().splitlines()

    assert why in line
    assert "canary" not in line


@pytest.fixture
def stranger(postgres: PostgresDatabases) -> Iterator[str]:
    """A role that owns nothing."""
    name = f"stranger_{uuid4().hex}"
    engine = make_engine(postgres.url())
    with engine.begin() as connection:
        connection.execute(text(f"CREATE ROLE {name}"))
    yield name
    with engine.begin() as connection:
        connection.execute(text(f"DROP ROLE {name}"))
    engine.dispose()


def test_the_command_says_in_one_line_that_it_may_not_write(
    postgres_url: str, stranger: str
) -> None:
    for setting, why in (
        ("default_transaction_read_only%3Don", "the database is read-only"),
        (f"role%3D{stranger}", "may not change the schema"),
    ):
        url = f"{postgres_url}?options=-c%20{setting}"
        (line,) = alembic(url, "downgrade", "base", expect=255).strip().splitlines()

        assert why in line


def test_sql_for_a_database_administrator_can_be_printed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = config_for("postgresql+psycopg://nobody@nowhere/nothing")
    config.output_buffer = sys.stdout

    command.upgrade(config, "head", sql=True)

    assert "CREATE TABLE idp_sessions" in capsys.readouterr().out


def test_a_second_deployment_waits_for_the_first(
    postgres: PostgresDatabases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also for longer than a statement of the worker may take."""
    name = f"turns_{uuid4().hex}"
    url = postgres.create_database(name)
    monkeypatch.setattr(database, "PG_OPTIONS", "-c statement_timeout=1000 -c lock_timeout=1000")
    first = make_engine(url)
    with first.connect() as deploying, ThreadPoolExecutor(1) as second:
        deploying.execute(text("SELECT pg_advisory_lock(:key)"), {"key": ADVISORY_LOCK})
        config, said = config_for(url), list[str]()
        config.attributes["say"] = said.append
        waiting = second.submit(command.upgrade, config, "head")
        wait_until(lambda: bool(said) or waiting.done(), 60)
        deploying.execute(text("SET statement_timeout = 0"))
        deploying.execute(text("SELECT pg_sleep(1.3)"))
        deploying.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": ADVISORY_LOCK})
        deploying.rollback()
        waiting.result(timeout=60)

    assert said[0] == "another process migrates: waiting for our turn"
    with first.connect() as connection:
        assert revision_of(connection) == head()
    first.dispose()
    postgres.drop_database(name)


SECOND = '''"""Alter a table that others refer to

Why: a test.
Safe while the previous release runs: yes.
"""

import sqlalchemy as sa
from alembic import op

revision = "9999"
down_revision = "{head}"


def upgrade():
    with op.batch_alter_table("idp_sessions", recreate="always") as batch:
        batch.add_column(sa.Column("colour", sa.String()))


def downgrade():
    with op.batch_alter_table("idp_sessions", recreate="always") as batch:
        batch.drop_column("colour")
'''


def test_altering_a_table_on_sqlite_keeps_the_rows_that_refer_to_it(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer, tmp_path: Path
) -> None:
    """SQLite alters by dropping and copying, and a drop cascades while foreign keys are on."""
    with Stage(sqlite_url, redis_url, mosaic) as stage:
        stage.add_app("shop")
        stage.registered()
    (tmp_path / "9999_alter.py").write_text(SECOND.format(head=head()))
    config = config_for(sqlite_url)
    config.set_main_option("path_separator", "newline")
    config.set_main_option("version_locations", f"{HERE / 'versions'}\n{tmp_path}")

    for change, revision in ((command.upgrade, "head"), (command.downgrade, "-1")):
        change(config, revision)

        engine = make_engine(sqlite_url)
        with engine.connect() as connection:
            assert len(connection.execute(select(AppSession.app_id)).all()) == 1
        engine.dispose()
