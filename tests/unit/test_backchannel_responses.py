"""Every status an app may answer with, and what becomes of the notice."""

from __future__ import annotations

import pytest

from worker.backchannel.responses import TABLE, Meaning, accept
from worker.errors import NoticeRefused, NoticeUndelivered
from worker.http_client import HttpAnswer

# Written from the specification and the decisions in its absence, not from the table: each kind of
# answer, and the borders between the kinds.
DELIVERED = [200, 202, 204, 299]
REFUSED = [300, 302, 399, 400]
UNDELIVERED = [101, 199, 401, 403, 404, 405, 408, 410, 418, 425, 429, 499, 500, 503, 599, 600, 999]


@pytest.mark.parametrize("status", DELIVERED)
def test_success_is_delivery(status: int) -> None:
    accept(HttpAnswer(status))


@pytest.mark.parametrize("status", REFUSED)
def test_a_redirect_and_a_400_are_final(status: int) -> None:
    with pytest.raises(NoticeRefused, match=str(status)):
        accept(HttpAnswer(status))


@pytest.mark.parametrize("status", UNDELIVERED)
def test_everything_else_may_pass(status: int) -> None:
    with pytest.raises(NoticeUndelivered, match=str(status)) as caught:
        accept(HttpAnswer(status, headers={b"retry-after": ["17"]}))

    assert caught.value.retry_after == 17.0


def test_an_app_that_names_no_time_is_asked_again_after_the_usual_one() -> None:
    with pytest.raises(NoticeUndelivered) as caught:
        accept(HttpAnswer(503))

    assert caught.value.retry_after == NoticeUndelivered().retry_after


def test_a_retry_after_of_nought_is_heard() -> None:
    with pytest.raises(NoticeUndelivered) as caught:
        accept(HttpAnswer(503, headers={b"retry-after": ["0"]}))

    assert caught.value.retry_after == 0.0


def test_every_row_is_reached_by_a_status_above() -> None:
    statuses = [*DELIVERED, *REFUSED, *UNDELIVERED]
    reached = {next(row for row in TABLE if status in row.statuses) for status in statuses}

    assert reached == set(TABLE)
    assert set(Meaning) == {row.meaning for row in TABLE}


def test_the_body_of_an_answer_is_not_repeated() -> None:
    with pytest.raises(NoticeRefused) as caught:
        accept(HttpAnswer(400, b"you sent canary-31"))

    assert "canary" not in str(caught.value)
