"""Silent authentication: tokens only when earned, and Mosaic asked only when it can help."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import insert, select, update

from models import AppSession, IdpSession, SessionAlias, new_id
from session_client import requests
from session_client.contract import Reason, Verdict
from simulator.controls.gates import wait_until
from simulator.server import SimulatorServer
from tests.integration.storage.pg_locks import patient_locks, waiting_for_locks
from tests.stage import Stage, claims_of
from worker import wiring
from worker.maintenance.expire import expire_sessions

ASK = "session/authenticate"


@pytest.fixture(autouse=True)
def _apps(request: pytest.FixtureRequest) -> None:
    for name in ("stage", "sqlite_stage"):
        if name in request.fixturenames:
            found: Stage = request.getfixturevalue(name)
            found.add_app("shop")
            found.add_app("forum")


def asked_of_mosaic(stage: Stage) -> int:
    return stage.mosaic.state.calls.count(ASK)


def shares(stage: Stage) -> dict[str, Any]:
    with stage.services.store.read() as connection:
        rows = connection.execute(select(AppSession.__table__)).all()
    return {row.app_id: row.access_token_expires_at for row in rows}


def test_another_apps_login_gives_this_app_tokens_of_its_own(stage: Stage) -> None:
    ref = stage.registered("ada", "shop")
    stage.pass_time(days=1)

    answer = stage.silent_auth("ada", "forum")

    assert answer.verdict is Verdict.AUTHENTICATED
    assert UUID(answer.session_ref) == ref
    assert claims_of(answer.tokens.id_token)["aud"] == "client-forum"
    assert claims_of(answer.tokens.id_token)["sub"] == "ada"
    assert claims_of(answer.tokens.access_token)["client_id"] == "client-forum"
    assert answer.tokens.expires_in == 3600
    assert answer.expires_at == stage.session(ref).expires_at
    assert answer.expires_at - stage.now() > timedelta(days=13, hours=23)
    assert shares(stage)["shop"] is None
    assert shares(stage)["forum"] - stage.now() > timedelta(minutes=59)
    assert stage.events()[-1] == ("authenticated", "by_user")


def test_what_the_request_asks_of_the_tokens_reaches_mosaic(sqlite_stage: Stage) -> None:
    sqlite_stage.mosaic.state.add_user("ada", email="ada@example.com")
    sqlite_stage.registered("ada", "shop")

    answer = sqlite_stage.silent_auth(
        resource="https://orders.example",
        org_id="org-1",
        claims={"id_token": {"email": None}},
        user_agent="Firefox",
        ip_address="192.0.2.1",
    )

    assert claims_of(answer.tokens.access_token)["aud"] == "https://orders.example"
    assert claims_of(answer.tokens.id_token)["email"] == "ada@example.com"
    assert claims_of(answer.tokens.id_token)["org_id"] == "org-1"


# --- what is certain without Mosaic


def test_a_user_without_a_session_must_log_in(stage: Stage) -> None:
    stage.registered("bob", "shop")

    answer = stage.silent_auth("ada")

    assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, Reason.NO_SESSION)
    assert stage.mosaic.state.calls.count("token") == asked_of_mosaic(stage) == 0


def test_an_expired_session_is_not_even_tried(stage: Stage) -> None:
    stage.registered()
    stage.pass_time(days=14, seconds=1)

    answer = stage.silent_auth()

    assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, Reason.EXPIRED)
    assert asked_of_mosaic(stage) == 0


def test_a_logged_out_session_is_not_even_tried(stage: Stage) -> None:
    ref = stage.registered()
    stage.log_out(session_ref=str(ref))

    answer = stage.silent_auth()

    assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, Reason.LOGGED_OUT)
    assert asked_of_mosaic(stage) == 0


POLICIES: list[tuple[dict[str, Any], dict[str, Any], tuple[str, ...], bool]] = [
    ({"amr_all_of": ("mfa", "webauthn")}, {}, ("mfa", "webauthn"), False),
    ({"amr_any_of": ("sms", "webauthn")}, {}, ("sms", "webauthn"), False),
    ({"max_age_seconds": 3600}, {}, (), True),
    ({"amr_all_of": ("mfa",), "max_age_seconds": 3600}, {}, ("mfa",), True),
    # A request can ask for more …
    ({}, {"amr_all_of": ["mfa"]}, ("mfa",), False),
    ({}, {"amr_any_of": ["sms"]}, ("sms",), False),
    ({}, {"max_age": 60}, (), True),
    ({}, {"max_age": 0}, (), True),
    # … and never for less.
    ({"amr_all_of": ("mfa",)}, {"amr_all_of": ["pwd"]}, ("mfa",), False),
    ({"amr_any_of": ("sms",)}, {"amr_any_of": ["pwd"]}, ("sms",), False),
    ({"max_age_seconds": 3600}, {"max_age": 10**9}, (), True),
]


@pytest.mark.parametrize(("policy", "wish", "missing", "too_old"), POLICIES)
def test_a_session_too_weak_for_the_app_needs_interaction_and_no_call(
    *,
    sqlite_stage: Stage,
    policy: dict[str, Any],
    wish: dict[str, Any],
    missing: tuple[str, ...],
    too_old: bool,
) -> None:
    sqlite_stage.add_app("bank", **policy)
    ref = sqlite_stage.registered("ada", "shop", amr=("pwd",))
    sqlite_stage.pass_time(hours=2)
    before = sqlite_stage.dump()

    answer = sqlite_stage.silent_auth("ada", "bank", **wish)

    assert answer.verdict is Verdict.INTERACTION_REQUIRED
    assert answer.reason == (Reason.AMR_MISSING if missing else Reason.MAX_AGE_EXCEEDED)
    assert (answer.missing_amr, answer.max_age_exceeded) == (missing, too_old)
    assert UUID(answer.session_ref) == ref
    assert answer.tokens is None
    assert asked_of_mosaic(sqlite_stage) == 0
    assert sqlite_stage.dump() == before


@pytest.mark.parametrize(
    "policy",
    [
        {"amr_all_of": ("mfa", "sms")},
        {"amr_any_of": ("webauthn", "sms")},
        {"max_age_seconds": 3 * 3600},
    ],
)
def test_a_session_strong_enough_gives_tokens(sqlite_stage: Stage, policy: dict[str, Any]) -> None:
    sqlite_stage.add_app("bank", **policy)
    sqlite_stage.registered("ada", "shop", amr=("pwd", "sms"))
    sqlite_stage.pass_time(hours=2)

    answer = sqlite_stage.silent_auth("ada", "bank")

    assert answer.verdict is Verdict.AUTHENTICATED


def test_the_strong_one_of_several_sessions_is_used(stage: Stage) -> None:
    strong = stage.registered("ada", "shop", amr=("pwd", "sms"))
    stage.pass_time(hours=1)
    stage.registered("ada", "shop", amr=("pwd",))

    answer = stage.silent_auth(amr_all_of=["mfa"])

    assert answer.verdict is Verdict.AUTHENTICATED
    assert UUID(answer.session_ref) == strong


def test_mosaic_renewing_auth_time_by_itself_does_not_defeat_a_maximum_age(
    sqlite_stage: Stage,
) -> None:
    sqlite_stage.mosaic.state.policy.change(silent_renews_auth_time=True)
    sqlite_stage.registered()
    sqlite_stage.pass_time(minutes=50)
    assert sqlite_stage.silent_auth(max_age=3600).verdict is Verdict.AUTHENTICATED
    sqlite_stage.pass_time(minutes=20)

    answer = sqlite_stage.silent_auth(max_age=3600)

    assert answer.reason == Reason.MAX_AGE_EXCEEDED


# --- what only Mosaic's answer tells


def test_tokens_weaker_than_what_we_knew_are_withheld(stage: Stage) -> None:
    login = stage.login("ada", "shop")
    boast = stage.mosaic.state.mint_id_token(aud="client-shop", amr=["mfa", "pwd", "sms"])
    stage.remember(login, id_token=boast)

    answer = stage.silent_auth(amr_all_of=["mfa"])

    assert asked_of_mosaic(stage) == 1
    assert (answer.verdict, answer.reason) == (
        Verdict.INTERACTION_REQUIRED,
        Reason.AMR_MISSING,
    )
    assert answer.missing_amr == ("mfa",)
    assert answer.tokens is None
    assert "forum" not in shares(stage)
    assert stage.sessions()[0].ended_at is None


def test_tokens_older_than_what_we_knew_are_withheld(sqlite_stage: Stage) -> None:
    login = sqlite_stage.login("ada", "shop")
    sqlite_stage.pass_time(hours=2)
    boast = sqlite_stage.mosaic.state.mint_id_token(aud="client-shop")
    sqlite_stage.remember(login, id_token=boast)

    answer = sqlite_stage.silent_auth(max_age=3600)

    assert asked_of_mosaic(sqlite_stage) == 1
    assert (answer.reason, answer.tokens) == (Reason.MAX_AGE_EXCEEDED, None)


def test_the_newest_session_is_tried_first(stage: Stage) -> None:
    stage.registered()
    stage.pass_time(hours=1)
    newest = stage.registered()

    answer = stage.silent_auth()

    assert UUID(answer.session_ref) == newest
    assert asked_of_mosaic(stage) == 1


def test_a_session_gone_at_mosaic_ends_here_and_the_next_one_is_tried(stage: Stage) -> None:
    older = stage.registered()
    stage.pass_time(hours=1)
    login = stage.login("ada", "shop")
    newer = UUID(stage.remember(login).session_ref)
    stage.mosaic.state.end_session(login.session_id)

    answer = stage.silent_auth()

    gone = stage.session(newer)
    assert UUID(answer.session_ref) == older
    assert answer.verdict is Verdict.AUTHENTICATED
    assert (gone.end_cause, gone.sealed_session_id) == ("gone_at_idp", None)
    assert gone.ended_at is not None
    assert stage.logouts() == []  # Mosaic knows
    assert ("ended", "gone_at_idp") in stage.events()


def test_when_all_sessions_are_gone_at_mosaic_the_user_must_log_in(stage: Stage) -> None:
    for _ in range(2):
        login = stage.login("ada", "shop")
        stage.remember(login)
        stage.mosaic.state.end_session(login.session_id)

    answer = stage.silent_auth()

    assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, Reason.GONE_AT_IDP)
    assert {session.end_cause for session in stage.sessions()} == {"gone_at_idp"}
    assert asked_of_mosaic(stage) == 2


def test_a_request_tries_no_more_sessions_than_the_settings_say(stage: Stage) -> None:
    for _ in range(5):
        login = stage.login("ada", "shop")
        stage.remember(login)
        stage.mosaic.state.end_session(login.session_id)

    first, calls = stage.silent_auth(), asked_of_mosaic(stage)
    second = stage.silent_auth()

    assert stage.settings.max_candidates == calls == 3
    for answer in (first, second):
        assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, Reason.GONE_AT_IDP)
    assert {session.end_cause for session in stage.sessions()} == {"gone_at_idp"}


@pytest.mark.parametrize(
    ("fault", "reason"), [("wrong_sub", Reason.QUARANTINED), (None, Reason.GONE_AT_IDP)]
)
def test_where_only_one_is_tried_its_end_is_the_reason(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer, fault: str | None, reason: Reason
) -> None:
    with Stage(sqlite_url, redis_url, mosaic, max_candidates="1") as stage:
        stage.add_app("shop")
        stage.add_app("forum")
        login = stage.login("ada", "shop")
        stage.remember(login)
        if fault is None:
            mosaic.state.end_session(login.session_id)
        else:
            mosaic.state.faults.add(ASK, fault, times=1)

        answer = stage.silent_auth()

    assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, reason)


def test_a_session_that_turns_out_to_be_somebody_elses_is_quarantined(stage: Stage) -> None:
    login = stage.login("ada", "shop")
    stage.remember(login)
    stage.mosaic.state.faults.add(ASK, "wrong_sub", times=1)

    answer = stage.silent_auth()
    again = stage.silent_auth()

    assert answer.tokens is again.tokens is None
    assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, Reason.QUARANTINED)
    assert again.reason == Reason.QUARANTINED
    assert asked_of_mosaic(stage) == 1
    assert stage.sessions()[0].end_cause == "quarantined"
    assert stage.remember(login).reason == Reason.QUARANTINED
    assert stage.tell_mosaic() == ["confirmed"]
    assert not stage.mosaic.state.is_live(login.session_id)


@pytest.mark.parametrize(
    "lie",
    [
        "wrong_signature",
        "unknown_kid",
        "wrong_aud",
        "wrong_iss",
        "expired",
        "alg_none",
        "hs256_public_key",
    ],
)
def test_tokens_that_do_not_verify_are_withheld_and_change_nothing(
    sqlite_stage: Stage, lie: str
) -> None:
    sqlite_stage.registered()
    sqlite_stage.mosaic.state.faults.add(ASK, lie)
    before = sqlite_stage.dump()

    answer = sqlite_stage.silent_auth()

    assert answer.verdict is Verdict.TEMPORARILY_UNAVAILABLE
    assert answer.tokens is None
    assert answer.retry_after > 0
    assert sqlite_stage.dump() == before


FAULTS: list[tuple[str, dict[str, Any], Reason]] = [
    ("status", {"status": 500}, Reason.IDP_UNAVAILABLE),
    ("status", {"status": 503}, Reason.IDP_UNAVAILABLE),
    ("status", {"status": 400, "message": "Bad request"}, Reason.IDP_UNAVAILABLE),
    ("status", {"status": 404, "message": "Not found"}, Reason.IDP_UNAVAILABLE),
    ("status", {"status": 401}, Reason.CLIENT_REFUSED),
    ("status", {"status": 403}, Reason.CLIENT_REFUSED),
    ("rate_limited", {"retry_after": 7}, Reason.RATE_LIMITED),
    ("rate_limited", {}, Reason.RATE_LIMITED),
    ("drop_request", {}, Reason.IDP_UNAVAILABLE),
    ("drop_answer", {}, Reason.IDP_UNAVAILABLE),
    ("cut_body", {}, Reason.IDP_UNAVAILABLE),
    ("latency", {"seconds": 1.0}, Reason.IDP_UNAVAILABLE),
]


@pytest.mark.parametrize(("kind", "details", "reason"), FAULTS)
def test_when_mosaic_cannot_answer_the_app_is_told_when_to_come_back(
    sqlite_stage: Stage, kind: str, details: Any, reason: Reason
) -> None:
    sqlite_stage.registered()
    sqlite_stage.mosaic.state.faults.add(ASK, kind, **details)
    before = sqlite_stage.dump()
    settings = sqlite_stage.settings
    if kind == "latency":  # all else has the time it needs, or would seem late as well
        settings = settings.model_copy(update={"mosaic_timeout_seconds": 0.3})

    with wiring.use(replace(sqlite_stage.services, settings=settings)):
        answer = sqlite_stage.silent_auth()

    assert (answer.verdict, answer.reason) == (Verdict.TEMPORARILY_UNAVAILABLE, reason)
    assert answer.retry_after >= details.get("retry_after", 0.1)
    assert sqlite_stage.dump() == before


def test_after_an_outage_the_same_request_succeeds(sqlite_stage: Stage) -> None:
    sqlite_stage.registered()
    sqlite_stage.mosaic.state.faults.add(ASK, "status", status=503, times=1)
    sent = sqlite_stage.seal("forum", requests.SilentAuth(user_id="ada"))

    answers = [sqlite_stage.deliver(sent), sqlite_stage.deliver(sent)]

    assert [answer.verdict for answer in answers] == [
        Verdict.TEMPORARILY_UNAVAILABLE,
        Verdict.AUTHENTICATED,
    ]


# --- devices


def test_a_session_bound_to_a_device_is_offered_to_that_device_only(stage: Stage) -> None:
    bound = stage.registered(device_id="phone")

    nameless = stage.silent_auth()
    other = stage.silent_auth(device_id="laptop")
    same = stage.silent_auth(device_id="phone")

    assert (nameless.verdict, nameless.reason) == (Verdict.LOGIN_REQUIRED, Reason.NO_SESSION)
    assert (other.verdict, other.reason) == (Verdict.LOGIN_REQUIRED, Reason.NO_SESSION)
    assert UUID(same.session_ref) == bound
    assert asked_of_mosaic(stage) == 1


def test_a_session_without_a_device_serves_requests_without_one_only(stage: Stage) -> None:
    unbound = stage.registered()

    named = stage.silent_auth(device_id="laptop")
    nameless = stage.silent_auth()

    assert (named.verdict, named.reason) == (Verdict.LOGIN_REQUIRED, Reason.NO_SESSION)
    assert UUID(nameless.session_ref) == unbound
    assert asked_of_mosaic(stage) == 1


def test_a_device_that_was_logged_out_is_not_signed_in_by_a_login_elsewhere(stage: Stage) -> None:
    stage.registered(device_id="laptop")
    stage.registered(device_id="phone")
    stage.registered()
    stage.log_out(scope="device", device_id="laptop")

    answer = stage.silent_auth(device_id="laptop")

    assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, Reason.LOGGED_OUT)
    assert asked_of_mosaic(stage) == 0


# --- ids that change


def test_a_new_session_id_is_kept_and_the_old_one_still_finds_the_session(stage: Stage) -> None:
    login = stage.login("ada", "shop")
    ref = stage.remember(login).session_ref
    state = stage.mosaic.state
    state.faults.add(ASK, "rotate_session_id", times=2)

    for _ in range(3):
        assert stage.silent_auth().verdict is Verdict.AUTHENTICATED

    asked_with = [call.session_id for call in state.calls.log() if call.endpoint == ASK]
    assert asked_with[0] == login.session_id
    assert len(set(asked_with)) == 3
    receipt = stage.log_out(session_id=login.session_id)
    assert receipt.sessions_ended == 1
    assert stage.session(UUID(ref)).end_cause == "logout"
    assert stage.tell_mosaic() == ["confirmed"]
    assert not state.is_live(str(asked_with[-1]))


def test_a_session_that_gets_an_earlier_id_back_keeps_all_its_ids(stage: Stage) -> None:
    login = stage.login("ada", "shop")
    stage.remember(login)
    (session,) = stage.mosaic.state.sessions.live("ada")
    stage.mosaic.state.sessions.give_new_id(session)
    second = session.session_id
    ids = [login.session_id, second, login.session_id, second]

    for session_id in ids:
        session.session_id = session_id
        assert stage.silent_auth().verdict is Verdict.AUTHENTICATED

    assert len(stage.sessions()) == 1
    assert stage.log_out(session_id=login.session_id).sessions_ended == 1


def test_a_session_that_gets_an_earlier_id_back_is_asked_about_by_that(stage: Stage) -> None:
    login = stage.login("ada", "shop")
    stage.remember(login)
    sessions = stage.mosaic.state.sessions
    (session,) = sessions.live("ada")
    sessions.give_new_id(session)
    second = session.session_id
    for session_id in (second, login.session_id):
        session.session_id = session_id
        assert stage.silent_auth().verdict is Verdict.AUTHENTICATED

    sessions.forget_id(second)  # Mosaic knows the session by no other id any more

    assert stage.silent_auth().verdict is Verdict.AUTHENTICATED
    assert stage.log_out(session_id=second).sessions_ended == 1


def _registered_under_two_ids(stage: Stage) -> tuple[str, str]:
    """Let Mosaic change a session's id behind our back, and an app register the new one."""
    login = stage.login("ada", "shop")
    stage.remember(login)
    (session,) = stage.mosaic.state.sessions.live("ada")
    stage.mosaic.state.sessions.give_new_id(session)
    renamed = stage.mosaic.state.add_factor(login.session_id, "client-shop", "sms")
    stage.remember(renamed)
    assert len(stage.sessions()) == 2
    return login.session_id, renamed.session_id


