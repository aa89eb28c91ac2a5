"""Revoking a user: everything ends here and at Mosaic, and no newer login with it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Row, select, update
from structlog.testing import capture_logs

from models import IdpSession, NoticeMethod, UserRevocation
from session_client import requests
from session_client.contract import LogoutWait, Reason, Verdict
from simulator.server import SimulatorServer
from tests.integration.mosaic.gateway_rig import Gateway, behind, told_operator
from tests.integration.traffic.traffic_rig import pass_redis_time
from tests.stage import Stage
from worker.app import app as celery_app
from worker.maintenance.purge import purge_history
from worker.operations import overview
from worker.outbox import leases, mosaic_revocations
from worker.tasks import wake_ups
from worker.tasks.logouts import END_USER_AT_IDP
from worker.traffic.scripts import PROBES_AT_A_TIME

DELETE, LIST, TELL = "sessions/delete", "sessions/list", "session/logout"
FRONTEND = "frontend_sessions/delete"
CALLS = (DELETE, LIST, TELL, FRONTEND)
MAY = ("revoke_user",)


@pytest.fixture(autouse=True)
def _apps(request: pytest.FixtureRequest) -> None:
    if "stage" in request.fixturenames:
        stage: Stage = request.getfixturevalue("stage")
        stage.add_app("shop")
        stage.add_app("forum", notice_method=NoticeMethod.QUEUE, notice_address="forum-notices")
        stage.add_app("desk", capabilities=MAY)


def revoke(stage: Stage, user_id: str = "ada", *, frontend: bool = False, **options: Any) -> Any:
    request = requests.RevokeUser(user_id=user_id, frontend=frontend)
    return stage.ask("desk", request, **options)


def revocations(stage: Stage) -> list[Row[Any]]:
    with stage.services.store.read() as connection:
        return list(connection.execute(select(UserRevocation.__table__)).all())


def tell_mosaic(stage: Stage) -> str | None:
    """Run the task that the wake-up of the only revocation runs; return what became of it."""
    (row,) = revocations(stage)
    celery_app.tasks[END_USER_AT_IDP].apply((str(row.id),), throw=True)
    (row,) = revocations(stage)
    outcome: str | None = row.outcome
    return outcome


def receipt_of(stage: Stage, revoked: Any) -> Any:
    return stage.ask("desk", requests.Receipt(receipt_id=revoked.receipt_id))


def calls(stage: Stage) -> dict[str, int]:
    counts = {name: stage.mosaic.state.calls.count(name) for name in CALLS}
    return {name: count for name, count in counts.items() if count}


def at_mosaic(stage: Stage, user_id: str = "ada") -> set[str]:
    return {session.session_id for session in stage.mosaic.state.live_sessions(user_id)}


# --- what ends


def test_without_the_capability_nothing_ends_and_mosaic_is_not_asked(stage: Stage) -> None:
    stage.registered("ada", "shop")
    before = stage.dump()

    answer = stage.ask("shop", requests.RevokeUser(user_id="ada", frontend=True))

    assert (answer.verdict, answer.reason) == (Verdict.UNAUTHORIZED, Reason.NOT_PERMITTED)
    assert stage.dump() == before
    assert calls(stage) == {}


def test_all_sessions_end_here_at_once_and_the_other_apps_are_told(stage: Stage) -> None:
    stage.registered("ada", "shop")
    stage.registered("ada", "forum", device_id="phone")
    bobs = stage.registered("bob", "shop")

    receipt = revoke(stage)

    assert (receipt.verdict, receipt.sessions_ended) == (Verdict.OK, 2)
    assert (receipt.idp_pending, receipt.idp_user) == (2, "pending")
    assert receipt.apps_pending == ("forum",)
    assert {row.end_cause for row in stage.sessions() if row.user_id == "ada"} == {"revoked"}
    assert stage.session(bobs).ended_at is None
    assert ("user_revoked", None) in stage.events()
    assert calls(stage) == {}  # the answer does not wait for Mosaic


def test_what_was_never_registered_ends_at_mosaic_and_nobody_elses(stage: Stage) -> None:
    stage.login("ada", "shop")
    stage.login("ada", "forum")
    bobs = stage.login("bob", "shop").session_id

    receipt = revoke(stage)
    outcome = tell_mosaic(stage)

    assert (receipt.sessions_ended, outcome) == (0, "confirmed")
    assert at_mosaic(stage) == set()
    assert at_mosaic(stage, "bob") == {bobs}
    assert calls(stage) == {DELETE: 1}
    assert receipt_of(stage, receipt).idp_user == "confirmed"


def test_a_login_from_before_that_is_registered_later_is_ended(stage: Stage) -> None:
    login = stage.login("ada", "shop")
    stage.pass_time(seconds=2)

    revoke(stage)

    assert stage.remember(login).verdict is not Verdict.OK
    assert [row.ended_at is None for row in stage.sessions()] == [False]


@pytest.mark.parametrize("frontend", [True, False])
def test_front_ends_sessions_end_only_when_asked(stage: Stage, frontend: bool) -> None:  # noqa: FBT001
    stage.mosaic.state.open_frontend_session("ada")

    revoke(stage, frontend=frontend)

    assert tell_mosaic(stage) == "confirmed"
    assert stage.mosaic.state.count_frontend_sessions("ada") == (0 if frontend else 1)
    assert calls(stage) == ({DELETE: 1, FRONTEND: 1} if frontend else {DELETE: 1})


@pytest.mark.parametrize("user_id", ["ö ?#%2e", "...", "ada;x=1", "a&b=c"])
def test_a_user_id_is_one_step_of_the_path_whatever_is_in_it(stage: Stage, user_id: str) -> None:
    stage.login(user_id, "shop")
    bobs = stage.login("bob", "shop").session_id

    revoke(stage, user_id)

    assert tell_mosaic(stage) == "confirmed"
    assert (at_mosaic(stage, user_id), at_mosaic(stage, "bob")) == (set(), {bobs})


# --- no newer login ends


def mosaic_goes_down(stage: Stage) -> None:
    stage.mosaic.state.faults.add("*", "status", status=503)


def mosaic_returns(stage: Stage) -> None:
    stage.mosaic.state.faults.clear()
    # An attempt that failed is put off, with jitter.
    stage.pass_time(seconds=stage.settings.delivery_retry_seconds + 2)


@pytest.mark.parametrize("is_registered", [True, False])
@pytest.mark.parametrize("down_seconds", [1.0, 3600.0])
def test_who_signs_in_again_while_mosaic_is_down_stays_signed_in(
    stage: Stage,
    down_seconds: float,
    is_registered: bool,  # noqa: FBT001
) -> None:
    stage.login("ada", "shop")
    stage.login("ada", "forum")
    stage.pass_time(seconds=2)
    receipt = revoke(stage)
    mosaic_goes_down(stage)
    assert tell_mosaic(stage) is None
    stage.pass_time(seconds=down_seconds)
    stage.mosaic.state.faults.clear()
    again = stage.login("ada", "shop")
    if is_registered:
        assert stage.remember(again).verdict is Verdict.OK
    mosaic_returns(stage)

    outcome = tell_mosaic(stage)

    assert outcome == "confirmed"
    assert at_mosaic(stage) == {again.session_id}
    assert receipt_of(stage, receipt).idp_user == "confirmed"


def test_a_newer_session_that_is_known_keeps_mosaic_from_ending_all(stage: Stage) -> None:
    stage.login("ada", "shop")
    stage.pass_time(seconds=2)
    revoke(stage)
    stage.pass_time(seconds=2)
    again = stage.login("ada", "shop")
    stage.remember(again)

    assert tell_mosaic(stage) == "confirmed"
    assert at_mosaic(stage) == {again.session_id}
    assert calls(stage) == {LIST: 1, TELL: 1}


def test_a_first_attempt_that_comes_late_goes_by_the_list(stage: Stage) -> None:
    stage.login("ada", "shop")
    stage.pass_time(seconds=2)
    revoke(stage)
    stage.pass_time(seconds=61)
    again = stage.login("ada", "forum")

    assert tell_mosaic(stage) == "confirmed"
    assert at_mosaic(stage) == {again.session_id}
    assert DELETE not in calls(stage)


def revoked_too_late(stage: Stage) -> Any:
    """Revoke a user while Mosaic ends no front ends' sessions; the receipt."""
    receipt = revoke(stage, frontend=True)
    stage.mosaic.state.faults.add(FRONTEND, "status", status=503)
    assert tell_mosaic(stage) is None
    stage.mosaic.state.faults.clear()
    stage.pass_time(seconds=90)
    return receipt


