"""Worker, beat and commands as nobody, without a home, where no file can be written at all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest

from sandbox.ports import HOST, free_port
from sandbox.processes import poll_until
from sandbox.redis_server import RedisServer
from sandbox.stack import START_SECONDS, Stack
from session_client import Authenticated, SessionClient
from tests.faults.looking import registered

NOBODY: Final = "65534"
# Interpreter and clone may lie below a folder that is root's alone. They may be read, and nothing
# written: also by access(2), which of another user than root would forget that right (Alembic asks
# it for its folder).
READ: Final = "-all,+dac_read_search"
# A mount namespace of its own, in which the whole tree is read-only; then another user.
CONFINED: Final = f"""\
mount --make-rprivate / || exit 99
for place in / /tmp /var/tmp /dev/shm /run; do
    test ! -d "$place" || mount --bind "$place" "$place" || exit 99
done
for place in /run /dev/shm /var/tmp /tmp /; do
    test ! -d "$place" || mount -o remount,bind,ro "$place" || exit 99
done
cd /proc
unset COVERAGE_PROCESS_CONFIG  # each process would write down which lines it ran
exec setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups --no-new-privs \\
    --securebits +no_setuid_fixup --inh-caps {READ} --ambient-caps {READ} --bounding-set {READ} "$@"
"""
CONFINE: Final = (shutil.which("unshare") or "unshare", "--mount", "sh", "-c", CONFINED, "sh")
PROBE: Final = """\
import os, tempfile
try:
    print(os.getuid(), tempfile.gettempdir())
except FileNotFoundError:
    print(os.getuid(), "none")
"""


def can_confine() -> bool:
    """Whether we may do that here, and whether it does what it says."""
    if os.getuid() or not all(map(shutil.which, ("unshare", "setpriv", "mount"))):
        return False
    words = [*CONFINE, sys.executable, "-c", PROBE]
    done = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603 - ours
    return done.stdout == f"{NOBODY} none\n"


pytestmark = pytest.mark.skipif(not can_confine(), reason="needs root, and mount namespaces")


def program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


@pytest.fixture
def stack(redis_server: RedisServer, postgres_url: str) -> Iterator[Stack]:
    settings = {"metrics_port": free_port(), "beat_port": free_port()}
    with Stack(redis=redis_server, database_url=postgres_url, settings=settings) as stack:
        for name in ("HOME", "TMPDIR"):
            stack.environment.pop(name, None)
        yield stack


def metrics_url(stack: Stack) -> str:
    return f"http://{HOST}:{stack.environment['MOSAIC_SESSIONS_METRICS_PORT']}"


def test_a_worker_serves_beat_beats_and_operators_look(stack: Stack) -> None:
    stack.run(*CONFINE, program("mosaic-sessions"), "db", "check")
    key = stack.add_app("shop")
    celery = (*CONFINE, program("celery"), "-A", "worker")
    worker = stack.start("worker", *celery, "worker", "-c", "2")
    worker.wait_for_line("ready.", timeout=START_SECONDS)
    beat = stack.start("beat", *celery, "beat")
    with SessionClient(broker_url=stack.broker_url, app_id="shop", app_key=key) as client:
        registered(stack, client)
        answer = client.silent_auth(user_id="ada", timeout=60)
    health = poll_until(lambda: healthy(stack), 90, interval=1, what="beat's work to be done")
    metrics = httpx.get(f"{metrics_url(stack)}/metrics", timeout=60)

    assert isinstance(answer, Authenticated)
    assert (worker.is_alive, beat.is_alive) == (True, True)
    assert health["problems"] == []
    assert "mosaic_sessions_jobs_concurrency 2.0" in metrics.text


def healthy(stack: Stack) -> dict[str, list[str]]:
    words = (*CONFINE, program("mosaic-sessions"), "status", "--json")
    told: dict[str, list[str]] = json.loads(stack.run(*words, expect=None))
    return {} if told["problems"] else told


def test_prefork_says_what_it_lacks(stack: Stack) -> None:
    words = (*CONFINE, program("celery"), "-A", "worker", "worker", "-P", "processes")
    worker = stack.start("worker", *words)

    assert worker.wait(timeout=START_SECONDS) == 78
    assert "there is no temporary folder that can be written to" in worker.log_text()
