"""`mosaic-sessions db`: the schema, as `alembic` does it, also where there is no checkout."""

from __future__ import annotations

import re
import sys
from contextlib import closing, suppress
from typing import Final

import click
import redis
from alembic import command
from alembic.script import Script
from alembic.util import CommandError

from migrations import target
from worker.celery_support.heartbeat import LIFETIME_SECONDS, living_workers
from worker.cli import common, output
from worker.cli.common import FAILED, Failure, Misconfigured
from worker.errors import ConfigurationError
from worker.operations.schema import schema_trouble
from worker.settings.model import current, database_url
from worker.storage.database import Store, make_engine
from worker.storage.redis_client import connect_redis

# What a migration says of itself, up to the next question.
_SAFE: Final = "Safe while the previous release runs"
_LOST: Final = "Lost when it is taken back"


@click.group()
def db() -> None:
    """Bring the database to this release's schema, and back. Needs DATABASE_URL alone."""


@db.command("upgrade")
@output.as_json_option
def upgrade(*, as_json: bool) -> None:
    """Run the migrations that are missing, before the workers of a release start."""
    config = target.config_for(_url())
    lines: list[str] = []
    config.attributes["say"] = lines.append if as_json else click.echo
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise Failure(str(error)) from None
    if as_json:
        output.print_json({"revision": target.head(), "done": lines})


@db.command("downgrade")
@click.argument("revision")
@click.option("--yes", is_flag=True, help="Do not ask.")
@output.as_json_option
def downgrade(*, revision: str, yes: bool, as_json: bool) -> None:
    """Take the schema back to REVISION, for the release before: with what is lost by it.

    Run it by the release that made the schema, once its workers are stopped.
    """
    taken_back = _taken_back_to(revision)
    if taken_back:
        _warn_of_workers()
    if taken_back and not yes:
        _confirm(taken_back)
    config = target.config_for(_url())
    lines: list[str] = []
    config.attributes["say"] = lines.append if as_json else click.echo
    try:
        command.downgrade(config, revision)
    except CommandError as error:
        raise Failure(str(error)) from None
    if as_json:
        output.print_json({"revision": revision, "done": lines})


def _taken_back_to(revision: str) -> list[Script]:
    """Return the migrations to take back, newest first. Raises `Failure` where it cannot be."""
    steps = target.steps()
    revisions = [step.revision for step in steps]
    if revision not in revisions:
        raise Failure(f"there is no revision {revision!r} (mosaic-sessions db history)")
    now = _revision()
    if now is not None and now not in revisions:
        raise Failure(f"the database is at {now}: take it back with the newer release that made it")
    begin, end = revisions.index(revision), -1 if now is None else revisions.index(now)
    if end < begin:
        raise Failure(f"the database is at {now or 'nothing'}, which is before {revision}")
    return list(reversed(steps[begin + 1 : end + 1]))


def _warn_of_workers() -> None:
    """Name the workers that live, where the settings say of which Redis to ask."""
    alive: list[str] = []
    with (
        suppress(ConfigurationError, redis.RedisError),
        closing(connect_redis(current().cache_url)) as client,
    ):
        alive = sorted(str(worker["hostname"]) for worker in living_workers(client))
    if alive:
        click.echo(
            f"Still alive: {', '.join(map(output.shown, alive))}. Stop all workers, beat and the "
            "monitor first: they know no other schema than this one. A worker that was killed is "
            f"named for {LIFETIME_SECONDS} s",
            err=True,
        )


def _confirm(taken_back: list[Script]) -> None:
    if not common.is_at_a_terminal():
        raise Failure(
            "this would take the schema back: say --yes if it is meant (mosaic-sessions db history "
            "says what is lost)"
        )
    for step in taken_back:
        click.echo(f"{step.revision}: {step.doc}. {_LOST}: {_answer(step, _LOST)}", err=True)
    if not click.confirm("Take the schema back?", err=True):
        raise Failure("nothing was taken back")


@db.command("check")
@output.as_json_option
def check(*, as_json: bool) -> None:
    """Say where the database stands. Exit code 1 where no worker would start on it."""
    revision = _revision()
    trouble = schema_trouble(revision)
    if as_json:
        output.print_json({"revision": revision, "head": target.head(), "problem": trouble})
    else:
        click.echo(trouble or f"the database is at {revision}, as this release needs")
    sys.exit(0 if trouble is None else FAILED)


@db.command("history")
@output.as_json_option
def history(*, as_json: bool) -> None:
    """List the migrations, oldest first: what each does, and whether it was run."""
    revision = _revision()
    steps = target.steps()
    revisions = [step.revision for step in steps]
    done = revisions[: revisions.index(revision) + 1] if revision in revisions else []
    if as_json:
        output.print_json(
            [
                {
                    "revision": step.revision,
                    "what": step.doc,
                    "safe_while_previous_release_runs": _answer(step, _SAFE),
                    "lost_when_taken_back": _answer(step, _LOST),
                    "done": step.revision in done,
                }
                for step in steps
            ]
        )
        return
    # Not a table: of what is safe but for one thing, that thing must be read.
    for step in steps:
        output.print_facts(
            {
                "revision": f"{step.revision}, {'done' if step.revision in done else 'not done'}",
                "what": step.doc,
                _SAFE.lower(): _answer(step, _SAFE),
                _LOST.lower(): _answer(step, _LOST),
            }
        )
        click.echo()


def _answer(step: Script, question: str) -> str | None:
    """Return all that the migration's text says to *question*."""
    found = re.search(rf"(?ms)^{question}: (.+?)(?=^[A-Z][^:.]*: |\Z)", step.longdoc)
    return None if found is None else " ".join(found[1].split())


def _url() -> str:
    try:
        return database_url()
    except ConfigurationError as error:
        raise Misconfigured(str(error)) from None


def _revision() -> str | None:
    store = Store(make_engine(_url(), pool_size=1))
    try:
        with store.read() as connection:
            return target.revision_of(connection)
    finally:
        store.close()
