"""`mosaic-sessions db`: what `alembic` does, where there is no checkout, and without our keys."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest
from alembic import command
from click.testing import CliRunner, Result
from sqlalchemy import select, text

from migrations import target
from models import OperatorAction
from sandbox.ports import free_port
from tests.integration.operations.doctor_rig import WORKER
from tests.stage import ENCRYPTION_KEY, LOOKUP_KEY, redis_client
from worker.celery_support import heartbeat
from worker.cli.root import commands
from worker.settings.model import current
from worker.storage.database import make_engine


@pytest.fixture
def url(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database without a table, which the environment names, and nothing else."""
    for name in ("MOSAIC_SESSIONS_ENCRYPTION_KEYS", "MOSAIC_SESSIONS_LOOKUP_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DATABASE_URL", empty_url)
    return empty_url


def db(*words: str, expect: int = 0) -> Result:
    result = CliRunner().invoke(commands, ["db", *words], catch_exceptions=False)
    assert result.exit_code == expect, result.output
    return result


def steps_in(lines: list[str]) -> list[str]:
    """Leave out what a step says while it builds an index."""
    return [line for line in lines if not line.startswith("building ix_")]


def told(*words: str, expect: int = 0) -> Any:
    return json.loads(db(*words, "--json", expect=expect).stdout)


def test_an_upgrade_says_what_it_did_and_the_second_that_there_was_nothing_to_do(url: str) -> None:
    first = db("upgrade").stdout.splitlines()
    second = db("upgrade").stdout.splitlines()

    at_head = f"the database is at {target.head()}, as this release needs"
    is_postgresql = first != steps_in(first)  # SQLite builds them at once, and says nothing
    assert is_postgresql is url.startswith("postgresql")
    assert steps_in(first) == [*(f"up to {s.revision}: {s.doc}" for s in target.steps()), at_head]
    assert second == [f"{at_head}: there was nothing to do"]
    assert told("upgrade") == {"revision": target.head(), "done": second}


@pytest.mark.usefixtures("url")
def test_a_check_says_whether_a_worker_would_start() -> None:
    before = db("check", expect=1).stdout
    missing = told("check", expect=1)
    db("upgrade")

    assert before.startswith(f"the database is at nothing, this release needs {target.head()}")
    assert missing == {
        "revision": None,
        "head": target.head(),
        "problem": before.strip(),
    }
    assert db("check").stdout == f"the database is at {target.head()}, as this release needs\n"
    assert told("check") == {"revision": target.head(), "head": target.head(), "problem": None}


@pytest.mark.usefixtures("url")
def test_the_history_says_of_each_migration_whether_it_was_run_and_is_safe() -> None:
    before = told("history")
    db("upgrade")
    after = told("history")
    printed = db("history").stdout

    assert [one["revision"] for one in before] == [step.revision for step in target.steps()]
    assert {one["done"] for one in before} == {False}
    assert {one["done"] for one in after} == {True}
    assert all(one["safe_while_previous_release_runs"][:3] in {"yes", "no "} for one in after)
    assert all(one["what"] in printed for one in after)


@pytest.mark.usefixtures("url")
def test_the_history_tells_all_that_a_migration_says_of_its_safety_and_of_what_is_lost() -> None:
    found = {one["revision"]: one for one in told("history")}
    printed = " ".join(db("history").stdout.split())

    safe = found["0007"]["safe_while_previous_release_runs"]
    assert safe.startswith("yes, but for one thing: its purge, ")
    assert safe.endswith("stop its beat first.")
    assert "Lost" not in safe
    assert found["0004"]["lost_when_taken_back"].endswith("Each that is open is sent once more.")
    for one in found.values():
        assert one["safe_while_previous_release_runs"] in printed
        assert one["lost_when_taken_back"] in printed


# --- back


def test_a_downgrade_takes_the_schema_back_and_is_in_the_trail_as_long_as_there_is_one(
    url: str,
) -> None:
    db("upgrade")

    back = db("downgrade", "0006", "--yes").stdout.splitlines()
    rows = trail(url)
    again = told("downgrade", "0006", "--yes")
    db("downgrade", "0005", "--yes")  # the trail itself goes

    docs = {step.revision: step.doc for step in target.steps()}
    at = f"the database is at 0006, this release needs {target.head()}"
    later = [revision for revision in docs if revision > "0006"]
    assert steps_in(back) == [*(f"back from {name}: {docs[name]}" for name in reversed(later)), at]
    assert [row[1] for row in rows] == ["schema_changed"] * len(later)
    assert rows[-1][2:] == ({"revision": "0007"}, {"revision": "0006"})
    assert again == {"revision": "0006", "done": [f"{at}: there was nothing to do"]}
    assert told("check", expect=1)["revision"] == "0005"
    db("upgrade")
    assert told("check")["problem"] is None


@pytest.fixture
def read_anew() -> Iterator[Callable[[], None]]:
    """Have the settings of this process read again, now and at the end."""
    yield current.cache_clear
    current.cache_clear()


