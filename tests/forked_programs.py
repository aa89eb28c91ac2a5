"""Workers, beats and verbs as forks of a process that has imported the libraries already.

The suite starts hundreds of them, and three quarters of a start is the import of Celery, SQLAlchemy
and the like, which coverage makes half as long again. A fork is a process like any other: with its
own session, environment, output and end. Our own modules are imported in each, as they are in a
program that is started by its name (`make demo`, tests/acceptance/test_dev.py).
"""

from __future__ import annotations

import atexit
import faulthandler
import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import entry_points
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import IO, Any, Final

# Any other program is executed: gevent, to name one, must patch `ssl` before anyone imports it.
PROGRAMS: Final = ("celery", "mosaic-sessions")
# None of them looks at the environment when it is imported. prometheus_client does.
LIBRARIES: Final = (
    *("alembic.config", "celery.bin.celery", "celery.concurrency.prefork", "coverage", "httpx"),
    *("joserfc.jwk", "joserfc.jws", "kombu.transport.redis", "pydantic", "psycopg", "redis"),
    *("sqlalchemy.dialects.postgresql.psycopg", "sqlalchemy.orm", "structlog"),
)
_POLL_SECONDS: Final = 0.01
_SHOW_STACKS: Final = signal.SIGUSR2
_SHOWN_SECONDS: Final = 0.5
_CONTEXT: Final = multiprocessing.get_context("forkserver")
_COUNTED: Final = "COVERAGE_PROCESS_CONFIG"


@cache  # at the first start: most tests start nothing
def _prepare() -> None:
    """Start the process that all are forked from."""
    _CONTEXT.set_forkserver_preload([*LIBRARIES])
    counted = os.environ.pop(_COUNTED, None)  # noqa: TID251 - coverage would begin there
    try:
        forkserver.ensure_running()
    finally:
        if counted is not None:
            os.environ[_COUNTED] = counted  # noqa: TID251 - as it was


def popen(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    cwd: Path,
    stdout: IO[bytes],
    **options: Any,
) -> subprocess.Popen[bytes] | _Fork:
    """Do as `subprocess.Popen` does, which is what starts any other program."""
    words = [str(word) for word in command]
    folder, name = os.path.split(words[0])
    is_ours = folder == str(Path(sys.executable).parent) and name in PROGRAMS
    takes_more = options.keys() - {"stdin", "stderr", "start_new_session"}
    if not is_ours or takes_more:
        return subprocess.Popen(words, env=dict(env), cwd=cwd, stdout=stdout, **options)  # noqa: S603
    (program,) = entry_points(group="console_scripts", name=name)
    _prepare()
    return _Fork(words, (program.value, words, dict(env), str(cwd), stdout.name))


class _Fork:
    """As much of a `subprocess.Popen` as a leash holds."""

    def __init__(self, words: list[str], arguments: tuple[Any, ...]) -> None:
        self._words = words
        self._lock = threading.Lock()  # how it ended can be read only once
        self._process: BaseProcess = _CONTEXT.Process(target=_run, args=arguments, daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        with suppress(ProcessLookupError):  # it has ended by now
            while os.getpgid(self.pid) != self.pid:
                time.sleep(_POLL_SECONDS)

    def poll(self) -> int | None:
        with self._lock:
            return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def wait(self, timeout: float) -> int:
        """Return its exit code; of one that runs on, its log then tells where each thread is."""
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() >= deadline:
                self.send_signal(_SHOW_STACKS)
                time.sleep(_SHOWN_SECONDS)
                raise subprocess.TimeoutExpired(self._words, timeout)
            time.sleep(_POLL_SECONDS)
        return code


def _run(
    entry_point: str, words: list[str], environment: dict[str, str], cwd: str, output: str
) -> None:
    """Be the program."""
    os.setsid()
    os.chdir(cwd)
    for number, (path, flags) in enumerate(
        [(os.devnull, os.O_RDONLY), (output, os.O_WRONLY | os.O_APPEND)]
    ):
        os.dup2(os.open(path, flags), number)
    os.dup2(1, 2)
    faulthandler.register(_SHOW_STACKS, file=2)
    os.environ.clear()  # noqa: TID251 - what a program that is executed begins with
    os.environ.update(environment)  # noqa: TID251
    sys.argv = words
    if _COUNTED in environment:
        importlib.import_module("coverage").process_startup(force=True)
    module, _, function = entry_point.partition(":")
    try:
        sys.exit(getattr(importlib.import_module(module), function)())
    finally:
        threading._shutdown()  # type: ignore[attr-defined]  # as the interpreter does at its end
        atexit._run_exitfuncs()
