"""A worker refuses to start on ground that would not hold, and says what to do about it."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from uuid import uuid4

import pytest
import redis
from alembic import command
from celery import signals
from pydantic import SecretStr
from sqlalchemy import create_engine, text

from migrations import target
from migrations.target import config_for
from sandbox.ports import HOST, free_port
from sandbox.processes import poll_until
from sandbox.proxy import FaultProxy
from sandbox.redis_server import RedisServer
from simulator.server import SimulatorServer
from tests.certificates import make_certificate, server_context
from tests.stage import environment, redis_client
from worker import startup, wiring
from worker.app import app as celery_app
from worker.celery_support import heartbeat
from worker.errors import ConfigurationError, NotReady
from worker.operations import dependencies
from worker.settings import model as settings_module
from worker.settings.model import Settings

CANARY = "pw-canary-88"


def refusal(settings: Settings) -> str:
    with pytest.raises(ConfigurationError) as caught:
        startup.check(settings)
    assert CANARY not in str(caught.value)
    return str(caught.value)


def delay(settings: Settings) -> str:
    """Return why the worker does not start yet: nobody has to change anything."""
    with pytest.raises(NotReady) as caught:
        startup.check(settings)
    assert CANARY not in str(caught.value)
    return str(caught.value)


def connections(client: redis.Redis) -> set[str]:
    told: Any = client.client_list()
    return {row["id"] for row in told}


def with_urls(settings: Settings, **urls: str) -> Settings:
    return settings.model_copy(update={name: SecretStr(url) for name, url in urls.items()})


@pytest.fixture
def settings(store_url: str, redis_url: str, mosaic: SimulatorServer) -> Settings:
    """On both databases, at head, with an empty Redis."""
    return settings_module.read(environment(store_url, redis_url, mosaic))


@pytest.fixture
def sqlite_settings(sqlite_url: str, redis_url: str, mosaic: SimulatorServer) -> Settings:
    return settings_module.read(environment(sqlite_url, redis_url, mosaic))


def test_good_ground_is_accepted(settings: Settings) -> None:
    startup.check(settings)


def test_the_check_leaves_no_connection_behind(settings: Settings, redis_url: str) -> None:
    with redis_client(redis_url) as client:
        before = connections(client)

        startup.check(settings)

        poll_until(lambda: connections(client) <= before, timeout=30)


# --- the database


def test_a_database_behind_head_names_the_command(settings: Settings) -> None:
    command.downgrade(config_for(settings.store_url), "base")

    message = refusal(settings)

    assert f"the database is at nothing, this release needs {target.head()}" in message
    assert "run `mosaic-sessions db upgrade`" in message


def test_a_database_that_was_never_migrated_names_the_command(
    sqlite_settings: Settings, tmp_path: Path
) -> None:
    empty = with_urls(sqlite_settings, database_url=f"sqlite:///{tmp_path / 'empty.db'}")

    assert "run `mosaic-sessions db upgrade`" in refusal(empty)


def test_a_database_of_a_newer_release_is_not_blamed_on_migrations(settings: Settings) -> None:
    engine = create_engine(settings.store_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()

    message = refusal(settings)

    assert message.startswith("the database is at 9999, which is newer than this release")
    assert "deploy" in message
    assert "alembic" not in message


def test_an_unreachable_database_names_its_setting(sqlite_settings: Settings) -> None:
    url = f"postgresql+psycopg://user:{CANARY}@127.0.0.1:{free_port()}/sessions"

    message = delay(with_urls(sqlite_settings, database_url=url))

    assert message.startswith("the database cannot be used: the database does not answer")
    assert "is DATABASE_URL right" in message


def test_a_locked_database_is_waited_for(sqlite_settings: Settings) -> None:
    path = sqlite_settings.store_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode=EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")

        message = delay(sqlite_settings)

    assert message.startswith("the database cannot be used: another process keeps")


def test_a_folder_that_is_not_there_names_the_setting(
    sqlite_settings: Settings, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'missing' / 'x.db'}"

    assert "is DATABASE_URL right" in delay(with_urls(sqlite_settings, database_url=url))


def test_a_file_that_is_no_database_names_the_setting(
    sqlite_settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "note.txt"
    file.write_text(CANARY * 1000, encoding="utf-8")

    message = refusal(with_urls(sqlite_settings, database_url=f"sqlite:///{file}"))

    assert message.startswith("the database cannot be used")


def test_a_replica_of_the_database_is_waited_for(
    sqlite_settings: Settings, postgres_url: str
) -> None:
    url = f"{postgres_url}?options=-c%20default_transaction_read_only%3Don"

    message = delay(with_urls(sqlite_settings, database_url=url))

    assert message.startswith("the database cannot be used: the database is read-only")


def test_a_file_that_takes_no_writes_is_said_to_be_read_only(sqlite_settings: Settings) -> None:
    path = sqlite_settings.store_url.removeprefix("sqlite:///")
    url = f"sqlite:///file:{path}?mode=ro&uri=true"

    message = delay(with_urls(sqlite_settings, database_url=url))

    assert message.startswith("the database cannot be used: the database is read-only")


def test_a_user_of_the_database_that_may_only_read_is_refused(
    sqlite_settings: Settings, postgres_url: str
) -> None:
    reader = f"reader_{uuid4().hex}"
    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(text(f"CREATE ROLE {reader}"))
        connection.execute(text(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {reader}"))

    message = refusal(
        with_urls(sqlite_settings, database_url=f"{postgres_url}?options=-c%20role%3D{reader}")
    )

    with engine.begin() as connection:
        connection.execute(text(f"DROP OWNED BY {reader}"))
        connection.execute(text(f"DROP ROLE {reader}"))
    engine.dispose()
    assert message.startswith("the user in DATABASE_URL may not read and write all tables")


def test_a_user_without_a_right_on_a_new_table_is_refused_before_it_is_used(
    sqlite_settings: Settings, postgres_url: str
) -> None:
    worker = f"worker_{uuid4().hex}"
    engine = create_engine(postgres_url)
    with engine.begin() as connection:
        connection.execute(text(f"CREATE ROLE {worker}"))
        connection.execute(text(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {worker}"))
        connection.execute(text(f"REVOKE INSERT, DELETE ON operator_actions FROM {worker}"))
    url = f"{postgres_url}?options=-c%20role%3D{worker}"

    message = refusal(with_urls(sqlite_settings, database_url=url))

    with engine.begin() as connection:
        connection.execute(text(f"DROP OWNED BY {worker}"))
        connection.execute(text(f"DROP ROLE {worker}"))
    engine.dispose()
    assert "may not delete operator_actions, insert operator_actions" in message
    assert "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES" in message


# --- Redis


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-lru", "volatile-ttl"])
def test_a_broker_that_may_evict_queues_is_refused(sqlite_settings: Settings, policy: str) -> None:
    with RedisServer(maxmemory_policy=policy) as server:
        message = refusal(with_urls(sqlite_settings, broker_url=server.url()))

    assert f"maxmemory-policy is {policy}" in message
    assert "Set it to noeviction" in message


@pytest.fixture
def managed_redis() -> Iterator[RedisServer]:
    """A Redis whose CONFIG is forbidden, as managed ones have it."""
    with RedisServer(maxmemory_policy="allkeys-lru") as server, redis_client(server.url()) as admin:
        admin.execute_command(
            *("ACL", "SETUSER", "app", "on", f">{CANARY}", "~*", "&*", "+@all", "-config")
        )
        yield server


def test_a_managed_redis_that_hides_its_configuration_is_asked_another_way(
    sqlite_settings: Settings, managed_redis: RedisServer
) -> None:
    url = managed_redis.url().replace("redis://", f"redis://app:{CANARY}@")

    assert "maxmemory-policy is allkeys-lru" in refusal(with_urls(sqlite_settings, broker_url=url))

    with redis_client(managed_redis.url()) as admin:
        admin.config_set("maxmemory-policy", "noeviction")
    startup.check(with_urls(sqlite_settings, broker_url=url))


def test_a_wrong_password_for_the_broker_names_its_setting(
    sqlite_settings: Settings, managed_redis: RedisServer
) -> None:
    url = managed_redis.url().replace("redis://", f"redis://app:{CANARY}x@")

    assert "is CELERY_BROKER_URL right" in refusal(with_urls(sqlite_settings, broker_url=url))


def test_an_unreachable_broker_names_its_setting(sqlite_settings: Settings) -> None:
    url = f"redis://:{CANARY}@127.0.0.1:{free_port()}/0"

    message = delay(with_urls(sqlite_settings, broker_url=url))

    assert message.startswith("Redis cannot be asked")
    assert "is CELERY_BROKER_URL right" in message


def test_an_unreachable_redis_for_answers_names_its_own_setting(sqlite_settings: Settings) -> None:
    url = f"redis://:{CANARY}@127.0.0.1:{free_port()}/0"

    assert "is REDIS_URL right" in delay(with_urls(sqlite_settings, redis_url=url))


def test_a_redis_that_hangs_is_waited_for(sqlite_settings: Settings) -> None:
    with RedisServer() as server:
        server.freeze()

        message = delay(with_urls(sqlite_settings, broker_url=server.url()))
        server.thaw()

    assert message.startswith("Redis cannot be asked (TimeoutError)")


def test_a_replica_that_waits_for_its_master_is_waited_for(sqlite_settings: Settings) -> None:
    with RedisServer() as server:
        with redis_client(server.url()) as client:
            client.config_set("replica-serve-stale-data", "no")
            client.replicaof("127.0.0.1", str(free_port()))

        message = delay(with_urls(sqlite_settings, broker_url=server.url()))

    assert message.startswith("Redis cannot be asked (MasterDownError)")


def test_a_user_of_redis_that_may_not_look_is_refused(
    sqlite_settings: Settings, managed_redis: RedisServer
) -> None:
    with redis_client(managed_redis.url()) as admin:
        admin.execute_command("ACL", "SETUSER", "app", "-info")
    url = managed_redis.url().replace("redis://", f"redis://app:{CANARY}@")

    message = refusal(with_urls(sqlite_settings, broker_url=url))

    assert "(NoPermissionError: our user may not use the command info)" in message


@contextmanager
def redis_cluster() -> Iterator[RedisServer]:
    """A Redis in cluster mode. It also listens 10,000 ports higher, where somebody may be."""
    for _ in range(20):
        with ExitStack() as exit_stack:
            try:
                server = RedisServer(extra_config={"cluster-enabled": "yes"})
                exit_stack.enter_context(server)
            except RuntimeError:
                continue
            yield server
            return
    raise RuntimeError("no port for a Redis Cluster")


@pytest.mark.parametrize("database", [0, 1])
@pytest.mark.parametrize(
    ("field", "name"), [("broker_url", "CELERY_BROKER_URL"), ("redis_url", "REDIS_URL")]
)
def test_a_redis_cluster_is_refused(
    sqlite_settings: Settings, database: int, field: str, name: str
) -> None:
    with redis_cluster() as server:
        message = refusal(with_urls(sqlite_settings, **{field: server.url(database)}))

    assert message.startswith(f"{name} names a Redis Cluster")


def test_a_redis_whose_user_may_not_ask_about_clusters_is_accepted(
    sqlite_settings: Settings, managed_redis: RedisServer
) -> None:
    with redis_client(managed_redis.url()) as admin:
        admin.config_set("maxmemory-policy", "noeviction")
        admin.execute_command("ACL", "SETUSER", "app", "+config", "-info")
    url = managed_redis.url().replace("redis://", f"redis://app:{CANARY}@")

    startup.check(with_urls(sqlite_settings, broker_url=url))


def test_a_certificate_of_nobody_we_know_is_named(
    sqlite_settings: Settings, redis_server: RedisServer, redis_url: str, tmp_path: Path
) -> None:
    context = server_context(make_certificate(tmp_path, HOST))
    with FaultProxy(HOST, redis_server.port, tls=context) as proxy:
        url = f"rediss://{HOST}:{proxy.port}/0"

        message = delay(with_urls(sqlite_settings, broker_url=url))

    assert "its certificate is not accepted, self" in message


def test_a_port_without_tls_is_told_from_a_server_that_is_away(
    sqlite_settings: Settings, redis_url: str
) -> None:
    url = redis_url.replace("redis://", "rediss://")

    assert "it does not answer in TLS" in delay(with_urls(sqlite_settings, broker_url=url))


def test_the_system_says_why_a_redis_is_not_reached(sqlite_settings: Settings) -> None:
    url = f"redis://{HOST}:{free_port()}/0"

    assert "(ConnectionError: Connection refused)" in delay(
        with_urls(sqlite_settings, broker_url=url)
    )


def test_another_kind_of_broker_is_not_asked_about_redis_matters(
    sqlite_settings: Settings, redis_url: str
) -> None:
    startup.check(
        with_urls(sqlite_settings, broker_url="amqp://127.0.0.1:1//", redis_url=redis_url)
    )


# --- pools


@pytest.mark.parametrize(("pool", "is_refused"), [("processes", True), ("threads", False)])
def test_a_pool_that_forks_needs_a_temporary_folder(
    sqlite_settings: Settings, monkeypatch: pytest.MonkeyPatch, pool: str, *, is_refused: bool
) -> None:
    def none_found() -> str:
        raise FileNotFoundError

    monkeypatch.setattr(tempfile, "gettempdir", none_found)
    monkeypatch.setattr(settings_module, "current", lambda: sqlite_settings)
    starting = Mock(app=celery_app, pool_cls=pool)

    if not is_refused:
        signals.worker_init.send(sender=starting)
        return
    with pytest.raises(SystemExit) as caught:
        signals.worker_init.send(sender=starting)
    assert caught.value.code == startup.EXIT_CODE


@pytest.mark.parametrize(("option", "slots"), [(4, 4), ("auto", 8)])
def test_what_is_shared_out_are_the_slots_that_the_worker_was_started_with(
    sqlite_settings: Settings, monkeypatch: pytest.MonkeyPatch, option: object, slots: int
) -> None:
    monkeypatch.setattr(settings_module, "current", lambda: sqlite_settings)
    for name, value in {"_slots": None, "_current": None, "_owner": -1}.items():
        monkeypatch.setattr(wiring, name, value)

    signals.worker_init.send(
        sender=Mock(app=celery_app, pool_cls="threads", concurrency=option)  # of ``-c``
    )

    with closing(wiring.current()) as services:
        assert services.settings.concurrency == slots


# --- clocks


class SkewedRedis:
    """Tells another time than this machine; nothing else about it matters here."""

    def __init__(self, client: redis.Redis, seconds: float) -> None:
        self._client = client
        self._seconds = int(seconds)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def time(self) -> tuple[int, int]:
        told: Any = self._client.time()
        return told[0] + self._seconds, told[1]


@pytest.mark.parametrize("seconds", [46, -46, 3600])
def test_a_clock_that_differs_by_a_quarter_of_the_timeout_is_waited_for(
    sqlite_settings: Settings, redis_url: str, seconds: int
) -> None:
    with redis_client(redis_url) as client:
        skewed: Any = SkewedRedis(client, seconds)
        with pytest.raises(NotReady, match=r"differ by \d+ s.*\(NTP\)"):
            dependencies.check_broker(skewed, sqlite_settings)


def test_a_small_difference_of_clocks_is_accepted(
    sqlite_settings: Settings, redis_url: str
) -> None:
    with redis_client(redis_url) as client:
        skewed: Any = SkewedRedis(client, 30)
        dependencies.check_broker(skewed, sqlite_settings)


# --- peers (with real workers: tests/acceptance)


def peer(url: str, visibility_timeout: float) -> None:
    with redis_client(url) as client:
        facts = {"hostname": "w1@there", "visibility_timeout": visibility_timeout}
        client.set(f"{heartbeat.KEY_PREFIX}there:1", json.dumps(facts), ex=20)


def test_a_peer_with_the_same_timeout_is_welcome(sqlite_settings: Settings, redis_url: str) -> None:
    peer(redis_url, sqlite_settings.visibility_timeout_seconds)

    startup.check(sqlite_settings)


@pytest.mark.parametrize("theirs", [60, 600])
def test_a_peer_with_another_timeout_is_named(
    sqlite_settings: Settings, redis_url: str, theirs: int
) -> None:
    peer(redis_url, theirs)

    message = delay(sqlite_settings)

    assert f"worker w1@there runs with a visibility timeout of {theirs} s" in message
    assert "stop all workers" in message


def test_peers_are_looked_for_where_they_report(sqlite_settings: Settings, redis_url: str) -> None:
    with RedisServer() as answers:
        peer(answers.url(), 60)

        message = delay(with_urls(sqlite_settings, redis_url=answers.url()))

    assert "worker w1@there" in message


@pytest.mark.parametrize(
    "written", ["no json", "[]", "{}", '{"hostname": "x", "visibility_timeout": "y"}']
)
def test_what_no_worker_wrote_keeps_nobody_from_starting(
    sqlite_settings: Settings, redis_url: str, written: str
) -> None:
    with redis_client(redis_url) as client:
        client.set(f"{heartbeat.KEY_PREFIX}forged", written)

    startup.check(sqlite_settings)
