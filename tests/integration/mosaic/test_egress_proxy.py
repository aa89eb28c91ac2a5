"""Mosaic by way of a proxy, where nothing else leads out of the network."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from sandbox.egress_proxy import EgressProxy
from sandbox.ports import HOST, free_port
from session_client.contract import Verdict
from simulator.server import SimulatorServer
from tests.certificates import make_certificate
from tests.integration.mosaic.mosaic_rig import RawServer
from tests.integration.mosaic.test_mosaic_http import answer, over_tls, saying, soon
from tests.stage import Stage
from worker.errors import MosaicTimedOut, MosaicUnavailable
from worker.mosaic.asked import Endpoint
from worker.mosaic.deadline import Deadline
from worker.mosaic.http_calls import MosaicHttp

PASSWORD = "pw/cänary@88"
SPELT = "pw%2Fc%C3%A4nary%4088"


@pytest.fixture
def proxy() -> Iterator[EgressProxy]:
    with EgressProxy("worker", PASSWORD) as proxy:
        yield proxy


def way_by(proxy: EgressProxy, password: str = SPELT) -> str:
    return f"http://worker:{password}@{HOST}:{proxy.port}"


@contextmanager
def http_by(proxy_url: str, certificate: Path | None = None) -> Iterator[MosaicHttp]:
    trusted = None if certificate is None else certificate.read_text(encoding="ascii")
    with closing(MosaicHttp(trusted, proxy_url)) as http:
        yield http


def test_a_user_is_signed_in_and_out_and_each_call_went_by_the_proxy(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer, proxy: EgressProxy
) -> None:
    with Stage(sqlite_url, redis_url, mosaic, mosaic_proxy=way_by(proxy)) as stage:
        stage.add_app("shop")
        stage.add_app("forum")
        session = stage.registered()
        silent = stage.silent_auth()
        stage.log_out(session_ref=str(session))
        told = stage.tell_mosaic()

    assert silent.verdict is Verdict.AUTHENTICATED
    assert told == ["confirmed"]
    assert len(proxy.requests) == len(mosaic.state.calls.log())
    assert all(mosaic.url in line for line in proxy.requests)


def test_what_goes_by_https_is_tunnelled(proxy: EgressProxy, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path, HOST)
    with (
        RawServer(over_tls(certificate, answer()), reads_first=False) as server,
        http_by(way_by(proxy), certificate) as http,
    ):
        url = server.url.replace("http:", "https:") + "/secret-path"
        status = http.get(Endpoint.JWKS, url, soon()).status

    assert status == 200
    assert proxy.requests == [f"CONNECT {url.split('/')[2]} HTTP/1.1"]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_does_not_let_us_through_is_named(proxy: EgressProxy, scheme: str) -> None:
    with (
        RawServer(saying(answer())) as server,
        http_by(way_by(proxy, "wrong-canary")) as http,
        pytest.raises(MosaicUnavailable, match=r"the proxy refuses with 407") as caught,
    ):
        http.get(Endpoint.JWKS, server.url.replace("http", scheme, 1), soon())

    assert caught.value.was_sent is False
    assert "canary" not in repr(caught.value)
    assert server.requests == []


def test_a_proxy_that_is_away_is_named() -> None:
    with (
        http_by(f"http://u:canary@{HOST}:{free_port()}") as http,
        pytest.raises(MosaicUnavailable, match="ConnectError by way of the proxy") as caught,
    ):
        http.get(Endpoint.JWKS, "https://mosaic.example/jwks", soon())

    assert "canary" not in repr(caught.value)


def test_a_proxy_that_says_nothing_is_given_up_in_time() -> None:
    with (
        RawServer(lambda _: time.sleep(2)) as silent,
        http_by(silent.url) as http,
        pytest.raises(MosaicTimedOut),
    ):
        http.get(Endpoint.JWKS, "https://mosaic.example/jwks", Deadline.after(0.3))
