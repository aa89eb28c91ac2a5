"""Browsers that do several things at once: an ending wins, and so does the newest proof."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from session_client import requests
from session_client.contract import LogoutScope, Reason, Verdict
from tests.stage import Stage

ASK = "session/authenticate"
SEEDS = range(20)  # on each of two databases


@pytest.fixture
def apps(stage: Stage) -> Stage:
    for app_id in ("shop", "forum"):
        stage.add_app(app_id, silent_by_user=False)
    stage.add_app("desk", silent_by_user=False, capabilities=("logout_user",))
    return stage


class Browser:
    """One browser of a user of its own, with all tokens it has ever had."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        # Logging somebody out everywhere also ends what they log in to in the same second.
        self.user_id = f"user-{uuid4().hex}"
        self.login = stage.login(self.user_id, "shop")
        answer = stage.remember(self.login, self.user_id)
        self.ref = UUID(answer.session_ref)
        self.tokens: list[str] = [answer.browser_token]

    def visit(self, which: int = -1, **fields: Any) -> Any:
        return self.stage.browse(self.tokens[which], **fields)

    def add_factor(self, method: str = "sms") -> None:
        """Prove more, and take the new token."""
        state = self.stage.mosaic.state
        factor = state.add_factor(self.login.session_id, "client-shop", method)
        answer = self.stage.remember(factor, self.user_id)
        if answer.browser_token is not None:
            self.tokens.append(answer.browser_token)

    def sign_in_anew(self) -> Any:
        return self.stage.signed_in("bob", "shop", replaces=self.tokens[-1])

    def leave(self, which: int = -1) -> Any:
        return self.stage.ask("forum", requests.Logout(browser_token=self.tokens[which]))

    def leave_by_reference(self) -> Any:
        return self.stage.log_out(self.user_id, session_ref=str(self.ref))

    def leave_everywhere(self) -> Any:
        return self.stage.log_out(self.user_id, "desk", scope=LogoutScope.USER)

    def good_tokens(self) -> list[str]:
        visits = {token: self.stage.browse(token) for token in self.tokens}
        return [t for t, answer in visits.items() if answer.verdict is Verdict.AUTHENTICATED]


def with_an_old_token(stage: Stage) -> Browser:
    browser = Browser(stage)
    stage.pass_time(seconds=2)
    browser.add_factor()
    return browser


ENDINGS: dict[str, tuple[Callable[[Browser], Any], Reason]] = {
    "by the token": (Browser.leave, Reason.LOGGED_OUT),
    "by a replaced token": (lambda browser: browser.leave(0), Reason.LOGGED_OUT),
    "by reference": (Browser.leave_by_reference, Reason.LOGGED_OUT),
    "everywhere": (Browser.leave_everywhere, Reason.LOGGED_OUT),
    "by another login": (Browser.sign_in_anew, Reason.REPLACED),
}


@pytest.mark.parametrize("how", ENDINGS)
@pytest.mark.parametrize("named_by", ["browser_token", "session_ref"])
def test_an_ending_takes_the_answer_on_its_way_back(apps: Stage, how: str, named_by: str) -> None:
    end, reason = ENDINGS[how]
    browser = with_an_old_token(apps)
    names: dict[str, dict[str, Any]] = {
        "browser_token": {"browser_token": browser.tokens[-1]},
        "session_ref": {"session_ref": str(browser.ref), "user_id": browser.user_id},
    }
    asked = requests.SilentAuth(**names[named_by])
    with (
        apps.mosaic.state.gates.hold(ASK) as gate,
        apps.meanwhile(lambda: apps.ask("shop", asked)) as asking,
    ):
        gate.wait_arrived()
        end(browser)
        gate.release()

    answer = asking.result()
    assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, reason)
    assert answer.tokens is None
    assert ("authenticated", None) not in apps.events()


def test_of_proofs_at_once_the_token_from_before_gives_nothing(apps: Stage) -> None:
    for seed in SEEDS:
        browser = Browser(apps)
        apps.pass_time(seconds=2)

        race_two_proofs(apps, browser)

        good = browser.good_tokens()
        assert browser.tokens[0] not in good, seed
        assert good, seed


def race_two_proofs(stage: Stage, browser: Browser) -> None:
    stage.at_once(
        lambda: browser.add_factor("sms"),
        lambda: browser.add_factor("webauthn"),
        lambda: browser.visit(0),
    )


def test_logins_in_one_browser_at_once_leave_none_of_its_old_sessions(apps: Stage) -> None:
    for seed in SEEDS:
        browser = Browser(apps)

        apps.at_once(*[browser.sign_in_anew] * 3, browser.leave)

        assert apps.session(browser.ref).end_cause in {"replaced", "logout"}, seed
        assert browser.good_tokens() == [], seed


def test_browsers_that_take_each_others_sessions_over_all_come_to_an_end(apps: Stage) -> None:
    """Each ends the other's session: they lock both in one order, and wait in no ring."""
    for seed in SEEDS:
        answers = take_each_others_over(apps, Browser(apps), Browser(apps))

        verdicts = {answer.verdict for answer in answers}
        assert verdicts <= {Verdict.OK, Verdict.LOGIN_REQUIRED}, seed
        assert Verdict.OK in verdicts, seed


def take_each_others_over(stage: Stage, one: Browser, other: Browser) -> list[Any]:
    return stage.at_once(
        lambda: stage.remember(one.login, one.user_id, replaces=other.tokens[0]),
        lambda: stage.remember(other.login, other.user_id, replaces=one.tokens[0]),
    )
