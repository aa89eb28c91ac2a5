"""Logouts that Mosaic never takes hold up no other one, however many they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, update

from models import Base, Logout
from session_client.contract import Reason, Verdict
from simulator.server import SimulatorServer
from tests.integration.traffic.traffic_rig import pass_redis_time
from tests.stage import Stage, redis_client
from worker.errors import BreakerOpen
from worker.outbox import leases
from worker.outbox.leases import wake_due
from worker.outbox.mosaic_logouts import end_at_idp

TELL = "session/logout"
APPS = ("shop", "forum", "desk")
SLOTS = 4
SWEEP_SECONDS = 5
A_MINUTE, LONG = 60, 300


class IdpQueue:
    """The queue of logouts: four slots, and a sweep every five seconds."""

    def __init__(self, stage: Stage, redis_url: str) -> None:
        self.stage = stage
        self._redis_url = redis_url
        self._known: set[UUID] = set()
        for app_id in APPS:
            stage.add_app(app_id)

    def log_out(self, count: int, *, is_bad: bool, apps: Sequence[str] = ("shop",)) -> None:
        """Have *apps*, in turn, log *count* sessions out, and work on the messages of that."""
        for number in range(count):
            app_id = apps[number % len(apps)]
            login = self.stage.login("ada", app_id)
            # Nobody has registered it: whoever knows an id may have it ended.
            session_id = f"bad-{login.session_id}" if is_bad else login.session_id
            answer = self.stage.log_out("ada", app_id, session_id=session_id)
            assert answer.verdict is Verdict.OK

    def work(self) -> None:
        """Take the messages that the requests have sent, in their order."""
        ids = [row.id for row in sorted(self.stage.logouts(), key=lambda row: row.id)]
        self._work_on([logout for logout in ids if logout not in self._known])
        self._known |= set(ids)

    def live(self, seconds: float) -> None:
        """Let time pass, and the sweep wake what is due."""
        for _ in range(int(seconds / SWEEP_SECONDS)):
            self.stage.pass_time(seconds=SWEEP_SECONDS)
            pass_redis_time(self._redis_url, SWEEP_SECONDS)
            self._work_on(wake_due(self.stage.services, Logout))

    def _work_on(self, ids: Iterable[UUID]) -> None:
        with ThreadPoolExecutor(SLOTS) as slots:
            list(slots.map(lambda logout: end_at_idp(self.stage.services, logout), ids))

    def slowest(self, count: int) -> float:
        """Return how long Mosaic's *count* good ones took at most; all must be done."""
        done = [row for row in self.stage.logouts() if row.outcome == "confirmed"]
        assert len(done) == count
        taken: list[float] = [(row.closed_at - row.created_at).total_seconds() for row in done]
        return max(taken)

    def tries(self) -> list[int]:
        """Return how often each of the bad ones was tried."""
        return [row.attempts for row in self.stage.logouts() if row.closed_at is None]


@pytest.fixture
def queue(store_url: str, redis_url: str, mosaic: SimulatorServer) -> Iterator[IdpQueue]:
    with Stage(store_url, redis_url, mosaic, breaker_failures="5") as stage:
        mosaic.state.faults.add(TELL, "status", status=500, mentioning="bad-")
        yield IdpQueue(stage, redis_url)


@pytest.mark.parametrize(
    ("bad", "bad_apps", "good_apps"),
    [
        (12, ["shop"], ["shop"]),
        (12, ["shop"], ["forum"]),
        (60, ["shop", "forum"], ["desk", "shop"]),
    ],
    ids=["of the same app", "of another app", "of two apps"],
)
def test_what_comes_after_many_that_mosaic_never_takes_is_done_within_a_minute(
    queue: IdpQueue, bad: int, bad_apps: list[str], good_apps: list[str]
) -> None:
    queue.log_out(bad, is_bad=True, apps=bad_apps)
    queue.log_out(5, is_bad=False, apps=good_apps)

    queue.work()
    queue.live(A_MINUTE)

    assert queue.slowest(5) <= A_MINUTE


def test_what_comes_when_many_have_failed_for_long_is_done_within_a_minute(queue: IdpQueue) -> None:
    queue.log_out(12, is_bad=True, apps=["shop", "forum"])
    queue.work()
    queue.live(LONG)
    before = queue.stage.mosaic.state.calls.count(TELL)

    queue.log_out(5, is_bad=False, apps=["shop", "desk"])
    queue.live(A_MINUTE)  # the messages were lost, too

    assert queue.slowest(5) <= A_MINUTE
    assert before <= 12 * 10  # each keeps its own back-off, which doubles


