"""The command `mosaic-sessions`: its nouns, and the way in from a shell."""

from __future__ import annotations

import sys
from contextlib import ExitStack

import click
import structlog

from worker import logs
from worker.cli.apps import apps
from worker.cli.common import Nouns
from worker.cli.config import config
from worker.cli.db import db
from worker.cli.doctor import doctor
from worker.cli.keys import keys
from worker.cli.logouts import logouts
from worker.cli.monitor import monitor
from worker.cli.notices import notices
from worker.cli.prune import prune
from worker.cli.sessions import sessions
from worker.cli.status import status


@click.group(cls=Nouns)
@click.version_option(package_name="mosaic-session-worker")
def commands() -> None:
    """Look after the session worker: its apps, sessions, notices, keys and health.

    Settings come from the environment, as the worker's do. Exit codes: 0 done, 1 it could not be
    done, 2 not understood, 69 no worker is alive (`status`), 78 the settings must be put right.
    """


for noun in (apps, config, db, doctor, keys, logouts, monitor, notices, prune, sessions, status):
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
