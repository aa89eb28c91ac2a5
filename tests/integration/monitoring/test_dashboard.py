"""Each query of the dashboard, evaluated by Prometheus' own `promtool`, draws something."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from session_client.contract import Verdict
from tests.integration.monitoring.promtool import promtool, selector, unanswered
from tests.unit.test_deploy import targets
from tests.unit.test_metrics import exposed

HISTOGRAM: Final = "mosaic_sessions_mosaic_call_duration_seconds"
# What queries select; any other label has its own name for a value.
SELECTED: Final = {"verdict": Verdict.TEMPORARILY_UNAVAILABLE.value, "state": "open"}

pytestmark = pytest.mark.skipif(promtool() is None, reason="needs promtool")


def value_of(label: str) -> str:
    return SELECTED.get(label, label)


def shown() -> Iterator[tuple[str, str]]:
    """A series of each metric, with all of its labels, as promtool writes them down."""
    for name, labels in exposed().items():
        with_values = {label: value_of(label) for label in (*labels, "instance")}
        grows = name.endswith("_total") or name == HISTOGRAM
        run = "0+10x120" if grows else "1+0x120"
        if name != HISTOGRAM:
            yield f"{name}{selector(with_values)}", run
            continue
        for part in ("_count", "_sum"):
            yield f"{name}{part}{selector(with_values)}", run
        for most in ("0.5", "+Inf"):
            yield f"{name}_bucket{selector({**with_values, 'le': most})}", run


def asked() -> list[tuple[str, dict[str, str]]]:
    """Each query as Grafana sends it, with the labels that its legend names."""
    return [
        (
            target["expr"].replace("$__rate_interval", "5m"),
            {name: value_of(name) for name in re.findall(r"{{(\w+)}}", target["legendFormat"])},
        )
        for target in targets()
    ]


def test_each_query_of_the_dashboard_draws_what_its_legend_names(tmp_path: Path) -> None:
    assert unanswered(tmp_path, dict(shown()), asked()) == ""


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("rate(", "rate"),
        ("[5m]", ""),
        ('state=~"open|half_open"', 'state="opened"'),
        ("sum by (verdict)", "sum by (verdicts)"),
        ("scalar(sum(", "sum(sum("),
    ],
)
def test_a_query_that_is_wrong_is_found(tmp_path: Path, right: str, wrong: str) -> None:
    (query, labels), *_ = [one for one in asked() if right in one[0]]

    assert unanswered(tmp_path, dict(shown()), [(query, labels)]) == ""
    assert unanswered(tmp_path, dict(shown()), [(query.replace(right, wrong), labels)]) != ""
