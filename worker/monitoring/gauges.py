"""What holds for the whole installation, and what this worker is doing, as gauges.

Every worker shows the same facts of the installation: in a query take their maximum, not their sum.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from migrations import target
from worker.celery_support import heartbeat
from worker.celery_support.queue_heads import Head
from worker.maintenance import last_runs
from worker.maintenance.last_runs import Run
from worker.monitoring.meters import NAMESPACE
from worker.monitoring.sources import Source
from worker.mosaic.asked import Endpoint
from worker.mosaic.faults import TOKENS, Fault
from worker.operations import deliveries, overview, queue_depth, redis_facts
from worker.operations.mosaic_limits import traffic_state
from worker.operations.queue_depth import Backlog, NoticeQueue
from worker.operations.views import LateLogouts, StoreCounts
from worker.traffic import TrafficState
from worker.wiring import Services

ASK_EVERY_SECONDS: Final = 3.0
COUNT_EVERY_SECONDS: Final = 15.0  # the database, whose rows are counted
WAIT_SECONDS: Final = 3.0  # Prometheus itself waits ten
BREAKER_STATES: Final = ("closed", "open", "half_open")

# Labels and value, as many as there are.
Samples = Iterable[tuple[tuple[str, ...], float]]
MetricSource = Source[Sequence[Metric]]


@dataclass(frozen=True, slots=True)
class Gauge:
    """A gauge that is asked for."""

    name: str
    help: str
    labels: tuple[str, ...] = ()

    def of(self, samples: Samples) -> Metric:
        """Return it with its present values."""
        family = GaugeMetricFamily(f"{NAMESPACE}_{self.name}", self.help, labels=self.labels)
        for labels, value in samples:
            family.add_metric(labels, value)
        return family


UP = Gauge("source_up", "Whether the source could be asked in time.", ("source",))
IN_FLIGHT = Gauge("jobs_in_flight", "Jobs this worker is working on.")
CONCURRENCY = Gauge("jobs_concurrency", "Jobs this worker can work on at once.")
DEPTH = Gauge("queue_depth", "Messages that wait.", ("queue",))
AGE = Gauge("queue_oldest_age_seconds", "How long the oldest message has waited.", ("queue",))
NOTICE_DEPTH = Gauge("notice_queue_depth", "Messages that wait in an app's own queue.", ("app",))
NOTICE_AGE = Gauge(
    "notice_queue_oldest_age_seconds", "How long the oldest of them has waited.", ("app",)
)
CLOCK = Gauge("clock_apart_seconds", "How far this worker's clock and that of Redis are apart.")
TAKES_WRITES = Gauge(
    "redis_takes_writes", "Whether it takes writes, and not reads alone.", ("redis",)
)
MEMORY = Gauge("redis_memory_used_ratio", "How much of its maxmemory is in use.", ("redis",))
UNACKNOWLEDGED = Gauge("jobs_unacknowledged", "Jobs taken by any worker and not yet done.")
LIVE = Gauge("live_sessions", "Sessions that are live.")
PENDING = Gauge("deliveries_pending", "Logouts and notices still to be confirmed.", ("delivery",))
FAILING = Gauge("deliveries_failing", "Of these, those whose latest attempt failed.", ("delivery",))
FAILED = Gauge("deliveries_failed", "Logouts and notices that were given up.", ("delivery",))
OLDEST = Gauge(
    "deliveries_oldest_pending_seconds", "How long the oldest has been pending.", ("delivery",)
)
BUDGET = Gauge("budget_left_ratio", "How much may be called at once, 0 to 1.", ("budget", "lane"))
PAUSE = Gauge("pause_seconds", "For how long Mosaic asked us to wait.", ("budget", "lane"))
BREAKER = Gauge("breaker_state", "1 for the state it is in.", ("host", "lane", "state"))
CLIENT_BREAKER = Gauge(
    "client_breaker_state", "1 for the state it is in.", ("host", "client", "lane", "state")
)
FAILING_LANE = Gauge(
    "breaker_failing_seconds",
    "From the first to the latest of the times it opened in a row.",
    ("host", "lane"),
)
FAILING_CLIENT = Gauge(
    "client_breaker_failing_seconds",
    "From the first to the latest of the times it opened in a row.",
    ("host", "client", "lane"),
)
FAULTS = Gauge(
    "mosaic_faults", "What does not work at Mosaic: addresses, clients, tokens.", ("call",)
)
BEHIND = Gauge(
    "app_behind_seconds", "For how long the app has not taken a notice that was sent.", ("app",)
)
LATE = Gauge(
    "logouts_late_seconds", "For how long Mosaic could not be told of a logout that is late."
)
APP_LATE = Gauge(
    "app_logouts_late_seconds", "Likewise, where those of this one app alone are late.", ("app",)
)
AT_HEAD = Gauge("schema_at_head", "1 while the database's schema is this release's.")
LAST_RUN = Gauge("last_run_age_seconds", "How long ago it was last done.", ("task",))

OF_BROKER: Final = (DEPTH, AGE, UNACKNOWLEDGED)
OF_REDIS: Final = (CLOCK, TAKES_WRITES, MEMORY)
OF_NOTICE_QUEUES: Final = (NOTICE_DEPTH, NOTICE_AGE)
OF_DATABASE: Final = (LIVE, PENDING, FAILING, FAILED, OLDEST, BEHIND, LATE, APP_LATE)
OF_SCHEMA: Final = (AT_HEAD,)
OF_TRAFFIC: Final = (BUDGET, PAUSE, BREAKER, CLIENT_BREAKER, FAILING_LANE, FAILING_CLIENT)
OF_MAINTENANCE: Final = (LAST_RUN,)
OF_MOSAIC: Final = (FAULTS,)
ALL: Final = (
    *(UP, IN_FLIGHT, CONCURRENCY),
    *(*OF_REDIS, *OF_BROKER, *OF_NOTICE_QUEUES, *OF_DATABASE, *OF_SCHEMA),
    *(*OF_TRAFFIC, *OF_MAINTENANCE, *OF_MOSAIC),
)


class Ages:
    """How long the head of each queue has waited: as it claims, and at least since we saw it."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._seen: dict[str, tuple[int, float]] = {}  # its mark, and when it was first seen

    def of(self, heads: Mapping[str, Head | None], now: datetime) -> dict[str, float]:
        """Return the age of each queue's head in seconds; 0 where nothing waits."""
        return {queue: self._age(queue, head, now) for queue, head in heads.items()}

    def _age(self, queue: str, head: Head | None, now: datetime) -> float:
        if head is None:
            self._seen.pop(queue, None)
            return 0.0
        moment = self._monotonic()
        mark, since = self._seen.get(queue, (None, moment))
        if mark != head.mark:
            since = moment
            self._seen[queue] = head.mark, since
        return max(moment - since, head.age(now) or 0.0)


