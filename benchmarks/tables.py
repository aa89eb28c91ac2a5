"""Tables: the same on a terminal and in a Markdown file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Table:
    """A title, a head, rows of text, and what to know when reading them."""

    title: str
    head: Sequence[str]
    rows: list[list[str]] = field(default_factory=list)
    note: str = ""

    def as_text(self) -> str:
        """Return it in columns, numbers to the right."""
        widths = [
            max(len(row[i]) for row in [self.head, *self.rows]) for i in range(len(self.head))
        ]
        columns = range(len(self.head))
        to_right = [all(_is_number(row[i]) for row in self.rows) for i in columns]
        lines = [_line(row, widths, to_right) for row in [self.head, *self.rows]]
        rule = "-" * max(map(len, lines))
        note = f"\n{self.note}" if self.note else ""
        return "\n".join([self.title, rule, lines[0], rule, *lines[1:], rule]) + note

    def as_markdown(self) -> str:
        """Return it for a Markdown file."""
        lines = [f"## {self.title}", "", _pipes(self.head), _pipes(["---"] * len(self.head))]
        lines += [_pipes(row) for row in self.rows]
        return "\n".join([*lines, "", *([self.note, ""] if self.note else [])])


def _line(row: Sequence[str], widths: Sequence[int], to_right: Sequence[bool]) -> str:
    cells = [
        cell.rjust(width) if right else cell.ljust(width)
        for cell, width, right in zip(row, widths, to_right, strict=True)
    ]
    return "  ".join(cells).rstrip()


def _is_number(cell: str) -> bool:
    digits = cell.lstrip("+-")
    return cell == "-" or digits[:1].isdigit()


def _pipes(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
