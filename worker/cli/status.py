"""`mosaic-sessions status`: whether it works, and whether anything piles up."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeVar

import click
import redis
from sqlalchemy.exc import SQLAlchemyError

from migrations import target
from session_client import contract
from worker import heartbeat, startup
from worker.cli import checks, output
from worker.cli.door import FAILED, database_trouble, redis_trouble, services
from worker.errors import StoreUnavailable
from worker.lifecycle import backlog, last_runs, overview
from worker.lifecycle.backlog import Backlog, Head
from worker.lifecycle.last_runs import Run
from worker.lifecycle.overview_rows import DutyCounts, StoreCounts
from worker.lifecycle.overview_traffic import traffic_state
from worker.setting_values import is_redis
from worker.settings import Settings
from worker.traffic import BreakerState, BudgetLeft, Lane, TrafficState
from worker.wiring import Services

NO_WORKER_ANSWERS: Final = 69  # EX_UNAVAILABLE, as `celery status` exits

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Schema:
    """Where the database stands, and what this release needs."""

    revision: str | None
    head: str

    @property
    def is_at_head(self) -> bool:
        """Whether a worker would start."""
        return self.revision == self.head


@dataclass(slots=True)
class Health:
    """Everything `status` shows. None means: it could not be asked, see *problems*."""

    asked_at: datetime
    workers: list[dict[str, Any]] | None = None
    backlog: Backlog | None = None
    last_runs: dict[Run, float | None] | None = None
    schema: Schema | None = None
    store: StoreCounts | None = None
    traffic: TrafficState | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """69 when no worker is alive; 1 when there is another problem; else 0."""
        if self.workers == []:
            return NO_WORKER_ANSWERS
        return FAILED if self.problems else 0

    def ask(self, question: Callable[[], T]) -> T | None:
        """Return the answer; when there is none, say why among the problems."""
        try:
            return question()
        except redis.RedisError as error:
            self._add(redis_trouble(error))
        except (StoreUnavailable, SQLAlchemyError) as error:
            self._add(database_trouble(error))
        return None

    def judge(self, settings: Settings) -> None:
        """Add to the problems what is wrong with what was found."""
        if self.schema is not None:
            self._add(startup.schema_trouble(self.schema.revision))
        if not self.workers or self.last_runs is None:
            return  # that none is alive, or that Redis cannot be asked, says the rest
        self._add(checks.queues_left_alone(self.workers))
        age = self.last_runs[Run.SWEEP]
        self._add(checks.late_sweep(settings, age, self.workers, self.asked_at))

    def _add(self, problem: str | None) -> None:
        if problem is not None and problem not in self.problems:
            self.problems.append(problem)


@click.command()
@output.as_json_option
def status(*, as_json: bool) -> None:
    """Tell whether workers are alive and take every queue, and what waits.

    Exit codes: 0 all is well, 69 no worker is alive, 1 there is another problem: Redis or the
    database could not be asked, no worker takes a queue, no sweep runs, or the schema is not at
    this release's.
    """
    health = examine(services())
    if as_json:
        output.print_json(_wire(health))
    else:
        _print_health(health)
    sys.exit(health.exit_code)


def examine(services: Services) -> Health:
    """Ask Redis and the database; one that is down leaves its part of the answer empty."""
    health = Health(services.now())
    health.workers = health.ask(lambda: heartbeat.living_workers(services.redis))
    broker_url = services.settings.broker_url.get_secret_value()
    if is_redis(broker_url):
        health.backlog = health.ask(lambda: backlog.read(broker_url))
    health.last_runs = health.ask(lambda: last_runs.ages(services.redis))
    health.schema = health.ask(lambda: _schema(services))
    if health.schema is not None:
        health.store = health.ask(lambda: _store_counts(services))
        health.traffic = health.ask(lambda: traffic_state(services))
    health.judge(services.settings)
    return health


def _schema(services: Services) -> Schema:
    with services.store.read() as connection:
        return Schema(target.revision_of(connection), target.head())


def _store_counts(services: Services) -> StoreCounts:
    with services.store.read() as connection:
        return overview.store_counts(connection, services.now())


def _wire(health: Health) -> dict[str, Any]:
    """Return what `--json` prints; its names are what scripts rely on."""
    waiting, schema, store = health.backlog, health.schema, health.store
    return {
        "workers": health.workers,
        "queues": None if waiting is None else waiting.waiting,
        "oldest_waiting_seconds": None
        if waiting is None
        else {queue: head and head.age(health.asked_at) for queue, head in waiting.heads.items()},
        "unacknowledged": None if waiting is None else waiting.unacknowledged,
        "last_run_seconds": health.last_runs,
        "live_sessions": None if store is None else store.live_sessions,
        "logouts": None
        if store is None
        else {
            "pending": store.logouts.pending,
            "failing": store.logouts.failing,
            "failed": store.parked_logouts,
            "oldest_pending_seconds": store.logouts.oldest_pending_seconds,
        },
        "notices": None
        if store is None
        else {
            "pending": store.notices.pending,
            "failing": store.notices.failing,
            "failed": store.failed_notices,
            "oldest_pending_seconds": store.notices.oldest_pending_seconds,
        },
        "database": None
        if schema is None
        else {
            "revision": schema.revision,
            "head": schema.head,
            "is_at_head": schema.is_at_head,
        },
        "traffic": health.traffic,
        "problems": health.problems,
    }


def _print_health(health: Health) -> None:
    _print_workers(health.workers)
    output.print_facts(
        {
            **_backlog_facts(health),
            **_run_facts(health.last_runs),
            **_store_facts(health),
            **_traffic_facts(health.traffic),
        }
    )
    for problem in health.problems:
        click.echo(f"Problem: {problem}", err=True)


def _print_workers(workers: list[dict[str, Any]] | None) -> None:
    if not workers:
        click.echo("Workers: unknown" if workers is None else "Workers: none is alive")
        click.echo()
        return
    names = ("hostname", "pid", "pool", "slots", "queues", "visibility_timeout", "started_at")
    output.print_table(
        ("worker", "pid", "pool", "slots", "queues", "visibility timeout", "started"),
        ([worker.get(name) for name in names] for worker in workers),
    )


def _backlog_facts(health: Health) -> dict[str, object]:
    found = health.backlog
    return {
        **{
            f"waiting in {queue}": "unknown"
            if found is None
            else _waiting(found.waiting[queue], found.heads[queue], health.asked_at)
            for queue in contract.Queue
        },
        "taken, not done": "unknown" if found is None else found.unacknowledged,
    }


def _run_facts(ages: dict[Run, float | None] | None) -> dict[str, object]:
    names = {Run.SWEEP: "last sweep", Run.EXPIRE_SESSIONS: "last expiry"}
    return {name: "unknown" if ages is None else _ago(ages[run]) for run, name in names.items()}


def _ago(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds:.0f} s ago"


def _waiting(count: int, head: Head | None, now: datetime) -> str:
    age = None if head is None else head.age(now)
    return str(count) if age is None else f"{count}, the oldest for {age:.0f} s"


def _store_facts(health: Health) -> dict[str, object]:
    schema, store = health.schema, health.store
    return {
        "live sessions": "unknown" if store is None else store.live_sessions,
        "logouts pending": "unknown" if store is None else _pending(store.logouts),
        "logouts failed": "unknown" if store is None else store.parked_logouts,
        "notices pending": "unknown" if store is None else _pending(store.notices),
        "notices failed": "unknown" if store is None else store.failed_notices,
        "database": "unknown" if schema is None else _standing(schema),
    }


def _traffic_facts(traffic: TrafficState | None) -> dict[str, object]:
    if traffic is None:
        return dict.fromkeys(("calls left", "breakers", "pauses"), "unknown")
    scarce = [min(_of_lane(traffic.budgets, lane), key=_left, default=None) for lane in Lane]
    return {
        "calls left": [
            f"{budget.lane} {budget.left_share:.0%} ({budget.name})" for budget in scarce if budget
        ],
        "breakers": [_breaker(breaker) for breaker in traffic.breakers],
        "pauses": [
            f"{pause.lane} of {pause.name} for {pause.seconds_left:.0f} s"
            for pause in traffic.pauses
        ],
    }


def _of_lane(budgets: Iterable[BudgetLeft], lane: Lane) -> Iterable[BudgetLeft]:
    return (budget for budget in budgets if budget.lane is lane)


def _left(budget: BudgetLeft) -> float:
    return budget.left_share


def _breaker(breaker: BreakerState) -> str:
    wait = f" for {breaker.retry_after:.0f} s" if breaker.retry_after > 0 else ""
    return f"{breaker.lane} of {breaker.name} {breaker.state}{wait}"


def _pending(duties: DutyCounts) -> str:
    if duties.oldest_pending_seconds is None:
        return "0"
    return (
        f"{duties.pending}, the oldest for {duties.oldest_pending_seconds:.0f} s, "
        f"{duties.failing} with failed attempts"
    )


def _standing(schema: Schema) -> str:
    if schema.is_at_head:
        return f"at {schema.head}, as this release needs"
    return f"at {schema.revision or 'nothing'}, this release needs {schema.head}"
