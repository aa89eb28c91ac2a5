"""What must hold beside living workers; `status` and the monitor judge by the same rules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeVar

import redis
from sqlalchemy.exc import SQLAlchemyError

from migrations import target
from session_client import contract
from worker.celery_support import heartbeat
from worker.errors import StoreUnavailable
from worker.maintenance import last_runs
from worker.maintenance.last_runs import Run
from worker.operations import overview, queue_depth
from worker.operations.mosaic_limits import traffic_state
from worker.operations.queue_depth import Backlog
from worker.operations.schema import schema_trouble
from worker.operations.views import StoreCounts
from worker.settings.model import Settings
from worker.settings.validators import is_redis
from worker.storage.redis_client import cause_of
from worker.traffic.snapshot import TrafficState
from worker.wiring import Services

NO_WORKER_ANSWERS: Final = 69  # EX_UNAVAILABLE, as `celery status` exits
HAS_PROBLEMS: Final = 1
_LATE_AFTER_SECONDS: Final = 60.0
_LATE_AFTER_SWEEPS: Final = 5  # where they are scheduled farther apart

T = TypeVar("T")

Workers = Iterable[Mapping[str, Any]]  # as `heartbeat.living_workers` returns them


def queues_left_alone(workers: Workers) -> str | None:
    """Say which queues none of the living *workers* takes."""
    taken = [worker.get("queues") for worker in workers]
    left = [q.value for q in contract.Queue if not any(_has(queues, q.value) for queues in taken)]
    return f"no worker takes queue {', '.join(left)}" if left else None


def is_in_time(settings: Settings, seconds: float | None) -> bool:
    """Whether a sweep so many seconds ago is recent enough; None is not."""
    late = max(_LATE_AFTER_SECONDS, _LATE_AFTER_SWEEPS * settings.sweep_every_seconds)
    return seconds is not None and seconds <= late


def late_sweep(
    settings: Settings, seconds: float | None, workers: Workers, now: datetime
) -> str | None:
    """Say that the last sweep was too many *seconds* ago, or that there was none.

    There need not have been one while no worker has lived for so long itself.
    """
    if is_in_time(settings, seconds):
        return None
    if seconds is None and all(is_in_time(settings, _uptime(worker, now)) for worker in workers):
        return None
    when = "there was no sweep" if seconds is None else f"the last sweep was {seconds:.0f} s ago"
    return f"{when}: does beat run, and does a worker take queue {contract.Queue.MAINTENANCE}?"


# Anybody who may use this Redis can write what a worker says of itself.


def _has(queues: object, queue: str) -> bool:
    return isinstance(queues, list) and queue in queues


def _uptime(worker: Mapping[str, Any], now: datetime) -> float:
    try:
        return (now - datetime.fromisoformat(worker["started_at"])).total_seconds()
    except (LookupError, TypeError, ValueError):
        return 0.0


def database_trouble(error: Exception) -> str:
    """Say that the database cannot be used, and what to look at."""
    cause = str(error) if isinstance(error, StoreUnavailable) else type(error).__name__
    return (
        f"the database cannot be used: {cause}. Is it running, is DATABASE_URL right "
        "(mosaic-sessions config), and has `alembic upgrade head` been run?"
    )


def redis_trouble(error: redis.RedisError) -> str:
    """Say that Redis cannot be used, and what to look at."""
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
        return HAS_PROBLEMS if self.problems else 0

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
            self._add(schema_trouble(self.schema.revision))
        if not self.workers or self.last_runs is None:
            return  # that none is alive, or that Redis cannot be asked, says the rest
        self._add(queues_left_alone(self.workers))
        age = self.last_runs[Run.SWEEP]
        self._add(late_sweep(settings, age, self.workers, self.asked_at))

    def _add(self, problem: str | None) -> None:
        if problem is not None and problem not in self.problems:
            self.problems.append(problem)


def examine(services: Services) -> Health:
    """Ask Redis and the database; one that is down leaves its part of the answer empty."""
    health = Health(services.now())
    health.workers = health.ask(lambda: heartbeat.living_workers(services.redis))
    broker_url = services.settings.broker_url.get_secret_value()
    if is_redis(broker_url):
        health.backlog = health.ask(lambda: queue_depth.read(broker_url))
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
