"""Deliveries are woken until they are done; one that kills its workers is dead-lettered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NoReturn
from uuid import UUID

import pytest
import redis
from structlog.testing import capture_logs

from models import Logout, Notice
from sandbox.ports import free_port
from session_client.contract import Reason, Verdict
from simulator.server import SimulatorServer
from tests.integration.celery_support.transport_rig import Taker
from tests.integration.outbox.propagation_rig import (
    QUEUE,
    Broker,
    by_queue,
    deliver,
    notices,
    owed,
    receipt,
    the_notice,
)
from tests.stage import Stage, redis_client
from worker.app import app as celery_app
from worker.errors import HeldBack, StoreUnavailable
from worker.maintenance.purge import purge_history
from worker.outbox import app_notices, leases, mosaic_logouts, notice_delivery
from worker.outbox.leases import MAX_CRASHES, wake_due
from worker.tasks import logouts as logout_tasks
from worker.tasks import maintenance as maintenance_tasks
from worker.tasks import notices as notice_tasks


@pytest.fixture
def queued(store_url: str, redis_url: str, mosaic: SimulatorServer) -> Iterator[Stage]:
    with Stage(store_url, redis_url, mosaic, keep_ended_days="10") as stage:
        stage.add_app("shop")
        by_queue(stage, "forum")
        yield stage


def the_logout(stage: Stage) -> Any:
    (row,) = stage.logouts()
    return row


def _die(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def work_on_notice(stage: Stage) -> str | None:
    return notice_delivery.deliver(stage.services, the_notice(stage).id, _die)


def work_on_logout(stage: Stage) -> str | None:
    return mosaic_logouts.end_at_idp(stage.services, the_logout(stage).id)


DELIVERIES: dict[str, tuple[Callable[[Stage], str | None], Callable[[Stage], Any]]] = {
    "notice": (work_on_notice, the_notice),
    "logout": (work_on_logout, the_logout),
}


def logged_out(stage: Stage) -> str:
    """Owe Mosaic and forum the end of a session; return the receipt's id."""
    ref = stage.registered("ada", "shop")
    stage.silent_auth("ada", "forum")
    receipt_id: str = stage.log_out(session_ref=str(ref)).receipt_id
    return receipt_id


