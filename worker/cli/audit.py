"""`mosaic-sessions audit`: what operators did, and the export of both trails."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import click

from worker.cli import output
from worker.cli.common import services
from worker.operations import audit_export
from worker.operations.audit_export import Action

_MOST: Final = 1_000_000


@click.group()
def audit() -> None:
    """See what operators did, and hand the audit trails on."""


@audit.command("list")
@click.option("--app", help="Only what was done with this app.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@output.as_json_option
def list_(*, app: str | None, limit: int, as_json: bool) -> None:
    """List what operators did, newest first: who, what, before and after."""
    found = audit_export.list_actions(services(), app_id=app, limit=limit)
    if as_json:
        output.print_json(found)
        return
    output.print_table(
        ("at", "operator", "action", "about", "reason", "changed"),
        (
            (one.at, one.operator, one.action, _about(one), one.reason, _changed(one))
            for one in found.actions
        ),
    )
    if found.has_more:
        click.echo(f"There are more than {limit}: narrow it with --app, or raise --limit")


@audit.command("export")
@click.option("--after", type=click.UUID, metavar="ID", help="Go on after the line with this id.")
@click.option("--limit", type=click.IntRange(1, _MOST), default=_MOST, show_default=True)
def export(*, after: UUID | None, limit: int) -> None:
    """Print both trails, oldest first, a JSON object a line. For a program that keeps them.

    The `id` of the last line is where to go on: give it as --after the next time. What is younger
    than a minute is left for then, so that nothing is missed that is being written now.
    """
    for line in audit_export.export(services(), after=after, limit=limit):
        output.print_json_line(line)


def _about(one: Action) -> tuple[object, ...]:
    kinds = {"app": one.app_id, "user": one.user_id, "session": one.session_ref}
    return tuple(f"{kind} {value}" for kind, value in kinds.items() if value is not None)


def _changed(one: Action) -> tuple[str, ...]:
    before, after = one.before or {}, one.after or {}
    if one.before is None or one.after is None:
        # It came or went as a whole: what it does not have says nothing.
        return tuple(f"{n}: {_shown(v)}" for n, v in {**before, **after}.items() if v)
    return tuple(
        f"{name}: {_shown(before.get(name))} -> {_shown(after.get(name))}"
        for name in {**before, **after}
    )


def _shown(value: Any) -> str:
    return "none" if value in (None, []) else output.shown(value)
