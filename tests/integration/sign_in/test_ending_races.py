"""An ending is final, whatever is under way: visits, factors, tickets, refreshes, logins."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from session_client import contract, methods, requests
from session_client.contract import LogoutScope, Verdict
from session_client.requests import new_verifier
from tests.integration.logins.login_rig import ALL, begin, prove
from tests.stage import Stage

# Two hundred in all: what a seed chooses is the same on each run.
SEEDS = {"sqlite": range(100), "postgresql": range(100, 200)}
PASSWORD = "a user's"


@pytest.fixture
def apps(stage: Stage) -> Stage:
    powers = {"capabilities": ("offline", "logout_user"), "methods": tuple(ALL)}
    stage.add_app("shop", silent_by_user=False, **powers)
    transfer = {"transfer_url": "https://forum.example/transfer", "tickets_from": ("shop",)}
    stage.add_app("forum", silent_by_user=False, **powers, **transfer)
    return stage


class Browser:
    """A browser that has signed in by the worker, and all it and its app were ever given."""

    def __init__(self, stage: Stage, user_id: str) -> None:
        self.stage, self.user_id = stage, user_id
        stage.mosaic.state.add_user(user_id, password=PASSWORD, email=f"{user_id}@example.com")
        answer = self._log_in()
        self.ref = UUID(answer.session_ref)
        (live,) = stage.mosaic.state.live_sessions(user_id)
        self.session_id = live.session_id
        self.tokens: list[str] = []
        self.refresh_tokens: list[str] = []
        self.take(answer)

    def take(self, answer: Any) -> None:
        """Keep what an answer gives of the first session."""
        if answer is None or getattr(answer, "session_ref", None) != str(self.ref):
            return
        if answer.browser_token is not None:
            self.tokens.append(answer.browser_token)
        if answer.tokens is not None and answer.tokens.refresh_token is not None:
            self.refresh_tokens.append(answer.tokens.refresh_token)

    def _log_in(self, **fields: Any) -> Any:
        return prove(self.stage, methods.Password(self.user_id, PASSWORD), **fields)

    # Each makes ready what it needs, and returns what is done in the race.

    def visit(self) -> Callable[[], Any]:
        token = self.tokens[0]
        return lambda: self.stage.browse(token, "shop")

    def refresh(self) -> Callable[[], Any]:
        token = self.refresh_tokens[0]
        return lambda: self.stage.ask("shop", requests.Refresh(refresh_token=token))

    def step_up(self) -> Callable[[], Any]:
        token = self.tokens[0]
        begun = begin(self.stage, methods.IssueOtp(), step_up=token)
        code = methods.Code(begun["code"])
        return lambda: prove(self.stage, code, login=begun["login"], step_up=token)

    def redeem(self) -> Callable[[], Any]:
        verifier = new_verifier()
        challenge = contract.challenge_of(verifier)
        asked = requests.IssueTicket(
            browser_token=self.tokens[0], for_app="forum", challenge=challenge
        )
        ticket = self.stage.ask("shop", asked).ticket
        redeemed = requests.SilentAuth(ticket=ticket, verifier=verifier)
        return lambda: self.stage.ask("forum", redeemed)

    def log_in_elsewhere(self) -> Callable[[], Any]:
        return self._log_in

    def sign_in_anew(self) -> Callable[[], Any]:
        token = self.tokens[0]
        return lambda: self._log_in(replaces=token)

    def log_out(self) -> Callable[[], Any]:
        request = requests.Logout(browser_token=self.tokens[0])
        return lambda: self.stage.ask("forum", request)

    def log_out_everywhere(self) -> Callable[[], Any]:
        return lambda: self.stage.log_out(self.user_id, "shop", scope=LogoutScope.USER)


ENDINGS = [Browser.log_out, Browser.log_out_everywhere, Browser.sign_in_anew]
OTHERS = [
    Browser.visit,
    Browser.refresh,
    Browser.step_up,
    Browser.redeem,
    Browser.log_in_elsewhere,
]


def test_whatever_races_an_ending_it_is_final_and_reaches_mosaic(apps: Stage) -> None:
    for seed in SEEDS["sqlite" if apps.services.store.is_sqlite else "postgresql"]:
        chosen = random.Random(seed)  # noqa: S311 - no secret
        browser = Browser(apps, f"user-{seed}")
        kinds = [chosen.choice(ENDINGS), *chosen.sample(OTHERS, chosen.randint(1, 3))]
        acts = [kind(browser) for kind in kinds]
        chosen.shuffle(acts)

        for answer in apps.at_once(*acts):
            browser.take(answer)

        story = (seed, [kind.__name__ for kind in kinds])
        assert apps.session(browser.ref).ended_at is not None, story
        assert usable(apps, browser) == [], story
        apps.tell_mosaic()
        assert not apps.mosaic.state.is_live(browser.session_id), story


def usable(stage: Stage, browser: Browser) -> list[str]:
    """Return what still gives tokens of the session that has ended."""
    given = [(token, stage.browse(token, "shop")) for token in browser.tokens]
    given += [
        (token, stage.ask("shop", requests.Refresh(refresh_token=token)))
        for token in browser.refresh_tokens
    ]
    return [token for token, answer in given if answer.verdict is not Verdict.LOGIN_REQUIRED]
