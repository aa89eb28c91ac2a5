"""What a worker depends on: database, Redis, clocks and its peers. Each check says what to do.

What passes by itself (`NotReady`) is told apart from what does not (`ConfigurationError`): a reboot
or a failover, during which Redis and the database are away, must not leave all workers down until
an operator comes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import redis
from sqlalchemy import Connection, false, text, update
from sqlalchemy.exc import SQLAlchemyError

from migrations import target
from models import Base, IdpSession
from worker.celery_support import heartbeat
from worker.errors import (
    ConfigurationError,
    NotReady,
    StoreDiskFails,
    StoreForbids,
    StoreTooSlow,
    StoreUnavailable,
)
from worker.operations.schema import schema_trouble
from worker.settings.model import Settings
from worker.storage.database import Store, make_engine
from worker.storage.redis_client import cause_of, connect_redis, is_cluster, why_no_writes

_RIGHTS: Final = ("SELECT", "INSERT", "UPDATE", "DELETE")
_WRITE: Final = "PRAGMA user_version = 0"  # writes a page to the log, as it was
MAY_NOT_WRITE: Final = (
    "the user in DATABASE_URL may not read and write all tables: grant it SELECT, INSERT, UPDATE "
    "and DELETE"
)

# Everything else that Redis says may pass: it loads its file, is a replica without its master, has
# too many clients. When in doubt, that is the lesser harm: a worker that is started in vain.
_REFUSES_US: Final = (
    redis.exceptions.AuthenticationError,
    redis.exceptions.AuthenticationWrongNumberOfArgsError,
    redis.exceptions.AuthorizationError,
    redis.exceptions.NoPermissionError,
)


def check_database(store: Store) -> None:
    """Check that the database stands at this release's schema, and takes writes."""
    with store.read() as connection:
        revision = target.revision_of(connection)
    trouble = schema_trouble(revision)
    if trouble is not None:
        raise ConfigurationError(trouble)
    check_takes_writes(store)


def check_takes_writes(store: Store) -> None:
    """Raise where the database reads, and takes no writes, or not all of them.

    `StoreUnavailable`, or `ConfigurationError` that names the rights which our user lacks.
    A worker there answers no app. What PostgreSQL says of a row that is none it would say of each;
    whether its disk has space is known only to what needs more of it.
    """
    nothing = update(IdpSession).where(false()).values(version=IdpSession.version)
    with store.write() as connection:
        connection.execute(nothing)
        if store.is_sqlite:
            connection.exec_driver_sql(_WRITE)
        _check_rights(connection)


def _check_rights(connection: Connection) -> None:
    """Check that our user may read and write each table.

    A migration makes new ones, which another user may own: a worker starts, and fails when it first
    uses such a table.
    """
    if connection.dialect.name == "sqlite":
        return
    names = sorted(Base.metadata.tables)
    query = text(
        "SELECT name, lower(wanted) FROM unnest(CAST(:names AS text[])) AS name,"
        " unnest(CAST(:rights AS text[])) AS wanted"
        " WHERE NOT has_table_privilege(name, wanted) ORDER BY name, wanted"
    )
    rows = connection.execute(query, {"names": names, "rights": list(_RIGHTS)}).all()
    if rows:
        missing = ", ".join(f"{right} {name}" for name, right in rows)
        raise ConfigurationError(
            f"the user in DATABASE_URL may not {missing}: as the tables' owner, GRANT "
            f"{', '.join(_RIGHTS)} ON ALL TABLES IN SCHEMA public to it, and by ALTER DEFAULT "
            "PRIVILEGES on those of later migrations"
        )


@contextmanager
def opened_store(settings: Settings) -> Iterator[Store]:
    """Give the store for a moment. Raises `ConfigurationError` and `NotReady`."""
    store = Store(make_engine(settings.store_url, pool_size=1))
    try:
        with in_operators_words():
            yield store
    finally:
        store.close()


