"""Two things at once: whatever the order, a logout is final and a live session stays alive."""

from __future__ import annotations

import functools
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import insert, update

from models import IdpSession, new_id
from session_client import requests
from session_client.contract import LogoutScope, Reason, Verdict
from simulator.controls.gates import wait_until
from simulator.server import SimulatorServer
from tests.integration.storage.pg_locks import patient_locks, waiting_for_locks
from tests.stage import Stage
from worker.maintenance.expire import expire_sessions
from worker.maintenance.purge import purge_history
from worker.outbox.mosaic_logouts import end_at_idp
from worker.sessions.app_links import link_app

ASK = "session/authenticate"


@pytest.fixture
def apps(stage: Stage) -> Stage:
    stage.add_app("shop")
    stage.add_app("forum")
    stage.add_app("desk", capabilities=("logout_user",))
    return stage


@pytest.fixture
def graceless(store_url: str, redis_url: str, mosaic: SimulatorServer) -> Iterator[Stage]:
    """A stage whose expiry strikes at once, in batches of three."""
    impatient = {"expire_grace_seconds": "0.001", "maintenance_batch": "3"}
    with Stage(store_url, redis_url, mosaic, **impatient) as stage:
        stage.add_app("shop")
        stage.add_app("forum")
        yield stage


def while_mosaic_answers(stage: Stage, act: Callable[[], Any], **fields: Any) -> Any:
    """Ask silently, do *act* when Mosaic's answer is on its way back, and return our answer."""
    with (
        stage.mosaic.state.gates.hold(ASK) as gate,
        stage.meanwhile(lambda: stage.silent_auth(**fields)) as asking,
    ):
        gate.wait_arrived()
        act()
        gate.release()
    return asking.result()


# --- P1: a logout is final

LOGOUTS: dict[str, Callable[[Stage, UUID, str], Any]] = {
    "by reference": lambda stage, ref, _: stage.log_out(session_ref=str(ref)),
    "by id": lambda stage, _, session_id: stage.log_out(session_id=session_id),
    "of the device": lambda stage, *_: stage.log_out(scope=LogoutScope.DEVICE, device_id="phone"),
    "of the user": lambda stage, *_: stage.log_out(app_id="desk", scope=LogoutScope.USER),
}


@pytest.mark.parametrize("how", LOGOUTS)
def test_a_logout_committed_while_mosaic_answers_takes_the_tokens_away(
    apps: Stage, how: str
) -> None:
    login = apps.login("ada", "shop")
    ref = UUID(apps.remember(login, device_id="phone").session_ref)
    receipts = []

    answer = while_mosaic_answers(
        apps, lambda: receipts.append(LOGOUTS[how](apps, ref, login.session_id)), device_id="phone"
    )

    assert receipts[0].sessions_ended == 1
    assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, Reason.LOGGED_OUT)
    assert answer.tokens is None
    assert apps.session(ref).end_cause == "logout"
    assert "authenticated" not in dict(apps.events())
    assert apps.tell_mosaic() == ["confirmed"]
    assert not apps.mosaic.state.is_live(login.session_id)


def test_after_a_logout_in_flight_another_session_of_the_user_still_serves(apps: Stage) -> None:
    other = apps.registered()
    apps.pass_time(hours=1)
    ref = apps.registered()

    answer = while_mosaic_answers(apps, lambda: apps.log_out(session_ref=str(ref)))

    assert answer.verdict is Verdict.AUTHENTICATED
    assert UUID(answer.session_ref) == other


def test_a_logout_after_the_tokens_were_given_ends_the_session_for_the_next_request(
    apps: Stage,
) -> None:
    ref = apps.registered()

    first = apps.silent_auth()
    apps.log_out(session_ref=str(ref))
    second = apps.silent_auth()

    assert first.verdict is Verdict.AUTHENTICATED
    assert (second.verdict, second.reason) == (Verdict.LOGIN_REQUIRED, Reason.LOGGED_OUT)


def test_a_request_delivered_again_after_a_logout_gets_no_remembered_tokens(apps: Stage) -> None:
    ref = apps.registered()
    sent = apps.seal("forum", requests.SilentAuth(user_id="ada"))
    assert apps.deliver(sent).verdict is Verdict.AUTHENTICATED
    apps.log_out(session_ref=str(ref))

    answers = [apps.deliver(sent), apps.deliver(sent)]

    assert {answer.verdict for answer in answers} == {Verdict.LOGIN_REQUIRED}
    assert {answer.reason for answer in answers} == {Reason.LOGGED_OUT}
    assert apps.mosaic.state.calls.count(ASK) == 1


def test_a_logout_that_races_many_requests_is_final_once_it_is_answered(apps: Stage) -> None:
    for _ in range(4):
        ref = str(apps.registered())

        *_, receipt = apps.at_once(
            *[apps.silent_auth] * 5, functools.partial(apps.log_out, session_ref=ref)
        )

        assert receipt.verdict is Verdict.OK
        assert apps.silent_auth().verdict is Verdict.LOGIN_REQUIRED
        assert apps.tell_mosaic() == ["confirmed"]


