"""Browsers in any order: what a browser is given is of its own session, or it is given nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from sandbox.postgres_server import PostgresDatabases
from session_client import requests
from session_client.contract import LogoutScope, Verdict
from simulator.server import SimulatorServer
from tests.stage import Stage, claims_of

BROWSERS = ("laptop", "phone", "kiosk")
APPS = ("shop", "forum")
USERS = ("ada", "bob")
DEVICES = (None, None, "tablet")
# The newest token mostly, or one from before: browsers are restored from backups.
ANY_OF_A_JAR = st.sampled_from([0, 0, 1, 1, 2, 5])


class Browsers(RuleBasedStateMachine):
    """Two people at three browsers, and two apps of one domain."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage.__enter__()
        self.jars: dict[str, list[str]] = {name: [] for name in BROWSERS}  # the newest last
        self.named: dict[str, str] = {}  # by token, also a replaced one, its session
        self.good: set[str] = set()
        self.logins: dict[str, Any] = {}  # by session: its user, its device and its login
        self.ended: set[str] = set()

    def teardown(self) -> None:
        self.stage.__exit__()

    # --- what people do

    @initialize()
    def open_shops(self) -> None:
        for app_id in APPS:
            self.stage.add_app(app_id, silent_by_user=False)
        self.stage.add_app("desk", capabilities=("logout_user",))
        for browser, user_id in zip(BROWSERS, ("ada", "ada", "bob"), strict=True):
            self.sign_in(browser, user_id, None, None)

    @rule(
        browser=st.sampled_from(BROWSERS),
        user_id=st.sampled_from(USERS),
        device_id=st.sampled_from(DEVICES),
        brings=st.none() | ANY_OF_A_JAR,
    )
    def sign_in(
        self, browser: str, user_id: str, device_id: str | None, brings: int | None
    ) -> None:
        brought = None if brings is None else self._brought(browser, brings)
        login = self.stage.login(user_id, "shop")
        answer = self.stage.remember(login, user_id, device_id=device_id, replaces=brought)
        assert answer.verdict is Verdict.OK
        self.logins[answer.session_ref] = (user_id, device_id, login)
        if brought is not None:
            self.ended.add(self.named[brought])
        self._take(browser, answer)

    @precondition(lambda self: self._signed_in())
    @rule(data=st.data(), method=st.sampled_from(["sms", "webauthn"]))
    def add_factor(self, data: Any, method: str) -> None:
        browser = data.draw(st.sampled_from(self._signed_in()))
        user_id, _, login = self.logins[self.named[self.jars[browser][-1]]]
        self.stage.pass_time(seconds=2)
        state = self.stage.mosaic.state
        factor = state.add_factor(login.session_id, "client-shop", method)
        answer = self.stage.remember(factor, user_id)
        assert answer.verdict is Verdict.OK
        self.good -= {t for t, ref in self.named.items() if ref == answer.session_ref}
        self._take(browser, answer)

    @rule(
        browser=st.sampled_from(BROWSERS),
        which=ANY_OF_A_JAR,
        app_id=st.sampled_from(APPS),
    )
    def visit(self, browser: str, which: int, app_id: str) -> None:
        token = self._brought(browser, which)
        answer = self.stage.browse(token, app_id)
        ref = self.named[token]
        if token in self.good and ref not in self.ended:
            assert answer.verdict is Verdict.AUTHENTICATED
            assert answer.session_ref == ref
        else:
            assert answer.verdict is Verdict.LOGIN_REQUIRED
        self._is_of_its_own(answer)

    @rule(data=st.data(), user_id=st.sampled_from(USERS), app_id=st.sampled_from(APPS))
    def come_back_with_a_local_session(self, data: Any, user_id: str, app_id: str) -> None:
        ref = data.draw(st.sampled_from(sorted(self.logins)))
        asked = requests.SilentAuth(session_ref=ref, user_id=user_id)
        answer = self.stage.ask(app_id, asked)
        if answer.tokens is not None:
            assert answer.session_ref == ref
        self._is_of_its_own(answer)

    @rule(user_id=st.sampled_from(USERS), device_id=st.sampled_from(DEVICES))
    def work_for_somebody_who_is_not_there(self, user_id: str, device_id: str | None) -> None:
        answer = self.stage.silent_auth(user_id, "desk", device_id=device_id)
        if answer.tokens is not None:
            assert self.logins[answer.session_ref][:2] == (user_id, device_id)
        self._is_of_its_own(answer)

    @rule(browser=st.sampled_from(BROWSERS), which=ANY_OF_A_JAR)
    def log_out(self, browser: str, which: int) -> None:
        token = self._brought(browser, which)
        answer = self.stage.ask("forum", requests.Logout(browser_token=token))
        assert answer.verdict is Verdict.OK
        assert answer.sessions_ended == (self.named[token] not in self.ended)
        self.ended.add(self.named[token])

    @rule(user_id=st.sampled_from(USERS))
    def log_out_a_device(self, user_id: str) -> None:
        self.stage.log_out(user_id, "desk", scope=LogoutScope.DEVICE, device_id="tablet")
        self.ended |= {
            ref
            for ref, (user, device, _) in self.logins.items()
            if (user, device) == (user_id, "tablet")
        }
        self.stage.pass_time(seconds=2)

    @rule(user_id=st.sampled_from(USERS))
    def log_out_everywhere(self, user_id: str) -> None:
        self.stage.log_out(user_id, "desk", scope=LogoutScope.USER)
        self.ended |= {ref for ref, (user, *_) in self.logins.items() if user == user_id}
        # A login within the second of the logout counts as one from before it.
        self.stage.pass_time(seconds=2)

    @rule(seconds=st.sampled_from([1, 40, 3600]))
    def wait(self, seconds: int) -> None:
        self.stage.pass_time(seconds=seconds)

    # --- what holds at all times

    @invariant()
    def exactly_what_was_ended_has_ended(self) -> None:
        found = {str(row.id): row.ended_at for row in self.stage.sessions()}
        assert {ref for ref, ended_at in found.items() if ended_at is not None} == self.ended

    def _signed_in(self) -> list[str]:
        return [name for name, jar in self.jars.items() if self.named[jar[-1]] not in self.ended]

    def _brought(self, browser: str, age: int) -> str:
        jar = self.jars[browser]
        return jar[max(0, len(jar) - 1 - age)]

    def _take(self, browser: str, answer: Any) -> None:
        self.jars[browser].append(answer.browser_token)
        self.named[answer.browser_token] = answer.session_ref
        self.good.add(answer.browser_token)

    def _is_of_its_own(self, answer: Any) -> None:
        assert answer.browser_token is None
        if answer.tokens is None:
            return
        user_id, *_ = self.logins[answer.session_ref]
        assert answer.session_ref not in self.ended
        assert answer.user_id == user_id == claims_of(answer.tokens.id_token)["sub"]


