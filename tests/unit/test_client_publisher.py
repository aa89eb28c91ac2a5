"""How the client speaks to its broker."""

from __future__ import annotations

import ssl
from types import SimpleNamespace
from typing import Any

import pytest

from session_client import ConfigurationError, _celery, broker
from session_client._celery import CeleryPublisher
from session_client._core import message
from session_client._redis.settings import Place
from session_client.keys import AppKey
from session_client.requests import Status


@pytest.mark.parametrize(
    ("url", "spoken"),
    [
        ("redis://h/0", False),
        ("rediss://h/0", {"ssl_cert_reqs": "required"}),
        ("rediss://h/0?ssl_ca_certs=/ca.pem", {"ssl_ca_certs": "/ca.pem"}),
        ("rediss://h/0?ssl_cert_reqs=none", {"ssl_cert_reqs": ssl.CERT_NONE}),
    ],
)
def test_rediss_means_a_certificate_that_is_looked_at(url: str, spoken: object) -> None:
    publisher = CeleryPublisher(url, "client")

    assert publisher._connections.connection.ssl == spoken
    publisher.close()


def test_an_app_that_takes_notices_notes_its_jobs_under_keys_of_its_own() -> None:
    of_the_workers = broker.transport_options(client_name="session-worker")
    of_the_app = broker.transport_options(client_name="app-desk", app_id="desk")

    added = {key: of_the_app[key] for key in of_the_app if key not in of_the_workers}
    assert added == {
        "unacked_key": "app:desk:unacked",
        "unacked_index_key": "app:desk:unacked_index",
        "unacked_mutex_key": "app:desk:unacked_mutex",
    }


def test_an_app_id_that_is_none_becomes_no_key() -> None:
    with pytest.raises(ConfigurationError, match="app_id"):
        broker.transport_options(client_name="app-desk", app_id="desk:1")


@pytest.mark.parametrize(("asked", "checked"), [("", True), ("?ssl_cert_reqs=none", False)])
def test_with_every_redis_py_a_certificate_must_name_the_host(asked: str, *, checked: bool) -> None:
    place = Place(f"rediss://h/0{asked}", "client")

    assert place._options["ssl_check_hostname"] is checked


def test_who_waited_to_publish_is_confirmed_within_what_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [100.0]
    monkeypatch.setattr(_celery, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    publisher = CeleryPublisher("memory://", "client")
    acquire = publisher._producers.acquire
    patience: list[float] = []

    def acquire_late(**how: Any) -> Any:
        clock[0] += 8
        return acquire(**how)

    def send(*_: object, **how: Any) -> None:
        patience.append(how["confirm_timeout"])

    monkeypatch.setattr(publisher._producers, "acquire", acquire_late)
    monkeypatch.setattr(publisher._app, "send_task", send)
    status = message.seal(Status(user_id="ada"), app_id="shop", key=AppKey.generate())

    publisher.publish(status, until=109.0)

    publisher.close()
    assert patience == [0.5]  # a second is left, for two tries
