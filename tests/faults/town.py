"""A worker, and users who come one after the other, each for one flow; what is true after each."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Row, select, update

from models import IdpSession, LoginCall, Notice
from session_client.contract import Reason, Verdict
from simulator.server import SimulatorServer
from tests.faults import flows
from tests.faults.flows import DELIVERIES, Asked, Flow, World
from tests.integration.storage.pg_locks import patient_locks, waiting_for_locks
from tests.stage import Stage, patient_redis
from worker import wiring
from worker.logins import call_once
from worker.maintenance.scrub import scrub_answers
from worker.storage.encryption import kid_of
from worker.traffic.single_flight import SingleFlight

Heard = tuple[Verdict, Reason | None] | None

# After these the browser's session is over.
ENDINGS = {
    flows.log_in_anew,
    flows.register_anew,
    flows.log_out,
    flows.log_out_everywhere,
    flows.log_out_the_device,
    flows.log_out_what_expired,
    flows.revoke_the_user,
    flows.confirm_a_notice,
    flows.tell_mosaic,
    flows.tell_mosaic_of_a_user,
    flows.tell_an_app,
    flows.keep_a_late_id,
    flows.expire,
    flows.sweep,
    flows.revoke_by_hand,
    flows.revoke_an_app,
    flows.replay,
}
numbers = itertools.count()


@dataclass
class Town:
    """A worker, and users who come one after the other, each for one flow."""

    stage: Stage
    flow: Flow
    exits: ExitStack
    wrong: list[str] = field(default_factory=list)

    def newcomer(self) -> World:
        self.stage.mosaic.state.faults.clear()
        return World(self.stage, f"user-{next(numbers)}")

    def restart(self) -> None:
        """Start another worker in place of the one that was killed."""
        self.stage.services.close()
        with patient_redis():
            self.stage.services = wiring.build(self.stage.settings, now=self.stage.now)
        self.exits.enter_context(wiring.use(self.stage.services))

    def wait(self) -> None:
        """Let so much time pass that nobody waits for the one who was cut any more."""
        self.stage.pass_time(seconds=40)
        self.stage.services.shared._rest_until = 0.0
        for held in ("*:lease", "*_lock:*"):  # Redis has a clock of its own
            for key in self.stage.redis.scan_iter(held):
                self.stage.redis.delete(key)

    def settle(self) -> int:
        """Let time pass, and do what the sweep would wake; return how many notices were sent."""
        for _ in range(3):
            self.stage.pass_time(minutes=10)
            scrub_answers(self.stage.services)
            due = [
                flows.task(name, row)
                for kind, name in DELIVERIES.items()
                for row in flows.open_ones(self.stage, kind)
            ]
            if not due:
                break
            for deliver in due:
                deliver()
        # No app reads the forum's queue: what lies there is no other user's business.
        confirmed = update(Notice).values(closed_at=self.stage.now(), outcome="confirmed")
        with self.stage.services.store.write() as connection:
            connection.execute(confirmed.where(Notice.closed_at.is_(None)))
        sent: Any = self.stage.redis.llen("forum-notices")
        self.stage.redis.delete("forum-notices")
        return int(sent)

    def require(self, holds: bool, what: str, story: str) -> None:  # noqa: FBT001
        if not holds:
            self.wrong.append(f"{story}: {what}")


@contextmanager
def town(url: str, redis_url: str, mosaic: SimulatorServer, flow: Flow) -> Iterator[Town]:
    with (
        patient_locks(),
        Stage(url, redis_url, mosaic, encryption_keys=flows.RING) as stage,
        ExitStack() as exits,
    ):
        flows.open_apps(stage)
        found = Town(stage, flow, exits)
        yield found
        assert found.wrong == [], "\n".join(found.wrong)


def heard(act: Callable[[], Any]) -> Heard:
    """Return what the app hears, if it is an app that asks and there is an answer."""
    answer = act.heard() if isinstance(act, Asked) else None
    return None if answer is None else (answer.verdict, answer.reason)


def sessions_of(world: World) -> list[Row[Any]]:
    query = select(IdpSession.__table__).where(IdpSession.user_id == world.user_id)
    with world.stage.services.store.read() as connection:
        return list(connection.execute(query).all())


def strangers(world: World) -> set[bytes]:
    """Return what Mosaic has of the user and the worker has not: hashes of ids."""
    state, lookup_hash = world.stage.mosaic.state, world.stage.services.keyring.lookup_hash
    live = {lookup_hash(session.session_id) for session in state.live_sessions(world.user_id)}
    return live - {row.session_hash for row in sessions_of(world)}


def promises_broken(world: World) -> Iterator[str]:
    """Yield what must be true of any user once all is quiet, and is not."""
    stage = world.stage
    state, lookup_hash = stage.mosaic.state, stage.services.keyring.lookup_hash
    at_mosaic = {lookup_hash(session.session_id) for session in state.live_sessions(world.user_id)}
    for row in sessions_of(world):
        if (row.ended_at is None) != (row.session_hash in at_mosaic):
            yield f"a session {'lives' if row.ended_at is None else 'has ended'} here alone"
        if (row.ended_at is None) != (row.sealed_session_id is not None):
            yield "an id is kept that nobody needs"
    for kind in (*DELIVERIES, LoginCall):
        if flows.open_ones(stage, kind):
            yield f"{kind.__tablename__} are open"


def is_done(world: World, flow: Flow) -> bool:
    """Whether what was asked for has happened."""
    own = next((row for row in sessions_of(world) if row.id == world.ref), None)
    if flow is flows.purge:
        return own is None
    assert own is not None
    if flow is flows.rotate_keys:
        return kid_of(own.sealed_session_id) == "k2"
    return flow not in ENDINGS or own.ended_at is not None


@contextmanager
def until_it_waits(stage: Stage) -> Iterator[Callable[[], bool]]:
    """Yield what tells whether somebody waits for the one who is being watched."""
    listens = threading.Event()
    wait = SingleFlight.wait

    def sleep(seconds: float) -> None:
        listens.set()
        time.sleep(seconds)

    def watched(flight: SingleFlight, *given: Any) -> None:
        listens.set()
        wait(flight, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(call_once, "time", SimpleNamespace(sleep=sleep, monotonic=time.monotonic))
        patch.setattr(SingleFlight, "wait", watched)
        # On SQLite it comes between transactions, and waits for no lock.
        has_locks = not stage.services.store.is_sqlite
        yield lambda: listens.is_set() or (has_locks and waiting_for_locks(stage) > 0)
