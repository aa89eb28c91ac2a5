"""What a process remembers of sessions' ends: for long enough, of bounded size, from any thread."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_client import Reason, Verdict
from session_client.ended import EndedSessions, reason_of
from session_client.reading import Answered

MINUTE = 60.0  # for which answers are kept
REQUEST_ID = "r" * 16


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def memory(clock: Clock) -> EndedSessions:
    return EndedSessions(most=100, now=clock)


def good_news(verdict: str = "authenticated", session_ref: str | None = "ref") -> Answered:
    data: dict[str, Any] = {
        "tokens": {},
        "session_ref": session_ref,
        "browser_token": "a-browser-token",
    }
    return Answered(verdict=Verdict(verdict), request_id=REQUEST_ID, data=data)


def refusal(reason: str, **data: Any) -> Answered:
    return Answered(verdict=Verdict.LOGIN_REQUIRED, request_id=REQUEST_ID, reason=reason, data=data)


RECEIPT = Answered(verdict=Verdict.OK, request_id=REQUEST_ID, data={"session_refs": ["one", "two"]})


@pytest.mark.parametrize("verdict", ["authenticated", "ok", "interaction_required"])
def test_good_news_of_a_session_that_has_ended_is_none(memory: EndedSessions, verdict: str) -> None:
    memory.add("ref", "revoked")

    held = memory.hold(good_news(verdict))

    assert (held.verdict, held.reason) == (Verdict.LOGIN_REQUIRED, Reason.REVOKED)
    assert (held.request_id, held.data) == (REQUEST_ID, {})


@pytest.mark.parametrize(
    "answer",
    [
        good_news(session_ref="another"),
        good_news(session_ref=None),
        refusal("expired", session_ref="ref"),
        RECEIPT,
    ],
    ids=lambda answer: answer.in_words(),
)
def test_everything_else_is_passed_on_as_it_is(memory: EndedSessions, answer: Answered) -> None:
    memory.add("ref")

    assert memory.hold(answer) is answer


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("outlast"), st.floats(0.1, 24 * 3600)),
            st.tuples(st.just("end"), st.integers(0, 9)),
            st.tuples(st.just("wait"), st.floats(0, 400)),
        ),
        max_size=60,
    )
)
def test_an_end_is_remembered_while_any_answer_may_be_on_its_way_and_not_for_ever(
    happenings: list[tuple[str, float]],
) -> None:
    clock = Clock()
    memory = EndedSessions(now=clock)
    longest, seen = 10.0, dict[str, tuple[float, float]]()
    for what, value in happenings:
        if what == "outlast":
            memory.outlast(value)
            longest = max(longest, min(value, 300.0))  # no request with tokens is served later
        elif what == "end":
            memory.add(f"ref-{value}")
            seen[f"ref-{value}"] = (clock.now, longest)
        else:
            clock.now += value

        for ref, (at, timeout) in seen.items():
            is_kept = clock.now < at + timeout + MINUTE
            assert (memory.reason(ref) is not None) == is_kept


def test_it_holds_no_more_than_it_may_and_the_newest_at_that(memory: EndedSessions) -> None:
    for number in range(1000):
        memory.add(f"ref-{number}")

    assert len(memory) == 100
    assert memory.reason("ref-899") is None
    assert memory.reason("ref-900") == Reason.LOGGED_OUT


def test_an_end_that_is_seen_again_is_among_the_newest(memory: EndedSessions) -> None:
    for number in range(100):
        memory.add(f"ref-{number}")

    memory.add("ref-0")
    memory.add("one more")

    assert memory.reason("ref-0") == Reason.LOGGED_OUT
    assert memory.reason("ref-1") is None


def test_what_is_over_takes_no_room(memory: EndedSessions, clock: Clock) -> None:
    for number in range(50):
        memory.add(f"ref-{number}")
    clock.now += 10 + MINUTE

    memory.add("the-next")

    assert len(memory) == 1


def test_an_end_that_is_seen_again_is_remembered_anew(memory: EndedSessions, clock: Clock) -> None:
    memory.add("ref")
    memory.add("another")
    clock.now += 60
    memory.add("ref")
    clock.now += 60
    memory.add("a-third")

    assert memory.reason("ref") == Reason.LOGGED_OUT
    assert memory.reason("another") is None


@pytest.mark.parametrize("reason", ["gone_at_idp", "of a newer worker"])
def test_a_refusal_teaches_how_the_session_that_it_names_ended(
    memory: EndedSessions, reason: str
) -> None:
    memory.learn(refusal(reason, session_ref="ref"))

    assert memory.reason("ref") == reason


@pytest.mark.parametrize(
    "answer",
    [refusal("no_session"), refusal("logged_out"), good_news(), good_news("interaction_required")],
    ids=lambda answer: answer.in_words(),
)
def test_an_answer_that_names_no_ended_session_teaches_nothing(
    memory: EndedSessions, answer: Answered
) -> None:
    memory.learn(answer)

    assert len(memory) == 0


def test_a_receipt_teaches_what_it_ended(memory: EndedSessions) -> None:
    memory.learn(RECEIPT)

    assert [memory.reason(ref) for ref in ("one", "two")] == [Reason.LOGGED_OUT] * 2


@pytest.mark.parametrize(
    ("cause", "reason"),
    [("revoked", "revoked"), ("logout", "logged_out"), (None, "logged_out"), ("new", "logged_out")],
)
def test_a_notices_cause_becomes_the_contracts_word(cause: str | None, reason: str) -> None:
    assert reason_of(cause) == reason


def test_any_thread_may_add_and_ask() -> None:
    memory = EndedSessions(most=50)

    def work(thread: int) -> None:
        for number in range(2000):
            memory.add(f"{thread}-{number}")
            memory.reason(f"{thread}-{number // 2}")
            memory.hold(good_news(session_ref=f"{thread}-{number}"))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))

    assert len(memory) == 50
