"""Each flow that ends sessions, or tells of it, and something else that comes amid it.

At each statement and each commit of it, on PostgreSQL; on SQLite, which has one writer at a time,
between its transactions. Whatever came in between: each request is answered, and no two wait for
each other; what has ended ends at Mosaic, is told once, and gives nothing any more; nothing else
ends.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import Row, func, select

from models import EndCause, Logout, Notice, SessionEvent, UserRevocation
from session_client import requests
from session_client.contract import Verdict
from simulator.controls.gates import wait_until
from simulator.idp.endpoints import Endpoint
from simulator.server import SimulatorServer
from tests.faults import flows
from tests.faults.cuts import Cut, How
from tests.faults.flows import DELIVERIES, Asked, Flow, World
from tests.faults.town import (
    ENDINGS,
    Town,
    promises_broken,
    sessions_of,
    strangers,
    town,
    until_it_waits,
)
from tests.integration.storage.pg_locks import DEADLOCK, failures
from worker.maintenance.purge import purge_history
from worker.sessions import audit

__all__ = ["failures"]

Act = Callable[[], Any]


# --- who comes in between: each is made ready before the flow is


def register_a_login_from_before(world: World) -> Act:
    return world.asked(world.registration(device_id=flows.DEVICE))


def register_a_factor(world: World) -> Asked:
    factor = world.stage.mosaic.state.add_factor(world.session_id, "client-shop", "sms")
    proof: Any = {"session_id": factor.session_id, "id_token": factor.id_token}
    return world.asked(requests.Register(user_id=world.user_id, **proof))


def purge_all(world: World) -> Act:
    return lambda: purge_history(world.stage.services)


def deliver_all(world: World) -> Act:
    """A worker takes the messages as soon as they are sent, or the sweep's before them."""

    def act() -> None:
        for kind, name in DELIVERIES.items():
            for row in flows.open_ones(world.stage, kind):
                flows.task(name, row)()

    return act


def a_copy(_: World) -> Act:
    """The same message comes once more, or beat's, or another operator does the same."""
    raise AssertionError("it is the flow itself")


def a_late_id(_: World) -> Act:
    """Mosaic's answer comes to a visit of before the flow, with another id for the session."""
    raise AssertionError("see `_asking_before`")


OTHERS: list[Flow] = [
    a_copy,
    a_late_id,
    register_a_login_from_before,
    register_a_factor,
    flows.visit,
    flows.log_in,
    flows.log_out,
    flows.revoke_by_hand,
    deliver_all,
    purge_all,
]
FLOWS: list[Flow] = [
    flows.log_out,
    flows.log_out_everywhere,
    flows.log_out_the_device,
    flows.log_out_what_expired,
    flows.revoke_the_user,
    flows.confirm_a_notice,
    flows.tell_mosaic,
    flows.tell_mosaic_of_a_user,
    flows.tell_an_app,
    flows.sweep,
    flows.expire,
    flows.purge,
    flows.revoke_by_hand,
    flows.revoke_an_app,
    flows.replay,
    flows.rotate_keys,
    flows.visit_and_be_renamed,
    flows.keep_a_late_id,
]
# After these no login of the user's device from before lives.
OF_ALL_LOGINS = {
    flows.log_out_everywhere,
    flows.log_out_the_device,
    flows.revoke_the_user,
    flows.revoke_by_hand,
    flows.tell_mosaic_of_a_user,
    flows.replay,
}
# What they work on may be purged as soon as nobody need be told of it.
OF_LONG_AGO = {flows.tell_mosaic, flows.tell_an_app, flows.confirm_a_notice, flows.sweep}
# No answer is on its way about what has ended a year ago, or has expired at Mosaic.
NEVER = {
    (flows.purge, a_late_id),
    (flows.purge, register_a_factor),
    (flows.expire, register_a_factor),
    (flows.visit_and_be_renamed, a_late_id),  # two at once, of one session, wait for each other
    (flows.keep_a_late_id, a_late_id),
}
# Mosaic ends all of a user at once, what has begun since the worker's last look as well.
NOT_AT_A_CALL = {(flows.tell_mosaic_of_a_user, flows.log_in)}
# Or more, where a flow has few places. With all of them at each place it takes six minutes.
OTHERS_AT_A_PLACE = 2
# Each of these pairs has broken a promise before, at one place: it comes at all of them.
ALWAYS = {
    (flows.replay, purge_all),
    (flows.log_out_what_expired, purge_all),
    (flows.visit_and_be_renamed, register_a_factor),
    (flows.keep_a_late_id, register_a_factor),
    (flows.tell_mosaic_of_a_user, flows.log_in),
}
# Mosaic is asked to end all of a user, and each session that is known as well.
TOLD_TWICE = {flows.revoke_the_user, flows.tell_mosaic_of_a_user, flows.replay}


