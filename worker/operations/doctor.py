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
from typing import Any, Final

import redis
from sqlalchemy import Row, select

from migrations import target
from models import App
from worker.app_registry import SILENT_BY_USER
from worker.celery_support import heartbeat
from worker.errors import ConfigurationError, NotReady, SessionWorkerError, StoreUnavailable
from worker.logout.guards import refuse_jumped_clock
from worker.operations import (
    app_trials,
    dependencies,
    health,
    key_check,
    key_rotation,
    lifetime_check,
    rabbitmq_checks,
    redis_rights,
    troubles,
)
from worker.operations.checks import Check, Hint, Step
from worker.operations.health import Health, Part
from worker.operations.key_rotation import Unfinished
from worker.operations.lateness import schedules_of
from worker.operations.redis_facts import NEARLY_FULL, memory_used_share
from worker.settings.environment import proxies, variable_name
from worker.settings.validators import is_amqp, is_redis
from worker.storage.pooler import is_pooled
from worker.storage.redis_client import check_writes, connect_redis
from worker.wiring import Services

OLDEST_REDIS: Final = (6, 2)
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
    yield "database", partial(_database, services)
    is_database_there = _answers(services)
    if is_database_there:
        yield "database connection", partial(_pooler, services)
        yield "database clock", partial(_database_clock, services)
        yield "keys", partial(_keys, services)
        yield from _of_rotation(services)
    for name, url in _redises(services).items():
        yield name, partial(_redis, services, name, url)
        yield f"{name} rights", partial(_rights, url)
    if is_amqp(services.settings.broker_url.get_secret_value()):
        yield from rabbitmq_checks.checks(services.settings)
    yield "visibility timeouts", partial(_peers, services)
    yield "releases", partial(_releases, services)
    if is_database_there:
        yield from _of_apps(services, test_notices)
    yield "proxies", partial(_proxies, services)


# --- the database


def _answers(services: Services) -> bool:
    """Whether there is a database to ask at all; one that is silent is waited for each time."""
    try:
        with services.store.read():
            return True
    except StoreUnavailable:
        return False


def _database(services: Services) -> str:
    dependencies.check_database(services.store)
    if failed := troubles.disk_failed(services):
        raise NotReady(failed)
    with services.store.read() as connection:
        version = ".".join(map(str, connection.dialect.server_version_info or ()))
        return f"{connection.dialect.name} {version} at {target.head()}, takes writes"


def _pooler(services: Services) -> str:
    with services.store.read() as connection:
        if connection.dialect.name == "sqlite":
            return "a file"
        if is_pooled(connection.connection.driver_connection):
            return "by a connection pooler: nothing is prepared, transactions say their time-outs"
    return "straight to the server"


def _database_clock(services: Services) -> str:
    with services.store.read() as connection:
        refuse_jumped_clock(connection, services)
    return "as this machine's"


def _keys(services: Services) -> str:
    key_check.check(services.store, services.keyring)
    return "open what is stored"


def _of_rotation(services: Services) -> Iterator[tuple[str, Check]]:
    try:
        with dependencies.in_operators_words(), services.store.read() as connection:
            found = key_rotation.unfinished(connection)
    except SessionWorkerError:
        return  # said of the database
    yield "key rotation", partial(_key_rotation, found)


def _key_rotation(found: Unfinished | None) -> str:
    if found is not None and found.unreadable:
        raise Hint(
            f"done at {found.at:%Y-%m-%d %H:%M:%S}Z by {found.operator} but for {found.unreadable} "
            "values that no key of the ring opens. `mosaic-sessions keys rotate` names them with "
            "what to do; until it finds none, the old key must stay in the ring"
        )
    if found is not None:
        raise Hint(
            f"begun at {found.at:%Y-%m-%d %H:%M:%S}Z by {found.operator} and not done. "
            "Unless it is under way, repeat `mosaic-sessions keys rotate`; until one is done, the "
            "old key must stay in the ring"
        )
    return "none was left unfinished"


# --- Redis


