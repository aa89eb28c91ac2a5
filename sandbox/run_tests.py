"""What `make test` runs: the whole suite, with the lines of every process it starts counted.

Arguments are pytest's, and so is the exit code: `python -m sandbox.run_tests -k logout`.
`-n 0` runs all tests in one process, for a debugger.
"""

from __future__ import annotations

import subprocess
import sys

# Four at a time also on two cores, because most tests wait; each has servers of its own.
IN_PARALLEL = ["-n", "4"]
# A file stays on one, because its tests share what its fixtures started; files begin in the order
# of pyproject.toml's `testpaths`.
IN_PARALLEL += ["--dist", "loadfile", "--no-loadscope-reorder"]
# A test over its time limit ends its process. Another would run it again, and again.
IN_PARALLEL += ["--max-worker-restart", "0"]


def main(arguments: list[str]) -> int:
    """Run pytest under coverage, print the report of all processes, return pytest's code.

    A run that failed ends with pytest's own lines on what failed: a report after them would be
    all that the end of a CI log shows.
    """
    _coverage("erase")
    outcome = _coverage("run", "-m", "pytest", *IN_PARALLEL, *arguments)
    _coverage("combine", "--quiet")
    if outcome == 0:
        _coverage("report")
    return outcome


def _coverage(*arguments: str) -> int:
    return subprocess.run([sys.executable, "-m", "coverage", *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
