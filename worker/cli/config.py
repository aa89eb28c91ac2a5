"""`mosaic-sessions config`: what this environment means."""

from __future__ import annotations

import click

from worker.cli import output
from worker.cli.common import services
from worker.settings.display import describe


@click.command()
@output.as_json_option
def config(*, as_json: bool) -> None:
    """Print the effective settings; secrets and passwords in URLs are masked."""
    shown = describe(services().settings)
    if as_json:
        output.print_json(shown)
    else:
        output.print_facts(shown)
