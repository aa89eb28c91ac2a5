"""`mosaic-sessions prune`: what beat does on schedule, now."""

from __future__ import annotations

import click

from worker.cli import common, output
from worker.cli.common import services
from worker.maintenance import expire, purge
from worker.maintenance.batches import Counts


@click.command()
@click.option("--dry-run", is_flag=True, help="Only count.")
@click.option("--history", is_flag=True, help="Also delete what is past its retention.")
@common.override_guard_option
@output.as_json_option
def prune(*, dry_run: bool, history: bool, override_guard: bool, as_json: bool) -> None:
    """Mark sessions past their expiry as ended; safe at any time, also beside beat."""
    counts = expire.expire_sessions(services(), dry_run=dry_run, override_guard=override_guard)
    if history:
        purged = purge.purge_history(services(), dry_run=dry_run)
        counts = Counts(counts.rows | purged.rows, counts.is_complete and purged.is_complete)
    if as_json:
        output.print_json({**counts.rows, "is_complete": counts.is_complete, "dry_run": dry_run})
        return
    output.print_facts(
        {f"{name} (dry run)" if dry_run else name: rows for name, rows in counts.rows.items()}
    )
    if not counts.is_complete:
        click.echo("Its time was up before all was done: run it again.")
