"""Counting costs little, never fails, and is on only where it is served."""

from __future__ import annotations

import ast
import os
import re
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Metric, values
from pydantic import SecretStr

from sandbox.processes import poll_until
from session_client.contract import Reason, Task, Verdict
from worker import metrics
from worker.celery_support.queue_heads import OLDEST_SECONDS, Head
from worker.monitoring import gauges
from worker.monitoring.gauges import Ages, Facts, MetricSource
from worker.monitoring.meters import Meters
from worker.monitoring.shared_folder import new_folder
from worker.monitoring.sources import Source
from worker.mosaic.asked import Endpoint
from worker.operations.live_count import FEW
from worker.operations.redis_facts import NEARLY_FULL
from worker.operations.troubles import MAX_CLOCK_APART

ROOT = Path(__file__).parents[2]
NOW = datetime(2030, 1, 1, tzinfo=UTC)
ANSWERED = "mosaic_sessions_answers_total"


@pytest.fixture(autouse=True)
def counting_stops() -> Iterator[None]:
    yield
    metrics.record_with(None)
    values.close_all_multiprocess_files()
    values.ValueClass = values.MutexValue


@pytest.fixture
def registry() -> CollectorRegistry:
    """What one worker under threads counts."""
    registry = CollectorRegistry()
    metrics.record_with(Meters(registry))
    return registry


def count_everything() -> None:
    metrics.answered(Task.SILENT_AUTH, Verdict.LOGIN_REQUIRED, Reason.NO_SESSION)
    metrics.answered(Task.LOGOUT, Verdict.OK, None)
    metrics.answer_repeated(Task.LOGOUT)
    for why in metrics.UnansweredCause:
        metrics.unanswered(Task.STATUS, why)
    metrics.mosaic_call(Endpoint.AUTHENTICATE, metrics.CallOutcome.OK, 0.15)
    metrics.mosaic_call(Endpoint.AUTHENTICATE, metrics.CallOutcome.OK, 4.0)
    for reason in metrics.Rejection:
        metrics.rejected(reason)
    for kind in metrics.Saving:
        metrics.call_saved(kind)


def test_nothing_is_counted_until_somebody_keeps_count() -> None:
    count_everything()