def test_front_ends_sessions_that_may_be_newer_live_on_and_the_receipt_says_so(
    stage: Stage,
) -> None:
    old = stage.login("ada", "shop").session_id
    stage.pass_time(seconds=2)
    receipt = revoked_too_late(stage)
    stage.mosaic.state.open_frontend_session("ada")

    assert tell_mosaic(stage) == "failed"
    assert old not in at_mosaic(stage)
    assert stage.mosaic.state.count_frontend_sessions("ada") == 1
    assert calls(stage) == {DELETE: 1, FRONTEND: 1}
    assert receipt_of(stage, receipt).idp_user == "failed"


def test_an_operator_is_called_for_front_ends_sessions_that_live_on(stage: Stage) -> None:
    stage.login("ada", "shop")
    revoked_too_late(stage)

    with capture_logs() as logs:
        tell_mosaic(stage)

    (called,) = [line for line in logs if line["event"] == "operator_must_act"]
    assert (called["app"], called["revocation"]) == ("desk", str(revocations(stage)[0].id))
    assert "revoke the user once more" in called["detail"]
    assert failed_logouts(stage) == 1


def test_what_lives_on_is_counted_until_the_user_is_revoked_once_more(stage: Stage) -> None:
    for user_id in ("ada", "eve"):
        stage.login(user_id, "shop")
        revoke(stage, user_id, frontend=True)
    stage.pass_time(seconds=90)
    for row in revocations(stage):
        celery_app.tasks[END_USER_AT_IDP].apply((str(row.id),), throw=True)
    assert failed_logouts(stage) == 2

    revoke(stage, "ada")
    assert failed_logouts(stage) == 2, "the front ends' sessions live on"
    revoke(stage, "ada", frontend=True)
    assert failed_logouts(stage) == 1


