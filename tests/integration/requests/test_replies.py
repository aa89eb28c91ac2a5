"""What lies in Redis of an earlier answer is believed as far as it is sealed."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from session_client import requests, sealing
from session_client.contract import Reason, Verdict
from tests.stage import Sent, Stage
from worker.operations import apps as app_admin

NOISE = [b"", b"x", b"\xff\xfe", b"....", b"{}", b"0" * 70_000]


@pytest.fixture
def asked(sqlite_stage: Stage) -> tuple[Stage, Sent]:
    """Forum was given tokens of ada's session, and remembers with what request."""
    sqlite_stage.add_app("shop")
    sqlite_stage.add_app("forum", capabilities=("silent_by_user",))
    sqlite_stage.registered("ada", "shop")
    sent = sqlite_stage.seal("forum", requests.SilentAuth(user_id="ada"))
    assert sqlite_stage.deliver(sent).verdict is Verdict.AUTHENTICATED
    return sqlite_stage, sent


def record_of(sent: Sent) -> str:
    return f"request:{sent.kwargs['app_id']}:{sent.request_id}"


def deliver(stage: Stage, sent: Sent) -> Any:
    """Deliver it again; nothing that lies in Redis is a fault of the code."""
    with capture_logs() as logs:
        answer = stage.deliver(sent)
    assert "task_bug" not in {entry["event"] for entry in logs}
    return answer


@pytest.mark.parametrize("field", ["answer", "more"])
def test_noise_in_a_record_is_no_fault_and_the_request_is_served(
    asked: tuple[Stage, Sent], field: str
) -> None:
    stage, sent = asked
    for noise in NOISE:
        stage.redis.hset(record_of(sent), field, noise)

        assert deliver(stage, sent).verdict is Verdict.AUTHENTICATED, noise


def test_noise_for_what_was_asked_is_taken_for_another_request(asked: tuple[Stage, Sent]) -> None:
    stage, sent = asked
    for noise in NOISE:
        stage.redis.hset(record_of(sent), "digest", noise)

        assert deliver(stage, sent).reason == Reason.REQUEST_ID_REUSED, noise


def test_tokens_of_a_session_that_has_ended_are_not_given_again(
    asked: tuple[Stage, Sent],
) -> None:
    stage, sent = asked
    (row,) = stage.sessions()
    stage.log_out(session_ref=str(row.id))

    again = deliver(stage, sent)

    assert (again.verdict, again.reason) == (Verdict.LOGIN_REQUIRED, Reason.LOGGED_OUT)


def test_an_answer_to_another_request_is_not_given(asked: tuple[Stage, Sent]) -> None:
    stage, sent = asked
    other = stage.seal("forum", requests.SilentAuth(user_id="nobody"))
    stage.deliver(other)
    redis = stage.redis
    tokens: Any = redis.hget(record_of(sent), "answer")
    redis.hset(record_of(other), "answer", tokens)

    again = deliver(stage, other)

    assert (again.verdict, again.request_id) == (Verdict.LOGIN_REQUIRED, other.request_id)


def test_an_answer_that_the_app_itself_has_sealed_is_no_fault(asked: tuple[Stage, Sent]) -> None:
    stage, sent = asked
    content = {"task": sent.task.value, "app_id": "forum", "request_id": sent.request_id}
    forgeries: list[object] = [None, 7, [], {}, {"session_ref": 7}, {"session_ref": "x"}]
    for data in forgeries:
        forged = sealing.seal(
            stage.keys["forum"], sealing.Kind.ANSWER, content | {"data": data, "verdict": "ok"}
        )
        stage.redis.hset(record_of(sent), "answer", forged)

        with capture_logs() as logs:
            stage.run(sent)

        assert "task_bug" not in {entry["event"] for entry in logs}, data


def test_an_answer_under_a_key_that_was_retired_is_given_anew(asked: tuple[Stage, Sent]) -> None:
    stage, sent = asked
    old = stage.keys["forum"]
    new = app_admin.rotate_key(stage.services, "forum")
    app_admin.retire_key(stage.services, "forum", old.kid)
    stage.reread_apps()
    stage.keys["forum"] = new
    resealed = stage.seal("forum", requests.SilentAuth(user_id="ada"), request_id=sent.request_id)

    assert deliver(stage, resealed).verdict is Verdict.AUTHENTICATED
