"""The rules of docs/alerts.yml, read as Prometheus reads them, on what workers really show."""

from __future__ import annotations

import base64
import json
import math
import operator
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import pytest
import redis
from prometheus_client import CollectorRegistry, generate_latest, values
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from pydantic import SecretStr
from sqlalchemy import make_url, select, update

from models import Logout, UserRevocation
from sandbox.ports import free_port
from sandbox.redis_server import RedisServer
from session_client import requests, times
from session_client.contract import PUBLISHED_AT
from simulator.controls.faults import FaultKind
from simulator.idp.endpoints import Endpoint
from simulator.server import SimulatorServer
from tests.integration.cli.cli_rig import make_older, run
from tests.integration.monitoring.promtool import disagreement
from tests.integration.outbox.propagation_rig import (
    by_post,
    by_queue,
    deliver,
    late_logout_of_shop_alone,
    owed,
    signing,
    the_notice,
)
from tests.integration.traffic.traffic_rig import pass_redis_time
from tests.stage import Stage, redis_client
from worker import metrics, wiring
from worker.maintenance.last_runs import Run
from worker.monitoring.gauges import Facts, sources
from worker.monitoring.meters import Meters
from worker.outbox.leases import MAX_CRASHES
from worker.sign_in import silent_auth
from worker.tasks import logouts as logout_tasks
from worker.tasks import maintenance
from worker.tasks import notices as notice_tasks
from worker.tasks.base import TaskFailed

TEXT: Final = (Path(__file__).parents[3] / "docs" / "alerts.yml").read_text(encoding="utf-8")
RULES: Final = dict(re.findall(r"- alert: (\w+)\n(?: +#.*\n)* +expr: (.+)\n", TEXT))

SELECTOR: Final = re.compile(r"(mosaic_sessions_\w+)(?:\{([^}]*)\})?")
GAUGE_RULE: Final = re.compile(
    r"(?P<fold>max|min)(?: by \((?P<by>[\w, ]+)\))? ?"
    r"\((?P<what>[^)]+?)(?: unless (?P<unless>\w+))?\)"
    r" (?P<compare>>|<|==) (?P<bound>[\d.]+)"
)
FOLDS: Final[dict[str, Callable[[list[float]], float]]] = {"max": max, "min": min}
COMPARISONS: Final[dict[str, Callable[[float, float], bool]]] = {
    ">": operator.gt,
    "<": operator.lt,
    "==": operator.eq,
}


def scrape(stage: Stage, counts: CollectorRegistry | None = None) -> list[Sample]:
    """What a worker of this installation shows right now."""
    registry = CollectorRegistry()  # a new one each time: sources are not asked again at once
    registry.register(Facts(sources(stage.services), lambda: (0, 8)))
    return read(registry) + ([] if counts is None else read(counts))


def counting() -> CollectorRegistry:
    """What a worker that has just started counts in."""
    registry = CollectorRegistry()
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
    but = [one.labels for one in selected(rule["unless"], samples)] if rule["unless"] else []
    for sample in selected(rule["what"], samples):
        if sample.labels in but:
            continue
        by = (rule["by"] or "").split(", ")
        groups[tuple(sample.labels.get(label) for label in by)].append(sample.value)
    compare = COMPARISONS[rule["compare"]]
    return any(compare(FOLDS[rule["fold"]](g), float(rule["bound"])) for g in groups.values())


COUNT_RULE: Final = re.compile(
    r"sum(?: by \((?P<by>[\w, ]+)\))? ?\(increase\((?P<what>[^)]+)\[10m\]\)\) > 0"
    r"(?P<also> or .+ unless .+)?"
)


def rising(before: list[Sample], after: list[Sample]) -> set[str]:
    """The alerts raised by what was counted in between: only of series that were there before.

    Some rules say that a new series counts, too.
    """
    seen = {(sample.name, *sorted(sample.labels.items())): sample.value for sample in before}
    raised = set()
    for name, query in RULES.items():
        rule = COUNT_RULE.fullmatch(query)
        for sample in selected(rule["what"], after) if rule is not None else ():
            new = 0.0 if rule is not None and rule["also"] else math.inf
            if sample.value > seen.get((sample.name, *sorted(sample.labels.items())), new):
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


# --- what is planted


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


def a_dead_app(stage: Stage) -> None:
    """One that is told over HTTP, by a worker that takes each wake-up."""
    by_post(stage, "forum", f"http://127.0.0.1:{free_port()}/backchannel-logout")
    notice = owed(stage)
    stage.tell_mosaic()
    stage.redis.delete("idp", "notify")  # as the worker takes the wake-ups
    deliver(stage, notice)
    stage.pass_time(minutes=6)


