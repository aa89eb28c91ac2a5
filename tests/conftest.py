"""Servers shared by all tests, and a clean stage for each."""

from __future__ import annotations

import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import structlog
from alembic import command
from hypothesis import settings

from migrations.target import config_for
from sandbox.leash import LeashedProcess
from sandbox.postgres_server import PostgresDatabases, PostgresServer
from sandbox.redis_server import RedisServer
from sandbox.stack import Stack
from simulator.server import PromptServer, SimulatorServer
from tests import forked_programs
from tests.databases import EmptyDatabases, compiled_once
from tests.redis_users import refused_commands, serve_the_worker
from tests.stage import ENCRYPTION_KEY, LOOKUP_KEY, Stage, redis_client

# The same examples at every run, and no clock in the verdict: a red suite must be about the
# change at hand, and on a busy machine any one example may take a second.
settings.load_profile("ci")


@pytest.fixture(scope="session", autouse=True)
def simulator_untraced() -> Iterator[None]:
    """Coverage is not asked of the simulator, and tracing takes half as long again as running."""
    run = PromptServer.run

    def untraced(server: PromptServer, sockets: list[socket.socket] | None = None) -> None:
        sys.settrace(None)  # of this thread alone
        run(server, sockets)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PromptServer, "run", untraced)
        yield


@pytest.fixture(scope="session", autouse=True)
def logs_to_standard_error() -> Iterator[None]:
    """As in every process of ours: standard output is for answers, which tests parse."""
    # Asked anew for each line: pytest and click put others in its place.
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))
    yield
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def logging_as_before(logs_to_standard_error: None) -> Iterator[None]:
    """A worker or a verb configures the logs of its process, which here serves other tests too.

    The former also makes loggers be kept: one first used while pytest or click have their own
    standard error in place would write to a closed file ever after.
    """
    before = structlog.get_config()
    processors = list(before["processors"])
    yield
    before["processors"][:] = processors  # `logs.configure` fills it anew
    structlog.configure(**before)


@pytest.fixture(scope="session", autouse=True)
def statements_compiled_once() -> Iterator[None]:
    """See `compiled_once`: it saves a test of the services a quarter of its time."""
    with compiled_once():
        yield


@pytest.fixture(scope="session", autouse=True)
def simulator_in_a_thread() -> Iterator[None]:
    """Stacks serve Mosaic from here, which saves each of them a process that takes a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stack, "has_simulator_process", False)
        yield


@pytest.fixture(scope="session", autouse=True)
def programs_start_as_forks() -> Iterator[None]:
    """See `forked_programs`: it saves each worker, beat and verb two to four seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LeashedProcess, "popen", staticmethod(forked_programs.popen))
        yield


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    with RedisServer() as server, pytest.MonkeyPatch.context() as patch:
        serve_the_worker(server)
        # celeryconfig reads the environment when the Celery app is first used.
        patch.setenv("CELERY_BROKER_URL", server.url())
        patch.setenv("MOSAIC_SESSIONS_ENCRYPTION_KEYS", f"k1:{ENCRYPTION_KEY}")
        patch.setenv("MOSAIC_SESSIONS_LOOKUP_KEY", LOOKUP_KEY)
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> Iterator[str]:
    """An empty Redis, where a stage's worker may do what the documented user may, and no more."""
    url = redis_server.url()
    with redis_client(url) as client:
        client.flushall()
        client.acl_log_reset()
    yield url
    assert refused_commands(redis_server) == set()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresDatabases]:
    with PostgresServer.from_environment() as databases:
        yield databases


@pytest.fixture(scope="session")
def sqlite_at_head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "head.db"
    command.upgrade(config_for(f"sqlite:///{path}"), "head")
    return path


@pytest.fixture(scope="session")
def postgres_at_head(postgres: PostgresDatabases) -> Iterator[str]:
    name = f"template_{uuid4().hex}"  # a lent server is shared by all workers of a run
    command.upgrade(config_for(postgres.create_database(name)), "head")
    yield name
    postgres.drop_database(name)


@pytest.fixture
def sqlite_url(sqlite_at_head: Path, tmp_path: Path) -> str:
    """A fresh SQLite database at head."""
    path = tmp_path / "sessions.db"
    shutil.copyfile(sqlite_at_head, path)
    return f"sqlite:///{path}"


@pytest.fixture
def postgres_url(postgres: PostgresDatabases, postgres_at_head: str) -> Iterator[str]:
    """A fresh PostgreSQL database at head."""
    name = f"test_{uuid4().hex}"
    yield postgres.create_database(name, template=postgres_at_head)
    postgres.drop_database(name)


@pytest.fixture(scope="session")
def empty_databases(postgres: PostgresDatabases, postgres_at_head: str) -> Iterator[EmptyDatabases]:
    databases = EmptyDatabases(postgres, postgres_at_head)
    yield databases
    databases.close()


@pytest.fixture
def empty_postgres_url(empty_databases: EmptyDatabases) -> Iterator[str]:
    """An empty PostgreSQL database at head, not necessarily a fresh one."""
    with empty_databases.one() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest) -> str:
    """An empty database at head, once on each kind."""
    fixture = "sqlite_url" if request.param == "sqlite" else "empty_postgres_url"
    url: str = request.getfixturevalue(fixture)
    return url


@pytest.fixture
def mosaic() -> Iterator[SimulatorServer]:
    """Mosaic, as far as anybody knows; what it was asked is held against Mosaic's own pages."""
    with SimulatorServer() as server:
        yield server
        assert server.state.calls.complaints() == []


StageMaker = Callable[[str], Stage]


@pytest.fixture
def stage(store_url: str, redis_url: str, mosaic: SimulatorServer) -> Iterator[Stage]:
    """The whole service in this process, on both databases in turn."""
    with Stage(store_url, redis_url, mosaic) as stage:
        yield stage


@pytest.fixture
def sqlite_stage(sqlite_url: str, redis_url: str, mosaic: SimulatorServer) -> Iterator[Stage]:
    """The same on SQLite alone, for what no database changes."""
    with Stage(sqlite_url, redis_url, mosaic) as stage:
        yield stage


@pytest.fixture
def postgres_stage(
    empty_postgres_url: str, redis_url: str, mosaic: SimulatorServer
) -> Iterator[Stage]:
    """The same on PostgreSQL alone, for what SQLite cannot."""
    with Stage(empty_postgres_url, redis_url, mosaic) as stage:
        yield stage
