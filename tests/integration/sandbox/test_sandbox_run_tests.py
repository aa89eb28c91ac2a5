"""What `make test` runs, tried on a project of three files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize(("expected", "exit_code"), [(0, 0), (5, 1)])
def test_lines_run_by_subprocesses_count_and_the_exit_code_is_pytests(
    tmp_path: Path, expected: int, exit_code: int
) -> None:
    (tmp_path / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
    (tmp_path / "product.py").write_text(PRODUCT, encoding="utf-8")
    (tmp_path / "test_it.py").write_text(TEST.format(expected=expected), encoding="utf-8")

    run = subprocess.run(
        [sys.executable, "-m", "sandbox.run_tests", "-p", "no:cacheprovider", "-k", "child"],
        cwd=tmp_path,
        env={"PATH": os.defpath, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        check=False,
    )

    assert run.returncode == exit_code, run.stdout + run.stderr
    assert ("1 passed" in run.stdout) is (exit_code == 0)
    assert "product.py       7      0      2      0   100%" in run.stdout