def an_app_that_reads_no_queue(stage: Stage) -> None:
    ref = stage.registered("ada", "shop")
    stage.silent_auth("ada", "desk")
    stage.log_out(session_ref=str(ref))
    stage.tell_mosaic()
    stage.redis.delete("idp", "notify")
    for _ in range(4):
        notice_tasks.deliver(str(the_notice(stage).id))
        stage.pass_time(minutes=6)


def an_app_that_is_taken_away(stage: Stage) -> None:
    """As docs/operations.md says."""
    by_queue(stage, "forum")
    notice = owed(stage)
    stage.tell_mosaic()
    stage.redis.delete("idp", "notify")
    run("apps", "disable", "forum")
    run("apps", "set-notice", "forum", "--none")
    stage.pass_time(minutes=6)
    deliver(stage, notice)


def a_refused_logout(stage: Stage) -> None:
    stage.mosaic.state.faults.add("session/logout", FaultKind.STATUS, status=500)
    ref = stage.registered("ada", "shop")
    stage.log_out(session_ref=str(ref))
    stage.redis.delete("idp")
    stage.tell_mosaic()


def a_logout_nobody_tells(stage: Stage) -> None:
    ref = stage.registered("ada", "shop")
    stage.log_out(session_ref=str(ref))
    stage.redis.delete("idp")
    stage.pass_time(minutes=16)


def a_late_logout_that_mosaic_refuses(stage: Stage) -> None:
    a_refused_logout(stage)
    stage.pass_time(minutes=16)


def a_logout_that_mosaic_never_heard_of(stage: Stage) -> None:
    a_refused_logout(stage)
    stage.pass_time(days=15)
    stage.tell_mosaic()


def late_logouts_of_one_app(stage: Stage) -> None:
    stage.add_app("forum")
    late_logout_of_shop_alone(stage)
    stage.redis.delete("idp")


def a_made_up_id(stage: Stage) -> None:
    stage.mosaic.state.faults.add("session/logout", "status", status=400, message="Bad request")
    stage.log_out(session_id="made up by the app")
    stage.redis.delete("idp")
    stage.tell_mosaic()
    stage.pass_time(days=1)


def a_made_up_id_of_which_mosaic_never_heard(stage: Stage) -> None:
    a_made_up_id(stage)
    stage.pass_time(days=15)
    assert stage.tell_mosaic() == ["expired_unconfirmed"]


def a_dead_lettered_logout(stage: Stage) -> None:
    ref = stage.registered("ada", "shop")
    stage.log_out(session_ref=str(ref))
    stage.redis.delete("idp")
    with stage.services.store.write() as connection:
        connection.execute(update(Logout).values(crashes=MAX_CRASHES + 1))
    stage.tell_mosaic()


def a_revocation_that_came_too_late(stage: Stage) -> None:
    """One that no worker took before the user may have signed in again."""
    stage.login("ada", "shop")
    stage.add_app("panel", capabilities=("revoke_user",))
    stage.ask("panel", requests.RevokeUser(user_id="ada", frontend=True))
    stage.redis.delete("idp")
    stage.pass_time(minutes=2)
    with stage.services.store.read() as connection:
        revocation = connection.execute(select(UserRevocation.id)).scalar_one()
    logout_tasks.end_user_at_idp(str(revocation))


def a_revocation_that_mosaic_never_heard_of(stage: Stage) -> None:
    stage.login("ada", "shop")
    stage.add_app("panel", capabilities=("revoke_user",))
    stage.ask("panel", requests.RevokeUser(user_id="ada"))
    stage.redis.delete("idp")
    for endpoint in (Endpoint.SESSIONS_DELETE, Endpoint.SESSIONS_LIST):
        stage.mosaic.state.faults.add(endpoint, FaultKind.STATUS, status=503)
    stage.pass_time(days=15)
    with stage.services.store.read() as connection:
        revocation = connection.execute(select(UserRevocation.id)).scalar_one()
    logout_tasks.end_user_at_idp(str(revocation))


def no_worker_on_a_queue(stage: Stage) -> None:
    stage.redis.lpush("auth", _message(stage.now() - timedelta(minutes=3)))


def _message(published_at: datetime) -> str:
    return json.dumps({"headers": {PUBLISHED_AT: times.to_wire(published_at)}})


def no_database(stage: Stage) -> None:
    stage.services.store.close()
    database = Path(make_url(stage.settings.store_url).database or "")
    database.unlink()
    database.mkdir()  # no file can be opened there


