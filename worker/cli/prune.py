"""`mosaic-sessions prune`: what beat does on schedule, now."""

from __future__ import annotations

import click

from worker.cli import common, output
from worker.cli.common import services
from worker.operations import prune as operations


@click.command()
@click.option("--dry-run", is_flag=True, help="Only count.")
@click.option("--history", is_flag=True, help="Also delete what is past its retention.")
@common.override_guard_option
@output.as_json_option
def prune(*, dry_run: bool, history: bool, override_guard: bool, as_json: bool) -> None:
    """Mark sessions past their expiry as ended; safe at any time, also beside beat."""
    counts = operations.prune(
        services(), dry_run=dry_run, history=history, override_guard=override_guard
    )
    if as_json:
        output.print_json({**counts.rows, "is_complete": counts.is_complete, "dry_run": dry_run})
        return
    output.print_facts(
        {f"{name} (dry run)" if dry_run else name: rows for name, rows in counts.rows.items()}
    )
    if not counts.is_complete:
        click.echo("Its time was up before all was done: run it again.")
