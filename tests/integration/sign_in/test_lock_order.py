"""Whatever writes to sessions at the same time, none waits for another in a ring.

PostgreSQL would end one of them, and its user would be told to try later. Each pair is led into the
ring if there is one: a row that both want is held by a third, one after the other comes to wait,
and the row is let go.
"""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr
from sqlalchemy import select, text, update

from models import EndCause, IdpSession
from session_client import contract, methods, requests
from session_client.contract import LogoutScope, Verdict
from session_client.requests import new_verifier
from simulator.controls.devices import totp_code
from simulator.server import SimulatorServer
from tests.integration.logins.login_rig import ALL, prove
from tests.integration.storage.pg_locks import (
    DEADLOCK,
    failures,
    one_behind_the_other,
    patient_locks,
)
from tests.stage import ENCRYPTION_KEY, Stage
from worker import wiring
from worker.logout.revoke import revoke
from worker.maintenance.expire import expire_sessions
from worker.maintenance.purge import purge_history
from worker.operations.key_rotation import reseal
from worker.operations.revoke_app import revoke_app
from worker.sessions import queries

__all__ = ["failures"]

ASK = "session/authenticate"
PASSWORD = "a user's"
DEVICE = "their laptop"
RING = f"k1:{ENCRYPTION_KEY},k2:{base64.b64encode(b'n' * 32).decode()}"

Act = Callable[[], Any]


@dataclass
class Browser:
    """A browser that has signed in by the worker."""

    ref: UUID
    token: str
    refresh_token: str
    session_id: str = field(repr=False)


