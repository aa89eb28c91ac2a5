"""RabbitMQ behind TLS: for workers, operators and apps, with certificates on both sides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sandbox.ports import HOST
from sandbox.proxy import FaultProxy
from sandbox.rabbitmq import CLASSIC, RabbitMQ
from sandbox.redis_server import RedisServer
from session_client import Authenticated, BrokerUnavailable, LoginRequired, SessionClient
from session_client.keys import AppKey
from tests.certificates import make_certificate, server_context
from tests.faults.looking import registered, wait_until_mosaic_is_told
from tests.faults.rabbitmq_rig import stack_on
from worker import errors
from worker.celery_support import other_brokers


def test_apps_workers_and_operators_meet_over_tls(
    rabbitmq: RabbitMQ, own_redis: RedisServer
) -> None:
    url = rabbitmq.tls_url(CLASSIC)
    with stack_on(url, own_redis) as (stack, client):
        stack.worker("-c", "2")
        session = registered(stack, client)
        silent = client.silent_auth(user_id="ada", timeout=60)
        client.logout(user_id="ada", session_ref=session.session_ref, timeout=60)
        after = client.silent_auth(user_id="ada", timeout=60)
        wait_until_mosaic_is_told(stack)

    assert isinstance(silent, Authenticated)
    assert isinstance(after, LoginRequired)
    assert "logout" in other_brokers.depths(url, ["logout"])


@pytest.fixture
def others_name(rabbitmq: RabbitMQ, tmp_path: Path) -> Iterator[str]:
    """A server with a certificate that the client trusts, but of another name."""
    certificate = make_certificate(tmp_path, "elsewhere.example")
    with FaultProxy(HOST, rabbitmq.port, tls=server_context(certificate)) as proxy:
        yield f"amqps://guest:guest@{HOST}:{proxy.port}/{CLASSIC}?ssl_ca_certs={certificate}"


@pytest.mark.parametrize("of_its_own", [True, False])
def test_a_broker_of_another_name_or_of_nobody_we_know_gets_no_job(
    rabbitmq: RabbitMQ, others_name: str, *, of_its_own: bool
) -> None:
    stranger = f"amqps://guest:guest@{HOST}:{rabbitmq.tls_port}/{CLASSIC}"
    url = others_name if of_its_own else stranger
    with (
        SessionClient(
            broker_url=url,
            reply_url=f"redis://{HOST}:1/0",
            app_id="shop",
            app_key=AppKey.generate(),
        ) as client,
        pytest.raises(BrokerUnavailable, match="SSLCertVerificationError"),
    ):
        client.silent_auth(user_id="ada", timeout=10)
    with pytest.raises(errors.BrokerUnavailable, match="its certificate is not accepted"):
        other_brokers.check(url)


def test_whoever_says_so_gets_on_without_looking(others_name: str) -> None:
    place, _, _ = others_name.partition("?")

    other_brokers.check(f"{place}?ssl_cert_reqs=none")
