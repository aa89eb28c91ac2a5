"""`mosaic-sessions notices`: what apps must still be told, and what could not be said to them."""

from __future__ import annotations

import click

from worker.cli import common, output
from worker.cli.common import services
from worker.operations import deliveries
from worker.outbox import app_notices


@click.group()
def notices() -> None:
    """Look at the notices to apps that a session has ended; send failed ones again."""


@notices.command("list")
@click.option("--failed", "only_failed", is_flag=True, help="Only those that were given up.")
@click.option("--app", help="Only those to this app.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@output.as_json_option
def list_(*, only_failed: bool, app: str | None, limit: int, as_json: bool) -> None:
    """List what is pending or has failed, oldest first."""
    if app is not None:
        common.require_app(app)
    found = deliveries.list_notices(services(), app_id=app, only_failed=only_failed, limit=limit)
    if as_json:
        output.print_json(found)
        return
    now = services().now()
    output.print_table(
        ("session", "app", "cause", "state", "attempts", "last error", "next attempt", "age"),
        (
            (
                notice.session_ref,
                notice.app_id,
                notice.cause,
                notice.state,
                notice.attempts,
                notice.last_error,
                notice.next_attempt_at,
                output.age(notice.created_at, now),
            )
            for notice in found.notices
        ),
    )
    if found.has_more:
        click.echo(f"There are more than {limit}: narrow it with --app or --failed, or raise it")


@notices.command("replay")
@click.option("--app", help="Only those to this app.")
@output.as_json_option
def replay(*, app: str | None, as_json: bool) -> None:
    """Send what has failed again, with the same notice ids and all of its time."""
    if app is not None:
        common.require_app(app)
    opened = app_notices.replay_failed(services(), app)
    common.wake_what_is_due()
    if as_json:
        output.print_json({"opened": opened})
    else:
        click.echo(f"Pending again: {opened}")
