"""The rules of docs/alerts.yml, read as Prometheus reads them, on what workers really show."""

from __future__ import annotations

import base64
import math
import operator
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest
from prometheus_client import CollectorRegistry, generate_latest, values
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from pydantic import SecretStr

from simulator.controls.faults import FaultKind
from simulator.idp.endpoints import Endpoint
from simulator.server import SimulatorServer
from tests.integration.cli.cli_rig import make_older
from tests.integration.outbox.propagation_rig import by_queue, deliver, owed, the_notice
from tests.integration.traffic.traffic_rig import pass_redis_time
from tests.stage import Stage
from worker import metrics, wiring
from worker.maintenance.last_runs import Run
from worker.monitoring.gauges import Facts, sources
from worker.monitoring.meters import Meters
from worker.sign_in import silent_auth
from worker.tasks import maintenance
from worker.tasks import notices as notice_tasks
from worker.tasks.base import TaskFailed

TEXT: Final = (Path(__file__).parents[3] / "docs" / "alerts.yml").read_text(encoding="utf-8")
RULES: Final = dict(re.findall(r"- alert: (\w+)\n(?: +#.*\n)* +expr: (.+)\n", TEXT))

SELECTOR: Final = re.compile(r"(mosaic_sessions_\w+)(?:\{([^}]*)\})?")
GAUGE_RULE: Final = re.compile(
    r"(?P<fold>max|min)(?: by \((?P<by>[\w, ]+)\))? ?\((?P<what>[^)]+)\)"
    r" (?P<compare>>|<|==) (?P<bound>[\d.]+)"
)
FOLDS: Final[dict[str, Callable[[list[float]], float]]] = {"max": max, "min": min}
COMPARISONS: Final[dict[str, Callable[[float, float], bool]]] = {
    ">": operator.gt,
    "<": operator.lt,
    "==": operator.eq,
}


def scrape(stage: Stage, *, and_counts: bool = False) -> list[Sample]:
    """What a worker of this installation shows right now."""
    return read(registry_of(stage, and_counts=and_counts))


def registry_of(stage: Stage, *, and_counts: bool = False) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(Facts(sources(stage.services), lambda: (0, 8)))
    if and_counts:
        metrics.record_with(Meters(registry))
    return registry


def read(registry: CollectorRegistry) -> list[Sample]:
    page = generate_latest(registry).decode()
    families = text_string_to_metric_families(page)
    return [sample for family in families for sample in family.samples]


def selected(selector: str, samples: Iterable[Sample]) -> list[Sample]:
    found = SELECTOR.fullmatch(selector)
    assert found is not None, selector
    wanted = [
        (label, value if how == "=~" else re.escape(value))
        for label, how, value in re.findall(r'(\w+)(=~?)"([^"]*)"', found[2] or "")
    ]
    return [
        sample
        for sample in samples
        if sample.name == found[1]
        and all(re.fullmatch(value, sample.labels.get(label, "")) for label, value in wanted)
    ]


def holds(query: str, samples: list[Sample]) -> bool:
    """Whether *query* has a result at this moment. One over time (`increase`) never has."""
    if query.startswith("absent("):
        return not selected(query.removeprefix("absent(").removesuffix(")"), samples)
    if "increase(" in query:
        return False
    rule = GAUGE_RULE.fullmatch(query)
    assert rule is not None, query
    groups: dict[Any, list[float]] = defaultdict(list)
    for sample in selected(rule["what"], samples):
        by = (rule["by"] or "").split(", ")
        groups[tuple(sample.labels.get(label) for label in by)].append(sample.value)
    compare = COMPARISONS[rule["compare"]]
    return any(compare(FOLDS[rule["fold"]](g), float(rule["bound"])) for g in groups.values())


COUNT_RULE: Final = re.compile(
    r"sum(?: by \((?P<by>[\w, ]+)\))? ?\(increase\((?P<what>[^)]+)\[10m\]\)\) > 0"
)


def rising(before: list[Sample], after: list[Sample]) -> set[str]:
    """The alerts raised by what was counted in between: only of series that were there before."""
    seen = {(sample.name, *sorted(sample.labels.items())): sample.value for sample in before}
    raised = set()
    for name, query in RULES.items():
        rule = COUNT_RULE.fullmatch(query)
        for sample in selected(rule["what"], after) if rule is not None else ():
            if sample.value > seen.get((sample.name, *sorted(sample.labels.items())), math.inf):
                raised.add(name)
    return raised


def firing(samples: list[Sample]) -> set[str]:
    """The alerts that would be raised if it stayed like this."""
    return {name for name, query in RULES.items() if holds(query, samples)}


@pytest.fixture(autouse=True)
def counting_stops() -> Iterator[None]:
    yield
    metrics.record_with(None)
    values.ValueClass = values.MutexValue


@pytest.fixture
def well(sqlite_stage: Stage) -> Stage:
    """An installation whose beat has done its work."""
    sqlite_stage.add_app("shop")
    by_queue(sqlite_stage, "desk")
    maintenance.sweep()
    maintenance.expire_sessions()
    return sqlite_stage


def test_every_series_an_alert_is_about_is_shown(well: Stage) -> None:
    well.add_app("forum")  # one that is alone at a host has no breaker beside the host's
    samples = scrape(well, and_counts=True)

    for query in RULES.values():
        for name, labels in SELECTOR.findall(query):
            assert selected(name, samples), query
            for label, value in re.findall(r'(\w+)=~?"([^"]*)"', labels):
                for alternative in value.split("|"):
                    assert selected(f'{name}{{{label}="{alternative}"}}', samples), query