def failed_logouts(stage: Stage) -> int:
    with stage.services.store.read() as connection:
        return overview.store_counts(stage.services, connection).failed_logouts


# --- it is never lost


def test_a_worker_that_dies_after_mosaic_did_it_is_repeated_by_the_list(stage: Stage) -> None:
    stage.login("ada", "shop")
    stage.pass_time(seconds=2)
    revoke(stage)
    (row,) = revocations(stage)
    with stage.services.store.write() as connection:  # killed: its lease is left behind
        assert leases.claim(connection, stage.services, UserRevocation, row.id) is not None
    assert tell_mosaic(stage) is None
    assert calls(stage) == {}
    stage.pass_time(seconds=stage.settings.delivery_lease_seconds + 1)
    again = stage.login("ada", "shop")

    assert tell_mosaic(stage) == "confirmed"
    assert at_mosaic(stage) == {again.session_id}


@pytest.fixture
def wary(store_url: str, redis_url: str, mosaic: SimulatorServer) -> Iterator[Stage]:
    """A stage whose breakers open at the first failure."""
    with Stage(store_url, redis_url, mosaic, breaker_failures="1") as stage:
        stage.add_app("desk", capabilities=MAY)
        yield stage


def test_a_revocation_is_tried_once_and_then_waits_while_its_breaker_is_open(wary: Stage) -> None:
    wary.mosaic.state.faults.add(DELETE, "status", status=503)
    revoke(wary)
    assert tell_mosaic(wary) is None
    assert calls(wary) == {DELETE: 1}
    wary.pass_time(seconds=wary.settings.delivery_retry_seconds + 2)

    assert tell_mosaic(wary) is None

    assert calls(wary) == {DELETE: 1}
    (row,) = revocations(wary)
    assert (row.attempts, row.last_error.partition(":")[0]) == (1, "BreakerOpen")


def test_a_revocation_that_comes_too_late_for_a_call_takes_no_probes_place(
    wary: Stage, redis_url: str
) -> None:
    wary.mosaic.state.faults.add(DELETE, "status", status=503, times=1)
    revoke(wary, "ada", frontend=True)
    assert tell_mosaic(wary) is None  # the breaker is open
    pass_redis_time(redis_url, wary.settings.breaker_open_seconds)
    wary.pass_time(seconds=90)
    done = {"backend_ended_at": wary.now(), "next_attempt_at": wary.now()}
    app = wary.services.apps.find("desk")
    assert app is not None
    for _ in range(PROBES_AT_A_TIME):
        reopened = {"closed_at": None, "outcome": None}
        with wary.services.store.write() as connection:
            connection.execute(update(UserRevocation).values(**done, **reopened))
        assert tell_mosaic(wary) == "failed"

    assert wary.services.traffic.admit_logout(app.mosaic, "s", is_untried=False).is_probe


