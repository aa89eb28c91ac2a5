"""`mosaic-sessions logouts`: what Mosaic must still be told, and could not be told."""

from __future__ import annotations

import click

from worker.cli import common, output
from worker.cli.common import services, wake_what_is_due
from worker.operations import deliveries
from worker.outbox import mosaic_logouts, mosaic_revocations


@click.group()
def logouts() -> None:
    """Look at the logouts that Mosaic must be told; take up again those that were dead-lettered."""


@logouts.command("list")
@click.option("--failed", "only_failed", is_flag=True, help="Only those that were given up.")
@click.option("--app", help="Only those that this app asked for.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@output.as_json_option
def list_(*, only_failed: bool, app: str | None, limit: int, as_json: bool) -> None:
    """List what is pending or was given up, with its last error, oldest first."""
    if app is not None:
        common.require_app(app)
    found = deliveries.list_logouts(services(), app_id=app, only_failed=only_failed, limit=limit)
    if as_json:
        output.print_json(found)
        return
    now = services().now()
    output.print_table(
        ("session", "user", "app", "state", "attempts", "last error", "next attempt", "age"),
        (
            (
                one.session_ref or "all of the user",
                one.user_id,
                one.app_id,
                one.state,
                one.attempts,
                one.last_error,
                one.next_attempt_at,
                output.age(one.created_at, now),
            )
            for one in found.logouts
        ),
    )
    if found.has_more:
        click.echo(f"There are more than {limit}: narrow it with --app or --failed, or raise it")


@logouts.command("replay")
@output.as_json_option
def replay(*, as_json: bool) -> None:
    """Make dead-lettered logouts due again; the workers take them up at once."""
    opened = mosaic_logouts.replay_dead_lettered(services())
    opened += mosaic_revocations.replay_dead_lettered(services())
    wake_what_is_due()
    if as_json:
        output.print_json({"opened": opened})
    else:
        click.echo(f"Pending again: {opened}")
