"""Asks Prometheus' own `promtool` what it makes of rules and queries on what workers show."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from prometheus_client.samples import Sample

ROOT: Final = Path(__file__).parents[3]
RULES: Final = ROOT / "docs" / "alerts.yml"
_BEFORE, _AFTER = 20, 65  # minutes: longer than any rule looks back, and than any waits
_SHOWN = f"{_BEFORE + _AFTER - 2}m"
_FIRED: Final = f'group by (alertname) (max_over_time(ALERTS{{alertstate="firing"}}[{_SHOWN}]))'


def promtool() -> str | None:
    """Return where it is; .ci/run sees to it that it is there."""
    return shutil.which("promtool") or shutil.which(str(ROOT / ".venv" / "bin" / "promtool"))


def disagreement(
    folder: Path, before: Iterable[Sample], after: Iterable[Sample], alerts: set[str]
) -> str:
    """Return what promtool says unless exactly *alerts* are raised by it; nothing if it agrees.

    Workers show *before* for a while, and then *after*.
    """
    if promtool() is None:
        return ""
    case = {
        "interval": "1m",
        "input_series": _series(before, after),
        "promql_expr_test": [
            {
                "expr": _FIRED,
                "eval_time": _SHOWN,
                "exp_samples": [
                    {"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(alerts)
                ],
            }
        ],
    }
    return _said_of(folder, [str(RULES)], case)


def unanswered(
    folder: Path, series: Mapping[str, str], queries: Iterable[tuple[str, Mapping[str, str]]]
) -> str:
    """Return what promtool says unless each of *queries* leaves one result, with these labels.

    *series* are as promtool writes them, a value a minute; they are asked after an hour.
    """
    case = {
        "interval": "1m",
        "input_series": [{"series": name, "values": run} for name, run in series.items()],
        "promql_expr_test": [
            {
                "expr": f"group by ({', '.join(labels)}) ({query})",
                "eval_time": "1h",
                "exp_samples": [{"labels": selector(labels), "value": 1}],
            }
            for query, labels in queries
        ],
    }
    return _said_of(folder, [], case)


def selector(labels: Mapping[str, str]) -> str:
    """Return these labels as they stand behind the name of a series."""
    inside = ",".join(f"{name}={json.dumps(value)}" for name, value in labels.items())
    return f"{{{inside}}}"


def _said_of(folder: Path, rules: list[str], case: Mapping[str, Any]) -> str:
    program = promtool()
    assert program is not None
    tests = folder / "promtool_test.yml"  # JSON is YAML
    tests.write_text(
        json.dumps({"rule_files": rules, "evaluation_interval": "1m", "tests": [case]}, indent=1),
        encoding="utf-8",
    )
    ended = subprocess.run(  # noqa: S603
        [program, "test", "rules", str(tests)], capture_output=True, text=True, check=False
    )
    return "" if ended.returncode == 0 else ended.stdout + ended.stderr


def _series(before: Iterable[Sample], after: Iterable[Sample]) -> list[dict[str, Any]]:
    first, then = _values(before), _values(after)
    shown = {
        name: f"{_run(first.get(name), _BEFORE)} {_run(then.get(name), _AFTER)}"
        for name in sorted(first.keys() | then.keys())
    }
    return [{"series": name, "values": values} for name, values in shown.items()]


def _values(samples: Iterable[Sample]) -> dict[str, float]:
    return {f"{one.name}{selector(one.labels)}": one.value for one in samples}


def _run(value: float | None, minutes: int) -> str:
    if value is None:
        return f"_x{minutes}"
    number = 1e15 if math.isinf(value) else value
    return f"{number!r}+0x{minutes - 1}"