@dataclass
class Met:
    """Who comes amid a flow, on a thread of their own."""

    act: Act
    come: Callable[[], Future[Any]]
    doing: list[Future[Any]] = field(default_factory=list)

    def start(self) -> None:
        self.doing.append(self.come())

    def wait(self) -> None:
        """Wait until it is done; come at last who has not yet."""
        if not self.doing:
            self.start()
        self.doing[0].result(timeout=60)


@contextmanager
def made_ready(
    world: World, flow: Flow, other: Flow, thread: ThreadPoolExecutor
) -> Iterator[tuple[Act, Met]]:
    """Have both made ready, *other* first: it is about what was so before the flow."""
    if other is a_late_id:
        with asking_before(world, thread) as met:
            yield of_its_time(flow, world), met
        return
    first = None if other is a_copy else other(world)
    act = of_its_time(flow, world)
    second = first or act
    yield act, Met(second, lambda: thread.submit(second))


def of_its_time(flow: Flow, world: World) -> Act:
    act = flow(world)
    if flow in OF_LONG_AGO:
        world.age()
    return act


@contextmanager
def asking_before(world: World, thread: ThreadPoolExecutor) -> Iterator[Met]:
    """Hold an answer of Mosaic's to a visit, which gives the session another id."""
    state = world.stage.mosaic.state
    visit = flows.visit_and_be_renamed(world)
    with state.gates.hold(Endpoint.SESSION_AUTHENTICATE, "client-forum") as gate:
        asked = thread.submit(visit)
        gate.wait_arrived()
        state.sessions.forget_id(world.session_id)  # it knows the session by the new one alone
        (live,) = state.live_sessions(world.user_id)
        world.session_id, world.is_being_used = live.session_id, True

        def come() -> Future[Any]:
            gate.release()
            return asked

        yield Met(visit, come)


def watched(town: Town, place: int, meet: Act = lambda: None) -> Cut:
    is_sqlite = town.stage.services.store.is_sqlite
    return Cut(town.stage.services, place, How.MET, meet, is_met_within=not is_sqlite)


def cross(
    town: Town, thread: ThreadPoolExecutor, place: int, other: Flow, failures: list[str]
) -> None:
    """Have *other* come at a place of one user's flow, and note what is wrong then."""
    world, flow, state = town.newcomer(), town.flow, town.stage.mosaic.state
    state.calls.clear()
    failures.clear()
    with made_ready(world, flow, other, thread) as (act, met), until_it_waits(town.stage) as waits:

        def meet() -> None:
            met.start()
            wait_until(lambda: met.doing[0].done() or waits(), 60)

        cut = watched(town, place, meet)
        with cut.watching():
            result = act()
        met.wait()
    what = str(cut.steps[place]) if cut.was_made else "its end"
    crossing = Crossing(town, world, cut, other, f"{other.__name__} at {place}, {what}")
    crossing.require(not {DEADLOCK, "55P03"} & {*failures}, f"they wait too long: {failures}")
    crossing.look_at_answers(act, met.act)
    published = town.settle()
    own = crossing.look_at_store(result)
    crossing.look_at_what_was_told(own, published)


@dataclass
class Crossing:
    """What has come of one."""

    town: Town
    world: World
    cut: Cut
    other: Flow
    story: str

    def require(self, holds: bool, what: str) -> None:  # noqa: FBT001
        self.town.require(holds, what, self.story)

    def look_at_answers(self, act: Act, others: Act) -> None:
        for asked in (act, others):
            if not isinstance(asked, Asked):
                continue
            answer = asked.heard()
            if answer is None or answer.verdict is Verdict.TEMPORARILY_UNAVAILABLE:
                self.require(False, f"the answer is {answer}")
            elif answer.verdict is Verdict.AUTHENTICATED and asked.request.task is SILENT_AUTH:
                self.require(not self._was_over, "tokens come after the logout")

    @property
    def _was_over(self) -> bool:
        """Whether the flow had committed an ending before anybody came."""
        is_committed = any(step.kind == "commit" for step in self.cut.steps[: self.cut.place])
        return is_committed and self.town.flow in ENDED_BY_ONE_COMMIT

    def look_at_store(self, result: Any) -> Row[Any] | None:
        world, flow = self.world, self.town.flow
        for broken in promises_broken(world):
            self.require(False, broken)
        rows = sessions_of(world)
        own = next((row for row in rows if row.id == world.ref), None)
        # What was given up a year ago has expired there, long before it is purged.
        is_forgotten = flow is flows.replay and own is None
        self.require(is_forgotten or not strangers(world), "Mosaic has more sessions")
        is_renewed = flow is flows.expire and self.other is a_late_id
        if (flow in ENDINGS and not is_renewed) or self.other in ENDINGS:
            is_over = own is None or own.ended_at is not None
            self.require(is_over, "it lives")
            visit = world.ask("forum", requests.SilentAuth(browser_token=world.token))
            self.require(visit.verdict is Verdict.LOGIN_REQUIRED, "it is of use")
        if flow in OF_ALL_LOGINS and self.other is register_a_login_from_before:
            self.require(all(row.ended_at for row in rows), "a login from before lives")
        if flow is flows.replay:
            self.require(deliveries_of(world) >= result, "what is opened again is purged")
        return own

    def look_at_what_was_told(self, own: Row[Any] | None, published: int) -> None:
        must_hear = own is not None and own.end_cause in OF_INTEREST
        is_told = published == 1 or self.town.flow is flows.confirm_a_notice
        self.require(published <= 1, f"the app is told {published} times")
        self.require(is_told or not must_hear, "the app is not told")
        if self.town.flow not in TOLD_TWICE:
            ended = self.town.stage.mosaic.state.calls.find(Endpoint.SESSION_LOGOUT)
            by_id = Counter(call.session_id for call in ended)
            self.require(max(by_id.values(), default=0) <= 1, "Mosaic is told twice")
        for row in events_of(self.world):
            # Of a session that has another id Mosaic may be told by either.
            is_renamed = self.other is a_late_id or self.town.flow is flows.keep_a_late_id
            most = 2 if is_renamed and row.event == audit.IDP_CONFIRMED else 1
            if row.event in ONCE:
                self.require(row.count <= most, f"{row.event} {row.count} times")


