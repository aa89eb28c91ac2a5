"""The thread pool gives its slots back whatever fails around a job."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker

from sandbox.ports import free_port
from sandbox.processes import poll_until
from worker.celery_support.thread_pool import SafeThreadPool


@pytest.fixture
def unrecordable(redis_url: str) -> Iterator[Celery]:
    """An app whose jobs end well, but whose end can never be recorded."""
    app = Celery("unrecordable", broker=redis_url, set_as_current=False)
    app.conf.update(
        result_backend=f"redis://127.0.0.1:{free_port()}/0",
        result_backend_transport_options={"retry_policy": {"max_retries": 0}},
        redis_retry_on_timeout=False,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        broker_connection_retry_on_startup=True,
    )
    yield app
    app.close()


def test_jobs_that_fail_outside_the_task_leave_the_slot_usable(unrecordable: Celery) -> None:
    runs: list[str] = []
    seen = threading.Lock()

    @unrecordable.task(name="job", shared=False)
    def job(name: str) -> None:
        with seen:
            runs.append(name)

    with start_worker(
        unrecordable,
        pool=SafeThreadPool,  # type: ignore[arg-type]
        concurrency=1,
        perform_ping_check=False,
        shutdown_timeout=60,
    ):
        for name in ("first", "second"):
            message = unrecordable.amqp.create_task_message(name, "job", [name], {})
            with unrecordable.producer_pool.acquire() as producer:
                unrecordable.amqp.send_task_message(producer, "job", message, queue="celery")

        # One slot: the second runs only if the first one's slot came back. The first comes again,
        # since its end was never recorded.
        poll_until(
            lambda: "second" in runs and runs.count("first") > 1,
            60,
            what="both jobs, and the first one again",
        )
        unrecordable.control.purge()
