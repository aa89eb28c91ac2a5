"""Looks at everything an installation needs, before its first user and at any time.

It asks what a worker asks at its start and what `status` asks, and tries what they only notice when
a user meets it: each app's key set, client, base URL, notice address, and how long its sessions
live.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Final

import redis

from migrations import target
from worker.celery_support import heartbeat
from worker.errors import ConfigurationError, SessionWorkerError
from worker.operations import (
    app_checks,
    database_checks,
    dependencies,
    health,
    rabbitmq_checks,
    redis_checks,
    troubles,
)
from worker.operations.checks import Check, Hint
from worker.operations.health import Health, Part
from worker.operations.lateness import schedules_of
from worker.settings.environment import proxies, variable_name
from worker.settings.validators import is_amqp
from worker.wiring import Services

_RUNNING: Final = (Part.BROKER, Part.WORKERS, Part.SWEEP, Part.MOSAIC, Part.DELIVERIES)


class Level(StrEnum):
    """How a finding is to be taken."""

    GOOD = "good"
    HINT = "hint"  # it may be meant
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found, and what to do about it unless it is good."""

    check: str
    level: Level
    says: str

    @property
    def app(self) -> str:
        """The app it is about; empty where it is about none."""
        before, colon, _ = self.check.partition(": ")
        return before if colon else ""


def examine(services: Services, *, test_notices: tuple[str, ...] = ()) -> Iterator[Finding]:
    """Check everything, one by one; the apps *test_notices* are sent a signed notice of no user."""
    seen: set[tuple[str, str]] = set()
    for finding in _findings(services, test_notices):
        # What is away is asked for many things, and says the same each time. Of two apps with the
        # same fault each is told. What was said of an app is noted as a fault as well.
        key = (finding.app, finding.says)
        if finding.level is Level.GOOD or key not in seen:
            yield finding
        seen |= {key, ("", finding.says)}


def _findings(services: Services, test_notices: tuple[str, ...]) -> Iterator[Finding]:
    for name, check in _checks(services, test_notices):
        yield _finding(name, check)
    for part in _RUNNING:
        yield from _of_part(services, part)


def _finding(name: str, check: Check) -> Finding:
    try:
        with dependencies.in_operators_words():
            return Finding(name, Level.GOOD, check())
    except Hint as hint:
        return Finding(name, Level.HINT, str(hint))
    except SessionWorkerError as error:
        return Finding(name, Level.WRONG, str(error))
    except redis.RedisError as error:
        return Finding(name, Level.WRONG, troubles.redis_trouble(error))


def _of_part(services: Services, part: Part) -> Iterator[Finding]:
    found = health.examine(services, [part])
    for problem in found.problems:
        yield Finding(part, Level.WRONG, problem)
    if not found.problems and part is Part.SWEEP:
        yield _finding(part, partial(_beats_work, services, found))
    elif not found.problems:
        yield Finding(part, Level.GOOD, "as it must be")


def _beats_work(services: Services, found: Health) -> str:
    """Say when beat's work was done: `health` finds no fault until a worker has lived for long."""
    schedules = schedules_of(services.settings)
    runs = {schedules[run]: age for run, age in (found.last_runs or {}).items()}
    summary = ", ".join(schedule.summary(age) for schedule, age in runs.items())
    if all(schedule.is_in_time(age) or schedule.stops_no_app for schedule, age in runs.items()):
        return summary
    if not heartbeat.living_workers(services.redis):
        raise ConfigurationError(f"{summary}: a worker does it when beat runs, and none is alive")
    raise Hint(f"{summary}: the workers have just begun. Look again in a quarter of an hour")


def _checks(services: Services, test_notices: tuple[str, ...]) -> Iterator[tuple[str, Check]]:
    yield "database", partial(database_checks.state, services)
    is_database_there = database_checks.answers(services)
    if is_database_there:
        yield from database_checks.checks(services)
    yield from redis_checks.checks(services.settings)
    if is_amqp(services.settings.broker_url.get_secret_value()):
        yield from rabbitmq_checks.checks(services.settings)
    yield "visibility timeouts", partial(_peers, services)
    yield "releases", partial(_releases, services)
    if is_database_there:
        yield from app_checks.checks(services, test_notices)
    yield "proxies", partial(_proxies, services)


def _peers(services: Services) -> str:
    dependencies.check_peers(services.redis, services.settings)
    return f"{services.settings.visibility_timeout_seconds:g} s, as all living workers"


def _releases(services: Services) -> str:
    others = [
        f"{worker['hostname']} ({worker.get('schema') or 'which does not say it'})"
        for worker in heartbeat.living_workers(services.redis)
        if worker.get("schema") != target.head()
    ]
    if others:
        raise Hint(
            f"workers live whose release needs another schema than {target.head()}: "
            f"{', '.join(sorted(others))}. Unless an upgrade is under way, restart them with this "
            "release: what is new in it they do not do"
        )
    return "no worker of another one lives"


def _proxies(services: Services) -> str:
    if services.settings.mosaic_proxy is not None:
        return f"{variable_name('mosaic_proxy')} for calls to Mosaic, none for those to apps"
    if found := proxies():
        raise Hint(
            f"{', '.join(found)} set, and not used: calls to Mosaic and to apps go straight. Let "
            f"this machine reach them, or set {variable_name('mosaic_proxy')}, for Mosaic alone"
        )
    return "none in the environment"
