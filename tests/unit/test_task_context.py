"""Each line of a task's log names the task, and nothing of the one its thread ran before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from celery import Celery

from worker.tasks.base import QuietTask


@pytest.fixture
def app() -> Iterator[Celery[QuietTask]]:
    app = Celery("context", task_cls=QuietTask, set_as_current=False)
    yield app
    app.close()
    structlog.contextvars.clear_contextvars()


def test_a_line_names_its_task_and_nothing_of_the_one_before(app: Celery[QuietTask]) -> None:
    seen: list[dict[str, Any]] = []

    @app.task(name="binds", shared=False)
    def binds(name: str) -> None:
        structlog.contextvars.bind_contextvars(app=name)
        seen.append(structlog.contextvars.get_contextvars())

    @app.task(name="fails", shared=False)
    def fails() -> None:
        seen.append(structlog.contextvars.get_contextvars())
        raise ValueError

    @app.task(name="looks", shared=False)
    def looks() -> None:
        seen.append(structlog.contextvars.get_contextvars())

    binds.apply(("shop",), task_id="first")
    fails.apply(task_id="second")
    looks.apply(task_id="third")

    of_first = {"task": "binds", "task_id": "first", "redelivered": False, "app": "shop"}
    of_second = {"task": "fails", "task_id": "second", "redelivered": False}
    of_third = {"task": "looks", "task_id": "third", "redelivered": False}
    assert seen == [of_first, of_second, of_third]


@pytest.mark.parametrize("redelivered", [True, False])
def test_a_line_says_whether_the_task_came_before(
    app: Celery[QuietTask], *, redelivered: bool
) -> None:
    seen: list[object] = []

    @app.task(name="looks", shared=False)
    def looks() -> None:
        seen.append(structlog.contextvars.get_contextvars()["redelivered"])

    looks.push_request(id="first", delivery_info={"redelivered": redelivered})
    try:
        looks()
    finally:
        looks.pop_request()

    assert seen == [redelivered]