class World:
    """A user with two browsers, and what both and their apps can do."""

    def __init__(self, stage: Stage, user_id: str) -> None:
        self.stage, self.user_id = stage, user_id
        stage.mosaic.state.add_user(user_id, password=PASSWORD, email=f"{user_id}@example.com")
        self.secret = stage.mosaic.state.authenticator_apps.enrol(user_id)["secret"]
        self.one, self.two = self._browser(), self._browser()

    def _browser(self) -> Browser:
        before = {session.session_id for session in self._live()}
        answer = self._log_in()
        (session_id,) = {session.session_id for session in self._live()} - before
        return Browser(
            UUID(answer.session_ref), answer.browser_token, answer.tokens.refresh_token, session_id
        )

    def _live(self) -> Any:
        return self.stage.mosaic.state.live_sessions(self.user_id)

    def _log_in(self, **fields: Any) -> Any:
        proof = methods.Password(self.user_id, PASSWORD)
        return prove(self.stage, proof, device_id=DEVICE, **fields)

    def is_over(self, browser: Browser) -> bool:
        """Whether a browser's session has ended, and its token gives nothing."""
        query = select(IdpSession.ended_at).where(IdpSession.id == browser.ref)
        with self.stage.services.store.read() as connection:
            row = connection.execute(query).one_or_none()
        visit = self.stage.browse(browser.token, "shop")
        is_ended = row is None or row.ended_at is not None
        return is_ended and visit.verdict is Verdict.LOGIN_REQUIRED

    def set(self, browser: Browser, **values: Any) -> None:
        statement = update(IdpSession).where(IdpSession.id == browser.ref).values(values)
        with self.stage.services.store.write() as connection:
            connection.execute(statement)

    # Each makes ready what it needs, and returns what is done in the race.

    def log_in(self, own: Browser, _: Browser) -> Act:
        return lambda: self._log_in(replaces=own.token)

    def register(self, own: Browser, _: Browser) -> Act:
        login = self.stage.login(self.user_id, "shop")
        return lambda: self.stage.remember(login, self.user_id, replaces=own.token)

    def register_with_more(self, own: Browser, other: Browser) -> Act:
        factor = self.stage.mosaic.state.add_factor(own.session_id, "client-shop", "sms")
        return lambda: self.stage.remember(factor, self.user_id, replaces=other.token)

    def step_up(self, own: Browser, _: Browser) -> Act:
        state = self.stage.mosaic.state
        self.stage.pass_time(seconds=31)  # each code serves once
        proof = methods.Totp(totp_code(self.secret, state.clock.now()))
        return lambda: prove(self.stage, proof, step_up=own.token)

    def ask_for_a_ticket(self, own: Browser, _: Browser) -> Act:
        return lambda: self._ticket(own, new_verifier())

    def _ticket(self, browser: Browser, verifier: str) -> Any:
        challenge = contract.challenge_of(verifier)
        asked = requests.IssueTicket(
            browser_token=browser.token, for_app="forum", challenge=challenge
        )
        return self.stage.ask("shop", asked)

    def redeem_a_ticket(self, own: Browser, other: Browser) -> Act:
        verifier = new_verifier()
        ticket = self._ticket(own, verifier).ticket
        redeemed = requests.SilentAuth(ticket=ticket, verifier=verifier, replaces=other.token)
        return lambda: self.stage.ask("forum", redeemed)

    def refresh(self, own: Browser, _: Browser) -> Act:
        request = requests.Refresh(refresh_token=own.refresh_token)
        return lambda: self.stage.ask("shop", request)

    def visit(self, own: Browser, _: Browser) -> Act:
        return lambda: self.stage.browse(own.token, "shop")

    def visit_and_be_renamed(self, own: Browser, _: Browser) -> Act:
        """Mosaic gives the session another id with its answer."""
        faults = self.stage.mosaic.state.faults
        faults.add(ASK, "rotate_session_id", client_id="client-shop", times=1)
        return lambda: self.stage.browse(own.token, "shop")

    def visit_and_be_merged(self, own: Browser, other: Browser) -> Act:
        """Mosaic answers with the id of the user's other session."""
        by_id = self.stage.mosaic.state.sessions._by_id
        by_id[own.session_id] = by_id[other.session_id]
        return lambda: self.stage.browse(own.token, "shop")

    def log_out(self, own: Browser, _: Browser) -> Act:
        return lambda: self.stage.ask("forum", requests.Logout(browser_token=own.token))

    def log_out_everywhere(self, *_: Browser) -> Act:
        return lambda: self.stage.log_out(self.user_id, "shop", scope=LogoutScope.USER)

    def log_out_the_device(self, *_: Browser) -> Act:
        scope = {"scope": LogoutScope.DEVICE, "device_id": DEVICE}
        return lambda: self.stage.log_out(self.user_id, "shop", **scope)

    def revoke_the_user(self, *_: Browser) -> Act:
        return lambda: self.stage.ask("shop", requests.RevokeUser(self.user_id))

    def revoke_by_hand(self, *_: Browser) -> Act:
        return lambda: revoke(
            self.stage.services,
            IdpSession.registered_by == "shop",
            reason="an incident",
            override=True,
        )

    def revoke_an_app(self, *_: Browser) -> Act:
        return lambda: list(
            revoke_app(self.stage.services, "shop", reason="an incident", override=True)
        )

    def rotate_keys(self, *_: Browser) -> Act:
        changed = {"encryption_keys": SecretStr(",".join(reversed(RING.split(","))))}
        settings = self.stage.settings.model_copy(update=changed)

        def act() -> None:
            with closing(wiring.build(settings, now=self.stage.now)) as there:
                list(reseal(there))

        return act

    def expire(self, own: Browser, _: Browser) -> Act:
        past = self.stage.now() - timedelta(hours=1)
        self.set(own, expires_at=past, check_expiry_at=past)
        return lambda: expire_sessions(self.stage.services, override_guard=True)

    def purge(self, own: Browser, _: Browser) -> Act:
        long_ago = self.stage.now() - timedelta(days=365)
        self.set(own, ended_at=long_ago, end_cause=EndCause.EXPIRED.value)
        return lambda: purge_history(self.stage.services)

    def tell_mosaic(self, own: Browser, other: Browser) -> Act:
        self.log_out(own, other)()
        return self.stage.tell_mosaic


Flow = Callable[[World, Browser, Browser], Act]

