"""A program that is forked is the one that is executed, as far as a test can see."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sandbox.leash import LeashedProcess, children_of, is_running
from sandbox.processes import ManagedProcess, poll_until
from sandbox.stack import Stack
from tests import forked_programs

WAYS: dict[str, Callable[..., Any]] = {
    "forked": forked_programs.popen,
    "executed": subprocess.Popen,
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(LeashedProcess, "popen", staticmethod(WAYS[request.param]))
    return str(request.param)


def program(*words: str, folder: Path, **environment: str) -> ManagedProcess:
    path = Path(sys.executable).parent
    return ManagedProcess(
        [path / words[0], *words[1:]],
        environment={"PATH": os.defpath, **environment},
        log_path=folder / "log",
        cwd=folder,
    )


@pytest.mark.parametrize(
    ("words", "code", "printed"),
    [
        (("celery", "--version"), 0, "("),
        (("celery", "no-such-command"), 2, "No such command 'no-such-command'"),
        (("mosaic-sessions", "config"), 78, "MOSAIC_SESSIONS_"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
@pytest.mark.usefixtures("way")
def test_it_ends_with_the_same_code_and_words(
    tmp_path: Path, words: tuple[str, ...], code: int, printed: str
) -> None:
    with program(*words, folder=tmp_path) as process:
        assert process.wait(timeout=120) == code
        assert printed in process.log_text()


def test_a_program_of_another_package_begins_with_nothing_imported(tmp_path: Path) -> None:
    """Gunicorn's gevent workers patch `ssl`, and fail where it is imported already."""
    with program("pip", "--version", folder=tmp_path) as executed:
        assert executed.pid in children_of(os.getpid())
        assert executed.wait(timeout=120) == 0


def test_it_sees_its_own_environment_and_leads_its_own_session(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOSAIC_SESSIONS_CONCURRENCY", "a laptop's")  # would be refused
    with Stack() as stack:
        stack.migrate()
        worker = stack.worker("-c", "2")

        assert (worker.pid in children_of(os.getpid())) == (way == "executed")
        assert os.getsid(worker.pid) == worker.pid
        assert str(Path(f"/proc/{worker.pid}/fd/0").readlink()) == os.devnull
        assert worker.terminate(timeout=120) == 0


def test_the_log_of_one_that_runs_on_tells_where_it_is() -> None:
    with Stack() as stack:
        stack.migrate()
        beat = stack.beat()
        beat.wait_for_line("beat: Starting")

        with pytest.raises(TimeoutError, match=r"beat\.py\W.*in start"):
            beat.wait(timeout=0.1)

        assert beat.terminate() == 0


@pytest.mark.usefixtures("way")
def test_it_dies_by_a_signal_and_leaves_its_children() -> None:
    with Stack() as stack:
        stack.migrate()
        worker = stack.worker("-P", "processes", "-c", "2")
        children = worker.children()
        assert children

        worker.kill()

        assert worker.returncode == -signal.SIGKILL
        assert not worker.is_alive
    poll_until(lambda: not any(map(is_running, children)), 60, what="its children to end")