def another_schema(stage: Stage) -> None:
    with stage.services.store.write() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")


def a_stopped_sweep(stage: Stage) -> None:
    make_older(stage, Run.SWEEP, 90)


def a_stopped_expiry(stage: Stage) -> None:
    make_older(stage, Run.EXPIRE_SESSIONS, 700)


def a_purge_that_cannot_keep_up(stage: Stage) -> None:
    make_older(stage, Run.PURGE_HISTORY, 21_700)


def an_app_mosaic_fails_on(stage: Stage) -> None:
    stage.add_app("forum")
    stage.registered("ada", "shop")
    stage.mosaic.state.faults.add(Endpoint.SESSION_AUTHENTICATE, FaultKind.STATUS, status=500)
    keep_asking(stage, "shop")


def a_mosaic_that_hangs(stage: Stage) -> None:
    stage.add_app("forum")
    stage.registered("ada", "shop")
    stage.mosaic.state.faults.add(Endpoint.SESSION_AUTHENTICATE, FaultKind.STATUS, status=500)
    keep_asking(stage, "shop", "forum")


def keep_asking(stage: Stage, *apps: str) -> None:
    """Ask once a minute, for more than a quarter of an hour."""
    for _ in range(16):
        for app_id in apps:
            stage.silent_auth("ada", app_id)
        pass_redis_time(stage.settings.broker_url.get_secret_value(), 60)


def a_used_up_budget(stage: Stage) -> None:
    stage.registered("ada", "shop")
    for _ in range(4):
        stage.silent_auth("ada", "shop")


Planted = tuple[Callable[[Stage], None], set[str], dict[str, str]]
ONE_FAILURE = {"breaker_failures": "1"}
FEW_CALLS = {"mosaic_app_calls_per_minute": "60"}

# What is planted, what is raised by it, and the settings it needs. Rules about a share of all
# answers are left out here: each of these is a share of very few.
PLANTED: Final[dict[str, Planted]] = {
    "a wrong client secret": (
        wrong_secret,
        {"ClientRefused", "OperatorMustAct", "Misconfigured", "ManyTryLater"},
        {},
    ),
    "wrong encryption keys": (wrong_keys, {"AppUnreadable", "OperatorMustAct"}, {}),
    "a bug": (a_bug, {"TaskBug", "ManyTryLater", "InternalErrors"}, {}),
    "an app that is dead over HTTP": (a_dead_app, {"AppBehind"}, {}),
    "an app that reads no queue": (an_app_that_reads_no_queue, {"AppBehind", "AppQueueStuck"}, {}),
    "an app that is taken away": (an_app_that_is_taken_away, set(), {}),
    "a logout that Mosaic refuses": (a_refused_logout, {"LogoutsFailing"}, {}),
    "a logout nobody tells": (a_logout_nobody_tells, {"LogoutsPending"}, {}),
    "a late logout that Mosaic refuses": (
        a_late_logout_that_mosaic_refuses,
        {"LogoutsFailing", "LogoutsPending"},
        {},
    ),
    "a logout that Mosaic never heard of": (
        a_logout_that_mosaic_never_heard_of,
        {"LogoutsUnconfirmed"},
        {},
    ),
    "late logouts of one app": (
        late_logouts_of_one_app,
        {"LogoutsFailing", "AppLogoutsPending"},
        {},
    ),
    "a made-up id": (a_made_up_id, set(), {}),
    "a made-up id that expires": (a_made_up_id_of_which_mosaic_never_heard, set(), {}),
    "a dead-lettered logout": (a_dead_lettered_logout, {"DeliveriesFailed"}, {}),
    "a revocation that Mosaic never heard of": (
        a_revocation_that_mosaic_never_heard_of,
        {"LogoutsUnconfirmed"},
        {},
    ),
    "a revocation that came too late": (
        a_revocation_that_came_too_late,
        {"DeliveriesFailed", "OperatorMustAct"},
        {},
    ),
    "a queue no worker takes": (no_worker_on_a_queue, {"QueueStuck"}, {}),
    "no database": (no_database, {"Blind"}, {}),
    "another schema": (another_schema, {"Schema"}, {}),
    "a sweep that stopped": (a_stopped_sweep, {"SweepLate"}, {}),
    "an expiry that stopped": (a_stopped_expiry, {"ExpiryLate"}, {}),
    "a purge that cannot keep up": (a_purge_that_cannot_keep_up, {"PurgeLate"}, {}),
    "an app Mosaic fails on": (
        an_app_mosaic_fails_on,
        {"ClientBreakerOpen", "ManyTryLater"},
        ONE_FAILURE,
    ),
    "a Mosaic that hangs": (
        a_mosaic_that_hangs,
        {"BreakerOpen", "ClientBreakerOpen", "ManyTryLater"},
        ONE_FAILURE,
    ),
    "a budget that is used up": (a_used_up_budget, {"BudgetLow", "ManyTryLater"}, FEW_CALLS),
}
SHARES: Final = {"MosaicSessionsManyTryLater", "MosaicSessionsInternalErrors"}


