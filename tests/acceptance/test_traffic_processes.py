"""Identical requests at real workers: one call to Mosaic, whoever of them is killed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from sandbox.processes import ManagedProcess, poll_until
from sandbox.stack import Stack
from session_client import Authenticated, SilentAnswer, SilentAuth
from tests import sending
from tests.acceptance.client_rig import Apps
from tests.heard import authenticated
from tests.sending import Pending

ASK = "session/authenticate"
PATIENT = 60.0
CALL_SECONDS = 15  # within these the killer must have struck; five more, and the lease ends


@pytest.fixture(scope="module")
def apps() -> Iterator[Apps]:
    # With Celery's own lines, which tell who received a request.
    settings = {"mosaic_timeout_seconds": CALL_SECONDS, "log_level": "debug"}
    with Stack(settings=settings) as stack:
        stack.migrate()
        apps = Apps(stack, "shop", "forum")
        with ThreadPoolExecutor(3) as threads:
            list(threads.map(lambda n: stack.worker(name=f"worker-{n}"), range(3)))
        yield apps
        apps.close()


def workers(apps: Apps) -> list[ManagedProcess]:
    return [process for name, process in apps.stack.processes.items() if "worker" in name]


def send(apps: Apps, user_id: str) -> Pending[SilentAnswer]:
    return sending.send(apps.clients["forum"], SilentAuth(user_id=user_id), timeout=PATIENT)


def received(worker: ManagedProcess, request: Pending[SilentAnswer]) -> bool:
    return received_any(worker, [request])


def received_any(worker: ManagedProcess, requests: Sequence[Pending[SilentAnswer]]) -> bool:
    told = worker.log_text()
    return any(request.request_id in told for request in requests)


@pytest.mark.parametrize("latency_seconds", [0.0, 1.0])
def test_two_hundred_identical_requests_at_three_workers_are_one_call(
    apps: Apps, latency_seconds: float
) -> None:
    user_id = f"ada-{latency_seconds}"
    apps.register(user_id)
    apps.stack.mosaic.calls.clear()
    apps.stack.mosaic.faults.add(ASK, "latency", seconds=latency_seconds, times=1)

    with ThreadPoolExecutor(20) as threads:
        with apps.stack.mosaic.gates.hold(ASK):
            sent = [threads.submit(send, apps, user_id) for _ in range(200)]
            # A worker that sleeps through the whole burst would have no share of it.
            poll_until(
                lambda: all(
                    received_any(worker, [one.result() for one in sent if one.done()])
                    for worker in workers(apps)
                ),
                CALL_SECONDS,
                what="each worker to have received one",
            )
        requests = [one.result() for one in sent]
        answers = list(threads.map(lambda request: request.wait(), requests))

    tokens = [authenticated(answer).tokens for answer in answers]
    assert len({given.access_token for given in tokens}) == 1
    assert apps.stack.mosaic.calls.count(ASK) == 1


def test_those_who_wait_for_a_worker_that_is_killed_are_served_by_another_call(apps: Apps) -> None:
    """The last test of this file: it takes one of the workers away."""
    apps.register("bob")
    apps.stack.mosaic.calls.clear()
    with apps.stack.mosaic.gates.hold(ASK) as gate:
        first = send(apps, "bob")
        gate.wait_arrived()
        (killed,) = (worker for worker in workers(apps) if received(worker, first))
        others = [worker for worker in workers(apps) if worker is not killed]
        requests = [send(apps, "bob") for _ in range(9)]
        waits = poll_until(
            lambda: [r for r in requests if any(received(worker, r) for worker in others)],
            CALL_SECONDS,
        )
        killed.kill()
    answers = [request.wait() for request in waits]

    assert {type(answer) for answer in answers} == {Authenticated}
    assert apps.stack.mosaic.calls.count(ASK) == 2
