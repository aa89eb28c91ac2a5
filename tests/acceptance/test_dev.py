"""What `make dev` prints can be pasted as it is printed, and is still so at its next run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sandbox.environment import base_variables
from sandbox.processes import ManagedProcess

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "dev"


def dev(folder: Path, *words: str) -> list[str | Path]:
    return [sys.executable, "-m", "sandbox.dev", "--folder", folder, *words]


@contextmanager
def running(folder: Path, log: Path) -> Iterator[ManagedProcess]:
    with ManagedProcess(
        dev(folder), environment=base_variables(), log_path=log, cwd=ROOT
    ) as process:
        process.wait_for_line("Ctrl-C ends it", timeout=240)
        yield process


def run(*command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own commands
        command, capture_output=True, text=True, timeout=120, check=False, cwd=ROOT, **options
    )


def in_python(printed: str, before: str) -> str:
    """What the sample prints, pasted up to *before*."""
    sample = printed.partition("as two apps:")[2].partition(before)[0]
    done = run(sys.executable, "-i", input=sample)  # line by line, as they are pasted
    assert done.returncode == 0, done.stderr
    return done.stdout


def in_a_shell(text: str) -> subprocess.CompletedProcess[str]:
    return run("/bin/sh", "-c", text, env=base_variables())


def test_what_it_prints_works_as_printed_and_outlives_a_restart(
    folder: Path, tmp_path: Path
) -> None:
    log = tmp_path / "dev.log"
    with running(folder, log) as first:
        printed = log.read_text("utf-8")
        said = in_python(printed, "ada may also").split()
        assert (said[0], said[-1]) == ("ada", "logged_out")

        assert run(*dev(folder, "app", "bank")).returncode == 0
        assert run(*dev(folder, "user", "bob", "builder")).returncode == 0
        again = run(*dev(folder, "app", "bank"))
        assert (again.returncode, again.stderr.count("bank is known already")) == (1, 1)
        change = again.stderr.partition("To change it:")[2]
        assert in_a_shell(change).returncode == 0, change
        second_run = run(*dev(folder))
        assert (second_run.returncode, "running already" in second_run.stderr) == (1, True)

        told = in_a_shell(f". {folder}/operator.sh; mosaic-sessions doctor --json")
        assert {one["level"] for one in json.loads(told.stdout)} == {"good"}, told

        tried = in_a_shell(f"set -a; . {folder}/bank.env; {sys.executable} -c '{OTHER_WAYS}'")
        assert tried.stdout.split() == ["CodeSent", "CodeSent", "LinkSent", "not_permitted"], tried
        first.wait_for_line("A code for ada: ", timeout=60)
        first.wait_for_line("A link for ada: http://localhost:5000/in?", timeout=60)

        left = in_a_shell(f"set -a; . {folder}/bank.env; {sys.executable} -c '{SIGN_IN}'")
        assert left.returncode == 0, left
        assert first.terminate(timeout=120) == 0

    log.unlink()
    with running(folder, log):
        told = in_a_shell(
            f"set -a; . {folder}/bank.env; {sys.executable} -c '{COME_BACK}' {left.stdout}"
        )
        assert told.stdout.strip() == "bob", told


OTHER_WAYS = """
from session_client import SendLink, SendOtp, SessionClient, Unauthorized
bank = SessionClient.from_env()
address = "ada@example.com", "email"
print(type(bank.start(SendOtp("email", *address))).__name__)
print(type(bank.start(SendOtp("email", "bob@example.com", "email"))).__name__)
print(type(bank.start(SendLink("http://localhost:5000/in", "ada", "user_id"))).__name__)
try:
    bank.silent_auth(user_id="ada")
except Unauthorized as refused:
    print(refused.reason)
"""
SIGN_IN = """
import os
from session_client import Password, SessionClient
from session_client.web import RedisMarks
assert os.environ["SESSION_MARKS_URL"] != os.environ["SESSION_BROKER_URL"]
RedisMarks.from_env().put("a mark", 1.0, 600.0)
bank = SessionClient.from_env()
print(bank.authenticate(Password("bob", "builder")).browser_token)
"""
COME_BACK = """
import sys
from session_client import SessionClient
from session_client.web import RedisMarks
assert RedisMarks.from_env().look(["a mark"])
bank = SessionClient.from_env()
print(bank.silent_auth(browser_token=sys.argv[1], timeout=30).user_id)
"""


def test_without_a_running_one_it_says_what_to_start(folder: Path) -> None:
    done = run(*dev(folder, "user", "bob", "builder"))
    assert (done.returncode, "start `make dev` first" in done.stderr) == (1, True)
    assert "Traceback" not in done.stderr