def named(alerts: set[str]) -> set[str]:
    return {f"MosaicSessions{name}" for name in alerts}


@contextmanager
def well(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer, **settings: str
) -> Iterator[Stage]:
    """An installation whose beat has done its work."""
    with signing(sqlite_url, redis_url, mosaic, **settings) as stage:
        stage.add_app("shop")
        by_queue(stage, "desk")
        maintenance.sweep()
        maintenance.expire_sessions()
        maintenance.purge_history()
        yield stage


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_raises_its_alerts_and_no_others(
    fault: str, sqlite_url: str, redis_url: str, mosaic: SimulatorServer, tmp_path: Path
) -> None:
    plant, alerts, settings = PLANTED[fault]
    expected = named(alerts)
    with well(sqlite_url, redis_url, mosaic, **settings) as stage:
        counts = counting()
        before = scrape(stage, counts)
        plant(stage)
        after = scrape(stage, counts)

    assert firing(before) == rising(before, before) == set()
    assert firing(after) | rising(before, after) == expected - SHARES
    assert disagreement(tmp_path, before, after, expected) == ""


def test_every_rule_is_raised_by_something_that_is_planted() -> None:
    planted = set().union(*(named(alerts) for _, alerts, _ in PLANTED.values()))

    others = {"MosaicSessionsDown"} | named(OF_RABBITMQ) | named(OF_REDIS) | named(OF_CLOCKS)
    assert planted | others == set(RULES)


OF_RABBITMQ: Final = {"QueueNeverEmpty", "AppQueueNeverEmpty"}


def test_what_waits_at_a_broker_that_tells_no_age_is_raised(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer, tmp_path: Path
) -> None:
    def without_ages(samples: list[Sample]) -> list[Sample]:  # tests/faults/test_rabbitmq.py
        return [one for one in samples if "queue_oldest_age" not in one.name]

    with well(sqlite_url, redis_url, mosaic) as stage:
        counts = counting()
        before = without_ages(scrape(stage, counts))
        stage.redis.lpush("auth", "a message")
        stage.redis.lpush("desk-notices", "a message")
        after = without_ages(scrape(stage, counts))

    assert firing(before) == set()
    assert firing(after) == named(OF_RABBITMQ)
    assert disagreement(tmp_path, before, after, named(OF_RABBITMQ)) == ""


def full(admin: redis.Redis) -> None:
    admin.config_set("maxmemory", 1)


def nearly_full(admin: redis.Redis) -> None:
    admin.config_set("maxmemory", int(1.2 * used(admin)))


def half_full(admin: redis.Redis) -> None:
    admin.config_set("maxmemory", 2 * used(admin))


def used(admin: redis.Redis) -> int:
    about: Any = admin.info("memory")
    return int(about["used_memory"])


OF_REDIS: Final = {"RedisTakesNoWrites", "RedisNearlyFull"}


@pytest.mark.usefixtures("redis_url")  # Celery's, which is asked for nothing here
@pytest.mark.parametrize(
    ("plant", "alerts"),
    [(full, OF_REDIS), (nearly_full, {"RedisNearlyFull"}), (half_full, set())],
)
def test_a_redis_that_is_full_or_nearly_is_raised(
    sqlite_url: str,
    mosaic: SimulatorServer,
    tmp_path: Path,
    plant: Callable[[redis.Redis], None],
    alerts: set[str],
) -> None:
    with (
        RedisServer() as server,
        redis_client(server.url()) as admin,
        well(sqlite_url, server.url(), mosaic) as stage,
    ):
        counts = counting()
        before = scrape(stage, counts)
        plant(admin)
        after = scrape(stage, counts)

    assert firing(before) == set()
    assert firing(after) == named(alerts)
    assert disagreement(tmp_path, before, after, named(alerts)) == ""


