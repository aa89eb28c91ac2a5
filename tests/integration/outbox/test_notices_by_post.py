"""An app that is told over HTTP: until it says so or it is too late."""

from __future__ import annotations

import threading
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.integration.backchannel.notices_rig import (
    ISSUER,
    Receiver,
    answer,
    saying,
    token_in,
    verify_logout_token,
)
from tests.integration.outbox.propagation_rig import (
    Broker,
    by_post,
    deliver,
    owed,
    the_notice,
)
from tests.stage import Stage, claims_of
from worker.backchannel import build_notice_sender
from worker.outbox import app_notices, notice_delivery


def test_an_app_that_answers_200_has_confirmed(sender: Stage) -> None:
    with Receiver(saying(answer())) as receiver:
        by_post(sender, "forum", f"{receiver.url}/logout")
        notice_id = owed(sender)

        assert deliver(sender, notice_id) == "confirmed"
        assert deliver(sender, notice_id) is None

    (request,) = receiver.requests
    claims = verify_logout_token(
        token_in(request),
        sender.services.notices.public_keys(),
        issuer=ISSUER,
        audience="client-forum",
        now=sender.now(),
    )
    row = the_notice(sender)
    assert (claims["sub"], claims["sid"]) == ("ada", str(row.idp_session_id))
    assert claims["jti"] == str(notice_id)
    assert (row.outcome, row.attempts, row.lease_token) == ("confirmed", 1, None)
    assert sender.events()[-1] == ("app_confirmed", None)


def test_an_app_that_answers_400_has_refused_for_good_and_visibly(sender: Stage) -> None:
    with Receiver(saying(answer("400 Bad Request"))) as receiver:
        by_post(sender, "forum", receiver.url)
        notice_id = owed(sender)

        assert deliver(sender, notice_id) == "failed"
        assert deliver(sender, notice_id) is None

    row = the_notice(sender)
    assert len(receiver.requests) == row.attempts == 1
    assert row.outcome == "failed"
    assert "400" in row.last_error
    assert sender.events()[-1] == ("app_given_up", None)


def test_a_worker_without_signing_keys_leaves_the_notice_to_one_that_has_them(
    sender: Stage,
) -> None:
    unsigned = sender.settings.model_copy(update={"notice_signing_keys": None})
    with (
        Receiver(saying(answer())) as receiver,
        closing(build_notice_sender(unsigned, sender.now)) as without_keys,
    ):
        by_post(sender, "forum", receiver.url)
        notice_id = owed(sender)
        keyless = replace(sender.services, notices=without_keys)
        with capture_logs() as logs:
            assert notice_delivery.deliver(keyless, notice_id, Broker()) is None
        put_off = the_notice(sender)
        sender.pass_time(minutes=6)

        assert deliver(sender, notice_id) == "confirmed"

    assert (put_off.closed_at, put_off.lease_token) == (None, None)
    assert "MOSAIC_SESSIONS_NOTICE_SIGNING_KEYS" in put_off.last_error
    (told,) = [line for line in logs if line["log_level"] == "error"]
    assert (told["event"], told["app"]) == ("operator_must_act", "forum")


def test_a_notice_that_nobody_could_sign_before_the_horizon_has_failed(sender: Stage) -> None:
    unsigned = sender.settings.model_copy(update={"notice_signing_keys": None})
    with closing(build_notice_sender(unsigned, sender.now)) as without_keys:
        by_post(sender, "forum", "http://127.0.0.1:1/logout")
        notice_id = owed(sender)
        sender.pass_time(days=4)

        keyless = replace(sender.services, notices=without_keys)
        assert notice_delivery.deliver(keyless, notice_id, Broker()) == "failed"


@pytest.mark.parametrize("trouble", ["500", "silence", "hang-up"])
def test_an_app_in_trouble_is_told_again_and_again_with_one_id(sender: Stage, trouble: str) -> None:
    healed, over = threading.Event(), threading.Event()

    def talk(connection: Any) -> None:
        if healed.is_set():
            connection.sendall(answer().encode())
        elif trouble == "500":
            connection.sendall(answer("500 Oh").encode())
        elif trouble == "silence":
            over.wait(2.5)

    with Receiver(talk) as receiver:
        by_post(sender, "forum", receiver.url)
        notice_id = owed(sender)
        pauses = []
        patient = sender.services
        if trouble == "silence":  # the only one that has to be waited for
            hasty = patient.settings.model_copy(update={"notice_timeout_seconds": 2.0})
            sender.services = replace(patient, settings=hasty)
        for attempt in (1, 2):
            assert deliver(sender, notice_id) is None
            row = the_notice(sender)
            assert (row.attempts, row.closed_at, row.leased_until) == (attempt, None, None)
            assert row.last_error.startswith("NoticeUndelivered")
            pauses.append(row.next_attempt_at - sender.now())
            assert deliver(sender, notice_id) is None  # before its time: nobody is told
            sender.pass_time(minutes=6)
        healed.set()
        over.set()
        sender.services = patient
        assert deliver(sender, notice_id) == "confirmed"

    assert all(pause > timedelta(seconds=1) for pause in pauses)
    told = [claims_of(token_in(request))["jti"] for request in receiver.requests]
    assert told == [str(notice_id)] * 3


def test_a_notice_not_taken_before_the_horizon_has_failed_visibly(sender: Stage) -> None:
    with Receiver(saying(answer("503 Later"))) as receiver:
        by_post(sender, "forum", receiver.url)
        notice_id = owed(sender)
        sender.pass_time(days=2, hours=23)
        assert deliver(sender, notice_id) is None
        sender.pass_time(hours=2)
        assert deliver(sender, notice_id) == "failed"

    row = the_notice(sender)
    assert row.outcome == "failed"
    assert "503" in row.last_error
    assert sender.events()[-1] == ("app_given_up", None)


def test_failed_notices_are_opened_again_on_request_and_others_are_not(sender: Stage) -> None:
    statuses = ["400 No", "200 OK"]

    def talk(connection: Any) -> None:
        connection.sendall(answer(statuses.pop(0)).encode())

    with Receiver(talk) as receiver:
        by_post(sender, "forum", receiver.url)
        notice_id = owed(sender)
        assert app_notices.replay_failed(sender.services) == 0  # it is open
        deliver(sender, notice_id)
        assert app_notices.replay_failed(sender.services, "shop") == 0
        sender.pass_time(days=4)

        assert app_notices.replay_failed(sender.services, "forum") == 1
        assert deliver(sender, notice_id) == "confirmed"

    told = [claims_of(token_in(request))["jti"] for request in receiver.requests]
    assert told == [str(notice_id)] * 2
    assert app_notices.replay_failed(sender.services) == 0  # it is confirmed


def test_a_notice_that_is_opened_again_is_tried_for_as_long_as_a_new_one(sender: Stage) -> None:
    with Receiver(saying(answer("503 Later"))) as receiver:
        by_post(sender, "forum", receiver.url)
        notice_id = owed(sender)
        sender.pass_time(days=4)
        assert deliver(sender, notice_id) == "failed"
        app_notices.replay_failed(sender.services)

        for outcome in (None, None, "failed"):
            assert deliver(sender, notice_id) == outcome
            sender.pass_time(days=2)
