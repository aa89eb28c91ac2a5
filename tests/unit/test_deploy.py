"""What is in `deploy/` fits what the programs take, show and need."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from session_client.contract import Queue, Verdict
from tests.unit.test_metrics import exposed
from worker.monitoring.gauges import BREAKER_STATES
from worker.settings.environment import PREFIX, variable_name
from worker.settings.model import Settings

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
DASHBOARD: Final = DEPLOY / "grafana" / "dashboards" / "mosaic-sessions.json"
ADDED: Final = {"instance", "le"}  # by Prometheus, as it scrapes and for a histogram
# What Prometheus makes of a histogram.
PARTS: Final = re.compile(r"_(bucket|count|sum)$")
SELECTOR: Final = re.compile(r"(mosaic_sessions_\w+)(?:\{([^}]*)\})?")
BY: Final = re.compile(r"by \(([\w, ]+)\)")


def text_of(*names: str) -> str:
    files = [path for name in names for path in sorted((DEPLOY / name).rglob("*"))]
    return "\n".join(path.read_text(encoding="utf-8") for path in files if path.is_file())


def targets() -> Iterator[dict[str, str]]:
    dashboard: Any = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    for panel in dashboard["panels"]:
        yield from panel.get("targets", ())


def queries() -> Iterator[str]:
    yield from (target["expr"] for target in targets())


def test_the_dashboard_shows_every_metric_and_no_other() -> None:
    used = {PARTS.sub("", name) for query in queries() for name, _ in SELECTOR.findall(query)}

    assert used == exposed().keys()


def test_the_dashboard_asks_for_labels_that_the_metrics_have() -> None:
    labels = exposed()
    for query in queries():
        selectors = SELECTOR.findall(query)
        asked = {label.strip() for names in BY.findall(query) for label in names.split(",")}
        asked |= {label for _, inside in selectors for label in re.findall(r"(\w+)!?[=~]", inside)}
        known = {label for name, _ in selectors for label in labels[PARTS.sub("", name)]}
        assert asked - ADDED <= known, query


def test_the_dashboard_selects_values_that_the_labels_take() -> None:
    taken: dict[str, set[str]] = {"verdict": set(Verdict), "state": set(BREAKER_STATES)}
    selected = [
        (label, value)
        for query in queries()
        for _, inside in SELECTOR.findall(query)
        for label, values in re.findall(r'(\w+)!?[=~]+"([^"]*)"', inside)
        for value in values.split("|")
    ]

    assert len(selected) > 2
    assert [one for one in selected if one[1] not in taken[one[0]]] == []


def test_the_dashboards_legends_name_what_the_queries_leave() -> None:
    for target in targets():
        named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        left = {label for names in BY.findall(target["expr"]) for label in names.split(", ")}
        assert named <= left, target


def test_the_dashboard_shows_what_an_app_suffers_from_for_the_first_time() -> None:
    """`increase` sees nothing of it: the series of an app begins with 1."""
    labels = exposed()
    begun_by_an_event = {
        query
        for query in queries()
        for name, _ in SELECTOR.findall(query)
        if "increase(" in query and "app" in labels[PARTS.sub("", name)]
    }

    assert begun_by_an_event
    assert all(" unless mosaic_sessions_" in query for query in begun_by_an_event)


def test_the_dashboards_panels_lie_beside_each_other() -> None:
    dashboard: Any = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    covered = [
        (x, y)
        for at in (panel["gridPos"] for panel in dashboard["panels"])
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]

    assert len(covered) == len(set(covered))
    assert all(x < 24 for x, _ in covered)
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_every_setting_that_is_named_exists() -> None:
    known = {variable_name(field) for field in Settings.model_fields}
    named = set(re.findall(rf"{PREFIX}[A-Z_]+[A-Z]", text_of("")))

    assert {name.removesuffix("_FILE") for name in named} <= known
    assert len(named) > 4


def test_commands_beside_the_units_read_what_the_units_read() -> None:
    page = (DEPLOY.parent / "docs" / "deploy.md").read_text(encoding="utf-8")
    section = page.partition("## systemd")[2].partition("\n## ")[0]
    read = set(re.findall(r"^([A-Z_]+_FILE)=/etc/mosaic-sessions/(\w+)$", section, re.MULTILINE))

    for unit in sorted((DEPLOY / "systemd").glob("*.service")):
        text = unit.read_text(encoding="utf-8")
        assert set(re.findall(r"^Environment=([A-Z_]+)=%d/(\w+)$", text, re.MULTILINE)) == read
        handed = re.findall(
            r"^LoadCredential=(\w+):/etc/mosaic-sessions/(\w+)$", text, re.MULTILINE
        )
        assert handed == [(name, name) for name, _ in handed]
        assert {name for name, _ in handed} == {name for _, name in read}


def test_what_the_units_name_for_reading_is_copied_to_where_they_say() -> None:
    page = (DEPLOY.parent / "docs" / "deploy.md").read_text(encoding="utf-8")
    named = r"^Documentation=file:///opt/mosaic-sessions/(\w+)/(\S+)$"

    for unit in sorted((DEPLOY / "systemd").glob("*.service")):
        found = re.findall(named, unit.read_text(encoding="utf-8"), re.MULTILINE)
        assert len(found) == 1, unit
        for folder, name in found:
            assert (DEPLOY.parent / folder / name).is_file(), unit
            assert f"\ncp -r {folder} /opt/mosaic-sessions/ " in page, unit


def test_the_two_workers_of_the_page_take_all_queues() -> None:
    page = (DEPLOY.parent / "docs" / "deploy.md").read_text(encoding="utf-8")
    taken = ",".join(re.findall(r"QUEUES=([\w,]+)", page)).split(",")

    assert sorted(taken) == sorted(queue.value for queue in Queue)


@pytest.mark.parametrize("name", ["compose.yaml", "kubernetes"])
def test_all_queues_are_taken(name: str) -> None:
    path = DEPLOY / name
    text = path.read_text(encoding="utf-8") if path.is_file() else text_of(name)
    taken = ",".join(re.findall(r'-Q, "([\w,]+)"', text)).split(",")

    assert sorted(taken) == sorted(queue.value for queue in Queue)


def test_no_pod_is_given_variables_that_look_like_misspelt_settings() -> None:
    text = text_of("kubernetes")

    assert text.count("enableServiceLinks: false") == text.count("containers:") > 3


def test_the_page_makes_the_migration_anew_and_waits_for_it() -> None:
    page = (DEPLOY.parent / "docs" / "deploy.md").read_text(encoding="utf-8")
    job = (DEPLOY / "kubernetes" / "migrate.yaml").read_text(encoding="utf-8")
    (name,) = re.findall(r"^  name: (\S+)$", job, re.MULTILINE)
    commands = re.findall(r"^kubectl .+$", page, re.MULTILINE)

    # Kubernetes refuses another image for a Job that is there, and does not run the same one again;
    # without a timeout the wait ends after 30 s.
    assert commands[-4:] == [
        f"kubectl delete job {name} --ignore-not-found",
        "kubectl apply -f deploy/kubernetes/migrate.yaml",
        f"kubectl wait --for=condition=complete --timeout=15m job/{name}",
        "kubectl apply -f deploy/kubernetes/",
    ]
