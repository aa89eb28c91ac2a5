"""Of what a message says to Celery itself, only that it is one task, now or soon, is obeyed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from worker.celery_support.message_guard import reduce

HEADERS = {"task": "sessions.status", "id": "an-id"}
HIDDEN = {"argsrepr": "-", "kwargsrepr": "-"}
PLAIN: list[Any] = [[], {"app_id": "shop"}, {}]
PURGE = {"task": "maintenance.purge_history", "options": {"queue": "maintenance"}}


def message(
    headers: Any = HEADERS, content: Any = PLAIN, queue: str = "sessions", **more: Any
) -> Any:
    headers = {**headers, **more} if more else headers
    way = {"exchange": "", "routing_key": queue}
    return SimpleNamespace(headers=headers, payload=content, delivery_info=way)


def after(**duration: float) -> str:
    return (datetime.now(UTC) + timedelta(**duration)).isoformat()


@pytest.mark.parametrize(
    "embed", [{}, dict.fromkeys(["callbacks", "errbacks", "chain", "chord"]), {"callbacks": []}]
)
def test_one_task_and_no_more_is_what_celery_is_told(embed: dict[str, Any]) -> None:
    assert reduce(message(content=[[], {}, embed])) is None


@pytest.mark.parametrize(
    "headers",
    [
        {"retries": 0},
        {"retries": 5, "eta": after(seconds=30)},
        {"eta": after(days=-1)},
        {"eta": after(seconds=5).replace("+00:00", "Z")},
        {"expires": after(hours=1)},
    ],
)
def test_what_our_own_retries_and_schedule_say_is_kept(headers: dict[str, Any]) -> None:
    told = message(**headers)

    assert reduce(told) is None
    assert told.headers == HEADERS | headers | HIDDEN


@pytest.mark.parametrize(
    "header",
    ["callbacks", "chain", "group", "ignore_result", "kwargsrepr", "shadow", "timelimit", "x"],
)
def test_other_headers_are_not_passed_on(header: str) -> None:
    told = message(HEADERS | {header: [PURGE]})

    assert reduce(told) is None
    assert told.headers == HEADERS | HIDDEN


@pytest.mark.parametrize(
    "headers",
    [
        None,
        [],
        {},
        {"task": "sessions.status"},
        {"id": "an-id"},
        {"task": {"a": 1}, "id": "an-id"},
        {"task": "sessions.status", "id": ""},
        {"task": "sessions.status", "id": "x" * 156},
        *({**HEADERS, "retries": retries} for retries in (-1, 101, 1.5, "1", True)),
        *(HEADERS | {"eta": after(**wait)} for wait in ({"hours": 3}, {"days": 3000})),
    ],
)
def test_headers_that_ask_for_more_or_for_nothing_are_refused(headers: Any) -> None:
    is_addressed = headers and HEADERS.items() <= headers.items()

    assert reduce(message(headers)) == ("asks_for_more" if is_addressed else "not_a_task")


@pytest.mark.parametrize("eta", ["soon", 42, {"a": 1}, "2026-01-01T00:00:00"])
def test_an_hour_nobody_can_read_is_an_error(eta: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        reduce(message(eta=eta))


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
    assert reduce(message(content=content)) == "asks_for_more"


@pytest.mark.parametrize("queue", ["auth", "sessions", "logout"])
@pytest.mark.parametrize(
    "task",
    ["celery.group", "celery.map", "maintenance.sweep", "logouts.end_at_idp", "notices.deliver"],
)
def test_what_an_app_must_not_send_is_refused_where_apps_may_write(queue: str, task: str) -> None:
    assert reduce(message(queue=queue, task=task)) == "unknown_task"


@pytest.mark.parametrize("queue", ["idp", "notify", "maintenance"])
def test_the_queues_of_the_worker_carry_its_own_tasks_and_none_of_celerys(queue: str) -> None:
    assert reduce(message(queue=queue, task="maintenance.sweep")) is None
    assert reduce(message(queue=queue, task="celery.group")) == "unknown_task"
