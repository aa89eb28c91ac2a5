"""docs/operations.md keeps its word: the tests it names exist, and its commands are understood."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Final

import click
import pytest

from worker.cli.root import commands

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
REF: Final = "00000000-0000-7000-8000-000000000000"
BLOCKS: Final = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
COMMANDS: Final = [
    line.partition("  #")[0].partition(" < ")[0].strip()
    for block in BLOCKS
    for line in block.splitlines()
    if line.startswith("mosaic-sessions ")
]


def test_each_row_of_what_is_down_names_a_test_there_is() -> None:
    table = PAGE.partition("## When something is down")[2].partition("###")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    named = [re.findall(r"`(test_\w+)`", row) for row in rows]
    source = "\n".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py")
    )

    assert len(named) >= 10
    assert all(len(tests) == 1 for tests in named)
    assert [test for (test,) in named if f"def {test}(" not in source] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_is_understood(command: str) -> None:
    words = [REF if word in {"REF", "ID"} else word for word in shlex.split(command)[1:]]
    context = commands.make_context("mosaic-sessions", words)
    group: click.Command = commands
    while isinstance(group, click.Group):
        name, group_found, rest = group.resolve_command(
            context, [*context._protected_args, *context.args]
        )
        assert name is not None
        assert group_found is not None
        group = group_found
        context = group.make_context(name, rest, parent=context)
