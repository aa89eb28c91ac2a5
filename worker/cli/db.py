"""`mosaic-sessions db`: the schema, as `alembic` does it, also where there is no checkout."""

from __future__ import annotations

import re
import sys
from typing import Final

import click
from alembic import command
from alembic.util import CommandError

from migrations import target
from worker.cli import output
from worker.cli.common import FAILED, Failure, Misconfigured
from worker.errors import ConfigurationError
from worker.operations.schema import schema_trouble
from worker.settings.model import database_url
from worker.storage.database import Store, make_engine

_SAFE: Final = re.compile(r"(?m)^Safe while the previous release runs: (\w+)")


@click.group()
def db() -> None:
    """Bring the database to this release's schema. Needs DATABASE_URL alone."""


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
    rows = [
        (step.revision, step.doc, _is_safe(step.longdoc), step.revision in done) for step in steps
    ]
    if as_json:
        names = ("revision", "what", "safe_while_previous_release_runs", "done")
        output.print_json([dict(zip(names, row, strict=True)) for row in rows])
        return
    output.print_table(
        ("revision", "what", "safe while the previous release runs", "done"),
        ((name, what, safe, "yes" if is_done else "no") for name, what, safe, is_done in rows),
    )


def _is_safe(text: str) -> str | None:
    found = _SAFE.search(text)
    return None if found is None else found[1]


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
