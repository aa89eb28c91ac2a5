"""The broker under each name that operators know it by: a job comes, and an answer goes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.redis_server import RedisServer
from sandbox.stack import Stack
from session_client import Registered, SessionClient


@pytest.fixture
def socket_path(tmp_path: Path) -> Path:
    return tmp_path / "redis.sock"


@pytest.fixture
def own_redis(socket_path: Path) -> Iterator[RedisServer]:
    with RedisServer(extra_config={"unixsocket": str(socket_path)}) as server:
        yield server


@pytest.mark.parametrize(
    "spelling",
    ["unix://{path}?db=1", "redis+socket://{path}?virtual_host=1", "valkey://127.0.0.1:{port}/1"],
)
def test_a_worker_serves_an_app_whatever_its_broker_is_called(
    own_redis: RedisServer, socket_path: Path, spelling: str
) -> None:
    url = spelling.format(path=socket_path, port=own_redis.port)
    with Stack(redis=own_redis, broker_url=url) as stack:
        stack.migrate()
        key = stack.add_app("shop")
        login = stack.mosaic.login("ada", "client-shop", amr=("pwd",))
        stack.worker()
        with SessionClient(broker_url=own_redis.url(1), app_id="shop", app_key=key) as client:
            answer = client.register(
                user_id="ada", session_id=login.session_id, id_token=login.id_token, timeout=30
            )
            assert isinstance(answer, Registered)
            receipt = client.logout(user_id="ada", session_ref=answer.session_ref, timeout=30)

    assert receipt.sessions_ended == 1