OF_CLOCKS: Final = {"ClockWrong"}


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_a_worker_whose_clock_is_wrong_is_raised(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer, tmp_path: Path, seconds: float
) -> None:
    clock = time.time
    with (
        well(sqlite_url, redis_url, mosaic) as stage,
        pytest.MonkeyPatch.context() as patch,
    ):
        counts = counting()
        right = of("right", scrape(stage, counts))
        patch.setattr(time, "time", lambda: clock() + seconds)
        wrong = of("wrong", scrape(stage, counts))

    assert firing(right) == set()
    assert firing([*right, *wrong]) == named(OF_CLOCKS)
    assert disagreement(tmp_path, right, [*right, *wrong], named(OF_CLOCKS)) == ""


def of(instance: str, samples: list[Sample]) -> list[Sample]:
    """What one worker among several shows, as Prometheus keeps it."""
    return [one._replace(labels={**one.labels, "instance": instance}) for one in samples]


def test_the_previous_releases_workers_raise_nothing_while_those_of_the_new_one_are_there(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer, tmp_path: Path
) -> None:
    with well(sqlite_url, redis_url, mosaic) as stage:
        counts = counting()
        new = of("new", scrape(stage, counts))
        another_schema(stage)
        old = of("old", scrape(stage, counts))  # it finds a schema that is not its own

    assert firing(old) == {"MosaicSessionsSchema"}
    assert firing([*old, *new]) == set()
    assert disagreement(tmp_path, new, [*old, *new], set()) == ""


def test_that_no_worker_shows_anything_is_raised(tmp_path: Path) -> None:
    assert firing([]) == {"MosaicSessionsDown"}
    assert disagreement(tmp_path, [], [], {"MosaicSessionsDown"}) == ""


def test_every_series_an_alert_is_about_is_shown(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with well(sqlite_url, redis_url, mosaic) as stage:
        stage.add_app("forum")  # one that is alone at a host has no breaker beside the host's
        samples = scrape(stage, counting())

    for query in RULES.values():
        for name, labels in SELECTOR.findall(query):
            assert selected(name, samples), query
            for label, value in re.findall(r'(\w+)=~?"([^"]*)"', labels):
                for alternative in value.split("|"):
                    assert selected(f'{name}{{{label}="{alternative}"}}', samples), query


def test_a_beat_that_never_ran_is_raised(sqlite_stage: Stage) -> None:
    assert firing(scrape(sqlite_stage)) == named({"SweepLate", "ExpiryLate", "PurgeLate"})


@contextmanager
def asked_for_many(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> Iterator[tuple[Stage, Callable[[], None]]]:
    """An installation with the breaker of the settings, and what asks for the next of its users."""
    with Stage(sqlite_url, redis_url, mosaic, breaker_failures="5") as stage:
        stage.add_app("shop")
        users = [f"user{number}" for number in range(6)]
        for user in users:
            stage.registered(user, "shop")
        maintenance.sweep()
        maintenance.expire_sessions()
        maintenance.purge_history()
        turns = cycle(users)
        yield stage, lambda: stage.silent_auth(next(turns), "shop")


def no_answers(mosaic: SimulatorServer) -> None:
    mosaic.state.faults.add(Endpoint.SESSION_AUTHENTICATE, FaultKind.STATUS, status=503)


def test_a_mosaic_that_is_away_is_raised_while_users_come(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with asked_for_many(sqlite_url, redis_url, mosaic) as (stage, ask_for_next):
        no_answers(mosaic)
        passed = 0
        while not firing(scrape(stage)) and passed < 600:
            for _ in range(3):  # as often as workers are scraped
                ask_for_next()
                pass_redis_time(redis_url, 5)
            passed += 15
        raised = firing(scrape(stage))
        pass_redis_time(redis_url, 60)
        while_probed = firing(scrape(stage))
        mosaic.state.faults.clear()
        for _ in range(3):
            ask_for_next()

        assert 240 <= passed <= 420
        assert raised == while_probed == {"MosaicSessionsBreakerOpen"}
        assert firing(scrape(stage)) == set()


@pytest.mark.parametrize("good_probes", [0, 2])
def test_that_nobody_asks_after_a_few_failures_is_not_raised(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer, good_probes: int
) -> None:
    with asked_for_many(sqlite_url, redis_url, mosaic) as (stage, ask_for_next):
        no_answers(mosaic)
        for _ in range(5):
            ask_for_next()
        mosaic.state.faults.clear()
        pass_redis_time(redis_url, 6)
        for _ in range(good_probes):
            ask_for_next()
        raised = set()
        for _ in range(9):  # it is forgotten after ten
            pass_redis_time(redis_url, 60)
            samples = scrape(stage)
            assert selected('mosaic_sessions_breaker_state{state="half_open"}', samples)
            raised |= firing(samples)

        assert raised == set()
