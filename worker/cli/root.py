"""The command `mosaic-sessions`: its nouns, and the way in from a shell."""

from __future__ import annotations

import sys
from contextlib import ExitStack

import click
import structlog

from worker import logs
from worker.cli.apps import apps
from worker.cli.audit import audit
from worker.cli.common import Nouns
from worker.cli.config import config
from worker.cli.db import db
from worker.cli.doctor import doctor
from worker.cli.explain import explain
from worker.cli.keys import keys
from worker.cli.login_limits import login_limits
from worker.cli.logouts import logouts
from worker.cli.monitor import monitor
from worker.cli.notices import notices
from worker.cli.prune import prune
from worker.cli.sessions import sessions
from worker.cli.status import status
from worker.cli.top import top
from worker.sessions import operator_trail


@click.group(cls=Nouns)
@click.version_option(package_name="mosaic-session-worker")
@click.option("--as", "name", metavar="NAME", help="Who you are, for the operators' trail.")
@click.option("--debug", is_flag=True, help="Print the traceback of an error.")
@click.pass_context
def commands(context: click.Context, name: str | None, *, debug: bool) -> None:
    """Look after the session worker: its apps, sessions, notices, keys and health.

    Settings come from the environment, as the worker's do. Exit codes: 0 done, 1 it could not be
    done, 2 not understood, 69 no worker is alive (`status`), 70 a fault in this program, 78 the
    settings must be put right.
    """
    del debug  # `Nouns` looks at it
    context.with_resource(operator_trail.acting_as(name))


for noun in (
    *(apps, audit, config, db, doctor, explain, keys, login_limits, logouts, monitor, notices),
    *(prune, sessions, status, top),
):
    commands.add_command(noun)


def main() -> None:
    """Run the command line, and close what it opened."""
    # Standard output is for answers alone: a script reads it.
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            logs.scrub,
            structlog.dev.ConsoleRenderer(colors=False),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    with ExitStack() as opened:
        commands(obj=opened)