@pytest.mark.parametrize("kind", DELIVERIES)
def test_a_delivery_that_keeps_killing_its_workers_is_dead_lettered_visibly(
    queued: Stage, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    work, row_of = DELIVERIES[kind]
    receipt_id = logged_out(queued)
    monkeypatch.setattr(mosaic_logouts, "_tell_mosaic", _die)

    for _ in range(MAX_CRASHES + 1):
        with pytest.raises(KeyboardInterrupt):
            work(queued)
        queued.pass_time(seconds=61)
    assert row_of(queued).closed_at is None

    assert work(queued) is None
    row = row_of(queued)
    assert (row.outcome, row.crashes, row.lease_token) == ("dead", MAX_CRASHES + 1, None)
    assert "died" in row.last_error
    queued.pass_time(minutes=10)
    assert row.id not in wake_due(queued.services, Logout) + wake_due(queued.services, Notice)
    proof = receipt(queued, receipt_id)
    assert (proof.idp_failed, proof.apps_failed) == (
        (0, ("forum",)) if kind == "notice" else (1, ())
    )
    assert proof.idp_unconfirmed == 0  # that says: it has expired at Mosaic


@pytest.mark.parametrize("kind", DELIVERIES)
def test_workers_that_die_now_and_then_in_a_long_outage_are_no_reason_to_give_up(
    queued: Stage, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    work, row_of = DELIVERIES[kind]
    logged_out(queued)
    tell_mosaic = mosaic_logouts._tell_mosaic
    queued.mosaic.state.faults.add("session/logout", "status", status=503)

    for _ in range(MAX_CRASHES + 5):
        monkeypatch.setattr(mosaic_logouts, "_tell_mosaic", _die)
        with pytest.raises(KeyboardInterrupt):
            work(queued)
        queued.pass_time(seconds=61)
        monkeypatch.setattr(mosaic_logouts, "_tell_mosaic", tell_mosaic)
        if kind == "notice":
            deliver(queued, row_of(queued).id)
        else:
            work(queued)
        queued.pass_time(minutes=6)

    row = row_of(queued)
    assert (row.crashes, row.closed_at) == (0, None)


def test_an_attempt_that_was_held_back_proves_nothing_of_a_delivery_that_kills(
    queued: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged_out(queued)

    def held_back(*_: object) -> NoReturn:
        raise HeldBack("not now", Reason.IDP_UNAVAILABLE, 1.0)

    for _ in range(MAX_CRASHES + 1):
        monkeypatch.setattr(mosaic_logouts, "_tell_mosaic", _die)
        with pytest.raises(KeyboardInterrupt):
            work_on_logout(queued)
        queued.pass_time(seconds=61)
        monkeypatch.setattr(mosaic_logouts, "_tell_mosaic", held_back)
        work_on_logout(queued)
        queued.pass_time(minutes=6)

    assert the_logout(queued).outcome == "dead"


def test_a_dead_lettered_notice_can_be_opened_again(
    queued: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "MAX_CRASHES", 0)
    notice_id = owed(queued)
    with pytest.raises(KeyboardInterrupt):
        work_on_notice(queued)
    queued.pass_time(seconds=61)
    work_on_notice(queued)
    assert the_notice(queued).outcome == "dead"

    assert app_notices.replay_failed(queued.services) == 1

    assert wake_due(queued.services, Notice) == [notice_id]
    broker = Broker()
    deliver(queued, notice_id, broker)
    assert broker.open_last(queued).notice_id == str(notice_id)
    assert the_notice(queued).crashes == 0


def test_a_failure_that_is_told_is_no_crash(queued: Stage) -> None:
    notice_id = owed(queued)

    for _ in range(MAX_CRASHES + 5):
        deliver(queued, notice_id)
        queued.pass_time(minutes=6)

    row = the_notice(queued)
    assert (row.crashes, row.attempts, row.closed_at) == (0, MAX_CRASHES + 5, None)


# --- the sweep


def test_a_sweep_wakes_both_kinds_of_deliveries_on_their_queues(
    queued: Stage, redis_url: str
) -> None:
    owed(queued)
    with redis_client(redis_url) as client:
        client.delete("idp", "notify")  # the broker has lost every message
        maintenance_tasks.sweep()
        assert (client.llen("idp"), client.llen("notify")) == (0, 0)  # just woken
        queued.pass_time(seconds=11)

        maintenance_tasks.sweep()

        assert (client.llen("idp"), client.llen("notify")) == (1, 1)
        assert client.llen(QUEUE) == 0
    notice_tasks.deliver(str(the_notice(queued).id))
    logout_tasks.end_at_idp(str(the_logout(queued).id))
    assert the_logout(queued).outcome == "confirmed"
    with redis_client(redis_url) as client:
        assert client.llen(QUEUE) == 1


def test_an_ending_that_nobody_woke_is_found_by_the_sweep(queued: Stage) -> None:
    queued.registered("ada", "shop")
    queued.silent_auth("ada", "forum")
    (session,) = queued.mosaic.state.live_sessions()
    queued.mosaic.state.end_session(session.session_id)
    queued.silent_auth("ada", "shop")
    queued.pass_time(seconds=11)

    assert wake_due(queued.services, Notice) == [the_notice(queued).id]


def test_a_sweep_without_a_database_is_skipped(
    queued: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(*_: object) -> list[UUID]:
        raise StoreUnavailable

    monkeypatch.setattr(leases, "wake_due", unavailable)

    maintenance_tasks.sweep()


def test_a_task_without_a_database_leaves_its_delivery_to_the_sweep(
    queued: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    notice_id = owed(queued)

    def unavailable(*_: object) -> None:
        raise StoreUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(leases, "claim", unavailable)
        notice_tasks.deliver(str(notice_id))
        logout_tasks.end_at_idp(str(the_logout(queued).id))
    queued.pass_time(seconds=11)

    assert wake_due(queued.services, Notice) == [notice_id]


@pytest.mark.parametrize("kind", [Notice, Logout])
def test_sweeps_at_once_share_the_rows(queued: Stage, kind: leases.DeliveryKind) -> None:
    for _ in range(12):
        ref = queued.registered("ada", "shop")
        assert queued.silent_auth("ada", "forum").verdict is Verdict.AUTHENTICATED
        queued.log_out(session_ref=str(ref))
    queued.pass_time(seconds=11)

    woken = queued.at_once(*[lambda: wake_due(queued.services, kind)] * 4)

    rows = notices(queued) if kind is Notice else queued.logouts()
    assert sorted(each for share in woken for each in share) == sorted(row.id for row in rows)
    assert len(rows) == 12


def test_what_is_leased_closed_or_put_off_is_not_woken(queued: Stage) -> None:
    notice_id = owed(queued)
    with pytest.raises(KeyboardInterrupt):
        work_on_notice(queued)
    queued.pass_time(seconds=30)
    assert wake_due(queued.services, Notice) == []  # leased
    queued.pass_time(seconds=31)
    assert wake_due(queued.services, Notice) == [notice_id]
    for _ in range(12):
        deliver(queued, notice_id)
        queued.pass_time(minutes=6)
    deliver(queued, notice_id)
    queued.pass_time(seconds=11)
    assert wake_due(queued.services, Notice) == []  # put off: its pause is 30 s at least


# --- a queue that nobody takes


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(leases, "SWEEP_BATCH", 3)
    return 3


def owe(stage: Stage, count: int) -> None:
    """Have *count* sessions ended that Mosaic and forum must be told about."""
    for _ in range(count):
        ref = stage.registered("ada", "shop")
        assert stage.silent_auth("ada", "forum").verdict is Verdict.AUTHENTICATED
        stage.log_out(session_ref=str(ref))


def lengths(client: redis.Redis) -> list[Any]:
    return [client.llen(queue) for queue in ("idp", "notify")]


def work_on_all_messages(redis_url: str) -> None:
    with Taker(redis_url, "idp", "notify", no_ack=True) as taker:
        taker.look()
    for message in taker.got:
        (delivery_id,), _, _ = message.payload
        celery_app.tasks[message.headers["task"]](delivery_id)


def test_wake_ups_that_nobody_takes_do_not_pile_up_and_all_are_told_in_the_end(
    queued: Stage, redis_url: str, small_batches: int
) -> None:
    owe(queued, 8)
    with redis_client(redis_url) as client:
        client.delete("idp", "notify")  # the broker has lost every message
        for _ in range(20):
            queued.pass_time(seconds=11)
            maintenance_tasks.sweep()
            assert 0 < min(lengths(client)) <= max(lengths(client)) <= 2 * small_batches

    for _ in range(8):  # somebody takes them again
        work_on_all_messages(redis_url)
        queued.pass_time(seconds=11)
        maintenance_tasks.sweep()

    assert [row.outcome for row in queued.logouts()] == ["confirmed"] * 8
    assert all(row.attempts for row in notices(queued))


def test_a_queue_that_is_long_is_named_and_the_other_one_goes_on(
    queued: Stage, redis_url: str, small_batches: int
) -> None:
    owe(queued, 1)
    queued.pass_time(seconds=11)
    with redis_client(redis_url) as client, capture_logs() as logs:
        client.delete("idp", "notify")
        client.lpush("idp", *["a message"] * (small_batches + 1))

        maintenance_tasks.sweep()

        assert lengths(client) == [small_batches + 1, 1]
    assert [(log["event"], log["queue"], log["waiting"]) for log in logs] == [
        ("wake_ups_held_back", "idp", small_batches + 1)
    ]
    assert "-Q idp" in logs[0]["detail"]


def test_deliveries_that_were_held_back_are_woken_as_soon_as_there_is_room(
    queued: Stage, redis_url: str, small_batches: int
) -> None:
    owe(queued, 1)
    queued.pass_time(seconds=11)
    with redis_client(redis_url) as client:
        client.delete("idp", "notify")
        for queue in ("idp", "notify"):
            client.lpush(queue, *["a message"] * (small_batches + 1))
        maintenance_tasks.sweep()

        for queue in ("idp", "notify"):
            client.ltrim(queue, 0, small_batches - 1)
        maintenance_tasks.sweep()

        assert lengths(client) == [small_batches + 1, small_batches + 1]


def test_a_queue_that_cannot_be_asked_stops_no_sweep(queued: Stage, redis_url: str) -> None:
    owe(queued, 1)
    queued.pass_time(seconds=11)
    with redis_client(redis_url) as client:
        client.delete("idp", "notify")
        client.set("idp", "no queue")  # Redis refuses to tell its length, and to push

        maintenance_tasks.sweep()

        assert client.llen("notify") == 1


def test_a_broker_that_is_away_when_asked_stops_no_sweep(queued: Stage, redis_url: str) -> None:
    owe(queued, 1)
    queued.pass_time(seconds=11)
    assert queued.services.broker is not None
    queued.services.broker.connection_pool.connection_kwargs["port"] = free_port()
    queued.services.broker.connection_pool.disconnect()
    with redis_client(redis_url) as client:
        client.delete("idp", "notify")

        maintenance_tasks.sweep()

        assert lengths(client) == [1, 1]


def test_a_sweep_connects_to_no_broker_anew(queued: Stage, redis_url: str) -> None:
    owe(queued, 1)
    maintenance_tasks.sweep()  # from here on there is a connection for each purpose
    queued.pass_time(seconds=11)
    with redis_client(redis_url) as client:
        client.delete("idp", "notify")

        def connections() -> int:
            told: Any = client.info("stats")
            return int(told["total_connections_received"])

        before = connections()
        maintenance_tasks.sweep()

        assert lengths(client) == [1, 1]
        assert connections() == before


# --- history


def test_a_session_stays_while_an_app_must_still_be_told(queued: Stage) -> None:
    notice_id = owed(queued)
    assert queued.tell_mosaic() == ["confirmed"]
    queued.pass_time(days=11)

    assert purge_history(queued.services, dry_run=True).rows["sessions"] == 0
    assert purge_history(queued.services).rows["sessions"] == 0
    assert the_notice(queued).closed_at is None
    deliver(queued, notice_id)  # the horizon is past
    assert the_notice(queued).outcome == "failed"

    assert purge_history(queued.services).rows["sessions"] == 1
    assert notices(queued) == queued.sessions() == []