class Facts(Collector):
    """Collects all gauges; what cannot be asked is left out, and `source_up` says so."""

    def __init__(
        self, sources: Sequence[Source[Sequence[Metric]]], jobs: Callable[[], tuple[int, int]]
    ) -> None:
        """*jobs* tells how many are in flight, and how many could be."""
        self._sources = sources
        self._jobs = jobs

    def describe(self) -> Iterable[Metric]:
        """Return all names; asks no source."""
        return [gauge.of(()) for gauge in ALL]

    def collect(self) -> Iterator[Metric]:
        """Ask all sources at once, and return what they said in time."""
        in_flight, concurrency = self._jobs()
        yield IN_FLIGHT.of([((), in_flight)])
        yield CONCURRENCY.of([((), concurrency)])
        answers = {source.name: source.ask() for source in self._sources}
        found = {name: answer.value for name, answer in answers.items() if answer.is_in_time()}
        yield UP.of(((name,), float(found.get(name) is not None)) for name in answers)
        for metrics in found.values():
            yield from metrics or ()


def sources(services: Services) -> list[MetricSource]:
    """Return what is asked for the installation's facts."""
    broker_url = services.settings.broker_url.get_secret_value()
    ages, notice_ages = Ages(), Ages()
    questions: dict[str, tuple[float, Callable[[], Sequence[Metric]]]] = {
        "database": (COUNT_EVERY_SECONDS, lambda: _count(services)),
        # Apart: on another schema the counts above may not be possible.
        "schema": (COUNT_EVERY_SECONDS, lambda: _of_schema(services)),
        "redis": (ASK_EVERY_SECONDS, lambda: _of_redis(services)),
        "traffic": (ASK_EVERY_SECONDS, lambda: _of_traffic(traffic_state(services))),
        "maintenance": (ASK_EVERY_SECONDS, lambda: _of_maintenance(last_runs.ages(services.redis))),
        "mosaic": (ASK_EVERY_SECONDS, lambda: _of_mosaic(services.mosaic.faults.present())),
    }
    if queue_depth.is_told_by(broker_url):  # another broker has tools of its own
        questions["broker"] = (
            ASK_EVERY_SECONDS,
            lambda: _of_backlog(queue_depth.read(broker_url), ages, services.now()),
        )
        questions["notice_queues"] = (
            ASK_EVERY_SECONDS,
            lambda: _of_notice_queues(
                queue_depth.notice_queues(services), notice_ages, services.now()
            ),
        )
    return [Source(name, every, WAIT_SECONDS, ask) for name, (every, ask) in questions.items()]