def test_the_sweep_wakes_a_revocation_whose_message_was_lost(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    woken: list[str] = []
    monkeypatch.setattr(celery_app.tasks[END_USER_AT_IDP], "delay", woken.append, raising=False)
    revoke(stage)
    (row,) = revocations(stage)
    assert woken == [str(row.id)]

    stage.pass_time(seconds=stage.settings.delivery_wake_again_seconds + 1)
    wake_ups.due(stage.services)

    assert woken == [str(row.id)] * 2


def test_one_session_that_mosaic_will_not_end_does_not_keep_the_others(stage: Stage) -> None:
    stuck = stage.login("ada", "shop").session_id
    other = stage.login("ada", "shop").session_id
    stage.pass_time(seconds=2)
    receipt = revoke(stage)
    stage.pass_time(seconds=61)
    stage.mosaic.state.faults.add(TELL, "status", status=403, mentioning=stuck)

    assert tell_mosaic(stage) is None
    assert at_mosaic(stage) == {stuck}
    assert other not in at_mosaic(stage)
    assert receipt_of(stage, receipt).idp_user == "pending"


def test_it_is_given_up_when_all_has_expired_at_mosaic_and_the_receipt_says_failed(
    stage: Stage,
) -> None:
    receipt = revoke(stage)
    mosaic_goes_down(stage)
    stage.pass_time(days=14, seconds=1)

    assert tell_mosaic(stage) == "expired_unconfirmed"
    assert receipt_of(stage, receipt).idp_user == "failed"


def test_a_receipt_is_kept_while_mosaic_must_still_be_told(stage: Stage) -> None:
    receipt = revoke(stage)
    stage.pass_time(days=400)
    purge_history(stage.services)
    assert receipt_of(stage, receipt).idp_user == "pending"

    mosaic_goes_down(stage)
    tell_mosaic(stage)
    purge_history(stage.services)

    assert revocations(stage) == []
    assert receipt_of(stage, receipt).reason == Reason.NO_RECEIPT


def test_operators_see_it_wait_and_may_open_a_dead_lettered_one_again(stage: Stage) -> None:
    receipt = revoke(stage)
    with stage.services.store.write() as connection:
        counts = overview.store_counts(stage.services, connection)
        assert (counts.logouts.pending, counts.failed_logouts) == (1, 0)
        dead = {"closed_at": stage.now(), "outcome": leases.DEAD}
        connection.execute(update(UserRevocation).values(**dead))
        counts = overview.store_counts(stage.services, connection)
        assert (counts.logouts.pending, counts.failed_logouts) == (0, 1)
    assert receipt_of(stage, receipt).idp_user == "failed"

    assert mosaic_revocations.replay_dead_lettered(stage.services) == 1
    assert receipt_of(stage, receipt).idp_user == "pending"


# --- success is recognised


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b""),
        (200, {"message": "Session not found"}),
        (200, {"result": {"deleted_count": "none"}}),
        (202, b""),
        (404, {"message": "App not found", "error_code": "404"}),
        (403, {"message": "User is not active", "error_code": "user_not_active"}),
        (404, b""),
        (302, b""),
    ],
)
def test_no_other_answer_confirms_a_revocation(stage: Stage, status: int, body: Any) -> None:
    with behind(stage, Gateway(status, body), "bank", capabilities=MAY):
        receipt = stage.ask("bank", requests.RevokeUser(user_id="ada"))
        assert receipt.verdict is Verdict.OK
        assert tell_mosaic(stage) is None
        stage.pass_time(minutes=10)
        assert tell_mosaic(stage) is None  # nor one of the list

    shown = stage.ask("bank", requests.Receipt(receipt_id=receipt.receipt_id))
    assert shown.idp_user == "pending"
    assert not shown.has_reached(LogoutWait.IDP)


UNKNOWN = {"message": "User not found", "error_code": "user_not_found"}