def _redises(services: Services) -> dict[str, str]:
    """Return the URLs by the settings that say them."""
    settings = services.settings
    broker = settings.broker_url.get_secret_value()
    found = {"CELERY_BROKER_URL": broker} if is_redis(broker) else {}
    if settings.redis_url is not None:
        found["REDIS_URL"] = settings.redis_url.get_secret_value()
    return found


def _redis(services: Services, name: str, url: str) -> str:
    about: dict[str, Any] = {}

    def ask(client: redis.Redis, settings: Any) -> None:
        if name == "CELERY_BROKER_URL":
            dependencies.check_broker(client, settings)
        about.update(_about(client))
        if about.get("role", "master") == "master":
            check_writes(client)

    dependencies.check_redis(name, url, services.settings, ask)
    version = str(about.get("redis_version", "?"))
    if about.get("role", "master") != "master":
        raise ConfigurationError(f"{name} names a replica, which takes no writes: name its master")
    if _numbers(version) < OLDEST_REDIS:
        raise ConfigurationError(f"{name} names a Redis {version}: it must be 6.2 or newer")
    if (share := memory_used_share(about)) > NEARLY_FULL:
        raise Hint(
            f"{share:.0%} of its memory (maxmemory) is used. Once it is full it takes no writes, "
            "and no app is answered: give it more, or look at what fills it"
        )
    return f"Redis {version}, master"


def _about(client: redis.Redis) -> dict[str, Any]:
    sections: list[Any] = [client.info(name) for name in ("server", "replication", "memory")]
    return {name: value for section in sections for name, value in section.items()}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())


def _rights(url: str) -> str:
    client = connect_redis(url)
    try:
        refused = redis_rights.refused(client)
    finally:
        client.close()
    if refused:
        raise ConfigurationError(
            f"our user may not use {', '.join(refused)}: give it the rights that "
            "docs/operations.md names for session-worker"
        )
    return "our user may use every command we need"


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


# --- apps


def _of_apps(services: Services, test_notices: tuple[str, ...]) -> Iterator[tuple[str, Check]]:
    try:
        with dependencies.in_operators_words(), services.store.read() as connection:
            query = select(App.__table__).where(App.disabled_at.is_(None)).order_by(App.app_id)
            apps = connection.execute(query).all()
    except SessionWorkerError:
        return  # said of the database
    if not apps:
        yield "apps", _no_apps
    for app in apps:
        yield f"{app.app_id}: key set", partial(app_trials.key_set, services, app)
        yield from _at_mosaic(services, app)
        yield f"{app.app_id}: notices", partial(app_trials.notices, services, app)
        if SILENT_BY_USER in app.capabilities:
            yield f"{app.app_id}: absent users", partial(_absent_users, services)
        if app.app_id in test_notices:
            yield f"{app.app_id}: test notice", partial(app_trials.test_notice, services, app)


def _at_mosaic(services: Services, app: Row[Any]) -> Iterator[tuple[str, Check]]:
    """Give what is asked of Mosaic with what the one before it has shown to work.

    After one that was not good the others would fail as well, and name another cause.
    """
    for name, trial in (
        ("client", app_trials.client),
        ("base URL", app_trials.base_url),
        ("sessions", lifetime_check.check),
    ):
        step = Step(partial(trial, services, app))
        yield f"{app.app_id}: {name}", step  # and go on once it has run
        if not step.is_good:
            return


def _no_apps() -> str:
    raise Hint("there is none yet: mosaic-sessions apps add")


def _absent_users(services: Services) -> str:
    if services.settings.session_absolute_cap_seconds is None:
        raise Hint(
            f"{SILENT_BY_USER} lets it keep sessions of users who are away alive for ever: "
            f"set {variable_name('session_absolute_cap_seconds')}, or deny it"
        )
    return "their sessions end at the absolute cap"


def _proxies(services: Services) -> str:
    if services.settings.mosaic_proxy is not None:
        return f"{variable_name('mosaic_proxy')} for calls to Mosaic, none for those to apps"
    if found := proxies():
        raise Hint(
            f"{', '.join(found)} set, and not used: calls to Mosaic and to apps go straight. Let "
            f"this machine reach them, or set {variable_name('mosaic_proxy')}, for Mosaic alone"
        )
    return "none in the environment"
