"""Makes the real things, once per process, after the fork, on first use.

Sockets shared across a fork give one child's answers to another (seen with httpx and with
psycopg), so nothing here may be made at import. Tests swap the whole object with `use`.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import redis

from worker.app_registry import AppRegistry
from worker.backchannel import NoticeSender, build_notice_sender
from worker.mosaic import MosaicGateway, build_gateway
from worker.settings import model as settings_module
from worker.settings.model import Settings
from worker.settings.validators import is_redis
from worker.storage.best_effort import BestEffortRedis
from worker.storage.database import Store, make_engine
from worker.storage.disk_notes import DiskNotes
from worker.storage.encryption import KeyRing
from worker.storage.redis_client import connect_redis
from worker.storage.redis_scripts import ScriptRunner
from worker.storage.reply_store import ReplyStore
from worker.traffic import Traffic

# The present moment. Not a function around it: a request asks for it some seventeen times.
utc_now: Callable[[], datetime] = partial(datetime.now, UTC)

# Asked before each call to Mosaic, and done without when it is slow.
SHARED_TIMEOUT_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Services:
    """Everything a lifecycle function may need."""

    settings: Settings
    store: Store
    broker: redis.Redis | None  # None when it is no Redis
    redis: redis.Redis
    scripts: ScriptRunner
    shared: BestEffortRedis
    reply_store: ReplyStore
    keyring: KeyRing
    traffic: Traffic
    mosaic: MosaicGateway
    notices: NoticeSender
    apps: AppRegistry
    now: Callable[[], datetime]

    def close(self) -> None:
        """Close every connection."""
        self.mosaic.close()
        self.shared.close()
        self.notices.close()
        self.reply_store.close()
        self.redis.close()
        if self.broker is not None:
            self.broker.close()
        self.store.close()


def build(settings: Settings, now: Callable[[], datetime] = utc_now) -> Services:
    """Make the real things that *settings* describe."""
    keyring = KeyRing.from_settings(settings)
    url = settings.cache_url
    cache = connect_redis(url)
    engine = make_engine(settings.store_url, pool_size=settings.concurrency)
    store = Store(engine, DiskNotes(cache).note)
    scripts = ScriptRunner(cache.connection_pool)
    hurried = connect_redis(url, SHARED_TIMEOUT_SECONDS)
    shared = BestEffortRedis(ScriptRunner(hurried.connection_pool), cache)
    broker_url = settings.broker_url.get_secret_value()
    return Services(
        settings=settings,
        store=store,
        redis=cache,
        broker=connect_redis(broker_url) if is_redis(broker_url) else None,
        scripts=scripts,
        reply_store=ReplyStore(scripts),
        keyring=keyring,
        shared=shared,
        traffic=Traffic(shared, cache, settings, keyring, now),
        mosaic=build_gateway(settings, cache, shared, keyring, now),
        notices=build_notice_sender(settings, now),
        apps=AppRegistry(store, keyring, settings),
        now=now,
    )


_lock = threading.Lock()
_current: Services | None = None
_owner = -1
_slots: int | None = None  # of the worker that this process belongs to


def tell_slots(slots: int) -> None:
    """Say how many slots this worker has: ``-c`` wins over the settings. Call it before the fork.

    Services made later have database connections for so many, and share them out among clients.
    """
    global _slots  # noqa: PLW0603 - as below
    _slots = slots


def current() -> Services:
    """Return this process's services, made on first use. Raises `ConfigurationError`."""
    global _current, _owner  # noqa: PLW0603 - the one place that holds them
    if _current is None or _owner != os.getpid():
        with _lock:
            if _current is None or _owner != os.getpid():
                _current = build(_settings_of_this_worker())
                _owner = os.getpid()
    return _current


def _settings_of_this_worker() -> Settings:
    settings = settings_module.current()
    return settings if _slots is None else settings.model_copy(update={"concurrency": _slots})


@contextmanager
def use(services: Services) -> Iterator[Services]:
    """Make *services* the current ones for a while."""
    global _current, _owner
    before, owner = _current, _owner
    _current, _owner = services, os.getpid()
    try:
        yield services
    finally:
        _current, _owner = before, owner