def _count(services: Services) -> list[Metric]:
    with services.store.read() as connection:
        now = services.now()
        # Each app that is told has its series from the start: one that appears with its first
        # trouble would begin nowhere.
        behind = dict.fromkeys(deliveries.apps_that_are_told(connection), 0.0)
        behind |= {a.app_id: a.oldest_seconds for a in deliveries.apps_behind(connection, now)}
        late = _of_late(deliveries.late_logouts(connection, now), overview.all_apps(connection))
        return [*_of_store(overview.store_counts(services, connection), behind), *late]


def _of_schema(services: Services) -> list[Metric]:
    with services.store.read() as connection:
        return [AT_HEAD.of([((), float(target.revision_of(connection) == target.head()))])]


def _of_redis(services: Services) -> list[Metric]:
    found = redis_facts.facts(services)
    ahead = heartbeat.clock_ahead(services.redis)
    return [
        CLOCK.of([] if ahead is None else [((), abs(ahead))]),
        TAKES_WRITES.of(((one.setting,), float(one.takes_writes)) for one in found),
        MEMORY.of(((one.setting,), one.memory_used_share) for one in found),
    ]


def _of_backlog(found: Backlog, ages: Ages, now: datetime) -> list[Metric]:
    return [
        DEPTH.of(((queue,), waiting) for queue, waiting in found.waiting.items()),
        AGE.of(((queue,), age) for queue, age in ages.of(found.heads, now).items()),
        # No sample where the broker does not tell: 0 would be a lie that looks like health.
        UNACKNOWLEDGED.of([] if (taken := found.unacknowledged) is None else [((), taken)]),
    ]


def _of_notice_queues(found: list[NoticeQueue], ages: Ages, now: datetime) -> list[Metric]:
    heads = {one.app_id: one.waiting.head for one in found if one.waiting.is_head_shown}
    return [
        NOTICE_DEPTH.of(((one.app_id,), one.waiting.count) for one in found),
        NOTICE_AGE.of(((app_id,), age) for app_id, age in ages.of(heads, now).items()),
    ]


def _of_store(found: StoreCounts, behind: Mapping[str, float]) -> list[Metric]:
    deliveries = {"logout": found.logouts, "notice": found.notices}
    failed = {"logout": found.failed_logouts, "notice": found.failed_notices}
    return [
        LIVE.of([((), found.live_sessions.count)]),
        PENDING.of(((delivery,), counts.pending) for delivery, counts in deliveries.items()),
        FAILING.of(((delivery,), counts.failing) for delivery, counts in deliveries.items()),
        FAILED.of(((delivery,), count) for delivery, count in failed.items()),
        OLDEST.of(
            ((delivery,), counts.oldest_pending_seconds or 0.0)
            for delivery, counts in deliveries.items()
        ),
        BEHIND.of(((app_id,), seconds) for app_id, seconds in behind.items()),
    ]


def _of_late(found: LateLogouts | None, apps: Iterable[str]) -> list[Metric]:
    seconds, whose = (0.0, None) if found is None else (found.oldest_seconds, found.of_one_app)
    return [
        LATE.of([((), seconds if whose is None else 0.0)]),
        APP_LATE.of(((app_id,), seconds if app_id == whose else 0.0) for app_id in apps),
    ]


def _of_mosaic(found: list[Fault]) -> list[Metric]:
    # None is 0 and not absent, for each kind of call: they are few, and their names are known.
    counts = Counter(fault.endpoint for fault in found)
    return [FAULTS.of(((call,), counts[call]) for call in (*Endpoint, TOKENS))]


def _of_traffic(found: TrafficState) -> list[Metric]:
    # Of all clients of a host, and of one among several.
    shared = [one for one in found.breakers if one.client_id is None]
    own = [(one, one.client_id) for one in found.breakers if one.client_id is not None]
    return [
        BUDGET.of(((one.name, one.lane), one.left_share) for one in found.budgets),
        PAUSE.of(((one.name, one.lane), one.seconds_left) for one in found.pauses),
        BREAKER.of(
            ((one.name, one.lane, state), float(one.state == state))
            for one in shared
            for state in BREAKER_STATES
        ),
        CLIENT_BREAKER.of(
            ((one.name, client_id, one.lane, state), float(one.state == state))
            for one, client_id in own
            for state in BREAKER_STATES
        ),
        FAILING_LANE.of(((one.name, one.lane), one.failing_seconds) for one in shared),
        FAILING_CLIENT.of(
            ((one.name, client_id, one.lane), one.failing_seconds) for one, client_id in own
        ),
    ]


def _of_maintenance(found: dict[Run, float | None]) -> list[Metric]:
    # What was never done is infinitely long ago: left out, no alert would be raised by it.
    return [LAST_RUN.of(((run,), math.inf if age is None else age) for run, age in found.items())]
