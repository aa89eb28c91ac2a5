"""`mosaic-sessions doctor`: whether everything is as it must be, before the first user comes."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import click

from worker.cli import common, output
from worker.operations import doctor as examination
from worker.operations.doctor import Finding, Level


@click.command()
@click.option("--test-notice", multiple=True, metavar="APP", help="Also send it a signed notice.")
@output.as_json_option
def doctor(*, test_notice: tuple[str, ...], as_json: bool) -> None:
    """Check database, Redis, clocks, keys, workers and each app's client, keys and address.

    A line each, with what to do where it is not good. Exit codes: 0 nothing is wrong, 1 something
    is. A hint is about what may be meant, and is not counted.
    """
    for app in test_notice:
        common.require_app(app)
    found = examination.examine(common.services(), test_notices=test_notice)
    findings = list(found if as_json else _shown(found))
    if as_json:
        output.print_json(findings)
    sys.exit(common.FAILED if any(one.level is Level.WRONG for one in findings) else 0)


def _shown(findings: Iterator[Finding]) -> Iterator[Finding]:
    """Print each as it is found: some take seconds."""
    for one in findings:
        click.echo(f"{one.level:<6} {one.check}: {output.shown(one.says)}")
        yield one
