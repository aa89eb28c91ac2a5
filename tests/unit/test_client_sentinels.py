"""What a URL says of sentinels (with real ones, and a failover: tests/faults/test_failover.py)."""

from __future__ import annotations

import pytest
import redis

from sandbox.ports import HOST, free_port
from session_client import BrokerUnavailable, ConfigurationError, SessionClient, sentinels
from session_client.keys import AppKey


@pytest.mark.parametrize(
    ("url", "place", "told"),
    [
        ("redis://u:p%40@m/1?ssl_x=1", "redis://u:p%40@m/1?ssl_x=1", {}),
        (
            "rediss://u:p%40@m/1?sentinels=a:1,[::1]:2&ssl_x=1&sentinel_password=q",
            "rediss://u:p%40@m/1?ssl_x=1",
            {"sentinels": "a:1,[::1]:2", "sentinel_password": "q"},
        ),
    ],
)
def test_kombu_gets_a_url_without_them(url: str, place: str, told: dict[str, str]) -> None:
    assert sentinels.split(url) == (place, told)


def test_places_are_hosts_with_ports() -> None:
    assert sentinels.places("a:1, [::1]:26379") == [("a", 1), ("::1", 26379)]
    for wrong in ("", "a", "a:1,", "a:1;b:2", "a:x", "redis://a:1"):
        with pytest.raises(ValueError, match="sentinels: needs host:port"):
            sentinels.places(wrong)


def test_without_sentinels_connections_are_as_before() -> None:
    pool = redis.ConnectionPool.from_url("redis://host/0")

    assert sentinels.follow(pool).connection_class is redis.Connection


def test_where_no_sentinel_answers_an_app_hears_of_it_in_time() -> None:
    url = f"redis://:canary@mymaster/0?sentinels={HOST}:{free_port()},{HOST}:{free_port()}"
    with (
        SessionClient(broker_url=url, app_id="shop", app_key=AppKey.generate()) as client,
        pytest.raises(BrokerUnavailable) as caught,
    ):
        client.status(user_id="ada", timeout=5)

    assert "canary" not in str(caught.value)


def test_an_app_that_misspells_them_hears_of_it_at_once() -> None:
    with pytest.raises(ConfigurationError, match="broker_url"):
        SessionClient(
            broker_url="redis://:canary@m/0?sentinels=a", app_id="shop", app_key=AppKey.generate()
        )
