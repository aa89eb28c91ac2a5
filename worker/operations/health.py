"""How the service is: the one place that judges it, for `status`, the monitor and the metrics.

That all processes live does not make it good: with a wrong client secret, no user of that app is
signed in. What one app among several suffers from is a warning: a worker that served no app because
of it would make it worse. Each problem says what to do about it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

import redis
from sqlalchemy.exc import SQLAlchemyError

from migrations import target
from session_client import contract
from worker.app_registry import GIVEN_ANEW, SILENT_BY_USER
from worker.celery_support import heartbeat, other_brokers
from worker.errors import (
    BrokerUnavailable,
    ClientRefused,
    ConfigurationError,
    StoreForbids,
    StoreUnavailable,
)
from worker.maintenance import last_runs
from worker.maintenance.last_runs import Run
from worker.mosaic.asked import Endpoint
from worker.mosaic.faults import Fault
from worker.operations import deliveries, overview, queue_depth
from worker.operations.dependencies import (
    MAY_NOT_WRITE,
    check_takes_writes,
    unavailable,
)
from worker.operations.lateness import Workers, schedules_of
from worker.operations.mosaic_limits import key_set_urls, traffic_state
from worker.operations.queue_depth import Backlog, NoticeQueue
from worker.operations.schema import schema_trouble
from worker.operations.views import AppBehind, LateLogouts, StoreCounts
from worker.settings.environment import variable_name
from worker.storage.redis_client import ForeignKey, cause_of, check_writes, why_no_writes
from worker.traffic import BreakerState, TrafficState
from worker.wiring import Services

NO_WORKER_ANSWERS: Final = 69  # EX_UNAVAILABLE, as `celery status` exits
HAS_PROBLEMS: Final = 1
# Requests of apps live for some seconds. Asking Redis takes two at most.
_MAX_CLOCK_APART: Final = 5.0


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


def queues_left_alone(workers: Workers) -> str | None:
    """Say which queues none of the living *workers* takes."""
    taken = [worker.get("queues") for worker in workers]
    left = [q.value for q in contract.Queue if not any(_has(queues, q.value) for queues in taken)]
    if not left:
        return None
    start = f"start one with -Q {','.join(left)}, or without -Q"
    return f"no worker takes queue {', '.join(left)}: {start}"


# Each client of this Redis can write what a worker says of itself.


def _has(queues: object, queue: str) -> bool:
    return isinstance(queues, list) and queue in queues


def database_trouble(error: Exception) -> str:
    """Say that the database cannot be used, and what to look at."""
    if isinstance(error, StoreForbids):
        return f"the database cannot be used: {MAY_NOT_WRITE} (mosaic-sessions doctor names them)"
    if isinstance(error, StoreUnavailable):
        return unavailable(error)
    return (
        f"the database cannot be used: {type(error).__name__}. Is DATABASE_URL right "
        "(mosaic-sessions config), and has `mosaic-sessions db upgrade` been run?"
    )


def redis_trouble(error: redis.RedisError) -> str:
    """Say that Redis cannot be used, and what to look at."""
    if isinstance(error, ForeignKey):
        return str(error)
    if why := why_no_writes(error):
        return f"Redis reads, and takes no writes: {why}. Workers go on once it does"
    return (
        f"Redis cannot be used ({cause_of(error)}). Is it running, and are "
        "CELERY_BROKER_URL and REDIS_URL right (mosaic-sessions config)?"
    )


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
        yield redis_trouble(error)
    except (BrokerUnavailable, ConfigurationError) as error:
        yield str(error)
    except (StoreUnavailable, SQLAlchemyError) as error:
        if health.schema is None or health.schema.is_at_head:  # else that says it all
            yield database_trouble(error)


def _examine_database(services: Services, health: Health) -> Iterator[str | None]:
    with services.store.read() as connection:
        health.schema = Schema(target.revision_of(connection), target.head())
        if health.schema.is_at_head:
            health.silent_by_user = overview.apps_that_may(connection, SILENT_BY_USER)
    if health.schema.is_at_head:
        check_takes_writes(services.store)
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
    yield queues_left_alone(health.workers) if health.workers else "no worker is alive: start one"
    troubles = [trouble for worker in health.workers if (trouble := _clock_trouble(worker))]
    for says in troubles:
        yield OfOneWorker(says) if len(troubles) < len(health.workers) else says


def _clock_trouble(worker: Mapping[str, Any]) -> str | None:
    ahead = worker.get(heartbeat.CLOCK_AHEAD)
    if not isinstance(ahead, int | float) or not _MAX_CLOCK_APART < abs(ahead) < math.inf:
        return None
    side = "ahead of" if ahead > 0 else "behind"
    return (
        f"the clock of worker {worker['hostname']} is {abs(ahead):.0f} s {side} Redis': it takes "
        "requests for too late (deadline_passed), or tokens for expired or not valid yet. "
        "Synchronise both (NTP)"
    )


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
        says = advice(fault.endpoint, fault.who, fault.error, fault.detail)
        yield OfOneApp(says) if spared[fault.endpoint] else says
    health.traffic = traffic_state(services)
    for breaker in health.traffic.breakers:
        # Half open it may be because no app asks: Mosaic is not known to fail then. When users
        # come and it does, it opens again at once.
        if breaker.state == "open":
            says = _no_answers(breaker)
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


def _no_answers(breaker: BreakerState) -> str:
    fault = "does not answer" if breaker.client_id is None else f"fails client {breaker.client_id}"
    return (
        f"Mosaic {fault}: the breaker of lane {breaker.lane} at {breaker.name} is open. "
        "Nothing is lost: users are to try later, logouts are kept. If it goes on, see in the log "
        "how each call fails (request_put_off, idp_logout_failed): is it the name, the certificate "
        "or the network on the way there? Else look at Mosaic's status page"
    )


def advice(endpoint: str, owner: str, error: str, detail: str) -> str:
    """Say what fails at Mosaic, for *owner* (an app, or a key set's URL), and what to do."""
    return f"{detail}. {_what_to_do(endpoint, owner, is_refused=error == ClientRefused.__name__)}"


def _what_to_do(endpoint: str, owner: str, *, is_refused: bool) -> str:
    if endpoint == Endpoint.JWKS:
        return _check_address("jwks_url", "the app's")
    if not is_refused:
        setting = "token_url" if endpoint == Endpoint.TOKEN else "base_url"
        return _check_address(setting, f"{owner}'s")
    if endpoint == Endpoint.TOKEN:
        return f"If the secret or key of {owner} has changed, {GIVEN_ANEW.format(owner)}"
    return f"Give the client of {owner} the right at Mosaic, in its admin portal"


def _check_address(setting: str, whose: str) -> str:
    option = setting.replace("_", "-")
    return (
        f"Is {variable_name(f'mosaic_{setting}')} right, or {whose} own (mosaic-sessions apps set "
        f"--{option})? May this machine get there?"
    )


def _examine_deliveries(services: Services, health: Health) -> Iterator[Problem | None]:
    with services.store.read() as connection:
        health.store = overview.store_counts(connection, services.now())
        behind = deliveries.apps_behind(connection, services.now())
        late = deliveries.late_logouts(connection, services.now())
    if late is not None:
        says = _late(late)
        yield says if late.of_one_app is None else OfOneApp(says)
    for app in behind:
        yield OfOneApp(_not_told(app))
    try:
        health.notice_queues = queue_depth.notice_queues(services)
    except ForeignKey as error:
        yield OfOneApp(str(error))


def _late(logouts: LateLogouts) -> str:
    app_id = logouts.of_one_app
    whose = "" if app_id is None else f" of {app_id}"
    taken = f"does a worker take queue {contract.Queue.IDP}? " if app_id is None else ""
    only = "" if app_id is None else f" --app {app_id}"
    return (
        f"{logouts.pending} logouts{whose} could not be told to Mosaic, the oldest for "
        f"{logouts.oldest_seconds:.0f} s: {taken}mosaic-sessions logouts list{only} tells the last "
        "errors"
    )


def _not_told(app: AppBehind) -> str:
    why = app.last_error or "it has not confirmed them"
    return (
        f"{app.app_id} takes no notices, {app.pending} wait, the oldest for "
        f"{app.oldest_seconds:.0f} s ({why}): is it up, and is its address right "
        f"(mosaic-sessions apps show {app.app_id})?"
    )


_EXAMINERS: Final[dict[Part, Callable[[Services, Health], Iterator[Problem | None]]]] = {
    Part.DATABASE: _examine_database,
    Part.BROKER: _examine_broker,
    Part.WORKERS: _examine_workers,
    Part.SWEEP: _examine_sweep,
    Part.MOSAIC: _examine_mosaic,
    Part.DELIVERIES: _examine_deliveries,
}
