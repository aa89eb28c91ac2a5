"""Our public keys and our health over HTTP, for apps and load balancers.

It asks by itself every few seconds, and a request gets what was found: however many ask, and
whatever hangs, neither the database nor Redis is asked more often, and no request waits for them.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Self

import redis
import structlog
from kombu import Connection
from kombu.exceptions import OperationalError
from sqlalchemy.exc import SQLAlchemyError

from migrations import target
from worker.celery_support import heartbeat
from worker.errors import StoreUnavailable
from worker.maintenance import last_runs
from worker.maintenance.last_runs import Run
from worker.monitoring.http_server import REQUEST_SECONDS, Listener, Page
from worker.operations import health
from worker.operations.schema import schema_trouble
from worker.settings.validators import is_redis
from worker.storage.redis_client import REDIS_TIMEOUT_SECONDS, connect_redis
from worker.wiring import Services

log = structlog.get_logger()


ASK_EVERY_SECONDS: Final = 2.0


STALE_AFTER_SECONDS: Final = 10.0


JWKS_MAX_AGE_SECONDS: Final = 300


_NO_ANSWER: Final = "does not answer"


@dataclass
class Probe:
    """One thing asked again and again; *ask* returns what is wrong, or None."""

    name: str
    ask: Callable[[], str | None]
    _wrong: str | None = None
    _asked_at: float | None = None
    _is_asked: threading.Event = field(default_factory=threading.Event)

    def run(self, stop: threading.Event) -> None:
        """Ask until *stop*."""
        while True:
            wrong = self._ask()
            if wrong != self._wrong:
                log.warning("health_changed", what=self.name, wrong=wrong)
            self._wrong, self._asked_at = wrong, time.monotonic()
            self._is_asked.set()
            if stop.wait(ASK_EVERY_SECONDS):
                return

    def wrong(self) -> str | None:
        """Return what is wrong. At the very beginning, wait for the first answer."""
        self._is_asked.wait(REQUEST_SECONDS)
        if self._asked_at is None or time.monotonic() - self._asked_at > STALE_AFTER_SECONDS:
            return f"{_NO_ANSWER} in time"
        return self._wrong

    def _ask(self) -> str | None:
        try:
            return self.ask()
        except Exception as error:  # noqa: BLE001 - a probe that ends would say "well" for ever
            # The type alone: a message may quote a URL.
            return f"cannot be asked ({type(error).__name__})"


def probes(services: Services) -> list[Probe]:
    """Return what makes this installation healthy."""
    return [
        Probe("database", lambda: _ask_database(services)),
        Probe("broker", lambda: _ask_broker(services.settings.broker_url.get_secret_value())),
        Probe("workers", lambda: _ask_workers(services)),
        Probe("sweep", lambda: _ask_sweep(services)),
    ]


def _ask_database(services: Services) -> str | None:
    try:
        with services.store.read() as connection:
            revision = target.revision_of(connection)
    except (StoreUnavailable, SQLAlchemyError):
        return _NO_ANSWER
    return schema_trouble(revision)


def _ask_broker(url: str) -> str | None:
    if not is_redis(url):
        return _ask_other_broker(url)
    client = connect_redis(url)
    try:
        client.ping()
    except redis.RedisError:
        return _NO_ANSWER
    finally:
        client.close()
    return None


def _ask_other_broker(url: str) -> str | None:
    try:
        with Connection(url, connect_timeout=REDIS_TIMEOUT_SECONDS) as connection:
            connection.ensure_connection(max_retries=1, timeout=int(REDIS_TIMEOUT_SECONDS))
    except (OSError, OperationalError):
        return _NO_ANSWER
    return None


def _ask_workers(services: Services) -> str | None:
    try:
        living = heartbeat.living_workers(services.redis)
    except redis.RedisError:
        return "unknown, since Redis does not answer"
    return health.queues_left_alone(living) if living else "none is alive"


def _ask_sweep(services: Services) -> str | None:
    try:
        age = last_runs.ages(services.redis)[Run.SWEEP]
        if health.is_in_time(services.settings, age):
            return None  # without looking for workers, which takes longer
        living = heartbeat.living_workers(services.redis)
    except redis.RedisError:
        return None  # said of the workers already
    if not living:
        return None  # likewise
    return health.late_sweep(services.settings, age, living, services.now())


class MonitorServer(Listener):
    """Serves `/jwks.json` and `/healthz`. As a context manager it asks, serves and stops."""

    def __init__(self, host: str, port: int, jwks: dict[str, Any], asked: list[Probe]) -> None:
        super().__init__(host, port, self._page)
        self._jwks = jwks
        self._probes = asked
        self._stop = threading.Event()
        self._asking = [
            threading.Thread(target=probe.run, args=(self._stop,), daemon=True) for probe in asked
        ]

    def __enter__(self) -> Self:
        for thread in self._asking:
            thread.start()
        return super().__enter__()

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        super().__exit__(*exception)
        for thread in self._asking:
            thread.join(timeout=1)  # a probe that hangs ends with the process

    def health(self) -> dict[str, str]:
        """Return what is wrong, by name."""
        found = {probe.name: probe.wrong() for probe in self._probes}
        return {name: wrong for name, wrong in found.items() if wrong is not None}

    def _page(self, path: str) -> Page | None:
        if path == "/jwks.json":
            cache = f"public, max-age={JWKS_MAX_AGE_SECONDS}"
            return Page("application/jwk-set+json", _json(self._jwks), cache=cache)
        if path == "/healthz":
            wrong = self.health()
            found = {"status": "unhealthy" if wrong else "ok", "wrong": wrong}
            return Page("application/json", _json(found), status=503 if wrong else 200)
        return None


def _json(content: object) -> bytes:
    return json.dumps(content).encode() + b"\n"