def test_what_failed_with_all_others_is_done_within_a_minute_of_being_due(queue: IdpQueue) -> None:
    queue.stage.mosaic.state.faults.add(TELL, "status", status=503)
    queue.log_out(12, is_bad=True, apps=["shop", "forum"])
    queue.log_out(5, is_bad=False, apps=["shop", "desk"])
    queue.work()
    queue.live(A_MINUTE)
    queue.stage.mosaic.state.faults.clear()
    queue.stage.mosaic.state.faults.add(TELL, "status", status=500, mentioning="bad-")
    due = max(row.next_attempt_at for row in queue.stage.logouts())

    queue.live((due - queue.stage.now()).total_seconds() + A_MINUTE)

    queue.slowest(5)
    assert len(queue.tries()) == 12


def test_who_is_held_back_by_others_asks_four_times_a_minute_however_often_it_has_failed(
    queue: IdpQueue,
) -> None:
    held = BreakerOpen(
        "by others", Reason.IDP_UNAVAILABLE, queue.stage.settings.breaker_open_seconds
    )
    queue.log_out(1, is_bad=False)
    (row,) = queue.stage.logouts()
    store, services = queue.stage.services.store, queue.stage.services

    for attempts in range(40):
        with store.write() as connection:
            connection.execute(
                update(Logout).values(attempts=attempts, next_attempt_at=services.now())
            )
            claimed = leases.claim(connection, services, Logout, row.id)
            assert claimed is not None
            leases.put_off(connection, services, claimed[0], held)
        (waits,) = queue.stage.logouts()
        assert (waits.next_attempt_at - services.now()).total_seconds() <= A_MINUTE / 4


def test_a_mosaic_that_is_down_is_told_of_each_logout_once_and_then_asked_by_few(
    queue: IdpQueue,
) -> None:
    queue.stage.mosaic.state.faults.add(TELL, "status", status=503)
    queue.log_out(60, is_bad=False, apps=APPS)

    queue.work()
    queue.live(A_MINUTE)

    assert 60 <= queue.stage.mosaic.state.calls.count(TELL) <= 60 + 2 * A_MINUTE
    assert all(row.attempts for row in queue.stage.logouts())


@pytest.fixture
def hanging(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[IdpQueue]:
    monkeypatch.setattr("worker.traffic.breakers.SLOW_SECONDS", 0.3)
    impatient = {
        "breaker_failures": "3",
        "mosaic_timeout_seconds": "0.5",
        "concurrency": str(SLOTS),
    }
    with Stage(sqlite_url, redis_url, mosaic, **impatient) as stage:
        mosaic.state.faults.add(TELL, "latency", seconds=60, mentioning="bad-")
        yield IdpQueue(stage, redis_url)


@pytest.mark.parametrize("bad_apps", [["shop"], ["shop", "forum"]], ids=["one", "two"])
def test_apps_that_hang_leave_a_slot_to_another_one(hanging: IdpQueue, bad_apps: list[str]) -> None:
    hanging.log_out(40, is_bad=True, apps=bad_apps)
    hanging.log_out(3, is_bad=False, apps=["desk"])

    hanging.work()

    calls = [call for call in hanging.stage.mosaic.state.calls.log() if call.endpoint == TELL]
    last = max(place for place, call in enumerate(calls) if call.client_id == "client-desk")
    assert last < 20  # most of those before it in the queue have been put off …
    hanging.stage.mosaic.state.faults.clear()
    hanging.live(A_MINUTE)
    assert hanging.tries() == []  # … and none was lost


Logouts = st.lists(
    st.tuples(st.booleans(), st.sampled_from(APPS), st.sampled_from([0, 30])),
    min_size=5,
    max_size=25,
)


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(Logouts)
def test_whoever_asks_in_whatever_order_mosaic_takes_what_it_takes_within_a_minute(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer, logouts: list[tuple[bool, str, int]]
) -> None:
    with redis_client(redis_url) as client:
        client.flushall()
    with Stage(sqlite_url, redis_url, mosaic, breaker_failures="5") as stage:
        with stage.services.store.write() as connection:
            for table in reversed(Base.metadata.sorted_tables):
                connection.execute(delete(table))
        mosaic.state.faults.add(TELL, "status", status=500, mentioning="bad-")
        queue = IdpQueue(stage, redis_url)
        for is_bad, app_id, pause in logouts:
            queue.log_out(1, is_bad=is_bad, apps=[app_id])
            queue.work()
            queue.live(pause)
        queue.live(A_MINUTE)

        good = sum(not is_bad for is_bad, _, _ in logouts)
        assert good == 0 or queue.slowest(good) <= A_MINUTE
