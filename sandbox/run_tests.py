"""What `make test` runs: the whole suite, with the lines of every process it starts counted.

Arguments are pytest's, and so is the exit code: `python -m sandbox.run_tests -k logout`.
"""

from __future__ import annotations

import subprocess
import sys


def main(arguments: list[str]) -> int:
    """Run pytest under coverage, print the report of all processes, return pytest's code."""
    _coverage("erase")
    outcome = _coverage("run", "-m", "pytest", *arguments)
    _coverage("combine", "--quiet")
    _coverage("report")
    return outcome


def _coverage(*arguments: str) -> int:
    return subprocess.run([sys.executable, "-m", "coverage", *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