@pytest.mark.parametrize("how", ["by reference", "by id", "by id, from another app"])
def test_a_logout_that_races_a_registration_wins_in_either_order(apps: Stage, how: str) -> None:
    for _ in range(8):
        login = apps.login("ada", "shop")
        named = {"session_id": login.session_id}
        if how == "by reference":
            named = {"session_ref": apps.remember(login).session_ref}
            login = apps.mosaic.state.add_factor(login.session_id, "client-shop", "sms")
        by = "forum" if how == "by id, from another app" else "shop"

        registration, receipt = apps.at_once(
            functools.partial(apps.remember, login),
            functools.partial(apps.log_out, app_id=by, **named),
        )

        assert receipt.verdict is Verdict.OK
        assert registration.verdict in {Verdict.OK, Verdict.LOGIN_REQUIRED}
    assert {session.end_cause for session in apps.sessions()} == {"logout"}
    assert len(apps.sessions()) == len(apps.logouts()) == 8
    assert set(apps.tell_mosaic()) == {"confirmed"}
    assert apps.mosaic.state.live_sessions() == []


@pytest.mark.parametrize("by", ["shop", "forum"])
def test_a_logout_waits_for_a_registration_that_is_not_committed_yet(
    postgres_url: str, redis_url: str, mosaic: SimulatorServer, by: str
) -> None:
    """Also for another app's: nobody knows the session yet, and then it is not the asking app's."""
    with patient_locks(), Stage(postgres_url, redis_url, mosaic) as stage:
        stage.add_app("shop")
        stage.add_app("forum")
        login = stage.login("ada", "shop")
        stage.registered()
        (row,) = stage.sessions()
        with stage.services.store.write() as connection:
            values = dict(row._mapping) | {
                "id": new_id(),
                "session_hash": stage.services.keyring.lookup_hash(login.session_id),
            }
            connection.execute(insert(IdpSession).values(values))
            link_app(connection, values["id"], "shop", stage.now(), None)
            leave = functools.partial(stage.log_out, app_id=by, session_id=login.session_id)
            with stage.meanwhile(leave) as leaving:
                wait_until(lambda: waiting_for_locks(stage) > 0, 60)
                connection.commit()

        assert leaving.result().sessions_ended == 1
        assert stage.session(values["id"]).end_cause == "logout"
        assert len(stage.logouts()) == 1


# --- what a session proves may change under way


def test_a_factor_added_while_mosaic_answers_is_not_lost(apps: Stage) -> None:
    login = apps.login("ada", "shop")
    apps.remember(login)
    stronger = apps.mosaic.state.add_factor(login.session_id, "client-shop", "sms")

    answer = while_mosaic_answers(apps, lambda: apps.remember(stronger))

    assert answer.verdict is Verdict.AUTHENTICATED
    assert apps.sessions()[0].amr == ["mfa", "pwd", "sms"]


def test_a_session_that_keeps_changing_is_answered_with_come_back_later(
    apps: Stage,
) -> None:
    login = apps.login("ada", "shop")
    ref = UUID(apps.remember(login).session_ref)
    gate = apps.mosaic.state.gates.hold(ASK)
    with apps.meanwhile(apps.silent_auth) as asking:
        for _ in range(3):
            gate.wait_arrived()
            with apps.services.store.write() as connection:
                connection.execute(update(IdpSession).values(version=IdpSession.version + 1))
            passed, gate = gate, apps.mosaic.state.gates.hold(ASK)
            passed.release()

    answer = asking.result()
    assert (answer.verdict, answer.reason) == (
        Verdict.TEMPORARILY_UNAVAILABLE,
        Reason.SESSION_CHANGED,
    )
    assert answer.tokens is None
    assert apps.session(ref).ended_at is None


@pytest.mark.parametrize("max_candidates", ["1", "3"])
def test_not_found_for_an_id_that_has_changed_meanwhile_ends_nothing(
    store_url: str, redis_url: str, mosaic: SimulatorServer, max_candidates: str
) -> None:
    """Whether Mosaic keeps old ids is not documented; here it does not."""
    state = mosaic.state
    with Stage(store_url, redis_url, mosaic, max_candidates=max_candidates) as stage:
        stage.add_app("shop")
        stage.add_app("forum")
        ref = stage.registered()
        with (
            state.gates.hold(ASK, "client-shop", before=True) as gate,
            stage.meanwhile(lambda: stage.silent_auth("ada", "shop")) as asking,
        ):
            gate.wait_arrived()
            state.faults.add(ASK, "rotate_session_id", client_id="client-forum", times=1)
            assert stage.silent_auth("ada", "forum").verdict is Verdict.AUTHENTICATED
            (session,) = state.sessions.live("ada")
            old_id = next(call.session_id for call in state.calls.log() if call.endpoint == ASK)
            state.sessions.forget_id(str(old_id))
            gate.release()

        assert asking.result().verdict is Verdict.AUTHENTICATED
        assert stage.session(ref).ended_at is None
        assert state.is_live(session.session_id)


