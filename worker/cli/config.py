"""`mosaic-sessions config`: what this environment means."""

from __future__ import annotations

import click

from worker import settings as settings_module
from worker.cli import output
from worker.cli.door import services


@click.command()
@output.as_json_option
def config(*, as_json: bool) -> None:
    """Print the effective settings; secrets and passwords in URLs are masked."""
    shown = settings_module.describe(services().settings)
    if as_json:
        output.print_json(shown)
    else:
        output.print_facts(shown)
