"""`mosaic-sessions monitor`: our public keys and our health over HTTP."""

from __future__ import annotations

import signal
from typing import Final

import click

from worker.cli.common import Failure, services
from worker.monitoring.health_server import MonitorServer, sources

_ENDINGS: Final = (signal.SIGTERM, signal.SIGINT)


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen.")
@click.option("--port", type=click.IntRange(0, 65535), default=9180, show_default=True)
def monitor(*, host: str, port: int) -> None:
    """Serve /jwks.json, /healthz and /livez until SIGTERM. It has no TLS: put a proxy before it."""
    # Before there are threads, which inherit it: the signals then reach `sigwait` alone.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDINGS)
    found = services()
    try:
        server = MonitorServer(host, port, found.notices.public_keys(), sources(found))
    except OSError as error:
        raise Failure(f"cannot listen on {host} port {port}: {error.strerror}") from None
    with server:
        click.echo(f"Listening on {server.url}")
        signal.sigwait(_ENDINGS)
