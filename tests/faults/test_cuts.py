"""Each flow, cut at each step that leaves the worker's process: its message comes again, or twice.

Whatever was killed, refused or lost: the app gets the answer that it would have got, or hears that
nobody knows; no proof is sent twice; what has ended ends at Mosaic, and nothing else does.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from sqlalchemy import Row, select, update

from models import IdpSession, LoginCall, Notice, OperatorAction
from session_client.contract import Reason, Verdict
from simulator.controls.gates import wait_until
from simulator.server import SimulatorServer
from tests.faults import flows
from tests.faults.cuts import Cut, How, Killed, Step
from tests.faults.flows import DELIVERIES, PROOFS, Asked, Flow, World
from tests.integration.storage.pg_locks import patient_locks, waiting_for_locks
from tests.stage import Stage, patient_redis
from worker import wiring
from worker.errors import StoreUnavailable
from worker.logins import call_once, limits
from worker.logins.limits import Guesser
from worker.logins.orphans import end_unheard
from worker.maintenance.scrub import scrub_answers
from worker.operations import login_limits
from worker.operations.login_limits import Whom
from worker.sessions.audit import Cause
from worker.storage.encryption import kid_of
from worker.traffic.single_flight import SingleFlight

Heard = tuple[Verdict, Reason | None] | None

UNKNOWN: Heard = (Verdict.TEMPORARILY_UNAVAILABLE, Reason.OUTCOME_UNKNOWN)
# After these the browser's session is over.
ENDINGS = {
    flows.log_in_anew,
    flows.register_anew,
    flows.log_out,
    flows.log_out_everywhere,
    flows.revoke_the_user,
    flows.confirm_a_notice,
    flows.tell_mosaic,
    flows.tell_mosaic_of_a_user,
    flows.tell_an_app,
    flows.expire,
    flows.sweep,
    flows.revoke_an_app,
}
# What of them leaves a session at Mosaic where its answer is lost.
LOGINS = {flows.log_in_by_code, flows.log_in_anew}
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

    def settle(self) -> None:
        """Let time pass, and do what the sweep would wake."""
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
        self.stage.redis.delete("forum-notices")

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
        assert found.wrong == []


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


def undisturbed(town: Town) -> Heard:
    act = town.flow(town.newcomer())
    act()
    usual = heard(act)
    town.settle()
    return usual


def cut_once(town: Town, place: int, how: How, usual: Heard) -> Cut:
    """Have one user's flow cut, and its message come again; note what is wrong then."""
    world = town.newcomer()
    calls = town.stage.mosaic.state.calls
    act = town.flow(world)
    sent = calls.count(PROOFS[town.flow]) if town.flow in PROOFS else 0
    cut = Cut(town.stage.services, place, how)
    with cut.watching():
        try:
            act()
        except Killed:
            pass
        except StoreUnavailable:  # an operator is told, and does it again
            assert not isinstance(act, Asked)
    if not cut.was_made:
        return cut
    story = f"{how.name} at {place}, {cut.steps[place]}"
    first = heard(act)
    if how is How.KILLED:
        town.restart()
        if place % 2:  # and half of its successors find an empty Redis
            town.stage.redis.flushdb()
    town.wait()
    act()
    again = heard(act)
    town.settle()

    may_be_unknown = town.flow in PROOFS and wrote(cut, how)
    expected = {usual, UNKNOWN} if may_be_unknown else {usual}
    town.require(again in expected, f"the answer is {again}", story)
    town.require(
        first is None or first in expected or first[0] is Verdict.TEMPORARILY_UNAVAILABLE,
        f"the first answer is {first}",
        story,
    )
    if town.flow in PROOFS:
        times = calls.count(PROOFS[town.flow]) - sent
        town.require(times <= 1, f"the proof is sent {times} times", story)
    town.require(again == UNKNOWN or is_done(world, town.flow), "it is not done", story)
    for broken in promises_broken(world):
        town.require(False, broken, story)
    if strangers(world):
        town.require(again == UNKNOWN and town.flow in LOGINS, "Mosaic has more sessions", story)
        find_orphans(town, world)
        town.require(not strangers(world), "an orphan stays at Mosaic", story)
    return cut


def wrote(cut: Cut, how: How) -> bool:
    """Whether the row of the call may be there: then the call may have been made."""
    done = cut.steps[: cut.place + (how is How.LOST)]
    return any(step.writes for step in done)


def find_orphans(town: Town, world: World) -> None:
    """The user signs in once more, by the same name, and the worker looks for what was lost."""
    for key in town.stage.redis.scan_iter("*:sign-in:sent:*"):  # half a minute goes by
        town.stage.redis.delete(key)
    town.flow(world)()
    end_unheard(town.stage.services, flows.newest_login(town.stage))


def is_worth_losing(step: Step) -> bool:
    """Whether a lost answer leaves more behind than being killed before the next step."""
    return step.kind in {"commit", "run", "call", "message"} or "sign-in" in step.what


