from __future__ import annotations

import base64
import json
from typing import Any
from uuid import UUID

from session_client.contract import Queue
from tests.integration.cli.cli_rig import complaint, run, three_notices, told
from tests.integration.outbox.propagation_rig import Broker, by_queue, deliver, notices, receipt
from tests.stage import Stage


def listed(*arguments: str) -> list[Any]:
    notices: list[Any] = told("notices", "list", *arguments)["notices"]
    return notices


def sessions_of(notices: list[Any]) -> list[UUID]:
    return [UUID(notice["session_ref"]) for notice in notices]


def test_pending_and_failed_are_listed_oldest_first_with_their_errors(stage: Stage) -> None:
    given_up, failing, fresh = three_notices(stage)

    notices = listed()

    assert sessions_of(notices) == [given_up, failing, fresh]
    assert [notice["state"] for notice in notices] == ["failed", "pending", "pending"]
    assert [notice["attempts"] for notice in notices] == [1, 1, 0]
    assert notices[0]["last_error"] == "it will never take it"
    assert notices[0]["next_attempt_at"] is None
    assert "it did not answer" in notices[1]["last_error"]
    assert notices[1]["next_attempt_at"] is not None
    assert {notice["cause"] for notice in notices} == {"logout"}


def test_a_person_reads_state_error_and_age_on_one_line(sqlite_stage: Stage) -> None:
    given_up, _, _ = three_notices(sqlite_stage)

    (line,) = [line for line in run("notices", "list").stdout.splitlines() if str(given_up) in line]

    assert all(word in line for word in ("forum", "failed", "it will never take it", " s"))


def test_notices_are_narrowed_by_failure_and_app(stage: Stage) -> None:
    given_up, _, _ = three_notices(stage)

    assert sessions_of(listed("--failed")) == [given_up]
    assert len(listed("--app", "forum")) == 3
    assert listed("--app", "shop") == []
    assert "there is no app 'nobody'" in complaint("notices", "list", "--app", "nobody")


def test_a_listing_says_when_there_is_more(sqlite_stage: Stage) -> None:
    three_notices(sqlite_stage)

    assert told("notices", "list", "--limit", "2")["has_more"] is True
    assert told("notices", "list", "--limit", "3")["has_more"] is False
    assert "more than 2" in run("notices", "list", "--limit", "2").stdout


def woken(stage: Stage) -> set[UUID]:
    """The deliveries whose messages wait."""
    messages: Any = stage.redis.lrange(Queue.NOTIFY, 0, -1)
    bodies = (json.loads(base64.b64decode(json.loads(message)["body"])) for message in messages)
    return {UUID(arguments[0]) for arguments, *_ in bodies}


def test_what_failed_is_replayed_and_taken_up_at_once_with_the_same_id(stage: Stage) -> None:
    three_notices(stage)
    (failed,) = listed("--failed")

    assert told("notices", "replay") == {"opened": 1}

    assert listed("--failed") == []
    assert UUID(failed["notice_id"]) in woken(stage)


def test_replay_is_narrowed_by_app(sqlite_stage: Stage) -> None:
    three_notices(sqlite_stage)

    assert told("notices", "replay", "--app", "shop") == {"opened": 0}
    assert run("notices", "replay", "--app", "forum").stdout == "Pending again: 1\n"
    assert "there is no app 'nobody'" in complaint("notices", "replay", "--app", "nobody")


def tell_all(stage: Stage) -> None:
    """Do what the wake-ups of all open notices would do."""
    stage.pass_time(minutes=6)
    for notice in notices(stage):
        if notice.closed_at is None:
            deliver(stage, notice.id)


def test_notices_of_an_app_whose_address_was_taken_away_are_no_failures(stage: Stage) -> None:
    three_notices(stage)
    run("apps", "disable", "forum")
    run("apps", "set-notice", "forum", "--none")

    tell_all(stage)
    given_up_before = told("status", expect=69)["notices"]["failed"]
    run("notices", "replay")
    tell_all(stage)

    counts = told("status", expect=69)["notices"]
    assert given_up_before == 1
    assert (counts["pending"], counts["failed"]) == (0, 0)
    assert listed() == listed("--failed") == []
    assert {notice.outcome for notice in notices(stage)} == {"no_address"}
    assert told("notices", "replay") == {"opened": 0}


def test_an_app_that_has_an_address_again_is_told_when_its_notices_are_replayed(
    stage: Stage,
) -> None:
    three_notices(stage)
    run("apps", "set-notice", "forum", "--none")
    tell_all(stage)
    run("apps", "set-notice", "forum", "--notice-queue", "forum-notices")
    broker = Broker()

    assert told("notices", "replay") == {"opened": 3}
    for notice in notices(stage):
        deliver(stage, notice.id, broker)
    assert len(broker.messages) == 3


def test_the_receipt_and_the_explanation_name_no_failure_where_the_address_was_taken_away(
    stage: Stage,
) -> None:
    by_queue(stage, "forum")
    stage.add_app("shop")
    session = stage.registered("ada", "shop")
    stage.silent_auth("ada", "forum")
    proof = stage.log_out(session_ref=str(session))
    stage.tell_mosaic()
    said = run("apps", "set-notice", "forum", "--none").stdout
    tell_all(stage)

    assert "what it has not confirmed is closed, and is no failure" in said
    found = receipt(stage, proof.receipt_id)
    explained = told("explain", "receipt", proof.receipt_id)

    assert (found.apps_pending, found.apps_confirmed, found.apps_failed) == ((), (), ())
    assert explained["state"] == "done"
    (of_session,) = explained["sessions"]
    says = [fact["says"] for fact in of_session["told"]]
    assert "forum is not told: it has no notice address any more" in says
    (shown,) = told("sessions", "show", str(session))["notices"]
    assert shown["state"] == "no_address"


def test_a_session_is_shown_with_its_notices(sqlite_stage: Stage) -> None:
    given_up, _, _ = three_notices(sqlite_stage)

    (notice,) = told("sessions", "show", str(given_up))["notices"]

    assert (notice["app_id"], notice["state"]) == ("forum", "failed")
    printed = run("sessions", "show", str(given_up)).stdout
    assert "Notices to its apps" in printed
    assert "it will never take it" in printed