def test_everything_is_counted_by_its_labels(registry: CollectorRegistry) -> None:
    count_everything()
    count_everything()

    def found(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(f"mosaic_sessions_{name}", labels)

    refused = {"task": "sessions.silent_auth", "verdict": "login_required", "reason": "no_session"}
    assert found("answers_total", **refused) == 2
    assert found("answers_total", task="sessions.logout", verdict="ok", reason="") == 2
    assert found("answers_repeated_total", task="sessions.logout") == 2
    silent = [{"task": "sessions.status", "cause": why} for why in metrics.UnansweredCause]
    assert [found("requests_unanswered_total", **labels) for labels in silent] == [2, 2, 2]
    causes = [found("messages_rejected_total", cause=why) for why in metrics.Rejection]
    assert set(causes) == {2}
    call = {"endpoint": "session/authenticate", "outcome": "ok"}
    assert found("mosaic_call_duration_seconds_count", **call) == 4
    assert found("mosaic_call_duration_seconds_sum", **call) == pytest.approx(8.3)
    assert found("mosaic_call_duration_seconds_bucket", **call, le="0.2") == 2
    assert [found("mosaic_calls_saved_total", kind=kind) for kind in metrics.Saving] == [2, 2, 2]


class Broken:
    def record(self, *_: Any) -> None:
        raise OSError("no space left on device")


def test_counting_that_fails_costs_nobody_an_answer() -> None:
    metrics.record_with(Broken())

    count_everything()


# --- the folder the children of a pool share


# Nothing is tidied up at such an end.
def shared(folder: Path, monkeypatch: pytest.MonkeyPatch) -> CollectorRegistry:
    """What the parent of a pool shows; this process counts as one of its children."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder))
    registry = CollectorRegistry()
    metrics.record_with(Meters(registry, folder))
    return registry


def total(registry: CollectorRegistry) -> float | None:
    labels = {"task": "sessions.logout", "verdict": "ok", "reason": ""}
    return registry.get_sample_value(ANSWERED, labels)


def test_a_successor_goes_on_where_a_dead_child_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared(tmp_path, monkeypatch)
    count_everything()
    values.close_all_multiprocess_files()

    registry = shared(tmp_path, monkeypatch)
    count_everything()

    assert total(registry) == 2
    assert len(list(tmp_path.glob("*.db"))) == 2  # counters, histograms


def test_the_counts_of_all_children_are_added_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = shared(tmp_path, monkeypatch)
    count_everything()
    (tmp_path / "counter_7.db").write_bytes((tmp_path / "counter_parent.db").read_bytes())

    assert total(registry) == 2


def test_half_a_file_hides_the_counts_and_not_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = shared(tmp_path, monkeypatch)
    count_everything()
    (tmp_path / "counter_7.db").write_bytes(b"")

    assert total(registry) is None


def test_a_variable_meant_for_other_programs_does_not_split_the_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    registry = CollectorRegistry()
    metrics.record_with(Meters(registry))

    count_everything()

    assert total(registry) == 1
    assert not list(tmp_path.iterdir())


def test_a_link_that_somebody_put_there_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "lock").write_text("", encoding="utf-8")
    (tmp_path / "mosaic-sessions-metrics-link").symlink_to(target)

    new_folder(str(tmp_path))

    assert (target / "lock").exists()


def test_a_folder_of_another_user_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path / "mosaic-sessions-metrics-theirs"
    theirs.mkdir()
    (theirs / "lock").write_text("", encoding="utf-8")
    monkeypatch.setattr(os, "geteuid", lambda: -1)

    new_folder(str(tmp_path))

    assert (theirs / "lock").exists()


# --- how old the oldest message is


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def age(ages: Ages, head: Head | None) -> float:
    return ages.of({"auth": head}, NOW)["auth"]


@pytest.mark.parametrize(
    ("published", "expected"),
    [(-5.0, 5.0), (60.0, 0.0), (-10 * OLDEST_SECONDS, OLDEST_SECONDS)],
    ids=["honest", "from the future", "older than any message lives"],
)
def test_an_age_is_what_the_message_says_within_bounds(published: float, expected: float) -> None:
    head = Head(1, NOW + timedelta(seconds=published))

    assert age(Ages(Clock()), head) == expected


def test_a_message_that_says_nothing_is_as_old_as_we_have_seen_it() -> None:
    clock = Clock()
    ages = Ages(clock)

    told = [age(ages, Head(1, None))]
    clock.now += 30
    told.append(age(ages, Head(1, None)))
    told.append(age(ages, Head(2, None)))
    clock.now += 10
    told.append(age(ages, Head(2, None)))
    told.append(age(ages, None))
    told.append(age(ages, Head(2, None)))

    assert told == [0, 30, 0, 10, 0, 0]


def test_a_message_that_claims_to_be_new_for_ever_is_found_out() -> None:
    clock = Clock()
    ages = Ages(clock)
    liar = Head(1, NOW + timedelta(days=365))

    age(ages, liar)
    clock.now += 30

    assert age(ages, liar) == 30


# --- what is documented


def documented() -> dict[str, list[str]]:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(mosaic_sessions_\w+)` \|([^|]*)\|", page, re.MULTILINE)
    return {name: re.findall(r"`(\w+)`", labels) for name, labels in rows}


def exposed() -> dict[str, list[str]]:
    meters = Meters(CollectorRegistry())._metrics.values()
    counted = {f"{m._name}_total" if m._type == "counter" else m._name: m for m in meters}
    return {
        **{name: list(metric._labelnames) for name, metric in counted.items()},
        **{f"mosaic_sessions_{gauge.name}": list(gauge.labels) for gauge in gauges.ALL},
    }


def test_the_page_lists_exactly_what_is_exposed_with_its_labels() -> None:
    assert documented() == exposed()


def test_the_page_names_every_source() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    (named,) = re.findall(r"`mosaic_sessions_source_up` .* The sources: (.*) \|\n", page)
    settings = SimpleNamespace(broker_url=SecretStr("redis://127.0.0.1/0"))
    services: Any = SimpleNamespace(settings=settings)

    there = {source.name for source in gauges.sources(services)}
    assert set(re.findall(r"`(\w+)`", named)) == there


def test_the_pages_say_from_how_many_on_live_sessions_are_counted_seldom() -> None:
    for name, words in (("metrics", "More than {:,} are counted"), ("why", "Up to {:,} are")):
        page = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
        assert words.format(FEW) in page


def test_the_collector_promises_every_gauge() -> None:
    promised = {metric.name for metric in Facts([], lambda: (0, 0)).describe()}

    assert promised == {f"mosaic_sessions_{gauge.name}" for gauge in gauges.ALL}


def test_alerts_are_about_metrics_that_exist() -> None:
    text = (ROOT / "docs" / "alerts.yml").read_text(encoding="utf-8")
    rules = re.findall(r"- alert: (\w+)\n(?: +#.*\n)* +expr: (.+)\n", text)
    used = {name for _, query in rules for name in re.findall(r"mosaic_sessions_\w+", query)}

    assert len(rules) == text.count("expr:") == len(dict(rules)) >= 5
    assert used
    assert used <= exposed().keys()


def test_alerts_begin_where_status_and_doctor_do() -> None:
    text = (ROOT / "docs" / "alerts.yml").read_text(encoding="utf-8")

    for metric, bound in (
        ("redis_memory_used_ratio", NEARLY_FULL),
        ("clock_apart_seconds", MAX_CLOCK_APART),
    ):
        assert re.findall(rf"_{metric}\) (.+)", text) == [f"> {bound:g}"]


def test_the_page_says_of_each_alert_what_to_do_first() -> None:
    rules = (ROOT / "docs" / "alerts.yml").read_text(encoding="utf-8")
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    table = page.partition("## Alerts")[2]
    told = re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \|$", table, re.MULTILINE)

    assert told == re.findall(r"- alert: (\w+)", rules)


# --- sources that hang or break


def source_of(every: float, ask: Callable[[], Any], patience: float = 60) -> MetricSource:
    return Source("database", every, patience, ask)


def seen_of(source: MetricSource) -> list[float | None]:
    """Scrape: whether the source is up, and what it said."""
    found = {
        sample.name: sample.value
        for metric in Facts([source], lambda: (1, 8)).collect()
        for sample in metric.samples
    }
    return [found.get(f"mosaic_sessions_{name}") for name in ("source_up", "live_sessions")]


def test_a_source_that_hangs_is_absent_in_time_and_asked_no_second_time() -> None:
    answer = threading.Event()
    asked: list[int] = []

    def hang() -> list[Metric]:
        asked.append(1)
        answer.wait(60)
        return [gauges.LIVE.of([((), 3)])]

    source = source_of(0, hang, patience=0.1)
    hanging = [seen_of(source), seen_of(source)]
    asked_meanwhile = len(asked)
    answer.set()
    poll_until(lambda: seen_of(source) == [1, 3], 60)

    assert hanging == [[0, None], [0, None]]
    assert asked_meanwhile == 1


def test_another_kind_of_broker_is_not_asked() -> None:
    settings = SimpleNamespace(broker_url=SecretStr("memory://"))
    services: Any = SimpleNamespace(settings=settings)

    names = [source.name for source in gauges.sources(services)]
    assert names == ["database", "schema", "redis", "traffic", "maintenance", "mosaic"]


def test_many_scrapes_ask_once() -> None:
    asked: list[int] = []

    def count() -> list[Metric]:
        asked.append(1)
        return [gauges.LIVE.of([((), 3)])]

    source = source_of(600, count)

    assert [seen_of(source) for _ in range(30)] == [[1, 3]] * 30
    assert len(asked) == 1


def test_a_source_that_fails_is_absent_until_it_answers_again() -> None:
    answers: list[Any] = [ConnectionError("redis://:canary@host"), [gauges.LIVE.of([((), 3)])]]

    def ask() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    source = source_of(0, ask)

    assert [seen_of(source), seen_of(source)] == [[0, None], [1, 3]]


def calls_of(tree: ast.AST, owner: str) -> list[ast.Call]:
    """Return the calls of what *owner* has."""
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == owner
    ]


def test_each_line_that_calls_the_operator_is_counted() -> None:
    # The alert goes by the count; a line alone is found by who looks for it.
    found = 0
    for path in sorted((ROOT / "worker").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        lines = [call for call in calls_of(tree, "log") if metrics.OPERATOR in ast.unparse(call)]
        counts = [call for call in calls_of(tree, "metrics") if call.func.attr == metrics.OPERATOR]  # type: ignore[attr-defined]
        assert len(lines) == len(counts), path
        found += len(lines)
    assert found >= 4
