"""Runs `mosaic-sessions` in this process, on the services of the current stage."""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner, Result

from worker.cli.root import commands


def run(*arguments: str, expect: int = 0, stdin: str | None = None) -> Result:
    """Run a verb to its end; a traceback is never an acceptable end."""
    result = CliRunner().invoke(commands, arguments, input=stdin, catch_exceptions=False)
    assert result.exit_code == expect, result.output
    assert "Traceback" not in result.output
    return result


def told(*arguments: str, expect: int = 0) -> Any:
    """Run a verb with ``--json`` and return what it says."""
    return json.loads(run(*arguments, "--json", expect=expect).stdout)


def complaint(*arguments: str, expect: int = 1, stdin: str | None = None) -> str:
    """Run a verb that fails and return its one line on standard error."""
    result = run(*arguments, expect=expect, stdin=stdin)
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr.strip()
