"""Each flow, cut at each step that leaves the worker's process: its message comes again, or twice.

Whatever was killed, refused or lost: the app gets the answer that it would have got, or hears that
nobody knows; no proof is sent twice; what has ended ends at Mosaic, and nothing else does.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import redis

from models import OperatorAction
from session_client.contract import Reason, Verdict
from simulator.controls.gates import wait_until
from simulator.server import SimulatorServer
from tests.faults import flows
from tests.faults.cuts import Cut, How, Killed, Step
from tests.faults.flows import PROOFS, Asked, Flow, World
from tests.faults.town import (
    Heard,
    Town,
    heard,
    is_done,
    promises_broken,
    strangers,
    town,
    until_it_waits,
)
from tests.stage import Stage
from worker.errors import StoreUnavailable
from worker.logins import limits
from worker.logins.limits import Guesser
from worker.logins.orphans import end_unheard
from worker.operations import login_limits
from worker.operations.login_limits import Whom
from worker.sessions.audit import Cause

UNKNOWN: Heard = (Verdict.TEMPORARILY_UNAVAILABLE, Reason.OUTCOME_UNKNOWN)
# What of them leaves a session at Mosaic where its answer is lost.
LOGINS = {flows.log_in_by_code, flows.log_in_anew}


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