@pytest.mark.parametrize("seconds", [0, 61], ids=["at once", "by the list"])
@pytest.mark.parametrize("frontend", [True, False])
def test_a_user_whom_mosaic_does_not_know_has_nothing_to_end_and_no_operator_is_called(
    stage: Stage,
    frontend: bool,  # noqa: FBT001
    seconds: int,
) -> None:
    receipt = revoke(stage, "eve", frontend=frontend)
    stage.pass_time(seconds=seconds)

    with capture_logs() as logs:
        outcome = tell_mosaic(stage)

    assert outcome == "confirmed"
    assert told_operator(logs) == []
    assert calls(stage) == {LIST if seconds else DELETE: 1}
    assert stage.events()[-1] == ("idp_confirmed", "user_unknown")
    assert receipt_of(stage, receipt).idp_user == "confirmed"


def unknown_to(stage: Stage, *client_ids: str) -> None:
    for client_id in client_ids:
        for endpoint in (DELETE, LIST, FRONTEND):
            stage.mosaic.state.faults.add(
                endpoint, "status", client_id=client_id, status=404, body=UNKNOWN
            )


@pytest.mark.parametrize("seconds", [0, 61], ids=["at once", "by the list"])
def test_who_is_unknown_to_the_client_that_revokes_them_is_ended_by_one_that_knows_them(
    stage: Stage, seconds: int
) -> None:
    stage.registered("ada", "shop")
    stage.login("ada", "forum")
    stage.mosaic.state.open_frontend_session("ada")
    stage.pass_time(seconds=2)
    unknown_to(stage, "client-desk")
    receipt = revoke(stage, frontend=seconds == 0)
    stage.pass_time(seconds=seconds)

    assert tell_mosaic(stage) == "confirmed"
    assert at_mosaic(stage) == set()
    assert stage.mosaic.state.count_frontend_sessions("ada") == (1 if seconds else 0)
    assert receipt_of(stage, receipt).idp_user == "confirmed"
    assert stage.events()[-1] == ("idp_confirmed", None)


def test_who_is_unknown_to_one_client_is_not_taken_for_gone_while_another_says_nothing(
    stage: Stage,
) -> None:
    stage.registered("ada", "shop")
    unknown_to(stage, "client-desk")
    stage.mosaic.state.faults.add(DELETE, "status", client_id="client-shop", status=503)
    receipt = revoke(stage)

    assert tell_mosaic(stage) is None
    assert receipt_of(stage, receipt).idp_user == "pending"


def test_a_user_unknown_to_all_that_ever_saw_them_is_gone(stage: Stage) -> None:
    stage.registered("ada", "shop")
    stage.registered("ada", "forum")
    unknown_to(stage, "client-desk", "client-shop", "client-forum")
    revoke(stage)

    assert tell_mosaic(stage) == "confirmed"
    assert calls(stage) == {DELETE: 3}


def test_no_other_mosaic_is_asked_to_end_a_user_whom_that_of_the_app_does_not_know(
    stage: Stage,
) -> None:
    with SimulatorServer() as elsewhere:
        elsewhere.state.add_client("client-abroad", "secret-of-abroad")
        there = {"base_url": elsewhere.url, "token_url": elsewhere.token_url}
        stage.add_app("abroad", **there, jwks_url=elsewhere.jwks_url)
        abroad = elsewhere.state.login("ada", "client-abroad", amr=("pwd",))
        stage.remember(abroad, app_id="abroad")
        unknown_to(stage, "client-desk")
        revoke(stage)

        assert tell_mosaic(stage) == "confirmed"
        assert calls(stage) == {DELETE: 1}
        assert elsewhere.state.is_live(abroad.session_id)


def test_who_is_unknown_to_those_that_can_be_asked_is_not_gone_while_an_app_cannot_be(
    stage: Stage,
) -> None:
    stage.registered("ada", "shop")
    unknown_to(stage, "client-desk", "client-shop")
    receipt = revoke(stage)
    with stage.services.store.write() as connection:
        connection.execute(update(IdpSession).values(registered_by="gone"))

    with capture_logs() as logs:
        assert tell_mosaic(stage) is None
    (said,) = told_operator(logs)
    assert "the app gone, which has signed them in, cannot be used" in said
    assert receipt_of(stage, receipt).idp_user == "pending"


def test_of_who_is_unknown_only_once_their_sessions_were_ended_the_trail_does_not_say_so(
    stage: Stage,
) -> None:
    stage.login("ada", "shop")
    for client_id in ("client-desk", "client-shop"):
        stage.mosaic.state.faults.add(
            FRONTEND, "status", client_id=client_id, status=404, body=UNKNOWN
        )
    revoke(stage, frontend=True)

    assert tell_mosaic(stage) == "confirmed"
    assert at_mosaic(stage) == set()
    assert stage.events()[-1] == ("idp_confirmed", None)


