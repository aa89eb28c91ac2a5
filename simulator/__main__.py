"""`python -m simulator`: a Mosaic in a process of its own, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from threading import Event

from simulator.controls.saved import restore, save
from simulator.idp.policy import Policy
from simulator.idp.state import MosaicState
from simulator.server import SimulatorServer


def main() -> None:
    """Serve until a signal stops it."""
    options = _parse_options()
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())

    state = _state(options)
    for client in options.client:
        client_id, _, secret = client.partition(":")
        state.add_client(client_id, secret)

    with SimulatorServer(state, host=options.host, port=options.port) as server:
        _announce(server.url, options.port_file)
        stop.wait()
    if options.state is not None:
        save(state, options.state)


def _state(options: argparse.Namespace) -> MosaicState:
    if options.state is not None and options.state.exists():
        return restore(options.state)
    return MosaicState(
        Policy(
            issuer=options.issuer,
            session_seconds=options.session_seconds,
            client_token_seconds=options.client_token_seconds,
        )
    )


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m simulator", description=__doc__)
    add = parser.add_argument
    add("--host", default="127.0.0.1")
    add("--port", type=int, default=0, help="0 picks a free one")
    add("--port-file", type=Path, help="written with the URL once calls are answered")
    add("--state", type=Path, help="read at the start, if there; written at the end")
    add("--client", action="append", default=[], metavar="ID:SECRET", help="may be repeated")
    add("--issuer", default=Policy.issuer)
    add("--session-seconds", type=float, default=Policy.session_seconds)
    add("--client-token-seconds", type=int, default=Policy.client_token_seconds)
    return parser.parse_args()


def _announce(url: str, port_file: Path | None) -> None:
    sys.stdout.write(f"{url}\n")
    sys.stdout.flush()
    if port_file is None:
        return
    # By renaming, so that a process that waits for the file never reads half of it.
    draft = port_file.with_name(f"{port_file.name}.draft")
    draft.write_text(url)
    draft.replace(port_file)


if __name__ == "__main__":
    main()
