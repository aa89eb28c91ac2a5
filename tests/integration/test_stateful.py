"""Anything in any order: what must hold of a session, whatever happens around it."""

from __future__ import annotations

import shutil
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from models import Logout
from session_client import requests, times
from session_client.contract import Task, Verdict
from simulator.idp.errors import RefusedError
from simulator.server import SimulatorServer
from tests.stage import Sent, Stage
from worker.maintenance.expire import expire_sessions
from worker.maintenance.purge import purge_history
from worker.outbox.leases import wake_due
from worker.outbox.mosaic_logouts import end_at_idp
from worker.sessions import mosaic_ids

APPS = ("shop", "forum")
JUMPS = (1.0, 600.0, 86_400.0, 14.01 * 86_400.0)
AROUND_EXPIRY = (-7200.0, -1.0, 1.0, 180.0)


class SessionLife(RuleBasedStateMachine):
    """One user, two apps, one outage-prone IDP."""

    logins = Bundle("logins")

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage.__enter__()
        self.user = f"user-{uuid4().hex}"
        self.ended: set[UUID] = set()
        self.logged_out: dict[UUID, str] = {}
        self.attempts: Counter[UUID] = Counter()
        self.is_mosaic_down = False
        self.sent: list[Sent] = []

    def teardown(self) -> None:
        try:
            self._every_logout_reaches_mosaic_once_it_is_up()
        finally:
            self.stage.mosaic.state.faults.clear()
            self.stage.__exit__()

    def _every_logout_reaches_mosaic_once_it_is_up(self) -> None:
        self.stage.mosaic.state.faults.clear()
        self.stage.pass_time(minutes=6)
        self.work_on_deliveries()
        deliveries = {row.idp_session_id: row for row in self.stage.logouts()}
        assert all(row.closed_at is not None for row in deliveries.values())
        for ref, session_id in self.logged_out.items():
            assert not self.stage.mosaic.state.is_live(session_id), deliveries.get(ref)

    # --- what users, apps and Mosaic do

    @initialize(target=logins)
    def open_shops(self) -> Any:
        for app_id in APPS:
            self.stage.add_app(app_id)
        self.stage.add_app("desk", capabilities=("logout_user",))
        return self.sign_in("shop")

    @rule(target=logins, app_id=st.sampled_from(APPS))
    def sign_in(self, app_id: str) -> Any:
        login = app_id, self.stage.login(self.user, app_id)
        self.register(login)
        return login

    @rule(target=logins, app_id=st.sampled_from(APPS))
    def log_in_without_telling_us(self, app_id: str) -> Any:
        return app_id, self.stage.login(self.user, app_id)

    @rule(target=logins, login=logins, method=st.sampled_from(["sms", "webauthn"]))
    def add_factor(self, login: Any, method: str) -> Any:
        app_id, given = login
        try:
            return app_id, self.stage.mosaic.state.add_factor(
                given.session_id, f"client-{app_id}", method
            )
        except RefusedError:
            return multiple()

    @rule(login=logins)
    def register(self, login: Any) -> None:
        app_id, given = login
        request = requests.Register(
            session_id=given.session_id, user_id=self.user, id_token=given.id_token
        )
        self._send(app_id, request)

    @rule(app_id=st.sampled_from(APPS), amr=st.sampled_from([(), (), ("mfa",)]))
    def ask_silently(self, app_id: str, amr: tuple[str, ...]) -> None:
        self._send(app_id, requests.SilentAuth(user_id=self.user, amr_all_of=amr))

    @rule(login=logins)
    def log_out(self, login: Any) -> None:
        app_id, given = login
        request = requests.Logout(user_id=self.user, session_id=given.session_id)
        answer = self._send(app_id, request)
        assert answer.verdict is Verdict.OK  # it is ended, or buried

    @precondition(lambda self: len(self._live()) > 1)
    @rule()
    def log_out_everywhere(self) -> None:
        answer = self._send("desk", requests.Logout(user_id=self.user, everywhere=True))
        assert answer.verdict is Verdict.OK
        assert self._live() == []

    @rule()
    def deliver_the_latest_messages_again(self) -> None:
        for sent in self.sent[-6:]:
            self._deliver(sent, is_repeat=True)

    @precondition(lambda self: len(self._live()) > 1)
    @rule(login=consumes(logins))
    def end_elsewhere(self, login: Any) -> None:
        if self.stage.mosaic.state.is_live(login[1].session_id):
            self.stage.mosaic.state.end_session(login[1].session_id)

    @rule(seconds=st.sampled_from(JUMPS))
    def wait(self, seconds: float) -> None:
        self.stage.pass_time(seconds=seconds)

    @rule(seconds=st.sampled_from(AROUND_EXPIRY))
    def expire_about_the_time_of_the_next_one(self, seconds: float) -> None:
        now = self.stage.now()
        next_one = min((row.expires_at for row in self._live()), default=now)
        self.stage.pass_time(seconds=max(0.0, (next_one - now).total_seconds() + seconds))
        self.expire()

    @rule()
    def go_down_or_come_back(self) -> None:
        self.is_mosaic_down = not self.is_mosaic_down
        faults = self.stage.mosaic.state.faults
        faults.clear()
        if self.is_mosaic_down:
            faults.add("session/authenticate", "status", status=503)
            faults.add("session/logout", "drop_request")
        else:
            faults.add("session/authenticate", "rotate_session_id", times=1)

    # --- what the worker does by itself

    @rule()
    def work_on_deliveries(self) -> None:
        for row in self.stage.logouts():
            self.attempts[row.id] += 1
            end_at_idp(self.stage.services, row.id)

    @rule()
    def sweep(self) -> None:
        now = self.stage.now()
        due = {
            row.id
            for row in self.stage.logouts()
            if row.closed_at is None and row.next_attempt_at <= now
        }
        assert set(wake_due(self.stage.services, Logout)) <= due

    @rule()
    def expire(self) -> None:
        before = {row.id: row for row in self.stage.sessions()}
        now = self.stage.now()

        expire_sessions(self.stage.services)

        for row in self.stage.sessions():
            if before[row.id].ended_at is not None or before[row.id].expires_at > now:
                assert row == before[row.id]

    @rule()
    def purge(self) -> None:
        live = self._live()
        deliveries = {row.id for row in self.stage.logouts() if row.closed_at is None}

        purge_history(self.stage.services)

        assert self._live() == live
        assert deliveries <= {row.id for row in self.stage.logouts()}

    # --- what holds at all times

    @invariant()
    def what_has_ended_stays_ended(self) -> None:
        rows = self.stage.sessions()
        assert not {row.id for row in rows if row.ended_at is None} & self.ended
        self.ended |= {row.id for row in rows if row.ended_at is not None}

    @invariant()
    def a_session_id_is_kept_exactly_as_long_as_somebody_needs_it(self) -> None:
        owed = {row.idp_session_id for row in self.stage.logouts() if row.closed_at is None}
        for row in self.stage.sessions():
            is_needed = row.ended_at is None or row.id in owed
            assert (row.sealed_session_id is not None) == is_needed

    @invariant()
    def every_delivery_is_that_of_an_ended_session_and_tried_no_oftener_than_woken(self) -> None:
        live = {row.id for row in self._live()}
        for row in self.stage.logouts():
            assert row.idp_session_id not in live
            assert row.attempts <= self.attempts[row.id]

    def _live(self) -> list[Any]:
        return [row for row in self.stage.sessions() if row.ended_at is None]

    def _send(self, app_id: str, request: requests.Request[Any]) -> Any:
        deadline = times.to_wire(self.stage.now() + timedelta(minutes=4))
        sent = self.stage.seal(app_id, request, deadline=deadline)
        self.sent.append(sent)
        return self._deliver(sent)

    def _deliver(self, sent: Sent, *, is_repeat: bool = False) -> Any:
        logged_out = set(self.logged_out)
        now = self.stage.now()
        answer = self.stage.deliver(sent)
        after = {row.id: row for row in self._live()}
        self._note_logouts()
        tokens = getattr(answer, "tokens", None)
        if tokens is not None:
            ref = UUID(answer.session_ref)
            assert ref in after, "tokens from a session that has ended"
            assert ref not in logged_out
            assert after[ref].expires_at > now
        if sent.task is Task.REGISTER and answer.verdict is Verdict.OK:
            assert UUID(answer.session_ref) in after
        # A repeated request gets the answer it had, also if the user has logged in since.
        refused = sent.task is Task.SILENT_AUTH and answer.verdict is Verdict.LOGIN_REQUIRED
        if refused and not is_repeat:
            assert not [row for row in after.values() if row.expires_at > self.stage.now()]
        return answer

    def _note_logouts(self) -> None:
        open_id = self.stage.services.keyring.open
        for row in self.stage.sessions():
            if row.end_cause == "logout" and row.id not in self.logged_out:
                place = mosaic_ids.place_of(row.id)
                self.logged_out[row.id] = open_id(row.sealed_session_id, place)


def test_what_must_hold_of_a_session_holds_whatever_happens(
    sqlite_at_head: Path, tmp_path: Path, redis_url: str, mosaic: SimulatorServer
) -> None:
    def fresh() -> SessionLife:
        path = tmp_path / f"{uuid4().hex}.db"
        shutil.copyfile(sqlite_at_head, path)
        return SessionLife(Stage(f"sqlite:///{path}", redis_url, mosaic))

    run_state_machine_as_test(
        fresh,  # type: ignore[arg-type]  # it takes any maker of machines
        settings=settings(
            max_examples=35,
            stateful_step_count=30,
            deadline=None,
            database=None,
            # The same examples at every run: a red suite must be about the change at hand.
            derandomize=True,
            print_blob=True,
            # Making a failure smaller takes minutes, and the test's time limit would cut it short
            # without a word. Add Phase.shrink to look into one.
            phases=[Phase.generate],
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
