"""Of what a message says to Celery itself, only that it is one task of ours, now, is obeyed."""

from __future__ import annotations

import bz2
import json
import tracemalloc
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kombu.message import Message

from session_client import contract
from session_client.contract import Queue
from worker.celery_support.message_guard import MAX_HELD, MessageGuard, seal_wait
from worker.metrics import Rejection

KEY = b"k" * 32
HEADERS = {"task": "sessions.status", "id": "r" * 22}
HIDDEN = {"argsrepr": "-", "kwargsrepr": "-"}
PLAIN: list[Any] = [[], {"app_id": "shop"}, {}]
PURGE = {"task": "maintenance.purge_history", "options": {"queue": "maintenance"}}
OWN = {
    "logouts.end_at_idp": Queue.IDP,
    "logouts.end_user_at_idp": Queue.IDP,
    "logouts.end_orphans": Queue.IDP,
    "notices.deliver": Queue.NOTIFY,
    "maintenance.sweep": Queue.MAINTENANCE,
}
GUARD = MessageGuard({task: queue.value for task, queue in (contract.QUEUE_OF | OWN).items()}, KEY)


def message(
    headers: Any = HEADERS, content: Any = PLAIN, queue: str = "sessions", **more: Any
) -> Any:
    headers = {**headers, **more} if more else headers
    return as_sent(json.dumps(content).encode(), "application/json", "utf-8", headers, queue)


def as_sent(
    body: Any, kind: Any, encoding: Any, headers: Any = HEADERS, queue: str = "sessions"
) -> Any:
    """A message as a consumer that accepts JSON alone is given it."""
    return Message(
        body,
        content_type=kind,
        content_encoding=encoding,
        headers=headers,
        delivery_info={"exchange": "", "routing_key": queue},
        accept={"application/json"},
    )


def reduce(told: Any, held: int = 0) -> Rejection | None:
    return GUARD.reduce(told, held)


def after(**duration: float) -> str:
    return (datetime.now(UTC) + timedelta(**duration)).isoformat()


def retry(key: bytes = KEY, content: Any = PLAIN, **headers: Any) -> Any:
    """A message that a worker with *key* has put off."""
    told = {**HEADERS, "retries": 5, "eta": after(seconds=30)} | headers
    seal_wait(told, key)
    return message(told, content)


@pytest.mark.parametrize(
    "embed", [{}, dict.fromkeys(["callbacks", "errbacks", "chain", "chord"]), {"callbacks": []}]
)
def test_one_task_and_no_more_is_what_celery_is_told(embed: dict[str, Any]) -> None:
    assert reduce(message(content=[[], {}, embed])) is None


@pytest.mark.parametrize("headers", [{"retries": 0}, {"expires": after(hours=1)}])
def test_what_our_own_schedule_says_is_kept(headers: dict[str, Any]) -> None:
    told = message(**headers)

    assert reduce(told) is None
    assert told.headers == HEADERS | headers | HIDDEN


def test_where_the_answer_goes_is_kept_also_when_a_worker_puts_it_off() -> None:
    for told in (message(), retry()):
        told.headers = told.headers | {contract.ANSWER_TO: "box-0123456789abc"}

        assert reduce(told) is None
        assert told.headers[contract.ANSWER_TO] == "box-0123456789abc"


@pytest.mark.parametrize("box", ["", "short", "r" * 65, "other:" + "r" * 16, None, 5, ["r" * 16]])
def test_a_place_for_the_answer_of_another_form_counts_as_none(box: Any) -> None:
    told = message(HEADERS | {contract.ANSWER_TO: box})

    assert reduce(told) is None
    assert told.headers == HEADERS | HIDDEN


@pytest.mark.parametrize(
    "header",
    ["callbacks", "chain", "group", "ignore_result", "kwargsrepr", "shadow", "timelimit", "x"],
)
def test_other_headers_are_not_passed_on(header: str) -> None:
    told = message(HEADERS | {header: [PURGE]})

    assert reduce(told) is None
    assert told.headers == HEADERS | HIDDEN


# --- what may wait


@pytest.mark.parametrize("seconds", [-86_400, 30, 110])
def test_a_retry_of_a_worker_waits(seconds: float) -> None:
    eta = after(seconds=seconds)
    told = retry(eta=eta)

    assert reduce(told, MAX_HELD - 1) is None
    assert told.headers == HEADERS | {"retries": 5, "eta": eta} | HIDDEN


