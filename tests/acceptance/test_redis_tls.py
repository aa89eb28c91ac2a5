"""Redis behind TLS: for the queue, the answers and the locks of workers, and for the apps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import redis

from sandbox.ports import HOST
from sandbox.proxy import FaultProxy
from sandbox.redis_server import RedisServer
from sandbox.stack import Stack
from session_client import Authenticated, BrokerUnavailable, SessionClient
from session_client.keys import AppKey
from tests.acceptance.client_rig import Apps
from tests.certificates import make_certificate, server_context
from worker.storage.redis_scripts import Script, ScriptRunner

ECHO = Script("return ARGV[1]")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return make_certificate(tmp_path, HOST)


@pytest.fixture
def client_certificate(tmp_path: Path) -> Path:
    """By which Redis knows workers and apps."""
    folder = tmp_path / "client"
    folder.mkdir()
    return make_certificate(folder, "client")


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture
def door(
    own_redis: RedisServer, certificate: Path, client_certificate: Path
) -> Iterator[FaultProxy]:
    """Speaks TLS before Redis with those it knows, and breaks connections when told to."""
    context = server_context(certificate, client_certificate)
    with FaultProxy(HOST, own_redis.port, tls=context) as proxy:
        yield proxy


@pytest.fixture
def url(door: FaultProxy, certificate: Path, client_certificate: Path) -> str:
    ours = f"ssl_certfile={client_certificate}&ssl_keyfile={client_certificate}"
    return f"rediss://{HOST}:{door.port}/0?ssl_ca_certs={certificate}&{ours}"


@pytest.mark.parametrize("pool", ["threads", "processes"])
def test_apps_and_worker_meet_over_tls_and_meet_again_after_a_break(
    own_redis: RedisServer, door: FaultProxy, url: str, pool: str
) -> None:
    with Stack(redis=own_redis, broker_url=url) as stack:
        stack.migrate()
        apps = Apps(stack, "shop", "forum")
        worker = stack.worker("-P", pool, "-c", "2")
        with closing(apps):
            session = apps.register("ada")
            silent = apps.clients["forum"].silent_auth(user_id="ada", timeout=60)
            log = worker.log_text()
            door.cut()
            receipt = apps.clients["shop"].logout(
                user_id="ada", session_ref=session.session_ref, timeout=60
            )

    assert isinstance(silent, Authenticated)
    assert receipt.sessions_ended == 1
    # Answers, locks and budgets go by connections of their own, and none did without.
    for line in ("replies_unreachable", "answer_not_delivered", "redis_left_alone"):
        assert line not in log


def test_a_redis_with_a_certificate_of_nobody_we_know_gets_no_job(
    own_redis: RedisServer, url: str
) -> None:
    strangers, _, _ = url.partition("?")
    with (
        SessionClient(broker_url=strangers, app_id="shop", app_key=AppKey.generate()) as client,
        pytest.raises(BrokerUnavailable, match="SSLCertVerificationError"),
    ):
        client.silent_auth(user_id="ada", timeout=5)
    with redis.Redis.from_url(own_redis.url()) as admin:
        assert admin.dbsize() == 0


def test_a_redis_that_falls_silent_behind_tls_is_given_up_in_time(
    door: FaultProxy, url: str
) -> None:
    runner = ScriptRunner(redis.ConnectionPool.from_url(url, socket_timeout=1))
    with closing(runner):
        assert runner.run(ECHO, [], ["before"]) == b"before"
        door.black_hole()
        with pytest.raises(redis.TimeoutError):
            runner.run(ECHO, [], ["lost"])
        door.heal()
        assert runner.run(ECHO, [], ["after"]) == b"after"