# What each ends, if it is not refused: its own browser's session, the other's, or both.
OWN, OTHER, BOTH = (0,), (1,), (0, 1)
ENDS: dict[Flow, tuple[int, ...]] = {
    World.log_in: OWN,
    World.register: OWN,
    World.register_with_more: OTHER,
    World.redeem_a_ticket: OTHER,
    World.log_out: OWN,
    World.log_out_everywhere: BOTH,
    World.log_out_the_device: BOTH,
    World.revoke_the_user: BOTH,
    World.revoke_by_hand: BOTH,
    World.revoke_an_app: BOTH,
}
# Each writes to both sessions, or to one and to what another transaction may be about to give it,
# by code of its own.
WIDE: list[Flow] = [
    World.log_in,
    World.register_with_more,
    World.redeem_a_ticket,
    World.visit_and_be_renamed,
    World.visit_and_be_merged,
    World.log_out_everywhere,
    World.revoke_by_hand,
    World.revoke_an_app,
    World.rotate_keys,
]
OTHERS: list[Flow] = [
    World.register,
    World.step_up,
    World.ask_for_a_ticket,
    World.refresh,
    World.visit,
    World.log_out,
    World.log_out_the_device,
    World.revoke_the_user,
    World.expire,
    World.purge,
    World.tell_mosaic,
]
FLOWS = WIDE + OTHERS
CROWD = 4


@pytest.fixture
def apps(postgres_url: str, redis_url: str, mosaic: SimulatorServer) -> Iterator[Stage]:
    with (
        patient_locks(),
        Stage(postgres_url, redis_url, mosaic, encryption_keys=RING) as stage,
    ):
        powers = {
            "capabilities": ("offline", "logout_user", "revoke_user"),
            "methods": tuple(ALL),
        }
        stage.add_app("shop", silent_by_user=False, **powers)
        transfer = {"transfer_url": "https://forum.example/transfer", "tickets_from": ("shop",)}
        stage.add_app("forum", silent_by_user=False, **powers, **transfer)
        yield stage


def races_of(flow: Flow) -> Iterator[tuple[list[Flow], int]]:
    """Yield who comes in which order, and whose session is held, so that each pair is among them.

    A ring needs the right order and the right row. Of two that write to several, all are tried.
    """
    after = FLOWS[FLOWS.index(flow) :]
    for other in after:
        if {flow, other} <= set(WIDE):
            for order in ([flow, other], [other, flow]):
                yield from ((order, held) for held in BOTH)
    rest = [other for other in after if other in OTHERS]
    for begin in range(0, len(rest), CROWD):
        crowd = [flow, *rest[begin : begin + CROWD]]
        chosen = random.Random(repr([each.__name__ for each in crowd]))  # noqa: S311 - no secret
        chosen.shuffle(crowd)
        yield crowd, chosen.choice(BOTH)


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.__name__)
def test_no_two_writers_wait_for_each_other(apps: Stage, failures: list[str], flow: Flow) -> None:
    for number, (order, held) in enumerate(races_of(flow)):
        story = ([each.__name__ for each in order], held)
        world = World(apps, f"user-{number}")
        pairs = [(world.one, world.two), (world.two, world.one)]
        # Each comes with the session that is the other one to whoever came before.
        whose = [pairs[place % 2] for place in range(len(order))]
        acts = [each(world, *browsers) for each, browsers in zip(order, whose, strict=True)]
        # What was written last lies behind the others, where rows are read as they lie.
        world.set(world.one, device_id=DEVICE)

        answers = one_behind_the_other(apps, pairs[held][0].ref, acts)

        assert DEADLOCK not in failures, story
        verdicts = [getattr(answer, "verdict", Verdict.OK) for answer in answers]
        # Of a factor that Mosaic says it has added to the other session nobody can tell more.
        is_unknown = World.visit_and_be_merged in order and World.step_up in order
        assert is_unknown or Verdict.TEMPORARILY_UNAVAILABLE not in verdicts, story
        for each, browsers, verdict in zip(order, whose, verdicts, strict=True):
            if verdict in {Verdict.OK, Verdict.AUTHENTICATED}:
                for which in ENDS.get(each, ()):
                    assert world.is_over(browsers[which]), story


def test_what_refers_to_a_locked_session_can_be_written(apps: Stage) -> None:
    session = apps.registered("ada", "shop")
    store = apps.services.store
    ended = select(IdpSession.id).where(queries.locked_in_order(IdpSession.id == session))
    for lock in (lambda c: queries.lock_in_order(c, session), lambda c: c.execute(ended)):
        with store.write() as holder:
            lock(holder)
            with store.write() as connection:
                connection.execute(text("SET LOCAL lock_timeout = '5s'"))
                # What the database does for a row that refers to the session.
                key = select(IdpSession.id).where(IdpSession.id == session)
                connection.execute(key.with_for_update(read=True, key_share=True))
