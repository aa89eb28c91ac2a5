"""Three processes that serve one stage: each has services of its own."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any

from session_client.contract import Task
from simulator.controls.gates import wait_until
from simulator.server import SimulatorServer
from tests.integration.traffic.traffic_rig import waiting
from tests.stage import Stage, patient_redis, redis_client
from worker import wiring
from worker.errors import RequestRefused, SessionWorkerError
from worker.requests.commands import SilentAuthCommand
from worker.requests.outcomes import Outcome, failure_of
from worker.requests.request import OpenedRequest
from worker.sign_in.silent_auth import silent_auth
from worker.wiring import Services

ASK = "session/authenticate"


class Fleet:
    """Three processes with one stage, and requests that come to them in turn."""

    def __init__(self, stage: Stage, services: list[Services], redis_url: str) -> None:
        self.stage = stage
        self.services = services
        self.redis_url = redis_url
        self._next = 0

    def ask(
        self, user_id: str = "ada", app_id: str = "forum", lasts: float = 60.0, **fields: Any
    ) -> Outcome:
        self._next += 1
        services = self.services[self._next % len(self.services)]
        app = services.apps.find(app_id)
        assert app is not None
        command = SilentAuthCommand(user_id=user_id, **fields)
        now = services.now()
        deadline = now + timedelta(seconds=lasts)
        name = f"request-{self._next}"
        request = OpenedRequest(
            app, Task.SILENT_AUTH, name, command, now, deadline, deadline, b"digest"
        )
        try:
            outcome = silent_auth(services, request)
        except RequestRefused:
            raise  # it is nobody else's failure, and the tests look at whose it is
        except SessionWorkerError as error:
            return failure_of(error)
        # The answer takes along what the others are to have.
        services.reply_store.push(app_id, name, b"answer", None, outcome.goes_first)
        return outcome

    @contextmanager
    def asking(self, *requests: dict[str, Any]) -> Iterator[list[Future[Outcome]]]:
        with ThreadPoolExecutor(len(requests)) as threads:
            yield [threads.submit(self.ask, **request) for request in requests]

    def asked(self) -> int:
        return self.stage.mosaic.state.calls.count(ASK)

    def leases(self) -> int:
        """How many calls are in progress."""
        with redis_client(self.redis_url) as client:
            return len(client.keys("mosaic-sessions:flight:*:lease"))

    def wait_for_waiters(self, count: int) -> None:
        wait_until(lambda: waiting(self.redis_url) >= count, 60)


@contextmanager
def running_fleet(database_url: str, redis_url: str, mosaic: SimulatorServer) -> Iterator[Fleet]:
    """Start three processes; the user ada is registered at the app shop."""
    with patient_redis(), ExitStack() as stack:
        stage = stack.enter_context(Stage(database_url, redis_url, mosaic))
        stage.add_app("shop")
        stage.add_app("forum", capabilities=("offline",))
        stage.registered()
        services = [stage.services]
        for _ in range(2):
            services.append(wiring.build(stage.settings, now=stage.now))
            stack.callback(services[-1].close)
        yield Fleet(stage, services, redis_url)