def test_a_session_known_by_two_ids_gives_no_tokens_once_one_is_logged_out(stage: Stage) -> None:
    _, new_id_at_mosaic = _registered_under_two_ids(stage)
    stage.log_out(session_id=new_id_at_mosaic)

    answer = stage.silent_auth()

    assert asked_of_mosaic(stage) == 1
    assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, Reason.LOGGED_OUT)
    assert {session.end_cause for session in stage.sessions()} == {"logout"}


def test_a_session_known_by_two_ids_goes_on_under_both(stage: Stage) -> None:
    old_id, new_id_at_mosaic = _registered_under_two_ids(stage)
    weak, strong = sorted(stage.sessions(), key=lambda session: len(session.amr))

    answer = stage.silent_auth(device_id=None)
    assert UUID(answer.session_ref) == strong.id
    stage.pass_time(hours=1)
    with stage.services.store.write() as connection:
        connection.execute(
            update(IdpSession).where(IdpSession.id == weak.id).values(authenticated_at=stage.now())
        )
    answer = stage.silent_auth()

    assert UUID(answer.session_ref) == weak.id
    assert answer.verdict is Verdict.AUTHENTICATED
    assert stage.log_out(session_id=old_id).sessions_ended == 1
    assert stage.log_out(session_id=new_id_at_mosaic).sessions_ended == 1


