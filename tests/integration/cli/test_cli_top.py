"""`top` shows what happens and what waits, on terminals of every kind, and never fails."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path
from typing import Final

import pytest

from sandbox.environment import base_variables, coverage_variables
from sandbox.ports import free_port
from simulator.server import SimulatorServer
from tests.integration.cli.cli_rig import run
from tests.integration.outbox.propagation_rig import by_queue
from tests.stage import Stage, environment, redis_client
from worker.cli.plot import bars
from worker.operations.live_health import MOMENTS, Live

ROOT: Final = Path(__file__).parents[3]
ROWS: Final = 15  # fewer than there is to show
# A suite that was started in the background ignores Ctrl-C, and hands that on.
PROGRAM: Final = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from worker.cli import main
main()
"""


def row(printed: str, name: str) -> str:
    (line,) = [line for line in printed.splitlines() if line.startswith(f"{name} ")]
    return line


def test_one_frame_shows_what_happened_and_what_waits(stage: Stage) -> None:
    stage.add_app("shop")
    by_queue(stage, "forum")
    for user in ("ada", "bob", "eve"):
        session = stage.registered(user, "shop")
    stage.log_out("eve", "shop", session_ref=str(session))
    stage.pass_time(seconds=3)
    stage.redis.delete("idp")
    stage.redis.lpush("auth", "a", "b")
    stage.redis.lpush("forum-notices", "n")

    printed = run("top", "--once", "--every", "30").stdout

    assert re.match(r"logins +0\.1 .*█$", row(printed, "logins"))  # three in half a minute
    assert re.match(r"sessions ended +0\.0 .*█$", row(printed, "sessions ended"))
    assert re.match(r"auth +2 ", row(printed, "auth"))
    assert re.match(r"forum-notices \(forum\) +1 ", row(printed, "forum-notices"))
    assert re.match(r"Mosaic +1 +0 +0 ", row(printed, "Mosaic"))
    assert "live sessions 2" in printed
    assert "Problem: no worker is alive: start one" in printed


def test_the_next_looks_show_only_what_has_happened_since(sqlite_stage: Stage) -> None:
    sqlite_stage.add_app("shop")
    live = Live(sqlite_stage.services, 2.0)
    live.look()
    sqlite_stage.registered("ada", "shop")
    sqlite_stage.pass_time(seconds=2)
    live.look()
    sqlite_stage.pass_time(seconds=2)
    live.look()

    logins = list(live.per_second["logins"])
    assert len(logins) == MOMENTS
    assert 0 < logins[-2] <= 0.5  # one in two seconds, by a clock that goes on meanwhile
    assert [logins[-3], logins[-1]] == [0, 0]


def test_without_a_database_it_says_so_and_goes_on(redis_url: str, mosaic: SimulatorServer) -> None:
    url = f"postgresql+psycopg://user:pw-canary@127.0.0.1:{free_port()}/sessions"
    with Stage(url, redis_url, mosaic):
        printed = run("top", "--once").stdout

    assert "Problem: the database cannot be used" in printed
    assert row(printed, "logins").split() == ["logins", "-"]
    assert "canary" not in printed


@pytest.mark.parametrize(
    ("values", "blocks", "plain"),
    [
        ([], "    ", "    "),
        ([0, 1, 2, 8], " ▁▂█", " ..%"),
        ([5, 0, 0, 0.001, 1000], "  ▁█", "  .%"),
    ],
)
def test_bars_are_as_high_as_their_share_of_the_largest(
    values: list[float], blocks: str, plain: str
) -> None:
    assert bars(values, 4, ascii_only=False) == blocks
    assert bars(values, 4, ascii_only=True).replace(":", ".") == plain


def on_a_terminal(variables: dict[str, str], columns: int, *arguments: str) -> str:
    """Run it on a terminal of so many columns until it has drawn twice, then do as Ctrl-C does."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, columns, 0, 0))
    process = subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", PROGRAM, "top", "--every", "0.5", *arguments],
        cwd=ROOT,
        env=variables,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    drawn = b""
    try:
        while drawn.count(b"mosaic-sessions top") < 2:
            drawn += os.read(ours, 65536)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()  # or it would go on for ever
        process.wait()
        os.close(ours)
    return drawn.decode()


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_a_terminal_is_drawn_over_and_a_dumb_one_written_on(
    term: str, sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    told = environment(sqlite_url, redis_url, mosaic) | {"TERM": term, "PYTHONUTF8": "1"}
    variables = base_variables() | coverage_variables() | told

    with redis_client(redis_url) as client:
        client.lpush("auth", "waits")

    drawn = on_a_terminal(variables, 70)

    assert ("\x1b" in drawn) == (term == "xterm")
    assert drawn.isascii() == (term == "dumb")
    lines = re.sub(r"\x1b\[[HKJ]", "", drawn).splitlines()
    assert max(map(len, lines)) <= 70
    assert "Traceback" not in drawn
    frames = drawn.split("\x1b[H")[1:]
    assert all(frame.count("\n") < ROWS for frame in frames)
