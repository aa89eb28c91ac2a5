"""`make bench`: measure, print the tables, keep them under benchmarks/results."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from benchmarks import options as options_module
from benchmarks import report
from benchmarks.about import About
from benchmarks.profiling import profile
from benchmarks.run import run
from benchmarks.stage import Stage
from benchmarks.workers import prepare

ROOT: Final = Path(__file__).parents[1]


def main(arguments: list[str]) -> int:
    """Take the measures that are asked for."""
    options = options_module.parse(arguments)
    began = datetime.now(UTC)
    with Stage(options.settings) as stage:
        if options.profile:
            print(*profile(prepare(stage), options, ROOT / "var"), sep="\n")
            return 0
        figures = run(stage, options)
        about = About.now(stage, options, began)
    print(report.as_text(figures, about))
    folder = options.folder or ROOT / "benchmarks" / "results"
    for path in report.keep(figures, about, folder, options.name):
        print(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)
    return 1 if figures.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
