"""Processes that tests start: what can be seen of them, and how they end."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from sandbox.leash import is_running
from sandbox.processes import ManagedProcess, poll_until

FAMILY = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print("ready", flush=True)
time.sleep(60)
"""
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(60)
"""
POLITE = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
print("ready", flush=True)
time.sleep(60)
"""


def run(code: str, tmp_path: Path, **environment: str) -> ManagedProcess:
    return ManagedProcess(
        [sys.executable, "-c", code],
        environment={"PATH": os.defpath, **environment},
        log_path=tmp_path / "process.log",
    )


def test_polling_returns_the_first_answer_that_is_true() -> None:
    answers = iter([0, 0, 3])

    assert poll_until(lambda: next(answers), timeout=5, interval=0) == 3


def test_polling_in_vain_says_what_it_waited_for() -> None:
    with pytest.raises(TimeoutError, match=r"0\.01 s for a miracle; last answer: \[\]"):
        poll_until(list, timeout=0.01, interval=0.001, what="a miracle")


def test_a_process_sees_the_environment_it_was_given_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEAKED", "yes")

    code = "import os; print(os.environ.get('GIVEN'), os.environ.get('LEAKED'), 'end')"
    with run(code, tmp_path, GIVEN="yes") as process:
        assert process.wait_for_line("end") == "yes None end"
        assert process.wait(timeout=60) == 0


def test_terminating_returns_the_exit_code(tmp_path: Path) -> None:
    with run(POLITE, tmp_path) as process:
        process.wait_for_line("ready")

        assert process.terminate(timeout=60) == 7
        assert not process.is_alive


def test_a_process_deaf_to_sigterm_is_an_error_and_is_gone_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sandbox.processes.GRACE_SECONDS", 0.1)

    with run(DEAF, tmp_path) as process:
        process.wait_for_line("ready")
        pid = process.pid
        with pytest.raises(TimeoutError, match=r"runs on after 0\.1 s\nready"):
            process.terminate(timeout=0.1)

    assert not is_running(pid)


def test_waiting_for_a_line_fails_at_once_when_the_process_has_ended(tmp_path: Path) -> None:
    with (
        run("print('last words'); raise SystemExit(3)", tmp_path) as process,
        pytest.raises(TimeoutError, match=r"ended with 3 before 'ready'\nlast words"),
    ):
        process.wait_for_line("ready", timeout=30)


def test_waiting_for_a_line_looks_only_at_the_latest_start(tmp_path: Path) -> None:
    with run("import os; print('ready', os.getpid())", tmp_path) as process:
        process.wait(timeout=60)
        process.start()

        assert process.wait_for_line("ready") == f"ready {process.pid}"
        assert process.log_text().count("ready") == 2


def test_killing_spares_the_children_and_leaving_ends_them(tmp_path: Path) -> None:
    with run(FAMILY, tmp_path) as process:
        process.wait_for_line("ready")
        (child,) = process.children()

        process.kill()

        assert process.returncode == -signal.SIGKILL
        assert is_running(child)
    poll_until(lambda: not is_running(child), timeout=60, what="the orphan to end")


def test_nothing_outlives_a_parent_that_was_killed(tmp_path: Path) -> None:
    code = f"""
import sys, time
from pathlib import Path
from sandbox.processes import ManagedProcess
inner = ManagedProcess(
    [sys.executable, "-c", {FAMILY!r}], environment={{}}, log_path=Path({str(tmp_path)!r}, "inner")
)
with inner:
    inner.wait_for_line("ready")
    print("family", inner.pid, *inner.children(), flush=True)
    time.sleep(60)
"""
    root = str(Path(__file__).parents[3])
    with run(code, tmp_path, PYTHONPATH=root) as process:
        family = [int(pid) for pid in process.wait_for_line("family").split()[1:]]
        assert len(family) == 2

        process.kill()

        poll_until(lambda: not any(map(is_running, family)), timeout=60, what="the family to end")


def test_a_process_never_shows_its_environment(tmp_path: Path) -> None:
    assert "hidden" not in repr(run("pass", tmp_path, KEY="hidden"))
