"""The broker's URL decides what celeryconfig says about the broker."""

from __future__ import annotations

import base64
import runpy
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from kombu import Connection

from worker.celery_support import transport
from worker.settings import model as settings_module

ROOT = Path(__file__).parents[2]


Connect = Callable[[str], Connection]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Connect:
    """Makes connections as the worker makes them; nobody has connected yet."""
    monkeypatch.delenv("CELERY_BROKER_URL", raising=False)  # Celery itself reads it, first of all

    def connect(url: str) -> Connection:
        environment = {
            "CELERY_BROKER_URL": url,
            "REDIS_URL": "redis://cache/0",
            "MOSAIC_SESSIONS_ENCRYPTION_KEYS": f"k1:{base64.b64encode(b'k' * 32).decode()}",
            "MOSAIC_SESSIONS_LOOKUP_KEY": base64.b64encode(b"l" * 32).decode(),
        }
        monkeypatch.setattr(settings_module, "current", lambda: settings_module.read(environment))
        config: dict[str, Any] = runpy.run_path(str(ROOT / "celeryconfig.py"))
        app = Celery("any", set_as_current=False)
        app.conf.update({k: value for k, value in config.items() if k.startswith("broker_")})
        return app.connection_for_write()

    return connect


@pytest.mark.parametrize("url", ["redis://h/0", "rediss://h/0"])
def test_a_redis_is_spoken_to_by_our_transport(connect: Connect, url: str) -> None:
    assert type(connect(url).transport) is transport.Transport


def test_another_broker_is_spoken_to_by_its_own(connect: Connect) -> None:
    assert type(connect("memory://").transport).__module__ == "kombu.transport.memory"


@pytest.mark.parametrize("url", ["redis://h/0", "memory://"])
def test_tls_is_spoken_only_where_the_url_says_so(connect: Connect, url: str) -> None:
    assert not connect(url).ssl


def test_rediss_means_tls_with_a_certificate_that_is_looked_at(connect: Connect) -> None:
    assert connect("rediss://h/0").ssl == {"ssl_cert_reqs": "required"}


def test_what_the_url_says_about_tls_wins(connect: Connect) -> None:
    connection = connect("rediss://h/0?ssl_cert_reqs=none&ssl_ca_certs=/ca.pem")

    assert connection.ssl == {"ssl_cert_reqs": ssl.CERT_NONE, "ssl_ca_certs": "/ca.pem"}


def test_amqps_means_tls_with_a_certificate_of_that_name(connect: Connect) -> None:
    connection = connect("amqps://u:p@h/v?ssl_ca_certs=/ca.pem&heartbeat=10")

    assert connection.ssl == {
        "cert_reqs": ssl.CERT_REQUIRED,
        "server_hostname": "h",
        "ca_certs": "/ca.pem",
    }
    assert (connection.hostname, connection.virtual_host) == ("h", "v")
    assert connection.heartbeat == 10


def test_whoever_wants_no_certificate_looked_at_says_so(connect: Connect) -> None:
    assert connect("amqps://h/v?ssl_cert_reqs=none").ssl == {"cert_reqs": ssl.CERT_NONE}