FLOWS = flows.REQUESTS + flows.JOBS


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.__name__)
def test_whatever_is_cut_and_comes_again_the_promises_hold(
    request: pytest.FixtureRequest, redis_url: str, mosaic: SimulatorServer, flow: Flow
) -> None:
    # One kind of database each, in turn: what differs between them is tried by several.
    fixture = ("sqlite_url", "empty_postgres_url")[FLOWS.index(flow) % 2]
    url = request.getfixturevalue(fixture)
    with town(url, redis_url, mosaic, flow) as here:
        usual = undisturbed(here)
        for place in itertools.count():
            cut = cut_once(here, place, How.KILLED, usual)
            if not cut.was_made:
                break
            if is_worth_losing(cut.steps[place]):
                cut_once(here, place, How.LOST, usual)
            if cut.steps[place].kind == "call":
                cut_once(here, place, How.REFUSED, usual)


# What a second copy could spoil: proofs, tickets, ends.
TWICE: list[Flow] = [
    flows.send_a_code,
    flows.log_in_by_code,
    flows.step_up,
    flows.approve,
    flows.refresh,
    flows.redeem_a_ticket,
    flows.register_anew,
    flows.log_out,
    flows.revoke_the_user,
    flows.confirm_a_notice,
]


@pytest.mark.parametrize("flow", TWICE, ids=lambda flow: flow.__name__)
def test_a_copy_that_comes_at_any_step_gets_the_same_answer_and_does_nothing_more(
    empty_postgres_url: str, redis_url: str, mosaic: SimulatorServer, flow: Flow
) -> None:
    with town(empty_postgres_url, redis_url, mosaic, flow) as here, ThreadPoolExecutor(1) as other:
        usual = undisturbed(here)
        for place in itertools.count():
            if not meet_a_copy(here, other, place, usual):
                break


def meet_a_copy(town: Town, other: ThreadPoolExecutor, place: int, usual: Heard) -> bool:
    """Have a copy served at a place, as far as it gets; whether the flow came there."""
    world = town.newcomer()
    act = town.flow(world)
    calls = town.stage.mosaic.state.calls
    sent = calls.count(PROOFS[town.flow]) if town.flow in PROOFS else 0
    copies: list[Future[Any]] = []
    with until_it_waits(town.stage) as waits:

        def meet() -> None:
            copies.append(other.submit(act))
            wait_until(lambda: copies[0].done() or waits(), 60)

        cut = Cut(town.stage.services, place, How.MET, meet)
        with cut.watching():
            act()
    if not cut.was_made:
        return False
    copies[0].result(timeout=60)
    story = f"at {place}, {cut.steps[place]}"
    answers = {heard(act), heard(act)} if isinstance(act, Asked) else set()
    town.require(answers == {usual}, f"the answers are {answers}", story)
    if town.flow in PROOFS:
        times = calls.count(PROOFS[town.flow]) - sent
        town.require(times == 1, f"the proof is sent {times} times", story)
    town.settle()
    town.require(is_done(world, town.flow), "it is not done", story)
    for broken in promises_broken(world):
        town.require(False, broken, story)
    town.require(not strangers(world), "Mosaic has more sessions", story)
    return True


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
        yield lambda: listens.is_set() or waiting_for_locks(stage) > 0


def test_who_signs_in_before_mosaic_is_asked_to_end_all_of_a_user_is_not_thrown_out(
    empty_postgres_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    flow = flows.tell_mosaic_of_a_user
    with town(empty_postgres_url, redis_url, mosaic, flow) as here, ThreadPoolExecutor(1) as other:
        for place in itertools.count():
            world = here.newcomer()
            act = flow(world)
            here.stage.pass_time(seconds=2)  # the next second counts as later
            meet = partial(in_another_thread, other, flows.log_in(world))
            cut = Cut(here.stage.services, place, How.MET, meet)
            with cut.watching():
                act()
            if not cut.was_made:
                break
            # Once it is asked, Mosaic alone knows what it ends.
            lives = len(mosaic.state.live_sessions(world.user_id)) == 1
            is_asked = cut.steps[place].kind == "call"
            here.require(lives or is_asked, "the login is ended", f"at {place}, {cut.steps[place]}")
            here.settle()


def in_another_thread(other: ThreadPoolExecutor, act: Callable[[], Any]) -> None:
    other.submit(act).result(timeout=60)


def test_no_limit_is_lifted_without_a_row_in_the_trail(sqlite_stage: Stage) -> None:
    services = sqlite_stage.services
    for how in (How.KILLED, How.LOST):
        for place in itertools.count():
            login = f"{how.name} {place}"
            subject = limits.subject_of(services, "username", login)
            guesser = Guesser(by=Cause("shop", login), subject=subject)
            limits.count(services, guesser, limits.guesses(guesser))
            cut = Cut(services, place, how)
            with cut.watching(), suppress(Killed, StoreUnavailable, redis.RedisError):
                login_limits.lift(services, Whom(login=login), reason="they asked")
            (bucket,) = limits.guesses(guesser)
            is_lifted = limits.counted(services, bucket)[0] == 0
            written = [row.after for row in flows.rows(sqlite_stage, OperatorAction)]

            assert not is_lifted or any(after["login"] == login for after in written), login
            if not cut.was_made:
                assert is_lifted
                break