# --- P4: expiry never beats a renewal


def test_a_renewal_under_way_at_expiry_wins(apps: Stage) -> None:
    ref = apps.registered()
    apps.pass_time(days=13, hours=23, minutes=59, seconds=50)
    expired = []

    def expire() -> None:
        apps.pass_time(seconds=25)
        expired.append(expire_sessions(apps.services).rows["expired"])

    answer = while_mosaic_answers(apps, expire)

    assert expired == [0]
    assert answer.verdict is Verdict.AUTHENTICATED
    assert apps.session(ref).expires_at - apps.now() > timedelta(days=13)


def test_a_session_that_expired_while_mosaic_answered_gives_no_tokens(graceless: Stage) -> None:
    ref = graceless.registered()
    graceless.pass_time(days=13, hours=23, minutes=59, seconds=50)

    def expire() -> None:
        graceless.pass_time(seconds=25)
        assert expire_sessions(graceless.services).rows == {"expired": 1}

    answer = while_mosaic_answers(graceless, expire)

    assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, Reason.EXPIRED)
    assert graceless.session(ref).end_cause == "expired"


def test_renewals_and_expiry_at_once_agree_on_every_session(graceless: Stage) -> None:
    users = [f"user-{number}" for number in range(16)]
    refs = {user: graceless.registered(user) for user in users}
    _let_expire_one_after_the_other(graceless, list(refs.values()))
    done = threading.Event()

    def renew(mine: list[str]) -> list[Any]:
        return [graceless.silent_auth(user) for user in mine]

    def expire() -> int:
        total = 0
        while not done.is_set():
            total += expire_sessions(graceless.services).rows["expired"]
            purge_history(graceless.services)
        return total

    with graceless.meanwhile(expire) as expiring:
        answers = graceless.at_once(*(lambda n=n: renew(users[n::4]) for n in range(4)))
        done.set()

    verdicts = {a.session_ref: a.verdict for share in answers for a in share if a.session_ref}
    for ref in refs.values():
        session = graceless.session(ref)
        if verdicts.get(str(ref)) is Verdict.AUTHENTICATED:
            assert session.ended_at is None
            assert session.expires_at - graceless.now() > timedelta(days=13)
        else:
            assert session.end_cause in {None, "expired"}
    ended = expired(graceless)
    assert ended == expiring.result()
    assert ended + len(verdicts) <= len(users)


def expired(stage: Stage) -> int:
    """Return how many sessions the trail says have expired."""
    return sum(int(detail or "") for event, detail in stage.events() if event == "expired")


def _let_expire_one_after_the_other(stage: Stage, refs: list[UUID]) -> None:
    with stage.services.store.write() as connection:
        for number, ref in enumerate(refs):
            soon = stage.now() + timedelta(milliseconds=20 * number)
            connection.execute(
                update(IdpSession)
                .where(IdpSession.id == ref)
                .values(expires_at=soon, check_expiry_at=soon)
            )


def test_two_prunes_at_once_count_each_session_once(graceless: Stage) -> None:
    for _ in range(10):
        graceless.registered()
    graceless.pass_time(days=15)

    counts = graceless.at_once(*[lambda: expire_sessions(graceless.services)] * 3)

    assert sum(count.rows["expired"] for count in counts) == 10
    assert expired(graceless) == 10


def test_a_logout_and_expiry_at_once_end_a_session_once(graceless: Stage) -> None:
    refs = [graceless.registered() for _ in range(8)]
    graceless.pass_time(days=15)

    *receipts, _ = graceless.at_once(
        *(lambda ref=ref: graceless.log_out(session_ref=str(ref)) for ref in refs),
        lambda: expire_sessions(graceless.services),
    )

    causes = Counter(session.end_cause for session in graceless.sessions())
    assert {receipt.verdict for receipt in receipts} == {Verdict.OK}
    assert causes["logout"] == sum(receipt.sessions_ended for receipt in receipts)
    assert causes["logout"] + causes["expired"] == 8
    assert len(graceless.logouts()) == causes["logout"]


def test_a_confirmation_that_races_a_purge_leaves_no_half_rows(graceless: Stage) -> None:
    ref = graceless.registered()
    graceless.log_out(session_ref=str(ref))
    (delivery,) = graceless.logouts()
    graceless.pass_time(days=31)

    outcome, _ = graceless.at_once(
        lambda: end_at_idp(graceless.services, delivery.id),
        lambda: purge_history(graceless.services),
    )

    assert outcome == "confirmed"
    purge_history(graceless.services)
    assert graceless.sessions() == graceless.logouts() == []
