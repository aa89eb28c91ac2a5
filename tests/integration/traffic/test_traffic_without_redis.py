"""Sharing is courtesy and speed: without its Redis each process calls Mosaic as it must."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import redis
from structlog.testing import capture_logs

from sandbox.proxy import FaultProxy
from sandbox.redis_server import RedisServer
from session_client.contract import Reason, Verdict
from simulator.server import SimulatorServer
from tests.integration.traffic.traffic_rig import plan, publish
from tests.stage import Stage
from worker import wiring
from worker.errors import MosaicRateLimited
from worker.storage import best_effort
from worker.storage.best_effort import BestEffortRedis
from worker.storage.redis_client import connect_redis
from worker.storage.redis_scripts import ScriptRunner
from worker.traffic import Lead, Traffic
from worker.wiring import Services

ASK = "session/authenticate"


@pytest.fixture
def proxy(redis_server: RedisServer, redis_url: str) -> Iterator[FaultProxy]:
    """The way to Redis for what is shared; all else has its own."""
    with FaultProxy("127.0.0.1", redis_server.port) as proxy:
        yield proxy


@pytest.fixture
def stage(
    sqlite_url: str,
    redis_url: str,
    mosaic: SimulatorServer,
    proxy: FaultProxy,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Stage]:
    with Stage(sqlite_url, redis_url, mosaic, reuse_seconds="30") as stage:
        stage.add_app("shop")
        stage.add_app("forum")
        with _traffic_through(stage, f"redis://127.0.0.1:{proxy.port}/0"):
            yield stage


@contextmanager
def _traffic_through(stage: Stage, url: str) -> Iterator[Services]:
    runner, client = ScriptRunner(connect_redis(url, 1.0).connection_pool), connect_redis(url)
    services = stage.services
    shared = BestEffortRedis(runner, client)
    traffic = Traffic(shared, client, stage.settings, services.keyring, stage.now)
    try:
        with wiring.use(replace(services, traffic=traffic)) as changed:
            stage.services = changed
            yield changed
    finally:
        stage.services = services
        shared.close()
        client.close()


def asked(stage: Stage) -> int:
    return stage.mosaic.state.calls.count(ASK)


def times_given_up(logs: list[Any]) -> int:
    return sum(line["event"] == "redis_left_alone" for line in logs)


def lose(proxy: FaultProxy, how: str) -> None:
    if how == "silent":
        proxy.black_hole_all()
    else:
        proxy.refuse()
        proxy.cut()


@pytest.mark.parametrize("how", ["refused", "silent"])
def test_apps_are_served_and_mosaic_told_without_it(
    stage: Stage, proxy: FaultProxy, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(best_effort, "REST_SECONDS", 600.0)
    ref = stage.registered()
    lose(proxy, how)

    with capture_logs() as logs:
        answers = [stage.silent_auth() for _ in range(5)]
        stage.log_out(session_ref=str(ref))
        outcomes = stage.tell_mosaic()

    assert {answer.verdict for answer in answers} == {Verdict.AUTHENTICATED}
    assert asked(stage) == 5
    assert outcomes == ["confirmed"]
    assert stage.silent_auth().verdict is Verdict.LOGIN_REQUIRED
    # The time-out was lost once, not by each of the requests.
    assert times_given_up(logs) == 1


def test_a_failure_of_mosaic_is_told_as_it_is_without_it(stage: Stage, proxy: FaultProxy) -> None:
    stage.registered()
    lose(proxy, "refused")
    stage.mosaic.state.faults.add(ASK, "status", status=503, times=1)
    stage.mosaic.state.faults.add(ASK, "rate_limited", retry_after=7, times=2)

    answers = [stage.silent_auth() for _ in range(3)]

    assert [answer.reason for answer in answers[:1]] == [Reason.IDP_UNAVAILABLE]
    assert {answer.verdict for answer in answers[:2]} == {Verdict.TEMPORARILY_UNAVAILABLE}
    assert answers[1].retry_after == 7
    assert answers[2].verdict is Verdict.AUTHENTICATED


def test_a_limit_without_a_time_is_told_as_a_second_without_it(
    stage: Stage, proxy: FaultProxy
) -> None:
    lose(proxy, "refused")
    app = stage.services.apps.find("forum")
    assert app is not None
    permit = stage.services.traffic.admit_logout(app.mosaic, "session", is_untried=True)

    with pytest.raises(MosaicRateLimited) as told, permit.observe():
        raise MosaicRateLimited

    assert told.value.retry_after == 1.0


def test_what_is_shared_is_shared_again_once_it_is_back(
    stage: Stage, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(best_effort, "REST_SECONDS", 0.0)
    stage.registered()
    lose(proxy, "refused")
    stage.silent_auth()
    stage.silent_auth()
    assert asked(stage) == 2

    proxy.heal()
    stage.silent_auth()
    stage.silent_auth()

    assert asked(stage) == 3


def test_a_redis_that_forgot_its_scripts_is_taught_them_again(stage: Stage, redis_url: str) -> None:
    stage.registered()
    stage.silent_auth()
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
        client.script_flush()

    with capture_logs() as logs:
        stage.silent_auth()
        stage.silent_auth()

    assert asked(stage) == 2
    assert times_given_up(logs) == 0


def test_a_lead_that_nobody_knows_of_ends_without_a_word(
    stage: Stage, proxy: FaultProxy, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(best_effort, "REST_SECONDS", 0.0)
    lose(proxy, "refused")
    traffic = stage.services.traffic
    lead = traffic.single_flight.join(plan())
    assert isinstance(lead, Lead)
    proxy.heal()

    with capture_logs() as logs:
        publish(traffic, lead, {}, version=1, seconds=60)

    assert times_given_up(logs) == 0
    with redis.Redis.from_url(redis_url) as client:
        assert client.keys("mosaic-sessions:flight:*") == []


def test_a_lead_whose_start_was_answered_to_nobody_keeps_nobody_waiting(
    stage: Stage, proxy: FaultProxy, redis_url: str
) -> None:
    stage.registered()
    lost = proxy.drop_next_reply(b"$2\r\ngo")

    answer = stage.silent_auth()

    assert lost.is_set()
    assert answer.verdict is Verdict.AUTHENTICATED
    with redis.Redis.from_url(redis_url) as client:
        assert client.keys("mosaic-sessions:flight:*:lease") == []
        assert len(client.keys("mosaic-sessions:flight:*:answer")) == 1


def test_one_who_waits_when_it_goes_away_asks_for_themselves(
    stage: Stage, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(best_effort, "REST_SECONDS", 600.0)
    stage.registered()
    waits = threading.Event()
    single_flight = stage.services.traffic.single_flight
    wait = single_flight.wait

    def told(call: Any, seconds: float) -> None:
        waits.set()
        wait(call, seconds)

    monkeypatch.setattr(single_flight, "wait", told)
    with stage.mosaic.state.gates.hold(ASK) as gate, ThreadPoolExecutor(2) as threads:
        first = threads.submit(stage.silent_auth)
        gate.wait_arrived()
        second = threads.submit(stage.silent_auth)
        waits.wait(60)
        lose(proxy, "refused")
        gate.wait_arrived(2)
        gate.release()
        answers = [first.result(), second.result()]

    assert {answer.verdict for answer in answers} == {Verdict.AUTHENTICATED}
