"""However a call ends, its lead ends with it: nobody waits for a lease that serves no one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import pytest

from session_client.contract import Reason, Verdict
from simulator.server import SimulatorServer
from tests.integration.traffic.traffic_fleet import ASK, Fleet, running_fleet
from tests.stage import redis_client
from worker.errors import (
    ClientRefused,
    InvalidRequest,
    MosaicContractBroken,
    MosaicUnavailable,
    StoreUnavailable,
    TokenRejected,
)
from worker.mosaic import MosaicGateway
from worker.requests.outcomes import Outcome
from worker.sign_in import ask_mosaic
from worker.storage import redis_scripts


@pytest.fixture
def fleet(sqlite_url: str, redis_url: str, mosaic: SimulatorServer) -> Iterator[Fleet]:
    with running_fleet(sqlite_url, redis_url, mosaic) as fleet:
        yield fleet


ENDINGS = [
    *(MosaicUnavailable(), ClientRefused(), MosaicContractBroken(), TokenRejected("exp")),
    *(InvalidRequest(Reason.DEADLINE_PASSED), RuntimeError(), KeyboardInterrupt(), SystemExit()),
]


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("where", [(MosaicGateway, "authenticate_session"), (ask_mosaic, "settle")])
def test_a_call_that_ends_badly_ends_its_lead(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, where: tuple[Any, str], ending: BaseException
) -> None:
    seen = []

    def end_badly(*_: Any, **__: Any) -> None:
        seen.append(fleet.leases())
        raise ending

    with monkeypatch.context() as patch:
        patch.setattr(*where, end_badly)
        try:
            answer = fleet.ask()
        except BaseException as error:  # noqa: BLE001 - those end up there, too
            assert error is ending  # noqa: PT017 - or an answer
        else:
            assert answer.verdict is Verdict.TEMPORARILY_UNAVAILABLE

    assert seen == [1]
    assert fleet.leases() == 0
    assert fleet.ask().verdict is Verdict.AUTHENTICATED


def test_a_deadline_that_passes_before_the_call_is_nobody_elses_failure(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    authenticate = MosaicGateway.authenticate_session
    endings: list[Exception] = [InvalidRequest(Reason.DEADLINE_PASSED)]

    def late_once(*arguments: Any, **options: Any) -> Any:
        fleet.wait_for_waiters(1)
        if endings:
            raise endings.pop()
        return authenticate(*arguments, **options)

    monkeypatch.setattr(MosaicGateway, "authenticate_session", late_once)
    with fleet.asking({}, {}, {}) as asking_now:
        ended: list[Future[Outcome]] = list(asking_now)
        refused = [future for future in ended if future.exception() is not None]

    assert len(refused) == 1
    served = {future.result().verdict for future in ended if future not in refused}
    assert served == {Verdict.AUTHENTICATED}


def test_a_store_that_is_away_fails_those_who_wait(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> None:
        raise StoreUnavailable

    monkeypatch.setattr(ask_mosaic, "settle", away)
    with fleet.stage.mosaic.state.gates.hold(ASK) as gate, fleet.asking({}, {}, {}) as asking_now:
        fleet.wait_for_waiters(2)
        gate.release()
        reasons = {future.result().reason for future in asking_now}

    assert reasons == {Reason.STORE_UNAVAILABLE}
    assert fleet.asked() == 1


def test_an_answer_that_is_too_weak_for_who_asked_ends_its_lead(fleet: Fleet) -> None:
    login = fleet.stage.login("eve", "shop")
    boast = fleet.stage.mosaic.state.mint_id_token(
        sub="eve", aud="client-shop", amr=["mfa", "pwd", "sms"]
    )
    fleet.stage.remember(login, "eve", id_token=boast)

    answer = fleet.ask("eve", amr_all_of=["mfa"])

    assert answer.verdict is Verdict.INTERACTION_REQUIRED
    assert fleet.leases() == 0


def test_an_answer_that_is_lost_on_its_way_ends_its_lead(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when Redis fails over: all connections are cut, and the first to be used tells."""
    monkeypatch.setattr(redis_scripts, "BELIEVED_SECONDS", 600.0)
    stage = fleet.stage
    with stage.mosaic.state.gates.hold(ASK) as gate, stage.meanwhile(stage.silent_auth) as lost:
        gate.wait_arrived()
        assert fleet.leases() == 1
        with redis_client(fleet.redis_url) as admin:
            admin.client_kill_filter(_type="normal", skipme=True)
        gate.release()
        assert lost.result(60) is None

    assert fleet.leases() == 0
    answer = fleet.ask()
    assert answer.verdict is Verdict.AUTHENTICATED


@contextmanager
def full_redis(fleet: Fleet) -> Iterator[Callable[[], object]]:
    with redis_client(fleet.redis_url) as admin:
        try:
            yield lambda: admin.config_set("maxmemory", 1)
        finally:
            admin.config_set("maxmemory", 0)


def test_an_answer_that_redis_refuses_costs_no_connection(fleet: Fleet) -> None:
    """Made anew for each answer, they would be one more burden for a Redis that is full."""
    stage = fleet.stage
    idle = stage.services.scripts._idle
    with (
        full_redis(fleet) as fill_up,
        stage.mosaic.state.gates.hold(ASK) as gate,
        stage.meanwhile(stage.silent_auth) as refused,
    ):
        gate.wait_arrived()
        before = [connection for connection, _ in idle]
        fill_up()
        gate.release()
        assert refused.result(60) is None
    after = [connection for connection, _ in idle]

    assert before
    assert all(any(one is other for other in after) for one in before)
    assert fleet.leases() == 0