SILENT_AUTH = requests.SilentAuth(user_id="").task
ENDED_BY_ONE_COMMIT = {
    flows.log_out,
    flows.log_out_everywhere,
    flows.log_out_the_device,
    flows.revoke_the_user,
    flows.revoke_by_hand,
}
OF_INTEREST = {EndCause.LOGOUT.value, EndCause.REVOKED.value}
# In the trail of a session.
ONCE = {audit.ENDED, audit.IDP_CONFIRMED, audit.APP_CONFIRMED}


def deliveries_of(world: World) -> int:
    """Return how many there are, open or not, of the browser's session and of its user."""
    counts = (
        select(func.count()).where(Logout.idp_session_id == world.ref),
        select(func.count()).where(Notice.idp_session_id == world.ref),
        select(func.count()).where(UserRevocation.user_id == world.user_id),
    )
    with world.stage.services.store.read() as connection:
        return sum(connection.execute(count).scalar_one() for count in counts)


def events_of(world: World) -> Any:
    """Return how often each thing has happened to each of the user's sessions."""
    columns = (SessionEvent.idp_session_id, SessionEvent.event)
    query = (
        select(*columns, func.count().label("count"))
        .where(SessionEvent.user_id == world.user_id)
        .group_by(*columns)
    )
    with world.stage.services.store.read() as connection:
        return connection.execute(query).all()


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.__name__)
def test_whatever_comes_amid_a_flow_the_promises_hold(
    store_url: str, redis_url: str, mosaic: SimulatorServer, failures: list[str], flow: Flow
) -> None:
    with town(store_url, redis_url, mosaic, flow) as here, ThreadPoolExecutor(1) as thread:
        places, missing = places_of(here), set(OTHERS)
        for turn, (place, kind) in enumerate(places):
            for other in those_who_come(flow, turn, len(places)):
                if kind == "call" and (flow, other) in NOT_AT_A_CALL:
                    continue
                cross(here, thread, place, other, failures)
                missing.discard(other)
    assert missing <= {other for other in OTHERS if (flow, other) in NEVER}


def places_of(town: Town) -> list[tuple[int, str]]:
    """Return where it is worth coming, and what is done there.

    A trip to Redis, or a message, changes nothing stored.
    """
    act = of_its_time(town.flow, town.newcomer())
    cut = watched(town, place=-1)
    with cut.watching():
        act()
    town.settle()
    kinds = [step.kind for step in cut.steps]
    places = [(place, kind) for place, kind in enumerate(kinds) if kind not in {"redis", "message"}]
    assert places, "it does nothing that anybody could come amid"
    return places


def those_who_come(flow: Flow, turn: int, places: int) -> list[Flow]:
    """Return who comes at a place: in turn, so that each comes to each flow at one of *places*."""
    others = [other for other in OTHERS if (flow, other) not in NEVER]
    at_a_place = max(OTHERS_AT_A_PLACE, math.ceil(len(others) / places))
    first = FLOWS.index(flow) + turn * at_a_place
    chosen = {others[(first + next_one) % len(others)] for next_one in range(at_a_place)}
    chosen |= {other for other in others if (flow, other) in ALWAYS}
    return [other for other in others if other in chosen]


def test_a_registration_of_a_session_that_is_purged_that_very_moment_is_answered(
    empty_postgres_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    flow = register_a_factor
    with town(empty_postgres_url, redis_url, mosaic, flow) as here, ThreadPoolExecutor(1) as thread:
        for place in itertools.count():
            world = here.newcomer()
            asked = flow(world)
            flows.log_out(world)()
            here.settle()
            world.age()

            def purge(world: World = world) -> None:
                thread.submit(purge_all(world)).result(timeout=60)

            cut = watched(here, place, purge)
            with cut.watching():
                asked()
            story = f"at {place}, {cut.steps[place]}" if cut.was_made else "at its end"
            here.require(asked.heard() is not None, "it is not answered", story)
            if not cut.was_made:
                break