@contextmanager
def in_operators_words() -> Iterator[None]:
    """Turn what the database raises within into `ConfigurationError` and `NotReady`."""
    try:
        yield
    except StoreForbids:
        raise ConfigurationError(MAY_NOT_WRITE) from None
    except StoreUnavailable as error:
        # A wrong password looks the same: drivers tell it only in words, in many languages.
        raise NotReady(unavailable(error)) from None
    except SQLAlchemyError as error:
        raise ConfigurationError(_cannot_be_used(type(error).__name__)) from None


def unavailable(error: StoreUnavailable) -> str:
    """Say that the database cannot be used, or not for that, and what to look at."""
    if isinstance(error, StoreTooSlow):
        return (
            f"{error}: it is up, but overloaded or kept waiting by another transaction. Try again; "
            "if that does not help, see in pg_stat_activity what else it does"
        )
    if isinstance(error, StoreDiskFails):
        return f"the database cannot be used: {error}"
    return _cannot_be_used(str(error))


def _cannot_be_used(cause: str) -> str:
    return (
        f"the database cannot be used: {cause}. Is it running, and is DATABASE_URL right "
        "(mosaic-sessions config)?"
    )


def check_broker(client: redis.Redis, settings: Settings) -> None:
    """Check what would lose jobs, or bring them back too early: eviction and clocks."""
    policy = _eviction_policy(client)
    if policy != "noeviction":
        raise ConfigurationError(
            f"the broker's maxmemory-policy is {policy}: under memory pressure it would drop whole "
            "queues. Set it to noeviction, and give caches a Redis of their own"
        )
    _check_clock(client, settings)


def check_peers(client: redis.Redis, settings: Settings) -> None:
    """Check that no living worker takes our jobs for lost earlier than we do, or we theirs."""
    for peer in heartbeat.living_workers(client):
        theirs = peer["visibility_timeout"]
        if theirs != settings.visibility_timeout_seconds:
            # Perhaps of a worker that was killed: its key outlives it by 20 s.
            raise NotReady(
                f"worker {peer['hostname']} runs with a visibility timeout of {theirs:g} s, this "
                f"one has {settings.visibility_timeout_seconds:g} s: the shorter one would run the "
                "other's jobs twice. Use one value, and stop all workers to change it"
            )


def check_redis(
    name: str, url: str, settings: Settings, check_it: Callable[[redis.Redis, Settings], None]
) -> None:
    """Check the Redis at *url*, which the setting *name* says, with *check_it* and by itself.

    Raises `ConfigurationError` and `NotReady`.
    """
    client = connect_redis(url)
    try:
        if is_cluster(client):
            raise ConfigurationError(
                f"{name} names a Redis Cluster, in which our scripts cannot reach all of their "
                "keys: use a Redis that is none"
            )
        check_it(client, settings)
    except redis.RedisError as error:
        if why := why_no_writes(error):
            raise NotReady(f"the Redis of {name} reads, and takes no writes: {why}") from None
        kind = ConfigurationError if isinstance(error, _REFUSES_US) else NotReady
        raise kind(
            f"Redis cannot be asked ({cause_of(error)}). Is it running, and is {name} right "
            "(mosaic-sessions config)?"
        ) from None
    finally:
        client.close()


def _eviction_policy(client: redis.Redis) -> str:
    try:
        answer: Any = client.config_get("maxmemory-policy")
        return str(answer["maxmemory-policy"])
    except (redis.ResponseError, KeyError):
        # Managed Redis hides CONFIG; INFO says the same.
        info: Any = client.info("memory")
        return str(info.get("maxmemory_policy", "unknown"))


def _check_clock(client: redis.Redis, settings: Settings) -> None:
    seconds, microseconds = client.time()
    skew = abs(time.time() - (seconds + microseconds / 1e6))
    if skew > settings.visibility_timeout_seconds / 4:
        # After a boot it is a matter of a minute until NTP has set it.
        raise NotReady(
            f"this machine's clock and the broker's differ by {skew:.0f} s: unacknowledged jobs "
            "would come back too early. Synchronise them (NTP)"
        )
