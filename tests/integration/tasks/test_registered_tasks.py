"""A worker has the tasks of the contract and its own, each on one queue."""

from __future__ import annotations

import pytest
from celery import Celery

from session_client import contract
from session_client.contract import Queue, Task
from tests.unit.test_message_guard import KEY, message
from worker.celery_support.message_guard import MessageGuard, queues_of
from worker.metrics import Rejection


@pytest.fixture
def celery_app(redis_url: str) -> Celery:
    from worker.app import app  # noqa: PLC0415 - it reads the environment, which names that Redis

    app.loader.import_default_modules()
    return app


def test_the_worker_registers_exactly_the_tasks_of_the_contract(celery_app: Celery) -> None:
    internal = ("celery.", "maintenance.", "logouts.", "notices.deliver")
    ours = {name for name in celery_app.tasks if not name.startswith(internal)}
    assert ours == {task.value for task in Task}


def test_the_worker_routes_each_task_to_its_queue(celery_app: Celery) -> None:
    for task, queue in contract.QUEUE_OF.items():
        assert celery_app.amqp.router.route({}, task.value)["queue"].name == queue.value


def test_each_task_is_run_from_its_own_queue_alone(celery_app: Celery) -> None:
    queue_of = queues_of(celery_app)
    guard = MessageGuard(queue_of, KEY)

    refusals = {
        (task, queue.value): guard.reduce(message(task=task, queue=queue.value), 0)
        for task in queue_of
        for queue in Queue
    }

    own_tasks = queue_of.keys() - {task.value for task in Task}
    known = {task for task in celery_app.tasks if task.startswith(("logouts.", "maintenance."))}
    assert own_tasks == known | {"notices.deliver"}
    assert {queue_of[task] for task in own_tasks} == {"idp", "notify", "maintenance"}
    for (task, queue), refusal in refusals.items():
        is_at_home = queue_of[task] == queue
        # Those of apps are refused by themselves: see test_bad_input.py.
        is_let_through = is_at_home or task in {one.value for one in Task}
        assert (refusal is None) == is_let_through, (task, queue)
        assert refusal in {None, Rejection.WRONG_QUEUE}
