"""An app that is told through its own queue: until it confirms."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from models import new_id
from session_client import open_notice
from session_client.contract import LOGOUT_NOTICE_TASK, Verdict
from session_client.errors import InvalidNotice
from tests.integration.outbox.propagation_rig import (
    QUEUE,
    Broker,
    by_queue,
    confirm,
    deliver,
    owed,
    receipt,
    the_notice,
)
from tests.stage import Stage, redis_client
from worker.errors import NoticeUndelivered
from worker.operations import apps
from worker.outbox import app_notices
from worker.tasks import notices as tasks


def test_a_message_goes_to_the_apps_own_queue_and_to_no_other(stage: Stage, redis_url: str) -> None:
    stage.add_app("shop")
    by_queue(stage, "forum")
    with redis_client(redis_url) as client:
        notice_id = owed(stage)
        before = client.llen("logout")

        tasks.deliver(str(notice_id))

        assert client.llen(QUEUE) == 1
        assert client.llen("logout") == before
    assert the_notice(stage).closed_at is None


def test_a_message_is_sealed_to_the_app_and_says_what_ended(queued: Stage) -> None:
    notice_id = owed(queued)
    broker = Broker()

    assert deliver(queued, notice_id, broker) is None

    ((queue, task, kwargs),) = broker.messages
    assert (queue, task, kwargs["app_id"]) == (QUEUE, LOGOUT_NOTICE_TASK, "forum")
    (session,) = queued.sessions()
    opened = broker.open_last(queued)
    assert (opened.notice_id, opened.user_id) == (str(notice_id), "ada")
    assert (opened.session_ref, opened.cause) == (str(session.id), "logout")
    assert opened.ended_at == session.ended_at
    with pytest.raises(InvalidNotice):
        open_notice(kwargs["envelope"], app_id="forum", app_keys=[queued.keys["shop"]])


def test_it_is_sent_again_until_the_app_confirms_and_then_no_more(queued: Stage) -> None:
    notice_id = owed(queued)
    broker = Broker()
    for _ in range(3):
        deliver(queued, notice_id, broker)
        queued.pass_time(minutes=6)

    assert confirm(queued, broker.open_last(queued).notice_id).verdict is Verdict.OK
    assert deliver(queued, notice_id, broker) is None

    assert len(broker.messages) == 3
    ids = {
        open_notice(m[2]["envelope"], app_id="forum", app_keys=[queued.keys["forum"]]).notice_id
        for m in broker.messages
    }
    assert ids == {str(notice_id)}
    assert the_notice(queued).outcome == "confirmed"
    assert queued.events()[-1] == ("app_confirmed", None)


def test_while_a_key_is_rotated_every_key_gets_its_turn(queued: Stage) -> None:
    notice_id = owed(queued)
    broker = Broker()
    old = queued.keys["forum"]
    new = apps.rotate_key(queued.services, "forum")
    queued.reread_apps()

    for _ in range(4):
        deliver(queued, notice_id, broker)
        queued.pass_time(minutes=6)

    def opens(envelope: str, key: Any) -> bool:
        with suppress(InvalidNotice):
            open_notice(envelope, app_id="forum", app_keys=[key])
            return True
        return False

    envelopes = [kwargs["envelope"] for _, _, kwargs in broker.messages]
    assert [opens(envelope, old) for envelope in envelopes] == [True, False, True, False]
    assert [opens(envelope, new) for envelope in envelopes] == [False, True, False, True]


def test_a_broker_that_takes_nothing_puts_the_message_off(queued: Stage) -> None:
    notice_id = owed(queued)
    broker = Broker()
    broker.error = NoticeUndelivered("the broker took no message")

    assert deliver(queued, notice_id, broker) is None
    assert "no message" in the_notice(queued).last_error
    queued.pass_time(minutes=1)
    broker.error = None
    deliver(queued, notice_id, broker)

    assert len(broker.messages) == 1
    assert the_notice(queued).last_error is None


def test_a_confirmation_by_another_app_changes_nothing(queued: Stage) -> None:
    notice_id = owed(queued)
    before = queued.dump()

    answers = [confirm(queued, notice_id, "shop"), confirm(queued, new_id(), "forum")]

    assert {given.verdict for given in answers} == {Verdict.OK}  # it does not tell what exists
    assert queued.dump() == before


def test_confirming_again_changes_nothing(queued: Stage) -> None:
    notice_id = owed(queued)
    confirm(queued, notice_id)
    before = queued.dump()
    queued.pass_time(hours=1)

    assert confirm(queued, notice_id).verdict is Verdict.OK
    assert queued.dump() == before


def test_confirmations_at_once_are_one(queued: Stage) -> None:
    notice_id = owed(queued)

    queued.at_once(*[lambda: confirm(queued, notice_id)] * 4)

    assert queued.events().count(("app_confirmed", None)) == 1


def test_a_late_confirmation_is_better_than_a_failure(queued: Stage) -> None:
    ref = queued.registered("ada", "shop")
    queued.silent_auth("ada", "forum")
    receipt_id = queued.log_out(session_ref=str(ref)).receipt_id
    notice_id = the_notice(queued).id
    queued.pass_time(days=4)
    assert deliver(queued, notice_id) == "failed"
    assert "not confirmed in time" in the_notice(queued).last_error
    assert receipt(queued, receipt_id).apps_failed == ("forum",)

    confirm(queued, notice_id)

    assert the_notice(queued).outcome == "confirmed"
    assert receipt(queued, receipt_id).apps_confirmed == ("forum",)
    assert app_notices.replay_failed(queued.services) == 0
