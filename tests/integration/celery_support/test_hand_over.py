"""A message that is handed to a thread is served as Celery would serve it, and so is it heard of.

Each test runs both ways, handed over and by Celery's own Request: what is true of one is of both.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest
from celery import Celery, signals
from celery.contrib.testing.worker import start_worker
from celery.worker import state
from celery.worker.request import Request

from sandbox.processes import poll_until
from session_client import contract
from tests.integration.celery_support.transport_rig import OURS, QUEUE, connection_to
from worker.celery_support.thread_pool import SafeThreadPool
from worker.tasks.base import QuietTask

PATIENCE_SECONDS = 60
CELERYS = "celery.worker.strategy:default"
# All that Celery may come to ask of a job that runs, whatever it asks today.
ASKED_OF_A_REQUEST = [name for name in vars(Request) if not name.startswith("__")]

Serving = Callable[[], AbstractContextManager[None]]


@pytest.fixture(params=[QuietTask.Strategy, CELERYS], ids=["handed over", "by request"])
def app(redis_url: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    class Task(QuietTask):
        Strategy = request.param
        default_retry_delay = 0

    app = Celery("handed", broker=redis_url, set_as_current=False, task_cls=Task)
    app.conf.update(
        broker_transport=OURS,
        broker_transport_options=connection_to(redis_url).transport_options,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_retry_on_worker_lost=True,
        task_default_queue=QUEUE,
    )
    yield app
    app.close()


@pytest.fixture
def serving(app: Celery) -> Serving:
    @contextmanager
    def serve(pool: Any = SafeThreadPool) -> Iterator[None]:
        with start_worker(
            app,
            pool=pool,
            concurrency=2,
            perform_ping_check=False,
            shutdown_timeout=60,
            without_heartbeat=False,  # as a worker is that somebody starts: it sends its own events
        ):
            yield

    return serve


def is_handed_over(app: Celery) -> bool:
    return app.Task.Strategy != CELERYS


@contextmanager
def heard(*names: str) -> Iterator[list[tuple[str, str, str]]]:
    """Listen as an agent of Sentry or OpenTelemetry does: signal, task, and its id."""
    told: list[tuple[str, str, str]] = []

    def listener(name: str) -> Any:
        def hear(sender: Any, **words: Any) -> None:
            told.append((name, sender.name, words.get("task_id") or sender.request.id))

        getattr(signals, name).connect(hear, weak=False)
        return hear

    hearing = {name: listener(name) for name in names}
    try:
        yield told
    finally:
        for name, hear in hearing.items():
            getattr(signals, name).disconnect(hear)


def test_whoever_listens_to_celery_hears_of_each_task(app: Celery, serving: Serving) -> None:
    @app.task(name="good", shared=False)
    def good() -> None:
        pass

    @app.task(name="bad", shared=False)
    def bad() -> None:
        raise ValueError("canary")

    @app.task(name="again", shared=False, bind=True)
    def again(self: Any) -> None:
        if self.request.retries == 0:
            raise self.retry()

    names = ("task_prerun", "task_postrun", "task_success", "task_failure", "task_retry")
    with heard(*names) as told, serving():
        ids = {name: app.send_task(name).id for name in ("good", "bad", "again")}
        poll_until(lambda: len(told) >= 12, PATIENCE_SECONDS, what="all to be heard")

    each = [("task_prerun", 1), ("task_postrun", 1)]
    expected = {
        "good": Counter(dict([*each, ("task_success", 1)])),
        "bad": Counter(dict([*each, ("task_failure", 1)])),
        "again": Counter(task_prerun=2, task_postrun=2, task_retry=1, task_success=1),
    }
    assert {
        name: Counter(
            signal for signal, task, task_id in told if (task, task_id) == (name, ids[name])
        )
        for name in ids
    } == expected
    assert len(told) == sum(count.total() for count in expected.values())


def test_a_task_is_told_what_its_message_says(app: Celery, serving: Serving) -> None:
    told: list[Any] = []

    @app.task(name="tell", shared=False, bind=True)
    def tell(self: Any, /, *words: str, **named: str) -> None:
        told.append((self.request, words, named))

    with serving():
        asked = app.send_task(
            "tell", ["a"], {"b": "c"}, headers={contract.ANSWER_TO: "the-box-of-an-app"}
        )
        poll_until(lambda: told, PATIENCE_SECONDS, what="the task to run")

    (request, words, named) = told[0]
    assert (words, named) == (("a",), {"b": "c"})
    assert (request.id, request.retries, request.correlation_id) == (asked.id, 0, asked.id)
    assert request.get(contract.ANSWER_TO) == "the-box-of-an-app"
    assert request.delivery_info["routing_key"] == QUEUE
    assert request.delivery_info["redelivered"] is False
    assert (request.called_directly, request.is_eager) == (False, False)
    assert request.hostname


def test_it_is_seen_who_is_at_work_and_since_when(app: Celery, serving: Serving) -> None:
    go = threading.Event()

    @app.task(name="wait", shared=False)
    def wait() -> None:
        assert go.wait(PATIENCE_SECONDS)

    begun_at = time.time()
    with serving():
        sent = app.send_task("wait")
        poll_until(lambda: len(state.active_requests), PATIENCE_SECONDS, what="the task to begin")
        (job,) = state.active_requests
        seen = (job.id, job.name, job.acknowledged, job.task.acks_late)
        since = job.time_start
        # As Celery does when it has connected again, and for `inspect active`.
        asked = {name: getattr(job, name) for name in ASKED_OF_A_REQUEST}
        job.eventer = asked["eventer"]
        told = (job.info()["id"], job.info()["name"], job.info()["time_start"])
        # As a worker does that is told again to stop. No thread can be killed: it goes on.
        job.cancel(SafeThreadPool(limit=1), emit_retry=False)
        assert not job.acknowledged
        go.set()
        poll_until(lambda: job.acknowledged, PATIENCE_SECONDS, what="the task to end")

    assert seen == (sent.id, "wait", False, True)
    assert told == (sent.id, "wait", since)
    assert begun_at - 1 <= since <= time.time()
    assert (type(job).__name__ == "Request") is not is_handed_over(app)
    assert not state.active_requests


def test_a_task_that_takes_its_thread_down_comes_again(app: Celery, serving: Serving) -> None:
    runs: list[int] = []

    @app.task(name="fall", shared=False, bind=True)
    def fall(self: Any) -> None:
        runs.append(self.request.retries)
        if len(runs) == 1:
            raise SystemExit(3)

    with serving():
        app.send_task("fall")
        poll_until(lambda: len(runs) == 2, PATIENCE_SECONDS, what="the task to run again")

    assert runs == [0, 1]
    assert not state.active_requests


@pytest.mark.parametrize("why", ["expires", "revoked", "link"])
def test_a_message_that_asks_for_more_than_to_be_run_gets_it(
    app: Celery, serving: Serving, why: str
) -> None:
    runs: list[str] = []

    @app.task(name="run", shared=False)
    def run(name: str) -> None:
        runs.append(name)

    more: dict[str, dict[str, Any]] = {
        "expires": {"expires": -1},
        "revoked": {"task_id": "revoked-before-it-came"},
        "link": {"link": run.si("linked")},
    }
    if why == "revoked":
        state.revoked.add("revoked-before-it-came")
    try:
        run.apply_async(("first",), **more[why])
        run.apply_async(("second",))
        with serving():
            wanted = {"first", "linked", "second"} if why == "link" else {"second"}
            poll_until(lambda: wanted <= set(runs), PATIENCE_SECONDS, what="the tasks to run")
    finally:
        state.revoked.clear()

    assert sorted(runs) == sorted(wanted)


def test_a_message_that_is_put_off_waits_for_its_time(app: Celery, serving: Serving) -> None:
    begun: dict[str, float] = {}

    @app.task(name="late", shared=False)
    def late(name: str) -> None:
        begun[name] = time.monotonic()

    with serving():
        sent_at = time.monotonic()
        late.apply_async(("later",), countdown=1.5)
        late.apply_async(("at once",))
        poll_until(lambda: len(begun) == 2, PATIENCE_SECONDS, what="both to run")

    assert begun["later"] >= sent_at + 1.4


def test_whoever_wants_to_see_requests_sees_them(app: Celery, serving: Serving) -> None:
    seen: list[str] = []
    ended = threading.Event()

    @app.task(name="end", shared=False)
    def end() -> None:
        ended.set()

    def hear(request: Any, **_: Any) -> None:
        seen.append(request.id)

    signals.task_received.connect(hear)
    try:
        with serving():
            sent = app.send_task("end")
            assert ended.wait(PATIENCE_SECONDS)
    finally:
        signals.task_received.disconnect(hear)

    assert seen == [sent.id]


def test_whoever_watches_events_hears_of_each_task(app: Celery, serving: Serving) -> None:
    app.conf.worker_send_task_events = True
    kinds: list[str] = []

    @app.task(name="look", shared=False)
    def look() -> None:
        kinds.extend(type(job).__name__ for job in state.active_requests)

    with serving():
        app.send_task("look")
        poll_until(lambda: kinds, PATIENCE_SECONDS, what="the task to run")

    assert kinds == ["Request"]  # which sends them


def test_another_pool_is_given_requests(app: Celery, serving: Callable[..., Any]) -> None:
    kinds: list[str] = []

    @app.task(name="look", shared=False)
    def look() -> None:
        kinds.extend(type(job).__name__ for job in state.active_requests)

    with serving("solo"):
        app.send_task("look")
        poll_until(lambda: kinds, PATIENCE_SECONDS, what="the task to run")

    assert kinds == ["Request"]