def test_a_listed_session_that_is_refused_for_an_unknown_user_is_not_taken_for_ended(
    stage: Stage,
) -> None:
    stage.login("ada", "shop")
    stage.pass_time(seconds=2)
    revoke(stage)
    stage.pass_time(seconds=61)
    stage.mosaic.state.faults.add(TELL, "status", status=404, body=UNKNOWN)

    assert tell_mosaic(stage) is None


def test_no_other_answer_confirms_that_front_ends_sessions_ended(stage: Stage) -> None:
    stage.login("ada", "shop")
    stage.mosaic.state.faults.add(FRONTEND, "change_answer", status=204)
    revoke(stage, frontend=True)

    assert tell_mosaic(stage) is None
    assert calls(stage) == {DELETE: 1, FRONTEND: 1}


@pytest.mark.parametrize("times", ["seconds", "milliseconds"])
def test_times_in_another_form_end_nothing_and_call_an_operator(stage: Stage, times: str) -> None:
    old = stage.login("ada", "shop").session_id
    revoke(stage)
    stage.pass_time(seconds=61)
    stage.mosaic.state.policy.change(session_times=times)

    assert tell_mosaic(stage) is None
    assert at_mosaic(stage) == {old}
    (row,) = revocations(stage)
    assert "start_time" in row.last_error
    stage.mosaic.state.calls.forgive()  # the times are not of its contract


@pytest.mark.parametrize("endpoint", [DELETE, LIST, FRONTEND])
def test_what_is_kept_of_a_failure_names_no_user(
    stage: Stage, endpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.login("ada.lovelace@example.com", "shop")
    revoke(stage, "ada.lovelace@example.com", frontend=True)
    if endpoint == LIST:
        stage.pass_time(seconds=2)
        stage.registered("ada.lovelace@example.com", "shop")  # so that nothing may be deleted
    stage.mosaic.state.faults.add(endpoint, "drop_request", times=3)

    tell_mosaic(stage)

    (row,) = revocations(stage)
    assert "{userId}" in row.last_error
    assert "lovelace" not in row.last_error + "".join(capsys.readouterr())


# --- repeats, and bad input


@pytest.mark.parametrize("redis_remembers", [True, False])
def test_a_repeated_request_hears_what_is_so_by_then_and_ends_no_newer_login(
    stage: Stage, *, redis_remembers: bool
) -> None:
    stage.registered("ada", "shop")
    sent = stage.seal("desk", requests.RevokeUser(user_id="ada"))
    first = stage.deliver(sent)
    tell_mosaic(stage)
    if not redis_remembers:
        stage.redis.flushdb()
    stage.pass_time(seconds=2)
    newer = stage.registered("ada", "shop")

    second = stage.deliver(sent)

    assert (second.receipt_id, second.sessions_ended) == (first.receipt_id, 1)
    assert second.idp_user == "confirmed"
    assert stage.session(newer).ended_at is None
    assert len(revocations(stage)) == 1


def test_a_request_id_used_for_another_user_is_refused(stage: Stage) -> None:
    revoke(stage, request_id="r" * 22)
    newer = stage.registered("bob", "shop")

    answer = revoke(stage, "bob", request_id="r" * 22)

    assert (answer.verdict, answer.reason) == (Verdict.INVALID_REQUEST, Reason.REQUEST_ID_REUSED)
    assert stage.session(newer).ended_at is None


def test_the_same_request_twice_at_once_revokes_once(stage: Stage) -> None:
    stage.registered("ada", "shop")
    sent = stage.seal("desk", requests.RevokeUser(user_id="ada"))

    stage.at_once(lambda: stage.run(sent), lambda: stage.run(sent))

    assert len(revocations(stage)) == 1


def test_a_user_id_that_leads_a_path_elsewhere_is_refused(stage: Stage) -> None:
    before = stage.dump()

    for user_id in (".", "..", "a/..", "../b", "a\\..\\b", "a/./b"):
        answer = revoke(stage, user_id)
        told = (answer.verdict, answer.reason, answer.detail)
        assert told == (Verdict.INVALID_REQUEST, Reason.INVALID_PAYLOAD, "user_id"), user_id
    assert stage.dump() == before
