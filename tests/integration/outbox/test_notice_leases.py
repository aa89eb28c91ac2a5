"""One worker at a time tells an app, and what a dead one had begun another takes over."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Any, NoReturn
from uuid import UUID

import pytest

from tests.integration.backchannel.notices_rig import (
    Receiver,
    answer,
)
from tests.integration.outbox.propagation_rig import (
    Broker,
    by_post,
    confirm,
    deliver,
    owed,
    the_notice,
)
from tests.stage import Stage
from worker.errors import NoticeUndelivered
from worker.outbox import notice_delivery


class Gated:
    """An app that holds its answers until the test lets it go."""

    def __init__(self) -> None:
        self.arrived = threading.Semaphore(0)
        self.let_go = threading.Event()
        self.calls = 0

    def __call__(self, *_: Any) -> datetime:
        self.calls += 1
        self.arrived.release()
        assert self.let_go.wait(60)
        return datetime.now(UTC)

    def wait_arrived(self) -> None:
        assert self.arrived.acquire(timeout=60)


def test_while_one_worker_tells_the_app_another_leaves_the_notice_alone(sender: Stage) -> None:
    gate = Gated()

    def talk(connection: Any) -> None:
        gate()
        connection.sendall(answer().encode())

    with Receiver(talk) as receiver:
        by_post(sender, "forum", receiver.url)
        notice_id = owed(sender)
        with sender.meanwhile(lambda: deliver(sender, notice_id)) as working:
            gate.wait_arrived()
            assert deliver(sender, notice_id) is None
            gate.let_go.set()

    assert working.result() == "confirmed"
    assert len(receiver.requests) == 1


def test_many_workers_at_once_tell_the_app_once(queued: Stage) -> None:
    notice_id = owed(queued)
    broker = Broker()

    queued.at_once(*[lambda: deliver(queued, notice_id, broker)] * 6)

    assert len(broker.messages) == 1
    assert the_notice(queued).attempts == 1


def _die(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _killed(stage: Stage, notice_id: UUID) -> None:
    with pytest.raises(KeyboardInterrupt):
        notice_delivery.deliver(stage.services, notice_id, _die)


def test_a_dead_workers_notice_is_taken_over_when_its_lease_ends(queued: Stage) -> None:
    notice_id = owed(queued)
    broker = Broker()
    _killed(queued, notice_id)

    assert deliver(queued, notice_id, broker) is None
    assert broker.messages == []
    queued.pass_time(seconds=61)
    deliver(queued, notice_id, broker)

    assert len(broker.messages) == 1
    assert (the_notice(queued).attempts, the_notice(queued).crashes) == (2, 0)


@pytest.mark.parametrize("late_error", [None, NoticeUndelivered("late")])
def test_a_worker_that_lost_its_lease_cannot_write_back(
    queued: Stage, late_error: Exception | None
) -> None:
    notice_id = owed(queued)
    gate, heirs_gate = Gated(), Gated()

    def late(*arguments: Any) -> datetime:
        published_at = gate(*arguments)
        if late_error is not None:
            raise late_error
        return published_at

    with queued.meanwhile(
        lambda: notice_delivery.deliver(queued.services, notice_id, late)
    ) as working:
        gate.wait_arrived()
        queued.pass_time(seconds=61)
        with queued.meanwhile(
            lambda: notice_delivery.deliver(queued.services, notice_id, heirs_gate)
        ) as heir:
            heirs_gate.wait_arrived()
            taken_over = the_notice(queued)
            gate.let_go.set()
            assert working.result(60) is None
            assert the_notice(queued) == taken_over
            heirs_gate.let_go.set()

    assert heir.result() is None
    row = the_notice(queued)
    assert (row.attempts, row.lease_token, row.last_error) == (2, None, None)


def test_a_confirmation_takes_the_lease_from_whoever_is_still_telling(queued: Stage) -> None:
    notice_id = owed(queued)
    gate = Gated()
    queued.pass_time(days=4)  # past the horizon: the worker would close it as failed

    with queued.meanwhile(
        lambda: notice_delivery.deliver(queued.services, notice_id, gate)
    ) as working:
        gate.wait_arrived()
        confirm(queued, notice_id)
        gate.let_go.set()

    assert working.result() is None
    assert the_notice(queued).outcome == "confirmed"
