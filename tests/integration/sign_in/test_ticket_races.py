"""Tickets redeemed at the same time, and while an ending or a new proof comes in between."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest

from session_client import requests
from session_client.contract import Verdict
from simulator.server import SimulatorServer
from tests.integration.sign_in.ticket_rig import (
    ASK,
    Visit,
    ask_for_ticket,
    is_refused,
    open_apps,
    refusals,
    tickets,
    tokens_of,
)
from tests.integration.storage.pg_locks import Act, one_behind_the_other, patient_locks
from tests.stage import Stage

SEEDS = range(25)  # on each of two databases
FEW_SEEDS = range(8)


@pytest.fixture
def hub(stage: Stage) -> Stage:
    open_apps(stage)
    return stage


class Browser:
    """A browser that is signed in at the hub, and has just come back to forum with a ticket."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.user_id = f"user-{uuid4().hex}"
        self.login = stage.login(self.user_id, "hub")
        answer = stage.remember(self.login, self.user_id, "hub")
        self.ref = UUID(answer.session_ref)
        self.token: str = answer.browser_token
        self.visit = Visit(stage, self.token)
        stage.pass_time(seconds=2)

    def redeem(self) -> Any:
        return self.visit.redeem()

    def ask_for_ticket(self) -> Any:
        return ask_for_ticket(self.stage, self.token)

    def leave(self) -> Any:
        return self.stage.ask("hub", requests.Logout(browser_token=self.token))

    def leave_by_reference(self) -> Any:
        return self.stage.log_out(self.user_id, "hub", session_ref=str(self.ref))

    def sign_in_anew(self) -> Any:
        return self.stage.signed_in("bob", "hub", replaces=self.token)

    def add_factor(self) -> Any:
        state = self.stage.mosaic.state
        factor = state.add_factor(self.login.session_id, "client-hub", "sms")
        return self.stage.remember(factor, self.user_id, "hub")


ENDINGS: dict[str, Callable[[Browser], Any]] = {
    "by the token": Browser.leave,
    "by reference": Browser.leave_by_reference,
    "by another login": Browser.sign_in_anew,
}
OVERTAKINGS = ENDINGS | {"by a new proof": Browser.add_factor}


@pytest.mark.parametrize("how", OVERTAKINGS)
def test_what_comes_while_mosaic_is_asked_takes_the_ticket_with_it(hub: Stage, how: str) -> None:
    browser = Browser(hub)
    with (
        hub.mosaic.state.gates.hold(ASK) as gate,
        hub.meanwhile(browser.redeem) as redeeming,
    ):
        gate.wait_arrived()
        OVERTAKINGS[how](browser)
        gate.release()

    assert is_refused(redeeming.result())
    assert tokens_of(hub, "forum") == []


