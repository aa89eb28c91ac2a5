"""The other apps are told when a session ends, until they say so or it is too late."""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from models import EndCause, IdpSession, new_id
from session_client import open_notice
from session_client.contract import LOGOUT_NOTICE_TASK, Reason, Verdict
from session_client.errors import InvalidNotice
from simulator.controls.gates import wait_until
from simulator.server import SimulatorServer
from tests.integration.backchannel.notices_rig import (
    ISSUER,
    Receiver,
    answer,
    saying,
    token_in,
    verify_logout_token,
)
from tests.integration.outbox.propagation_rig import (
    ASK,
    QUEUE,
    Broker,
    by_post,
    by_queue,
    confirm,
    deliver,
    notices,
    owed,
    receipt,
    signing,
    the_notice,
    waits_for_a_lock,
)
from tests.integration.storage.pg_locks import patient_locks
from tests.stage import Stage, claims_of, redis_client
from worker.backchannel import build_notice_sender
from worker.errors import NoticeUndelivered, StoreUnavailable
from worker.logout import end_sessions
from worker.logout.revoke import revoke
from worker.maintenance.expire import expire_sessions
from worker.operations import apps
from worker.outbox import app_notices, notice_delivery
from worker.sign_in import slide
from worker.storage.database import Store
from worker.tasks import notices as tasks

# --- who is told of which end


@pytest.fixture
def crowd(store_url: str, redis_url: str, mosaic: SimulatorServer) -> Iterator[Stage]:
    """Five apps that share sessions, which may live for twenty days."""
    cap = str(20 * 86_400)
    with signing(store_url, redis_url, mosaic, session_absolute_cap_seconds=cap) as stage:
        by_queue(stage, "shop")
        by_queue(stage, "forum")
        by_post(stage, "blog", "http://127.0.0.1:1/logout")
        by_queue(stage, "stock", notify_on_expiry=True)
        stage.add_app("mute")
        by_queue(stage, "stranger")  # shares nothing
        yield stage


BROWSERS: dict[UUID, str] = {}  # the token of the browser in which a session began


def shared_by_all(stage: Stage) -> UUID:
    answer = stage.signed_in("ada", "shop")
    for app_id in ("forum", "blog", "stock", "mute"):
        assert stage.silent_auth("ada", app_id).verdict is Verdict.AUTHENTICATED
    ref = UUID(answer.session_ref)
    BROWSERS[ref] = answer.browser_token
    return ref


def end(stage: Stage, ref: UUID, cause: EndCause) -> None:
    """Bring about that the session ends for *cause*, by shop where an app has a part in it."""
    if cause is EndCause.LOGOUT:
        stage.log_out(session_ref=str(ref))
    elif cause is EndCause.GONE_AT_IDP:
        (session,) = stage.mosaic.state.live_sessions()
        stage.mosaic.state.end_session(session.session_id)
        stage.silent_auth("ada", "shop")
    elif cause is EndCause.EXPIRED:
        stage.pass_time(days=15)
        expire_sessions(stage.services)
    elif cause is EndCause.QUARANTINED:
        stage.mosaic.state.faults.add(ASK, "wrong_sub", times=1)
        stage.silent_auth("ada", "shop")
    elif cause is EndCause.REVOKED:
        revoke(stage.services, IdpSession.id == ref, reason="stolen laptop")
    elif cause is EndCause.REPLACED:
        stage.remember(stage.login("bob", "shop"), "bob", replaces=BROWSERS[ref])
    else:
        stage.pass_time(days=12)
        stage.silent_auth("ada", "shop")
        stage.pass_time(days=9)
        expire_sessions(stage.services)


OTHERS = {"forum", "blog", "stock"}
ALL = OTHERS | {"shop"}
TOLD: dict[EndCause, set[str]] = {
    EndCause.LOGOUT: OTHERS,
    EndCause.GONE_AT_IDP: ALL,
    EndCause.EXPIRED: {"stock"},
    EndCause.QUARANTINED: ALL,
    EndCause.REVOKED: ALL,
    EndCause.CAP_REACHED: ALL,
    EndCause.REPLACED: OTHERS,
}
TOLD_MOSAIC = set(EndCause) - {EndCause.GONE_AT_IDP, EndCause.EXPIRED}


