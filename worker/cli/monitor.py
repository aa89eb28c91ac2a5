"""`mosaic-sessions monitor`: our public keys and our health over HTTP, for apps and load balancers.

It asks by itself every few seconds, and a request gets what was found: however many ask, and
whatever hangs, neither the database nor Redis is asked more often, and nobody waits for them.
"""

from __future__ import annotations

import signal
from typing import Final

import click
import structlog

from worker.cli.common import Failure, services
from worker.monitoring.health_server import MonitorServer, probes

log = structlog.get_logger()


_ENDINGS: Final = (signal.SIGTERM, signal.SIGINT)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--port", type=click.IntRange(0, 65535), default=9180, show_default=True)
def monitor(*, host: str, port: int) -> None:
    """Serve /jwks.json and /healthz until SIGTERM. It has no TLS: put a proxy before it."""
    # Before there are threads, which inherit it: the signals then reach `sigwait` alone.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)
    found = services()
    try:
        server = MonitorServer(host, port, found.notices.public_keys(), probes(found))
    except OSError as error:
        raise Failure(f"cannot listen on {host} port {port}: {error.strerror}") from None
    with server:
        click.echo(f"Listening on {server.url}")
        signal.sigwait(_ENDINGS)
