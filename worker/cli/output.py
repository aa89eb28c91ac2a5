"""Tables for people, JSON for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from session_client import times

_WIDTH_IN_A_PIPE: Final = 400  # wide enough that `grep` finds a row on one line
_REFERENCE_WIDTH: Final = 36
_PADDING: Final = 3  # of each column, the space to the next one included
_NARROWEST: Final = 6  # a column, to be of use

as_json_option: Callable[[Any], Any] = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, for machines."
)


def print_json(value: object) -> None:
    """Print dataclasses, times (RFC 3339) and ids as JSON."""
    click.echo(json.dumps(_plain(value), indent=2))


def print_json_line(value: object) -> None:
    """Print the same as one line."""
    click.echo(json.dumps(_plain(value)))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table; lists are joined, times are to the second and in UTC.

    A reference stays on one line, to be copied. Where too little is left beside it, each row is
    printed by itself, a value a line.
    """
    console = _console()
    found = list(rows)
    references = {i for row in found for i, value in enumerate(row) if isinstance(value, UUID)}
    if references and _room_beside(references, columns, console.width) < _NARROWEST:
        for row in found:
            print_facts(dict(zip(columns, row, strict=True)))
            click.echo()
        return
    table = Table(box=box.SIMPLE_HEAD)
    for i, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=i in references)
    for row in found:
        table.add_row(*(Text(shown(value)) for value in row))
    console.print(table)


def _room_beside(references: set[int], columns: Sequence[str], width: int) -> float:
    """Return how wide the other columns can be, each."""
    left = width - _REFERENCE_WIDTH * len(references) - _PADDING * len(columns)
    return left / max(1, len(columns) - len(references))


def print_facts(facts: Mapping[str, object]) -> None:
    """Print names and values, one a line."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(Text(name), Text(shown(value)))
    _console().print(table)


def age(since: datetime, now: datetime) -> str:
    """Return how long ago *since* was."""
    return f"{max(0.0, (now - since).total_seconds()):.0f} s"


def shown(value: object) -> str:
    """Return *value* for a person. Control characters are spelt out.

    User ids and details come from apps: printed raw, one could move the cursor of an operator's
    terminal and hide or forge rows.
    """
    if value is None or value == ():
        return "-"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}Z"
    if isinstance(value, tuple | list):
        return ", ".join(shown(item) for item in value) or "-"
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(value))


def _console() -> Console:
    width = None if sys.stdout.isatty() else _WIDTH_IN_A_PIPE
    return Console(width=width, highlight=False, markup=False, emoji=False)


def _plain(value: object) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, datetime):
        return times.to_wire(value)
    return value if value is None or isinstance(value, bool | int | float) else str(value)