def test_nothing_is_raised_while_all_is_well(well: Stage) -> None:
    assert firing(scrape(well)) == set()


def wrong_secret(stage: Stage) -> None:
    stage.mosaic.state.add_client("client-shop", "changed at Mosaic")
    stage.registered("ada", "shop")
    stage.silent_auth("ada", "shop")


def wrong_keys(stage: Stage) -> None:
    ring = SecretStr("k1:" + base64.b64encode(b"x" * 32).decode())
    elsewhere = stage.settings.model_copy(update={"encryption_keys": ring})
    with closing(wiring.build(elsewhere, now=stage.now)) as there, wiring.use(there):
        stage.status("ada")


def a_bug(stage: Stage) -> None:
    stage.registered("ada", "shop")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(silent_auth, "ask", None)
        with pytest.raises(TaskFailed):
            stage.silent_auth("ada", "shop")


@pytest.mark.parametrize(
    ("plant", "alerts"),
    [
        (wrong_secret, {"MosaicSessionsClientRefused", "MosaicSessionsOperatorMustAct"}),
        (wrong_keys, {"MosaicSessionsAppUnreadable", "MosaicSessionsOperatorMustAct"}),
        (a_bug, {"MosaicSessionsTaskBug"}),
    ],
)
def test_the_first_event_is_raised(
    well: Stage, plant: Callable[[Stage], None], alerts: set[str]
) -> None:
    registry = registry_of(well, and_counts=True)
    before = read(registry)
    plant(well)

    assert rising(before, read(registry)) == alerts
    assert rising(before, before) == set()


def test_a_client_of_mosaic_that_does_not_work_is_raised(well: Stage) -> None:
    wrong_secret(well)

    assert firing(scrape(well)) == {"MosaicSessionsMisconfigured"}


def test_an_app_that_takes_no_notices_is_raised(well: Stage) -> None:
    by_queue(well, "forum")
    notice = owed(well)
    well.tell_mosaic()
    well.services.redis.delete("idp", "notify")  # as the worker takes the wake-ups
    deliver(well, notice)  # to the app's own queue, where nobody reads it
    well.pass_time(minutes=6)

    assert firing(scrape(well)) == {"MosaicSessionsAppBehind"}


def test_that_no_worker_shows_anything_is_raised() -> None:
    assert firing([]) == {"MosaicSessionsDown"}


def test_a_beat_that_never_ran_is_raised(sqlite_stage: Stage) -> None:
    assert firing(scrape(sqlite_stage)) == {"MosaicSessionsSweepLate", "MosaicSessionsExpiryLate"}


def test_a_beat_that_has_stopped_is_raised(well: Stage) -> None:
    make_older(well, Run.SWEEP, 90)
    a_minute_later = firing(scrape(well))
    make_older(well, Run.EXPIRE_SESSIONS, 700)

    assert a_minute_later == {"MosaicSessionsSweepLate"}
    assert firing(scrape(well)) == {"MosaicSessionsSweepLate", "MosaicSessionsExpiryLate"}


def test_an_app_on_whose_requests_mosaic_fails_is_raised_and_not_mosaic(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with Stage(sqlite_url, redis_url, mosaic, breaker_failures="1") as stage:
        stage.add_app("shop")
        stage.add_app("forum")
        stage.registered("ada", "shop")
        maintenance.sweep()
        maintenance.expire_sessions()
        mosaic.state.faults.add(Endpoint.SESSION_AUTHENTICATE, FaultKind.STATUS, status=500)
        stage.silent_auth("ada", "shop")
        one_fails = firing(scrape(stage))
        stage.silent_auth("ada", "forum")

        assert one_fails == {"MosaicSessionsClientBreakerOpen"}
        assert "MosaicSessionsBreakerOpen" in firing(scrape(stage))


def test_an_app_that_leaves_its_notices_unread_is_raised_and_shown_by_name(
    well: Stage, redis_url: str
) -> None:
    ref = well.registered("ada", "shop")
    well.silent_auth("ada", "desk")
    well.log_out(session_ref=str(ref))
    for _ in range(4):
        well.pass_time(minutes=6)
        notice_tasks.deliver(str(the_notice(well).id))

    samples = scrape(well)

    assert "MosaicSessionsAppBehind" in firing(samples)
    (waiting,) = selected('mosaic_sessions_notice_queue_depth{app="desk"}', samples)
    (age,) = selected('mosaic_sessions_notice_queue_oldest_age_seconds{app="desk"}', samples)
    assert waiting.value == 1
    assert age.value > 0


def test_a_mosaic_that_hangs_is_raised_also_while_it_is_probed(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with Stage(sqlite_url, redis_url, mosaic, breaker_failures="1") as stage:
        stage.add_app("shop")
        stage.registered("ada", "shop")
        maintenance.sweep()
        maintenance.expire_sessions()
        mosaic.state.faults.add(
            Endpoint.SESSION_AUTHENTICATE, FaultKind.STATUS, status=503, times=1
        )
        stage.silent_auth("ada", "shop")
        is_open = firing(scrape(stage))
        pass_redis_time(redis_url, 60)
        is_half_open = firing(scrape(stage))
        for _ in range(3):
            stage.silent_auth("ada", "shop")

        assert is_open == is_half_open == {"MosaicSessionsBreakerOpen"}
        assert firing(scrape(stage)) == set()