@pytest.mark.usefixtures("url")
def test_a_downgrade_names_the_workers_that_live_where_the_settings_say_of_which_redis_to_ask(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, read_anew: Callable[[], None]
) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", redis_url)
    monkeypatch.setenv("MOSAIC_SESSIONS_ENCRYPTION_KEYS", f"k1:{ENCRYPTION_KEY}")
    monkeypatch.setenv("MOSAIC_SESSIONS_LOOKUP_KEY", LOOKUP_KEY)
    read_anew()
    db("upgrade")
    with redis_client(redis_url) as client:
        client.set(heartbeat.key_of_this_process(), json.dumps(WORKER), ex=600)
        said = db("downgrade", "0011", "--yes").stderr
        nothing_to_do = db("downgrade", "0011", "--yes").stderr
        client.delete(heartbeat.key_of_this_process())
        stopped = db("downgrade", "0010", "--yes").stderr
        client.set(heartbeat.key_of_this_process(), json.dumps(WORKER), ex=600)
        monkeypatch.delenv("MOSAIC_SESSIONS_LOOKUP_KEY")
        read_anew()
        without_settings = db("downgrade", "0009", "--yes").stderr

    assert said.startswith("Still alive: worker@here. Stop all workers, beat and the monitor first")
    assert (nothing_to_do, stopped, without_settings) == ("", "", "")


@pytest.mark.parametrize(("said", "code", "revision"), [("y", 0, "0006"), ("n", 1, target.head())])
@pytest.mark.usefixtures("url")
def test_at_a_terminal_a_downgrade_says_what_is_lost_and_asks(
    monkeypatch: pytest.MonkeyPatch, said: str, code: int, revision: str
) -> None:
    db("upgrade")
    monkeypatch.setattr("worker.cli.common.is_at_a_terminal", lambda: True)

    asked = CliRunner().invoke(commands, ["db", "downgrade", "0006"], input=f"{said}\n")

    assert asked.exit_code == code, asked.output
    assert "0007: Drop the foreign keys" in asked.stderr
    assert "the rows that name a session which was purged" in asked.stderr
    assert "0006: " not in asked.stderr
    found = told("check", expect=0 if revision == target.head() else 1)
    assert found["revision"] == revision


@pytest.mark.usefixtures("url")
def test_a_script_must_say_that_it_means_to_take_the_schema_back() -> None:
    db("upgrade")

    refused = db("downgrade", "0006", expect=1)

    assert "say --yes" in refused.stderr
    assert told("check")["revision"] == target.head()


def test_what_is_no_way_back_is_refused_in_a_line(url: str) -> None:
    never = db("downgrade", "0003", "--yes", expect=1).stderr
    command.upgrade(target.config_for(url), "0004")
    strange = db("downgrade", "base", "--yes", expect=1).stderr
    forwards = db("downgrade", "0005", "--yes", expect=1).stderr
    engine = make_engine(url, pool_size=1)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    newer = db("downgrade", "0003", "--yes", expect=1).stderr

    assert "the database is at nothing, which is before 0003" in never
    assert "there is no revision 'base'" in strange
    assert "the database is at 0004, which is before 0005" in forwards
    assert "take it back with the newer release" in newer
    assert all(said.count("\n") == 1 for said in (never, strange, forwards, newer))


@pytest.mark.parametrize("verb", ["upgrade", "check", "history", "downgrade"])
@pytest.mark.parametrize(
    ("where", "code", "why"),
    [
        pytest.param(
            f"postgresql+psycopg://u:canary@127.0.0.1:{free_port()}/x",
            1,
            "does not answer",
            id="away",
        ),
        ("mysql://u:canary@127.0.0.1/x", 78, "DATABASE_URL: needs"),
    ],
)
def test_a_database_that_cannot_be_used_is_one_line(
    monkeypatch: pytest.MonkeyPatch, verb: str, where: str, code: int, why: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", where)

    result = db(verb, *(("0006", "--yes") if verb == "downgrade" else ()), expect=code)

    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert why in result.stderr
    assert "canary" not in result.stderr


def trail(url: str) -> list[tuple[str, str, Any, Any]]:
    """What the operators' trail holds, oldest first."""
    engine = make_engine(url, pool_size=1)
    try:
        with engine.connect() as connection:
            query = select(OperatorAction.__table__).order_by(OperatorAction.id)
            return [
                (row.operator, row.action, row.before, row.after)
                for row in connection.execute(query)
            ]
    finally:
        engine.dispose()


def test_who_changed_the_schema_of_a_database_in_use_is_in_the_operators_trail(url: str) -> None:
    before_the_trail = "0005"
    command.upgrade(target.config_for(url), before_the_trail)
    words = ("--as", "grace, ticket 4711", "db", "upgrade")
    done = CliRunner().invoke(commands, words, catch_exceptions=False)
    db("upgrade")  # does nothing, and is nothing to remember

    revisions = [step.revision for step in target.steps()]
    later = list(pairwise(revisions[revisions.index(before_the_trail) :]))
    assert done.exit_code == 0
    found = trail(url)
    assert [row[1:] for row in found] == [
        ("schema_changed", {"revision": before}, {"revision": after}) for before, after in later
    ]
    assert {row[0].partition(" (")[0] for row in found} == {"grace, ticket 4711"}


def test_a_new_database_is_made_and_not_changed(url: str) -> None:
    db("upgrade")

    assert trail(url) == []


def test_a_trail_of_another_release_is_left_alone(url: str) -> None:
    db("upgrade")
    engine = make_engine(url, pool_size=1)
    with engine.begin() as connection:
        # Stands at a step after the trail was made, as the next release's would.
        connection.execute(text("ALTER TABLE operator_actions ADD COLUMN more TEXT"))
        connection.execute(text("UPDATE alembic_version SET version_num = '0003'"))
        connection.execute(text("ALTER TABLE notices DROP COLUMN published_at"))
    engine.dispose()

    command.upgrade(target.config_for(url), "0004")

    assert trail(url) == []
