"""`mosaic-sessions logouts`: what Mosaic could not be told."""

from __future__ import annotations

import click

from worker.cli import output
from worker.cli.common import services, wake_what_is_due
from worker.outbox import mosaic_logouts


@click.group()
def logouts() -> None:
    """Tell Mosaic again of logouts that were dead-lettered: they kept killing their workers."""


@logouts.command("replay")
@output.as_json_option
def replay(*, as_json: bool) -> None:
    """Make dead-lettered logouts due again; the workers take them up at once."""
    opened = mosaic_logouts.replay_dead_lettered(services())
    wake_what_is_due()
    if as_json:
        output.print_json({"opened": opened})
    else:
        click.echo(f"Pending again: {opened}")
