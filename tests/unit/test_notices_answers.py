"""Every status an app may answer with, and what becomes of the notice."""

from __future__ import annotations

import pytest

from worker.backchannel.responses import TABLE, Meaning, accept
from worker.errors import NoticeRefused, NoticeUndelivered
from worker.http_client import HttpAnswer

# Written from the specification and the decisions in its absence, not from the table.
DELIVERED = {200, 204, 201, 202, 203, 205, 206, 207, 226, 299}
REFUSED = {300, 301, 302, 303, 304, 307, 308, 399, 400}
UNDELIVERED = {101, *range(401, 600), 600, 999}


@pytest.mark.parametrize("status", sorted(DELIVERED))
def test_success_is_delivery(status: int) -> None:
    accept(HttpAnswer(status))


@pytest.mark.parametrize("status", sorted(REFUSED))
def test_a_redirect_and_a_400_are_final(status: int) -> None:
    with pytest.raises(NoticeRefused, match=str(status)):
        accept(HttpAnswer(status))


@pytest.mark.parametrize("status", sorted(UNDELIVERED))
def test_everything_else_may_pass(status: int) -> None:
    with pytest.raises(NoticeUndelivered, match=str(status)) as caught:
        accept(HttpAnswer(status, retry_after=17.0))

    assert caught.value.retry_after == 17.0


def test_an_app_that_names_no_time_is_asked_again_after_the_usual_one() -> None:
    with pytest.raises(NoticeUndelivered) as caught:
        accept(HttpAnswer(503))

    assert caught.value.retry_after == NoticeUndelivered().retry_after


def test_a_retry_after_of_nought_is_heard() -> None:
    with pytest.raises(NoticeUndelivered) as caught:
        accept(HttpAnswer(503, retry_after=0.0))

    assert caught.value.retry_after == 0.0


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.words)
def test_every_row_is_reached_and_says_its_words(row: object) -> None:
    reached = {
        next(candidate for candidate in TABLE if status in candidate.statuses)
        for status in range(1000)
    }

    assert row in reached
    assert set(Meaning) == {candidate.meaning for candidate in TABLE}


def test_the_body_of_an_answer_is_not_repeated() -> None:
    with pytest.raises(NoticeRefused) as caught:
        accept(HttpAnswer(400, b"you sent canary-31"))

    assert "canary" not in str(caught.value)