@pytest.mark.parametrize("how", OVERTAKINGS)
def test_what_comes_after_mosaic_and_before_the_token_is_seen(
    hub: Stage, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The slide has committed: only the last look at session and ticket can tell."""
    from worker.sign_in import redeem_ticket  # noqa: PLC0415 - its last step is to wait

    browser, hand_over = Browser(hub), redeem_ticket.hand_over

    def overtaken(*asked: Any) -> Any:
        OVERTAKINGS[how](browser)
        return hand_over(*asked)

    monkeypatch.setattr(redeem_ticket, "hand_over", overtaken)
    answer = browser.redeem()

    assert is_refused(answer)
    assert refusals(hub) == ["overtaken"]
    assert tokens_of(hub, "forum") == []
    # Who waits for the same answer gets it: its lease would keep them waiting for half a minute.
    assert hub.redis.keys("mosaic-sessions:flight:*:lease") == []


def test_no_token_passes_by_a_new_proof_that_is_about_to_be_committed(
    postgres_url: str, redis_url: str, mosaic: SimulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from worker.sign_in import redeem_ticket  # noqa: PLC0415 - its last step is to wait

    hand_over = redeem_ticket.hand_over
    with patient_locks(), Stage(postgres_url, redis_url, mosaic) as hub:
        open_apps(hub)
        browser = Browser(hub)

        def overtaken(*asked: Any) -> Any:
            acts: list[Act] = [browser.add_factor, partial(hand_over, *asked)]
            return one_behind_the_other(hub, browser.ref, acts)[1]

        monkeypatch.setattr(redeem_ticket, "hand_over", overtaken)

        assert is_refused(browser.redeem())
        assert tokens_of(hub, "forum") == []


def test_of_many_who_redeem_one_ticket_at_once_one_is_served(hub: Stage) -> None:
    for seed in FEW_SEEDS:
        browser = Browser(hub)

        answers = hub.at_once(*[browser.redeem] * 4)

        served = [answer for answer in answers if answer.verdict is Verdict.AUTHENTICATED]
        assert len(served) == 1, seed
        assert sum(map(is_refused, (a for a in answers if a not in served))) == 3, seed


def test_a_request_delivered_twice_at_once_is_served_and_no_other(hub: Stage) -> None:
    for seed in FEW_SEEDS:
        browser = Browser(hub)
        sent = hub.seal("forum", browser.visit.request())

        hub.at_once(*[partial(hub.run, sent)] * 2)
        answers = [hub.answer_to(sent), hub.answer_to(sent)]

        assert {answer.verdict for answer in answers} == {Verdict.AUTHENTICATED}, seed
        assert is_refused(browser.redeem()), seed


def test_whatever_races_an_ending_no_ticket_and_no_token_outlives_it(hub: Stage) -> None:
    for seed in SEEDS:
        browser = Browser(hub)

        redeemed = race_an_ending(browser, random.Random(seed))  # noqa: S311 - no secret

        assert hub.session(browser.ref).ended_at is not None, seed
        if redeemed.browser_token is not None:
            late = hub.browse(redeemed.browser_token, "forum")
            assert late.verdict is Verdict.LOGIN_REQUIRED, seed
        assert is_refused(browser.redeem()), seed
        hub.tell_mosaic()
        assert not hub.mosaic.state.is_live(browser.login.session_id), seed


def race_an_ending(browser: Browser, chosen: random.Random) -> Any:
    """Redeem while the session is ended and another ticket is asked for; return what came of it."""
    acts = [ENDINGS[chosen.choice(list(ENDINGS))], Browser.redeem, Browser.ask_for_ticket]
    chosen.shuffle(acts)
    answers = browser.stage.at_once(*(partial(act, browser) for act in acts))
    return answers[acts.index(Browser.redeem)]


def test_no_ticket_of_a_replaced_token_is_left_by_a_race(hub: Stage) -> None:
    """A ticket that slipped in behind the new proof would carry the stronger session."""
    for seed in SEEDS:
        browser = Browser(hub)

        hub.at_once(browser.add_factor, browser.ask_for_ticket, browser.redeem)

        left = [row for row in tickets(hub) if row.idp_session_id == browser.ref]
        assert left == [], seed


def test_browsers_that_take_each_others_sessions_over_all_come_to_an_end(hub: Stage) -> None:
    """Each ends the other's session: they lock both in one order, and wait in no ring."""
    for seed in FEW_SEEDS:
        one, other = hub.signed_in("ada", "hub"), hub.signed_in("ada", "hub")
        visits = [Visit(hub, one.browser_token), Visit(hub, other.browser_token)]

        answers = hub.at_once(
            partial(visits[0].redeem, replaces=other.browser_token),
            partial(visits[1].redeem, replaces=one.browser_token),
        )

        verdicts = {answer.verdict for answer in answers}
        assert Verdict.AUTHENTICATED in verdicts, seed
        assert verdicts <= {Verdict.AUTHENTICATED, Verdict.LOGIN_REQUIRED}, seed
        live = [hub.session(UUID(login.session_ref)).ended_at is None for login in (one, other)]
        assert sum(live) <= 1, seed
