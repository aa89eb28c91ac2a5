"""The machinery on stage: Redis, PostgreSQL, the fake Mosaic, and the workers.

All private, on loopback, in temporary folders, and gone with us (see `sandbox/`). All subjects
use the same Redis and the same PostgreSQL, each its own database there.
"""

from __future__ import annotations

import base64
import http.client
import json
import secrets
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

import psycopg
import redis
from alembic import command
from sqlalchemy.engine import make_url

from benchmarks import people
from benchmarks.peers import variables
from benchmarks.processes import parent_of
from migrations.target import config_for
from sandbox.environment import base_variables
from sandbox.postgres_server import PostgresServer
from sandbox.processes import ManagedProcess, poll_until
from sandbox.redis_server import RedisServer
from worker import wiring
from worker.settings import model as settings_module
from worker.settings.environment import variable_name
from worker.wiring import Services

ROOT: Final = Path(__file__).parents[1]

# Fields of the worker's settings, by name, that differ from what is shipped. None does now: each of
# the many users and apps asks so seldom that no limit and no recent answer comes into it.
WORKER_SETTINGS: Final[Mapping[str, object]] = {}

_START_SECONDS: Final = 60.0
_REDIS_DATABASES: Final = {"ours": 0, "noop": 1, "peer": 2, "browser": 3, "login": 4}


class RoomyPostgres(PostgresServer):
    """The sandbox's PostgreSQL with buffers for a million rows; fsync stays off for all."""

    def _command(self) -> list[str | Path]:
        more = {
            "shared_buffers": "512MB",
            "min_wal_size": "4GB",
            "max_wal_size": "4GB",
            "max_connections": "200",
        }
        return [
            *super()._command(),
            *(word for n, v in more.items() for word in ("-c", f"{n}={v}")),
        ]


class Stage:
    """Everything but the workers and the clients, which the measures start.

    *settings* are more fields of our worker's settings.
    """

    def __init__(self, settings: Mapping[str, str]) -> None:
        self.settings: Mapping[str, object] = {**WORKER_SETTINGS, **settings}
        self._exit = ExitStack()
        self.folder: Path
        self.redis: RedisServer
        self.postgres: PostgresServer
        self.mosaic: FakeMosaic

    def __enter__(self) -> Self:
        with ExitStack() as exits:
            folder = tempfile.TemporaryDirectory(prefix="bench-")
            self.folder = Path(exits.enter_context(folder))
            self.mosaic = exits.enter_context(FakeMosaic(self.folder))  # signs while servers start
            self.redis = exits.enter_context(RedisServer())
            self.postgres = exits.enter_context(RoomyPostgres())
            self._keys = {
                "encryption_keys": f"k1:{_random_key()}",
                "lookup_key": _random_key(),
            }
            self.mosaic.wait_until_ready()
            self._exit = exits.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def database(self, name: str) -> str:
        """Make an empty database and return its URL."""
        return self.postgres.create_database(name)

    def migrated_database(self, name: str) -> str:
        """Make a database with the worker's tables and return its URL."""
        url = self.database(name)
        command.upgrade(config_for(url), "head")
        return url

    def redis_url(self, subject: str) -> str:
        """Return the broker of one subject."""
        return self.redis.url(_REDIS_DATABASES[subject])

    def worker_environment(
        self,
        database_url: str,
        settings: Mapping[str, object] | None = None,
        subject: str = "ours",
    ) -> dict[str, str]:
        """Return what our worker, or a command of ours, is configured with."""
        values: dict[str, object] = {
            **self._keys,
            "mosaic_base_url": self.mosaic.url,
            "mosaic_token_url": f"{self.mosaic.url}/oidc/token",
            "mosaic_jwks_url": f"{self.mosaic.url}/cis/oidc/jwks",
            "mosaic_issuer": people.ISSUER,
            "database_url": database_url,
            "broker_url": self.redis_url(subject),
            **self.settings,
            **(settings or {}),
        }
        named = {variable_name(name): str(v) for name, v in values.items()}
        return {**base_variables(), **named}

    def peer_environment(self, subject: str, database_url: str) -> dict[str, str]:
        """Return what the peers are configured with."""
        return {
            **base_variables(),
            "CELERY_BROKER_URL": self.redis_url(subject),
            "CELERY_RESULT_BACKEND": self.redis_url(subject),
            variables.DATABASE_URL: database_url,
            variables.MOSAIC_URL: self.mosaic.url,
        }

    def start(
        self, name: str, words: Sequence[str], environment: Mapping[str, str]
    ) -> ManagedProcess:
        """Return a process to be used as a context manager; its first word is a command of ours."""
        program = str(Path(sys.executable).parent / words[0])
        return ManagedProcess(
            [program, *words[1:]],
            environment=environment,
            log_path=self.folder / f"{name}-{secrets.token_hex(3)}.log",
            cwd=ROOT,
        )

    def redis_cpu_seconds(self) -> float:
        """Return the CPU time of the Redis server."""
        with redis.Redis.from_url(self.redis.url()) as client:
            info: Any = client.info("cpu")
        return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])

    def redis_version(self) -> str:
        """Return the server's version."""
        with redis.Redis.from_url(self.redis.url()) as client:
            info: Any = client.info("server")
        return str(info["redis_version"])

    def postgres_version(self) -> str:
        """Return the server's version."""
        with self._connect() as connection:
            number = connection.info.server_version
        return f"{number // 10000}.{number % 10000}"

    def postgres_pid(self) -> int:
        """Return the process id of the PostgreSQL server."""
        with self._connect() as connection:
            return parent_of(connection.info.backend_pid)

    def _connect(self) -> psycopg.Connection:
        plain = make_url(self.postgres.url()).set(drivername="postgresql")
        return psycopg.connect(plain.render_as_string(hide_password=False))


class FakeMosaic:
    """The fake's process, and its settings."""

    def __init__(self, folder: Path) -> None:
        self._port_file = folder / "mosaic.url"
        self._process = ManagedProcess(
            [sys.executable, "-m", "benchmarks.fake_mosaic", str(self._port_file)],
            environment=base_variables(),
            log_path=folder / "mosaic.log",
            cwd=ROOT,
        )
        self.url: str

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.__exit__(*exc)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def wait_until_ready(self) -> None:
        """Return once it listens; it signs all ID tokens before that."""
        poll_until(
            lambda: self._port_file.exists() or not self._process.is_alive,
            _START_SECONDS,
            what="the fake Mosaic",
        )
        if not self._process.is_alive:
            raise RuntimeError(f"the fake Mosaic did not start:\n{self._process.log_text()}")
        self.url = self._port_file.read_text(encoding="utf-8")

    def set_latency(self, milliseconds: float) -> None:
        """Let each call take that long from now on."""
        self._get(f"/admin/latency/{milliseconds}")

    def calls(self) -> dict[str, int]:
        """Return how often each endpoint was called."""
        return self._get("/admin/calls")

    def _get(self, path: str) -> dict[str, int]:
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
        try:
            connection.request("GET", path)
            found: dict[str, int] = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return found


def services_of(environment: Mapping[str, str]) -> Services:
    """Return the worker's own services, for what the bench does in its place."""
    return wiring.build(settings_module.read(environment))


def _random_key() -> str:
    return base64.b64encode(secrets.token_bytes(32)).decode()