@pytest.mark.parametrize("cause", list(EndCause))
def test_an_end_is_told_to_all_that_share_the_session_and_want_to_know_but_who_logged_out(
    crowd: Stage, cause: EndCause
) -> None:
    ref = shared_by_all(crowd)

    end(crowd, ref, cause)

    assert crowd.session(ref).end_cause == cause
    rows = notices(crowd)
    assert {row.app_id for row in rows} == TOLD[cause]
    assert len(rows) == len(TOLD[cause])
    assert {(row.idp_session_id, row.cause, row.closed_at) for row in rows} == {(ref, cause, None)}
    assert [row.idp_session_id for row in crowd.logouts()] == [ref] * (cause in TOLD_MOSAIC)
    assert [event for event in crowd.events() if event[0] == "ended"] == [("ended", cause)]
    assert (crowd.session(ref).sealed_session_id is None) == (cause not in TOLD_MOSAIC)


@pytest.mark.parametrize("cause", list(EndCause))
def test_an_end_whose_notices_cannot_be_written_is_none(
    crowd: Stage, cause: EndCause, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = shared_by_all(crowd)

    def write_then_fail(*arguments: Any) -> list[UUID]:
        assert app_notices.add_notices(*arguments)
        raise StoreUnavailable

    with monkeypatch.context() as patch, suppress(StoreUnavailable):
        patch.setattr(end_sessions, "add_notices", write_then_fail)
        end(crowd, ref, cause)

    assert crowd.session(ref).ended_at is None
    assert crowd.session(ref).sealed_session_id is not None
    assert notices(crowd) == crowd.logouts() == []
    assert "ended" not in {event for event, _ in crowd.events()}


def test_an_app_that_gets_tokens_from_another_session_is_told_that_its_first_is_gone(
    crowd: Stage,
) -> None:
    other = crowd.registered("ada", "shop")
    crowd.pass_time(hours=1)
    login = crowd.login("ada", "shop")
    gone = UUID(crowd.remember(login).session_ref)
    crowd.mosaic.state.end_session(login.session_id)

    answer = crowd.silent_auth("ada", "shop")

    assert (answer.verdict, answer.session_ref) == (Verdict.AUTHENTICATED, str(other))
    notice = the_notice(crowd)
    assert (notice.app_id, notice.idp_session_id) == ("shop", gone)


def test_an_app_that_asks_for_tokens_is_told_when_its_session_was_logged_out_under_another_id(
    crowd: Stage,
) -> None:
    mine = crowd.registered("ada", "shop")
    crowd.mosaic.state.faults.add(ASK, "rotate_session_id", times=1)

    with (
        crowd.mosaic.state.gates.hold(ASK) as gate,
        crowd.meanwhile(lambda: crowd.silent_auth("ada", "shop")) as asking,
    ):
        gate.wait_arrived()
        (at_mosaic,) = crowd.mosaic.state.live_sessions()
        crowd.log_out(app_id="blog", session_id=at_mosaic.session_id)
        gate.release()

    assert asking.result().reason == Reason.LOGGED_OUT
    assert crowd.session(mine).end_cause == "logout"
    assert the_notice(crowd).app_id == "shop"


def test_an_app_that_shares_another_session_of_the_user_is_not_told(crowd: Stage) -> None:
    crowd.registered("ada", "stranger", device_id="phone")
    ref = crowd.registered("ada", "shop")

    crowd.log_out(session_ref=str(ref))

    assert notices(crowd) == []


def test_more_sessions_than_fit_in_one_statement_are_told_of(
    crowd: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_notices, "_SLICE", 2)
    refs = {crowd.registered("ada", "shop") for _ in range(5)}

    revoke(crowd.services, IdpSession.user_id == "ada", reason="stolen laptop")

    assert {row.idp_session_id for row in notices(crowd)} == refs
    assert len(notices(crowd)) == 5


# --- an app that links itself while the session ends


def test_an_app_whose_tokens_came_too_late_has_no_share_and_is_owed_nothing(
    crowd: Stage,
) -> None:
    ref = crowd.registered("ada", "shop")
    with (
        crowd.mosaic.state.gates.hold(ASK) as gate,
        crowd.meanwhile(lambda: crowd.silent_auth("ada", "forum")) as asking,
    ):
        gate.wait_arrived()
        crowd.log_out(session_ref=str(ref))
        gate.release()

    late = asking.result()
    assert (late.verdict, late.reason, late.tokens) == (
        Verdict.LOGIN_REQUIRED,
        Reason.LOGGED_OUT,
        None,
    )
    assert notices(crowd) == []


def test_a_logout_that_overtakes_its_own_apps_registration_is_told_to_the_app_that_was_faster(
    crowd: Stage,
) -> None:
    login = crowd.login("ada", "shop")
    at_forum = crowd.mosaic.state.add_factor(login.session_id, "client-forum", "sms")
    ref = UUID(crowd.remember(login).session_ref)
    broker = Broker()

    proof = crowd.log_out(app_id="forum", session_id=login.session_id)
    registration = crowd.remember(at_forum, app_id="forum")

    assert (proof.verdict, proof.sessions_ended, proof.idp_pending) == (Verdict.OK, 1, 1)
    assert proof.apps_pending == ("shop",)
    deliver(crowd, the_notice(crowd).id, broker)
    assert broker.open_last(crowd, "shop").session_ref == str(ref)
    assert (registration.verdict, registration.reason) == (
        Verdict.LOGIN_REQUIRED,
        Reason.LOGGED_OUT,
    )
    given = crowd.silent_auth(app_id="forum")
    assert (given.verdict, given.reason) == (Verdict.LOGIN_REQUIRED, Reason.LOGGED_OUT)
    assert crowd.tell_mosaic() == ["confirmed"]
    assert not crowd.mosaic.state.is_live(login.session_id)


def test_whoever_was_given_tokens_while_a_logout_ran_is_told_of_it(crowd: Stage) -> None:
    for _ in range(12):
        ref = crowd.registered("ada", "shop")

        given, ended = crowd.at_once(
            lambda: crowd.silent_auth("ada", "forum"),
            functools.partial(crowd.log_out, session_ref=str(ref)),
        )

        told = {row.app_id for row in notices(crowd) if row.idp_session_id == ref}
        assert ended.sessions_ended == 1
        assert (given.verdict is Verdict.AUTHENTICATED) == (told == {"forum"})
        assert (given.verdict is Verdict.LOGIN_REQUIRED) == (told == set())


def test_a_logout_that_waits_for_a_link_under_way_tells_the_app_that_linked(
    postgres_url: str, redis_url: str, mosaic: SimulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with patient_locks(), signing(postgres_url, redis_url, mosaic) as stage:
        stage.add_app("shop")
        by_queue(stage, "forum")
        ref = stage.registered("ada", "shop")
        reached, go_on = threading.Event(), threading.Event()

        run = Store.run

        def link_then_wait(store: Store, statement: Any, parameters: Any) -> Any:
            if statement is not slide._ALL_IN_ONE:
                return run(store, statement, parameters)
            with store.write() as connection:
                rows = connection.execute(statement, parameters).all()
                reached.set()
                assert go_on.wait(60)
                return rows

        monkeypatch.setattr(Store, "run", link_then_wait)
        with stage.meanwhile(lambda: stage.silent_auth("ada", "forum")) as asking:
            assert reached.wait(60)  # linked, and not committed
            with stage.meanwhile(lambda: stage.log_out(session_ref=str(ref))) as leaving:
                wait_until(lambda: leaving.done() or waits_for_a_lock(stage), 60)
                assert not leaving.done()
                go_on.set()

        assert asking.result().verdict is Verdict.AUTHENTICATED
        assert leaving.result().apps_pending == ("forum",)
        assert the_notice(stage).app_id == "forum"


# --- by back-channel


@pytest.fixture
def sender(store_url: str, redis_url: str, mosaic: SimulatorServer) -> Iterator[Stage]:
    with signing(store_url, redis_url, mosaic, notice_timeout_seconds="15") as stage:
        stage.add_app("shop")
        yield stage


def test_an_app_that_answers_200_has_confirmed(sender: Stage) -> None:
    with Receiver(saying(answer())) as receiver:
        by_post(sender, "forum", f"{receiver.url}/logout")
        notice_id = owed(sender)

        assert deliver(sender, notice_id) == "confirmed"
        assert deliver(sender, notice_id) is None

    (request,) = receiver.requests
    claims = verify_logout_token(
        token_in(request),
        sender.services.notices.public_keys(),
        issuer=ISSUER,
        audience="client-forum",
        now=sender.now(),
    )
    row = the_notice(sender)
    assert (claims["sub"], claims["sid"]) == ("ada", str(row.idp_session_id))
    assert claims["jti"] == str(notice_id)
    assert (row.outcome, row.attempts, row.lease_token) == ("confirmed", 1, None)
    assert sender.events()[-1] == ("app_confirmed", None)


def test_an_app_that_answers_400_has_refused_for_good_and_visibly(sender: Stage) -> None:
    with Receiver(saying(answer("400 Bad Request"))) as receiver:
        by_post(sender, "forum", receiver.url)
        notice_id = owed(sender)

        assert deliver(sender, notice_id) == "failed"
        assert deliver(sender, notice_id) is None

    row = the_notice(sender)
    assert len(receiver.requests) == row.attempts == 1
    assert row.outcome == "failed"
    assert "400" in row.last_error
    assert sender.events()[-1] == ("app_given_up", None)


def test_a_worker_without_signing_keys_leaves_the_notice_to_one_that_has_them(
    sender: Stage,
) -> None:
    unsigned = sender.settings.model_copy(update={"notice_signing_keys": None})
    with (
        Receiver(saying(answer())) as receiver,
        closing(build_notice_sender(unsigned, sender.now)) as without_keys,
    ):
        by_post(sender, "forum", receiver.url)
        notice_id = owed(sender)
        keyless = replace(sender.services, notices=without_keys)
        with capture_logs() as logs:
            assert notice_delivery.deliver(keyless, notice_id, Broker()) is None
        put_off = the_notice(sender)
        sender.pass_time(minutes=6)

        assert deliver(sender, notice_id) == "confirmed"

    assert (put_off.closed_at, put_off.lease_token) == (None, None)
    assert "MOSAIC_SESSIONS_NOTICE_SIGNING_KEYS" in put_off.last_error
    (told,) = [line for line in logs if line["log_level"] == "error"]
    assert (told["event"], told["app"]) == ("operator_must_act", "forum")


def test_a_notice_that_nobody_could_sign_before_the_horizon_has_failed(sender: Stage) -> None:
    unsigned = sender.settings.model_copy(update={"notice_signing_keys": None})
    with closing(build_notice_sender(unsigned, sender.now)) as without_keys:
        by_post(sender, "forum", "http://127.0.0.1:1/logout")
        notice_id = owed(sender)
        sender.pass_time(days=4)

        keyless = replace(sender.services, notices=without_keys)
        assert notice_delivery.deliver(keyless, notice_id, Broker()) == "failed"


@pytest.mark.parametrize("trouble", ["500", "silence", "hang-up"])
def test_an_app_in_trouble_is_told_again_and_again_with_one_id(sender: Stage, trouble: str) -> None:
    healed, over = threading.Event(), threading.Event()

    def talk(connection: Any) -> None:
        if healed.is_set():
            connection.sendall(answer().encode())
        elif trouble == "500":
            connection.sendall(answer("500 Oh").encode())
        elif trouble == "silence":
            over.wait(2.5)

    with Receiver(talk) as receiver:
        by_post(sender, "forum", receiver.url)
        notice_id = owed(sender)
        pauses = []
        patient = sender.services
        if trouble == "silence":  # the only one that has to be waited for
            hasty = patient.settings.model_copy(update={"notice_timeout_seconds": 2.0})
            sender.services = replace(patient, settings=hasty)
        for attempt in (1, 2):
            assert deliver(sender, notice_id) is None
            row = the_notice(sender)
            assert (row.attempts, row.closed_at, row.leased_until) == (attempt, None, None)
            assert row.last_error.startswith("NoticeUndelivered")
            pauses.append(row.next_attempt_at - sender.now())
            assert deliver(sender, notice_id) is None  # before its time: nobody is told
            sender.pass_time(minutes=6)
        healed.set()
        over.set()
        sender.services = patient
        assert deliver(sender, notice_id) == "confirmed"

    assert all(pause > timedelta(seconds=1) for pause in pauses)
    told = [claims_of(token_in(request))["jti"] for request in receiver.requests]
    assert told == [str(notice_id)] * 3


def test_a_notice_not_taken_before_the_horizon_has_failed_visibly(sender: Stage) -> None:
    with Receiver(saying(answer("503 Later"))) as receiver:
        by_post(sender, "forum", receiver.url)
        notice_id = owed(sender)
        sender.pass_time(days=2, hours=23)
        assert deliver(sender, notice_id) is None
        sender.pass_time(hours=2)
        assert deliver(sender, notice_id) == "failed"

    row = the_notice(sender)
    assert row.outcome == "failed"
    assert "503" in row.last_error
    assert sender.events()[-1] == ("app_given_up", None)


def test_failed_notices_are_opened_again_on_request_and_others_are_not(sender: Stage) -> None:
    statuses = ["400 No", "200 OK"]

    def talk(connection: Any) -> None:
        connection.sendall(answer(statuses.pop(0)).encode())

    with Receiver(talk) as receiver:
        by_post(sender, "forum", receiver.url)
        notice_id = owed(sender)
        assert app_notices.replay_failed(sender.services) == 0  # it is open
        deliver(sender, notice_id)
        assert app_notices.replay_failed(sender.services, "shop") == 0
        sender.pass_time(days=4)

        assert app_notices.replay_failed(sender.services, "forum") == 1
        assert deliver(sender, notice_id) == "confirmed"

    told = [claims_of(token_in(request))["jti"] for request in receiver.requests]
    assert told == [str(notice_id)] * 2
    assert app_notices.replay_failed(sender.services) == 0  # it is confirmed


# --- leases


class Gated:
    """An app that holds its answers until the test lets it go."""

    def __init__(self) -> None:
        self.arrived = threading.Semaphore(0)
        self.let_go = threading.Event()
        self.calls = 0

    def __call__(self, *_: Any) -> datetime:
        self.calls += 1
        self.arrived.release()
        assert self.let_go.wait(60)
        return datetime.now(UTC)

    def wait_arrived(self) -> None:
        assert self.arrived.acquire(timeout=60)


@pytest.fixture
def queued(store_url: str, redis_url: str, mosaic: SimulatorServer) -> Iterator[Stage]:
    with Stage(store_url, redis_url, mosaic) as stage:
        stage.add_app("shop")
        by_queue(stage, "forum")
        yield stage


def test_while_one_worker_tells_the_app_another_leaves_the_notice_alone(sender: Stage) -> None:
    gate = Gated()

    def talk(connection: Any) -> None:
        gate()
        connection.sendall(answer().encode())

    with Receiver(talk) as receiver:
        by_post(sender, "forum", receiver.url)
        notice_id = owed(sender)
        with sender.meanwhile(lambda: deliver(sender, notice_id)) as working:
            gate.wait_arrived()
            assert deliver(sender, notice_id) is None
            gate.let_go.set()

    assert working.result() == "confirmed"
    assert len(receiver.requests) == 1


def test_many_workers_at_once_tell_the_app_once(queued: Stage) -> None:
    notice_id = owed(queued)
    broker = Broker()

    queued.at_once(*[lambda: deliver(queued, notice_id, broker)] * 6)

    assert len(broker.messages) == 1
    assert the_notice(queued).attempts == 1


def _die(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _killed(stage: Stage, notice_id: UUID) -> None:
    with pytest.raises(KeyboardInterrupt):
        notice_delivery.deliver(stage.services, notice_id, _die)


def test_a_dead_workers_notice_is_taken_over_when_its_lease_ends(queued: Stage) -> None:
    notice_id = owed(queued)
    broker = Broker()
    _killed(queued, notice_id)

    assert deliver(queued, notice_id, broker) is None
    assert broker.messages == []
    queued.pass_time(seconds=61)
    deliver(queued, notice_id, broker)

    assert len(broker.messages) == 1
    assert (the_notice(queued).attempts, the_notice(queued).crashes) == (2, 1)


@pytest.mark.parametrize("late_error", [None, NoticeUndelivered("late")])
def test_a_worker_that_lost_its_lease_cannot_write_back(
    queued: Stage, late_error: Exception | None
) -> None:
    notice_id = owed(queued)
    gate, heirs_gate = Gated(), Gated()

    def late(*arguments: Any) -> datetime:
        published_at = gate(*arguments)
        if late_error is not None:
            raise late_error
        return published_at

    with queued.meanwhile(
        lambda: notice_delivery.deliver(queued.services, notice_id, late)
    ) as working:
        gate.wait_arrived()
        queued.pass_time(seconds=61)
        with queued.meanwhile(
            lambda: notice_delivery.deliver(queued.services, notice_id, heirs_gate)
        ) as heir:
            heirs_gate.wait_arrived()
            taken_over = the_notice(queued)
            gate.let_go.set()
            assert working.result(60) is None
            assert the_notice(queued) == taken_over
            heirs_gate.let_go.set()

    assert heir.result() is None
    row = the_notice(queued)
    assert (row.attempts, row.lease_token, row.last_error) == (2, None, None)


def test_a_confirmation_takes_the_lease_from_whoever_is_still_telling(queued: Stage) -> None:
    notice_id = owed(queued)
    gate = Gated()
    queued.pass_time(days=4)  # past the horizon: the worker would close it as failed

    with queued.meanwhile(
        lambda: notice_delivery.deliver(queued.services, notice_id, gate)
    ) as working:
        gate.wait_arrived()
        confirm(queued, notice_id)
        gate.let_go.set()

    assert working.result() is None
    assert the_notice(queued).outcome == "confirmed"


# --- by queue


def test_a_message_goes_to_the_apps_own_queue_and_to_no_other(stage: Stage, redis_url: str) -> None:
    stage.add_app("shop")
    by_queue(stage, "forum")
    with redis_client(redis_url) as client:
        notice_id = owed(stage)
        before = client.llen("logout")

        tasks.deliver(str(notice_id))

        assert client.llen(QUEUE) == 1
        assert client.llen("logout") == before
    assert the_notice(stage).closed_at is None


def test_a_message_is_sealed_to_the_app_and_says_what_ended(queued: Stage) -> None:
    notice_id = owed(queued)
    broker = Broker()

    assert deliver(queued, notice_id, broker) is None

    ((queue, task, kwargs),) = broker.messages
    assert (queue, task, kwargs["app_id"]) == (QUEUE, LOGOUT_NOTICE_TASK, "forum")
    (session,) = queued.sessions()
    opened = broker.open_last(queued)
    assert (opened.notice_id, opened.user_id) == (str(notice_id), "ada")
    assert (opened.session_ref, opened.cause) == (str(session.id), "logout")
    assert opened.ended_at == session.ended_at
    with pytest.raises(InvalidNotice):
        open_notice(kwargs["envelope"], app_id="forum", app_keys=[queued.keys["shop"]])


def test_it_is_sent_again_until_the_app_confirms_and_then_no_more(queued: Stage) -> None:
    notice_id = owed(queued)
    broker = Broker()
    for _ in range(3):
        deliver(queued, notice_id, broker)
        queued.pass_time(minutes=6)

    assert confirm(queued, broker.open_last(queued).notice_id).verdict is Verdict.OK
    assert deliver(queued, notice_id, broker) is None

    assert len(broker.messages) == 3
    ids = {
        open_notice(m[2]["envelope"], app_id="forum", app_keys=[queued.keys["forum"]]).notice_id
        for m in broker.messages
    }
    assert ids == {str(notice_id)}
    assert the_notice(queued).outcome == "confirmed"
    assert queued.events()[-1] == ("app_confirmed", None)


def test_while_a_key_is_rotated_every_key_gets_its_turn(queued: Stage) -> None:
    notice_id = owed(queued)
    broker = Broker()
    old = queued.keys["forum"]
    new = apps.rotate_key(queued.services, "forum")
    queued.services.apps._apps.clear()

    for _ in range(4):
        deliver(queued, notice_id, broker)
        queued.pass_time(minutes=6)

    def opens(envelope: str, key: Any) -> bool:
        with suppress(InvalidNotice):
            open_notice(envelope, app_id="forum", app_keys=[key])
            return True
        return False

    envelopes = [kwargs["envelope"] for _, _, kwargs in broker.messages]
    assert [opens(envelope, old) for envelope in envelopes] == [True, False, True, False]
    assert [opens(envelope, new) for envelope in envelopes] == [False, True, False, True]


def test_a_broker_that_takes_nothing_puts_the_message_off(queued: Stage) -> None:
    notice_id = owed(queued)
    broker = Broker()
    broker.error = NoticeUndelivered("the broker took no message")

    assert deliver(queued, notice_id, broker) is None
    assert "no message" in the_notice(queued).last_error
    queued.pass_time(minutes=1)
    broker.error = None
    deliver(queued, notice_id, broker)

    assert len(broker.messages) == 1
    assert the_notice(queued).last_error is None


def test_a_confirmation_by_another_app_changes_nothing(queued: Stage) -> None:
    notice_id = owed(queued)
    before = queued.dump()

    answers = [confirm(queued, notice_id, "shop"), confirm(queued, new_id(), "forum")]

    assert {given.verdict for given in answers} == {Verdict.OK}  # it does not tell what exists
    assert queued.dump() == before


def test_confirming_again_changes_nothing(queued: Stage) -> None:
    notice_id = owed(queued)
    confirm(queued, notice_id)
    before = queued.dump()
    queued.pass_time(hours=1)

    assert confirm(queued, notice_id).verdict is Verdict.OK
    assert queued.dump() == before


def test_confirmations_at_once_are_one(queued: Stage) -> None:
    notice_id = owed(queued)

    queued.at_once(*[lambda: confirm(queued, notice_id)] * 4)

    assert queued.events().count(("app_confirmed", None)) == 1


def test_a_late_confirmation_is_better_than_a_failure(queued: Stage) -> None:
    ref = queued.registered("ada", "shop")
    queued.silent_auth("ada", "forum")
    receipt_id = queued.log_out(session_ref=str(ref)).receipt_id
    notice_id = the_notice(queued).id
    queued.pass_time(days=4)
    assert deliver(queued, notice_id) == "failed"
    assert "not confirmed in time" in the_notice(queued).last_error
    assert receipt(queued, receipt_id).apps_failed == ("forum",)

    confirm(queued, notice_id)

    assert the_notice(queued).outcome == "confirmed"
    assert receipt(queued, receipt_id).apps_confirmed == ("forum",)
    assert app_notices.replay_failed(queued.services) == 0