@pytest.mark.parametrize(
    "eta",
    ["2026-01-01T00:00:00+00:00", "2099-01-01T00:00:00Z", "soon", 42, {"a": 1}, "2026-01-01", ""],
)
@pytest.mark.parametrize("seal", [None, 7, "", "x", "\udc00", "00" * 32])
def test_what_an_app_puts_off_is_run_at_once(eta: object, seal: object) -> None:
    told = message(eta=eta, wait_seal=seal)

    assert reduce(told) is None
    assert told.headers == HEADERS | HIDDEN


@pytest.mark.parametrize(
    "change",
    [
        {"id": "q" * 22},
        {"task": "sessions.register"},
        {"retries": 4},
        {"eta": "2026-01-01T00:00:00+00:00"},
    ],
)
def test_a_seal_is_no_use_for_another_wait(change: dict[str, Any]) -> None:
    told = retry()
    told.headers |= change

    assert reduce(told) is None
    assert "eta" not in told.headers


@pytest.mark.parametrize(
    ("told", "held"),
    [
        (retry(b"x" * 32), 0),
        (retry(eta=after(hours=3)), 0),  # of a worker whose clock is wrong
        (retry(), MAX_HELD),
        (retry(content=[[], {"app_id": "shop", "envelope": "x" * 70_000}, {}]), 0),
    ],
    ids=["another key", "too long", "no room", "too large"],
)
def test_a_retry_that_cannot_be_held_is_run_at_once(told: Any, held: int) -> None:
    assert reduce(told, held) is None
    assert "eta" not in told.headers


# --- what is turned away

NO_IDS: list[Any] = ["", "short", "x" * 65, "r" * 21 + "\n", "a b" * 8, "\x1b[2J" * 5, 7, None]


@pytest.mark.parametrize("headers", [None, [], {}, {"task": "sessions.status"}])
def test_headers_that_name_no_task_are_refused(headers: Any) -> None:
    assert reduce(message(headers)) == Rejection.NOT_A_TASK


@pytest.mark.parametrize("message_id", NO_IDS)
def test_an_id_that_is_no_request_id_is_refused(message_id: object) -> None:
    assert reduce(message(id=message_id)) == Rejection.NOT_A_TASK


@pytest.mark.parametrize("retries", [-1, 101, 1.5, "1", True])
def test_no_number_of_retries_but_one_of_ours_is_taken(retries: object) -> None:
    assert reduce(message(retries=retries)) == Rejection.ASKS_FOR_MORE


@pytest.mark.parametrize(
    "content",
    [
        None,
        42,
        {"args": [], "kwargs": {}},
        [[], {}],
        [[], {}, {}, {}],
        [[], {}, None],
        [[], {}, [PURGE]],
        *([[], {}, {name: [PURGE]}] for name in ("callbacks", "errbacks", "chain", "chord")),
        [[], {}, {"retries": None}],
    ],
)
def test_a_body_that_asks_for_more_or_for_nothing_is_refused(content: Any) -> None:
    assert reduce(message(content=content)) == Rejection.ASKS_FOR_MORE


HUGE = json.dumps(PLAIN).encode() + b" " * 30_000_000
# What kombu takes for trusted, whatever the consumer accepts, and opens by the codec it names.
OPENED = [
    (kind, kind_of)
    for kind in ("application/text", "application/data", "", None)
    for kind_of in ("bz2", "zlib", "ZIP", "utf-8", "binary", None)
]


@pytest.mark.parametrize(("kind", "encoding"), OPENED)
def test_a_body_that_is_not_said_to_be_json_is_refused_unopened(kind: Any, encoding: Any) -> None:
    pack = bz2.compress if encoding == "bz2" else zlib.compress
    told = as_sent(pack(HUGE), kind, encoding)

    tracemalloc.start()
    why = reduce(told)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert why == Rejection.UNDECODABLE
    assert most < 1_000_000


# --- where a task may lie


@pytest.mark.parametrize("task", ["celery.group", "celery.map", "sessions.no_such_task", "", None])
def test_a_task_that_is_not_ours_is_refused_wherever_it_lies(task: Any) -> None:
    queues: list[Any] = [*(queue.value for queue in Queue), "celery", "", None]
    for queue in queues:
        assert reduce(message(queue=queue, task=task)) == Rejection.UNKNOWN_TASK, queue
