"""A run as people read it, and as programs do."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from benchmarks import aims, plot
from benchmarks.about import METHOD, About
from benchmarks.figures import Figures
from benchmarks.shown import tables_of


def as_text(figures: Figures, about: About) -> str:
    """Return the whole report for a terminal."""
    tables = "\n\n".join(table.as_text() for table in tables_of(figures))
    return "\n".join(["", *about.lines(), "", tables, ""])


def as_markdown(figures: Figures, about: About) -> str:
    """Return the whole report for a file."""
    head = ["# Benchmark", "", *(f"{line}  " for line in about.lines()), "", METHOD, ""]
    return "\n".join([*head, *(table.as_markdown() for table in tables_of(figures))])


def keep(figures: Figures, about: About, folder: Path, name: str) -> list[Path]:
    """Write table, figures and plot, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = name or about.began.replace(" UTC", "").replace(" ", "-").replace(":", "")
    table, raw = folder / f"{stem}.md", folder / f"{stem}.json"
    table.write_text(as_markdown(figures, about), encoding="utf-8")
    content = {"about": dataclasses.asdict(about), **dataclasses.asdict(figures)}
    content["verdicts"] = [dataclasses.asdict(each) for each in aims.verdicts(figures)]
    raw.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    drawn = plot.draw(figures, folder / f"{stem}.svg")
    return [table, raw, *([drawn] if drawn else [])]