@pytest.fixture(params=["sqlite", "postgresql"])
def fresh_database(
    request: pytest.FixtureRequest, sqlite_at_head: Path, tmp_path: Path
) -> Iterator[Callable[[], str]]:
    """Makes a database at head, a new one each time."""
    if request.param == "sqlite":

        def copy() -> str:
            path = tmp_path / f"{uuid4().hex}.db"
            shutil.copyfile(sqlite_at_head, path)
            return f"sqlite:///{path}"

        yield copy
        return
    postgres: PostgresDatabases = request.getfixturevalue("postgres")
    template: str = request.getfixturevalue("postgres_at_head")
    names: list[str] = []

    def create() -> str:
        names.append(f"test_{uuid4().hex}")
        return postgres.create_database(names[-1], template=template)

    yield create
    for name in names:
        postgres.drop_database(name)


def test_no_browser_is_ever_given_anothers_session(
    fresh_database: Callable[[], str], redis_url: str, mosaic: SimulatorServer
) -> None:
    run_state_machine_as_test(
        lambda: Browsers(Stage(fresh_database(), redis_url, mosaic)),  # type: ignore[arg-type]  # it takes any maker of machines
        settings=settings(
            max_examples=15,
            stateful_step_count=50,
            deadline=None,
            database=None,
            # The same examples at every run: a red suite must be about the change at hand.
            derandomize=True,
            print_blob=True,
            # Making a failure smaller takes minutes. Add Phase.shrink to look into one.
            phases=[Phase.generate],
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
