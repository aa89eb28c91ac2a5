"""Many users at once, workers killed at random: the promises are checked at the end.

What each user did and when is compared with the simulator's own state: a logout that was
acknowledged is final (P1) and reached Mosaic (P2), and nobody else's session was lost (P4).
"""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from sandbox.processes import poll_until
from sandbox.stack import Stack
from session_client import (
    BrokerUnavailable,
    NotAnswered,
    Registered,
    SessionClient,
    SessionClientError,
    Verdict,
)
from tests.faults.looking import outcomes, rows
from tests.heard import told

USERS = 16
AT_ONCE = 6
PATIENT = 120.0
HARMLESS = {Verdict.LOGIN_REQUIRED, Verdict.TEMPORARILY_UNAVAILABLE, None}


@dataclass
class Fate:
    """What became of one user."""

    user_id: str
    is_logged_out: bool
    after_logout: list[Verdict | None]


class Crowd:
    """Users of two apps, each doing what a seed tells."""

    def __init__(self, stack: Stack, exits: ExitStack, seed: int) -> None:
        self._stack = stack
        self._seed = seed
        self._clients = {
            app_id: exits.enter_context(
                SessionClient(
                    broker_url=stack.broker_url, app_id=app_id, app_key=stack.add_app(app_id)
                )
            )
            for app_id in ("shop", "forum")
        }

    def live(self, number: int) -> Fate:
        """Log in, be signed in here and there, and perhaps log out."""
        chance = random.Random(self._seed * 1000 + number)  # noqa: S311 - a plan, no secret
        user_id = f"user-{number}"
        login = self._stack.mosaic.login(user_id, "client-shop")
        shop = self._clients["shop"]
        session = shop.register(
            user_id=user_id,
            session_id=login.session_id,
            id_token=login.id_token,
            timeout=PATIENT,
        )
        assert isinstance(session, Registered), session
        for _ in range(chance.randrange(4)):
            self.silently(user_id, chance.choice(["shop", "forum"]))
        if chance.random() < 0.3:
            return Fate(user_id, is_logged_out=False, after_logout=[])
        shop.logout(user_id=user_id, session_ref=session.session_ref, timeout=PATIENT)
        after = [self.silently(user_id, app_id) for app_id in ("forum", "shop")]
        return Fate(user_id, is_logged_out=True, after_logout=after)

    def silently(self, user_id: str, app_id: str, timeout: float = 3.0) -> Verdict | None:
        try:
            client = self._clients[app_id]
            return told(lambda: client.silent_auth(user_id=user_id, timeout=timeout))[0]
        except (NotAnswered, BrokerUnavailable):
            return None


def kill_workers(stack: Stack, stop: threading.Event, chance: random.Random) -> None:
    """Kill the worker now and then, and start the next one, until told to stop."""
    generation = 0
    current = stack.worker("-c", "4", name="worker-0")
    while not stop.wait(chance.uniform(1.0, 3.0)):
        current.kill()
        generation += 1
        current = stack.worker("-c", "4", name=f"worker-{generation}")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_is_killed_the_promises_hold(stack: Stack, seed: int) -> None:
    stop = threading.Event()
    with ExitStack() as exits:
        crowd = Crowd(stack, exits, seed)
        stack.beat()
        stack.mosaic.faults.add("session/logout", "status", status=503, times=5)
        stack.mosaic.faults.add("session/logout", "drop_answer", times=3)
        chance = random.Random(seed)  # noqa: S311
        killer = threading.Thread(target=kill_workers, args=(stack, stop, chance))
        killer.start()
        try:
            with ThreadPoolExecutor(AT_ONCE) as threads:
                fates = list(threads.map(crowd.live, range(USERS)))
        except SessionClientError as error:
            pytest.fail(f"seed {seed}: {error}")
        finally:
            stop.set()
            killer.join()

        gone = {fate.user_id for fate in fates if fate.is_logged_out}
        poll_until(
            lambda: outcomes(stack) == ["confirmed"] * len(gone), 180, what="Mosaic to be told"
        )
        live = {session.user_id for session in stack.mosaic.live_sessions()}
        signed_in = {
            fate.user_id: crowd.silently(fate.user_id, "forum", timeout=60)
            for fate in fates
            if not fate.is_logged_out
        }

    assert all(verdict in HARMLESS for fate in fates for verdict in fate.after_logout)  # P1
    assert live == {fate.user_id for fate in fates} - gone  # P2, and P4 at Mosaic
    assert set(signed_in.values()) == {Verdict.AUTHENTICATED}  # P4 here
    assert rows(stack, "SELECT count(*) FROM logout_requests") == [(len(gone),)]