def test_a_new_id_that_is_registered_this_very_moment_costs_one_more_round(
    postgres_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with patient_locks(), Stage(postgres_url, redis_url, mosaic) as stage:
        stage.add_app("shop")
        stage.add_app("forum")
        stage.registered()
        mosaic.state.faults.add(ASK, "rotate_session_id", times=1)

        with mosaic.state.gates.hold(ASK) as gate, stage.meanwhile(stage.silent_auth) as asking:
            gate.wait_arrived()
            (at_mosaic,) = mosaic.state.live_sessions("ada")
            twin = dict(stage.sessions()[0]._mapping)
            twin["id"] = new_id()
            twin["session_hash"] = stage.services.keyring.lookup_hash(at_mosaic.session_id)
            twin["authenticated_at"] -= timedelta(days=1)
            with stage.services.store.write() as connection:
                connection.execute(insert(IdpSession).values(twin))
                gate.release()
                wait_until(lambda: waiting_for_locks(stage) > 0, 60)

        assert asking.result().verdict is Verdict.AUTHENTICATED
        assert mosaic.state.calls.count(ASK) == 2
        with stage.services.store.read() as connection:
            assert connection.execute(select(SessionAlias.__table__)).all() == []


# --- time


def test_a_session_in_use_lives_on_for_months_and_dies_of_silence(stage: Stage) -> None:
    ref = stage.registered()

    for _ in range(8):
        stage.pass_time(days=13)
        assert expire_sessions(stage.services).rows == {"expired": 0}
        assert stage.silent_auth().verdict is Verdict.AUTHENTICATED
    stage.pass_time(days=14)
    assert expire_sessions(stage.services).rows == {"expired": 0}  # grace
    stage.pass_time(minutes=3)
    assert expire_sessions(stage.services).rows == {"expired": 1}

    assert stage.session(ref).end_cause == "expired"
    answer = stage.silent_auth()
    assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, Reason.EXPIRED)


