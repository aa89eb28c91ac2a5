"""What `make test` runs, tried on a project of three files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PYPROJECT = """
[tool.coverage.run]
branch = true
source = ["product"]
parallel = true
patch = ["subprocess", "_exit"]
"""
PRODUCT = """
import os

def in_a_child(number):
    return number + 1

if not os.fork():
    in_a_child(1)
    os._exit(0)
os.wait()
"""
TEST = """
import subprocess, sys

def test_child():
    assert subprocess.run([sys.executable, "product.py"]).returncode == {expected}
"""


def test_lines_run_by_subprocesses_count(tmp_path: Path) -> None:
    run = run_tests(tmp_path, expected=0)

    assert run.returncode == 0, run.stdout + run.stderr
    assert "1 passed" in run.stdout
    assert "product.py       7      0      2      0   100%" in run.stdout


def test_a_run_that_failed_exits_as_pytest_does_and_ends_with_what_failed(tmp_path: Path) -> None:
    run = run_tests(tmp_path, expected=5)

    assert run.returncode == 1, run.stdout + run.stderr
    *_, failed, counts = run.stdout.splitlines()
    assert failed.startswith("FAILED test_it.py::test_child")
    assert "1 failed" in counts


def run_tests(project: Path, *, expected: int) -> subprocess.CompletedProcess[str]:
    (project / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
    (project / "product.py").write_text(PRODUCT, encoding="utf-8")
    (project / "test_it.py").write_text(TEST.format(expected=expected), encoding="utf-8")
    return subprocess.run(
        [sys.executable, "-m", "sandbox.run_tests", "-p", "no:cacheprovider", "-k", "child"],
        cwd=project,
        env={"PATH": os.defpath, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=False,
    )
