"""How the service is: the one place that judges it, for `status`, the monitor and the metrics.

That all processes live does not make it good: with a wrong client secret, no user of that app is
signed in. What one app among several suffers from is a warning: a worker that served no app because
of it would make it worse. Each problem says what to do about it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import redis
from sqlalchemy.exc import SQLAlchemyError

from migrations import target
from worker.app_registry import SILENT_BY_USER
from worker.celery_support import heartbeat, other_brokers
from worker.errors import BrokerUnavailable, ConfigurationError, StoreUnavailable
from worker.maintenance import last_runs
from worker.maintenance.last_runs import Run
from worker.mosaic.faults import Fault
from worker.operations import deliveries, overview, queue_depth, troubles
from worker.operations.dependencies import check_takes_writes
from worker.operations.lateness import schedules_of
from worker.operations.mosaic_limits import key_set_urls, traffic_state
from worker.operations.queue_depth import Backlog, NoticeQueue
from worker.operations.schema import schema_trouble
from worker.operations.views import StoreCounts
from worker.storage.redis_client import ForeignKey, check_writes
from worker.traffic import TrafficState
from worker.wiring import Services

NO_WORKER_ANSWERS: Final = 69  # EX_UNAVAILABLE, as `celery status` exits
HAS_PROBLEMS: Final = 1


class Part(StrEnum):
    """What makes the service good. Each is examined by itself: one that hangs hides no other."""

    DATABASE = "database"
    BROKER = "broker"
    WORKERS = "workers"
    SWEEP = "sweep"
    MOSAIC = "mosaic"
    DELIVERIES = "deliveries"


# With these good, the processes live. Whether they can serve any app, the others say.
PROCESSES: Final = (Part.DATABASE, Part.BROKER, Part.WORKERS, Part.SWEEP)


@dataclass(frozen=True, slots=True)
class Schema:
    """Where the database stands, and what this release needs."""

    revision: str | None
    head: str

    @property
    def is_at_head(self) -> bool:
        """Whether a worker would start."""
        return self.revision == self.head


@dataclass(frozen=True, slots=True)
class OfOneApp:
    """What is wrong with one app among several, and what to do: the others are served."""

    says: str


@dataclass(frozen=True, slots=True)
class OfOneWorker:
    """What is wrong with one worker among several, and what to do: the others serve all apps."""

    says: str


@dataclass(frozen=True, slots=True)
class OfHistory:
    """That more is kept than must be, and what to do: all apps are served."""

    says: str


@dataclass(slots=True)
class Health:
    """What was found, and what is wrong with it. What is None could not be asked."""

    asked_at: datetime
    workers: list[dict[str, Any]] | None = None
    backlog: Backlog | None = None
    notice_queues: list[NoticeQueue] | None = None
    last_runs: dict[Run, float | None] | None = None
    schema: Schema | None = None
    store: StoreCounts | None = None
    # The apps that may get tokens for any user they name: power over users who are not there.
    silent_by_user: tuple[str, ...] | None = None
    traffic: TrafficState | None = None
    # With the service; and what stops no app, or one among several.
    wrong: dict[Part, list[str]] = field(default_factory=dict)
    warnings: dict[Part, list[str]] = field(default_factory=dict)

    @property
    def problems(self) -> list[str]:
        """All that an operator must look at, each once."""
        parts = (*self.wrong.values(), *self.warnings.values())
        return list(dict.fromkeys(problem for found in parts for problem in found))

    @property
    def exit_code(self) -> int:
        """69 when no worker is alive; 1 when there is another problem; else 0."""
        if self.workers == []:
            return NO_WORKER_ANSWERS
        return HAS_PROBLEMS if self.problems else 0


def examine(services: Services, parts: Collection[Part] = tuple(Part)) -> Health:
    """Look at *parts*; what is down leaves its part of the answer empty, and is a problem."""
    health = Health(services.now())
    for part in parts:
        found = list(_wrong_with(part, services, health))
        health.wrong[part] = [one for one in found if isinstance(one, str)]
        health.warnings[part] = [one.says for one in found if not isinstance(one, str)]
    return health


Problem = str | OfOneApp | OfOneWorker | OfHistory


def _wrong_with(part: Part, services: Services, health: Health) -> Iterator[Problem]:
    try:
        yield from filter(None, _EXAMINERS[part](services, health))
    except redis.RedisError as error:
        yield troubles.redis_trouble(error)
    except (BrokerUnavailable, ConfigurationError) as error:
        yield str(error)
    except (StoreUnavailable, SQLAlchemyError) as error:
        if health.schema is None or health.schema.is_at_head:  # else that says it all
            yield troubles.database_trouble(error)


def _examine_database(services: Services, health: Health) -> Iterator[str | None]:
    with services.store.read() as connection:
        health.schema = Schema(target.revision_of(connection), target.head())
        if health.schema.is_at_head:
            health.silent_by_user = overview.apps_that_may(connection, SILENT_BY_USER)
    if health.schema.is_at_head:
        check_takes_writes(services.store)
        yield troubles.disk_failed(services)
    yield schema_trouble(health.schema.revision)


def _examine_broker(services: Services, health: Health) -> Iterator[str | None]:
    url = services.settings.broker_url.get_secret_value()
    if queue_depth.is_told_by(url):
        health.backlog = queue_depth.read(url)
        if services.broker is not None:
            check_writes(services.broker)
    else:
        other_brokers.check(url)
    yield from ()  # what is wrong with it was raised


def _examine_workers(services: Services, health: Health) -> Iterator[Problem | None]:
    workers = heartbeat.living_workers(services.redis)
    if not workers:
        check_writes(services.redis)  # else they could not say that they live
    health.workers = workers
    yield troubles.queues_left_alone(workers)
    wrong_clocks = [says for worker in workers if (says := troubles.clock_apart(worker))]
    for says in wrong_clocks:
        yield OfOneWorker(says) if len(wrong_clocks) < len(workers) else says


def _examine_sweep(services: Services, health: Health) -> Iterator[Problem | None]:
    health.last_runs = last_runs.ages(services.redis)
    schedules = schedules_of(services.settings)
    if all(schedules[run].is_in_time(age) for run, age in health.last_runs.items()):
        return  # without looking for workers, which takes longer
    # That none is alive says the rest.
    if workers := health.workers or heartbeat.living_workers(services.redis):
        for run, age in health.last_runs.items():
            late = schedules[run].lateness(age, workers, health.asked_at)
            yield OfHistory(late) if late and schedules[run].stops_no_app else late


def _examine_mosaic(services: Services, health: Health) -> Iterator[Problem | None]:
    faults = services.mosaic.faults.present()
    spared = _apps_without(faults, services) if faults else {}
    for fault in faults:
        says = troubles.advice(fault.endpoint, fault.who, fault.error, fault.detail)
        yield OfOneApp(says) if spared[fault.endpoint] else says
    health.traffic = traffic_state(services)
    for breaker in health.traffic.breakers:
        # Half open it may be because no app asks: Mosaic is not known to fail then. When users
        # come and it does, it opens again at once.
        if breaker.state == "open":
            says = troubles.no_answers(breaker)
            # Of all clients of a host there is another breaker.
            yield says if breaker.client_id is None else OfOneApp(says)


def _apps_without(faults: list[Fault], services: Services) -> dict[str, set[str]]:
    """Return the apps that are enabled and have none of *faults*, by endpoint."""
    key_sets = key_set_urls(services)
    whole = {fault.endpoint: set(key_sets) for fault in faults}
    for fault in faults:
        # Whose it is: an app, or a key set's address, which apps may share.
        whole[fault.endpoint] -= {app for app, url in key_sets.items() if fault.who in {app, url}}
    return whole


def _examine_deliveries(services: Services, health: Health) -> Iterator[Problem | None]:
    with services.store.read() as connection:
        health.store = overview.store_counts(services, connection)
        behind = deliveries.apps_behind(connection, services.now())
        late = deliveries.late_logouts(connection, services.now())
    if late is not None:
        says = troubles.late(late)
        yield says if late.of_one_app is None else OfOneApp(says)
    for app in behind:
        yield OfOneApp(troubles.not_told(app))
    try:
        health.notice_queues = queue_depth.notice_queues(services)
    except ForeignKey as error:
        yield OfOneApp(str(error))


_EXAMINERS: Final[dict[Part, Callable[[Services, Health], Iterator[Problem | None]]]] = {
    Part.DATABASE: _examine_database,
    Part.BROKER: _examine_broker,
    Part.WORKERS: _examine_workers,
    Part.SWEEP: _examine_sweep,
    Part.MOSAIC: _examine_mosaic,
    Part.DELIVERIES: _examine_deliveries,
}