def test_an_app_with_a_short_lifetime_never_shortens_a_session(stage: Stage) -> None:
    stage.add_app("kiosk", session_lifetime_seconds=60)
    ref = stage.registered()
    before = stage.session(ref).expires_at

    answer = stage.silent_auth("ada", "kiosk")

    assert answer.expires_at == stage.session(ref).expires_at == before


def test_a_request_past_its_deadline_costs_no_call(sqlite_stage: Stage) -> None:
    sqlite_stage.registered()
    sent = sqlite_stage.seal("forum", requests.SilentAuth(user_id="ada"))
    sqlite_stage.pass_time(seconds=31)
    before = sqlite_stage.dump()

    answer = sqlite_stage.deliver(sent)

    assert (answer.verdict, answer.reason) == (
        Verdict.INVALID_REQUEST,
        Reason.DEADLINE_PASSED,
    )
    assert asked_of_mosaic(sqlite_stage) == 0
    assert sqlite_stage.dump() == before


def test_no_further_session_is_tried_once_the_deadline_has_passed(sqlite_stage: Stage) -> None:
    sqlite_stage.registered()
    gone = sqlite_stage.login("ada", "shop")
    sqlite_stage.remember(gone)
    sqlite_stage.mosaic.state.end_session(gone.session_id)
    gates = sqlite_stage.mosaic.state.gates

    with gates.hold(ASK) as gate, sqlite_stage.meanwhile(sqlite_stage.silent_auth) as asking:
        gate.wait_arrived()
        sqlite_stage.pass_time(seconds=31)
        gate.release()

    assert asking.result().reason == Reason.DEADLINE_PASSED
    assert asked_of_mosaic(sqlite_stage) == 1


# --- what the operator has not given


def test_a_user_is_named_only_by_an_app_that_was_given_the_power(stage: Stage) -> None:
    stage.add_app("kiosk", silent_by_user=False)
    stage.registered("ada", "kiosk")
    before = stage.dump()

    answer = stage.silent_auth("ada", "kiosk")

    assert (answer.verdict, answer.reason) == (Verdict.UNAUTHORIZED, Reason.NOT_PERMITTED)
    assert "silent_by_user" in answer.detail
    assert stage.dump() == before
    assert asked_of_mosaic(stage) == 0
