"""Registering: the token is verified, and no order or repetition takes anything back."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from models import AppSession, IdpSession
from session_client import requests
from session_client.contract import Reason, Verdict
from simulator.controls.gates import wait_until
from simulator.server import SimulatorServer
from tests.integration.storage.pg_locks import patient_locks, waiting_for_locks
from tests.stage import Stage


@pytest.fixture(autouse=True)
def _apps(request: pytest.FixtureRequest) -> None:
    for name in ("stage", "sqlite_stage"):
        if name in request.fixturenames:
            found: Stage = request.getfixturevalue(name)
            found.add_app("shop")
            found.add_app("forum")


def test_a_login_is_remembered_with_what_it_proves(stage: Stage) -> None:
    login = stage.login("ada", "shop", amr=("pwd", "sms"))

    answer = stage.remember(login)

    (session,) = stage.sessions()
    assert answer.verdict is Verdict.OK
    assert answer.session_ref == str(session.id)
    assert answer.expires_at == session.expires_at
    assert (session.user_id, session.registered_by) == ("ada", "shop")
    assert session.amr == ["mfa", "pwd", "sms"]
    assert abs(session.expires_at - stage.now() - timedelta(days=14)) < timedelta(seconds=5)
    assert session.ended_at is None
    assert stage.events() == [("registered", None)]


def test_a_login_that_is_told_late_lives_and_was_used_as_long_as_mosaic_knows(
    stage: Stage,
) -> None:
    login = stage.login("ada", "shop")
    at = stage.now()
    stage.pass_time(minutes=10)

    stage.remember(login)

    (session,) = stage.sessions()
    assert abs(session.expires_at - at - timedelta(days=14)) < timedelta(seconds=5)
    assert abs(session.last_used_at - at) < timedelta(seconds=5)


def test_a_newer_token_that_tells_of_an_older_login_makes_none_older(stage: Stage) -> None:
    login = stage.login("ada", "shop")
    stage.remember(login)
    (before,) = stage.sessions()
    stage.pass_time(minutes=1)
    hour_ago = int(stage.now().timestamp()) - 3600
    token = stage.mosaic.state.mint_id_token(
        aud="client-shop", amr=["pwd", "sms"], auth_time=hour_ago
    )

    stage.remember(login, id_token=token)

    (session,) = stage.sessions()
    assert session.amr == ["pwd", "sms"]
    assert session.authenticated_at == before.authenticated_at


def test_the_session_id_is_stored_sealed_only(stage: Stage) -> None:
    login = stage.login("ada", "shop")

    stage.remember(login)

    assert login.session_id not in repr(stage.dump())
    assert login.session_id.encode() not in stage.sessions()[0].sealed_session_id


FORGERIES = [
    ("alg_none", {}, Reason.ID_TOKEN_INVALID, 0),
    ("hs256_public_key", {}, Reason.ID_TOKEN_INVALID, 0),
    ("wrong_signature", {}, Reason.ID_TOKEN_INVALID, None),
    ("unknown_kid", {}, Reason.ID_TOKEN_INVALID, None),
    ("wrong_aud", {}, Reason.ID_TOKEN_INVALID, None),
    ("wrong_iss", {}, Reason.ID_TOKEN_INVALID, None),
    ("expired", {}, Reason.ID_TOKEN_INVALID, None),
    ("wrong_sub", {}, Reason.SUBJECT_MISMATCH, None),
    (None, {"aud": "client-forum"}, Reason.ID_TOKEN_INVALID, None),
    (None, {"exp": None}, Reason.ID_TOKEN_INVALID, None),
    (None, {"iat": None}, Reason.ID_TOKEN_INVALID, None),
    (None, {"iat": 4e9}, Reason.ID_TOKEN_INVALID, None),
    (None, {"sub": "bob"}, Reason.SUBJECT_MISMATCH, None),
    (None, {"amr": 7}, Reason.ID_TOKEN_INVALID, None),
]


@pytest.mark.parametrize(("forgery", "claims", "reason", "calls"), FORGERIES)
def test_a_token_that_lies_is_refused_and_changes_nothing(
    sqlite_stage: Stage,
    forgery: str | None,
    claims: dict[str, Any],
    reason: Reason,
    calls: int | None,
) -> None:
    login = sqlite_stage.login("ada", "shop")
    state = sqlite_stage.mosaic.state
    token = state.mint_id_token(forgery=forgery, **{"aud": "client-shop"} | claims)
    before = sqlite_stage.dump()

    answer = sqlite_stage.remember(login, id_token=token)

    assert (answer.verdict, answer.reason) == (Verdict.INVALID_REQUEST, reason)
    assert sqlite_stage.dump() == before
    # Keys are all that is ever fetched, and not even those for a token that cannot be right.
    assert state.calls.count() == state.calls.count("jwks")
    assert calls is None or state.calls.count() == calls


@pytest.mark.parametrize("token", ["x", "a.b.c", "a.b.c.d.e", "e30.e30.", "." * 16000])
def test_what_is_no_token_is_refused_without_a_call(sqlite_stage: Stage, token: str) -> None:
    login = sqlite_stage.login("ada", "shop")
    before = sqlite_stage.dump()

    answer = sqlite_stage.remember(login, id_token=token)

    assert (answer.verdict, answer.reason) == (Verdict.INVALID_REQUEST, Reason.ID_TOKEN_INVALID)
    assert sqlite_stage.dump() == before
    assert sqlite_stage.mosaic.state.calls.count() == 0


def test_registering_twice_changes_nothing_but_gives_another_token(stage: Stage) -> None:
    login = stage.login("ada", "shop")
    first = stage.remember(login)
    before = stage.dump()

    stage.pass_time(minutes=5)
    second = stage.remember(login)

    assert second.session_ref == first.session_ref
    after = stage.dump()
    assert len(after.pop("browser_tokens")) == len(before.pop("browser_tokens")) + 1
    assert after == before


def test_registering_again_after_an_added_factor_updates_the_session(stage: Stage) -> None:
    login = stage.login("ada", "shop")
    ref = stage.remember(login).session_ref
    stage.pass_time(hours=1)
    stronger = stage.mosaic.state.add_factor(login.session_id, "client-shop", "sms")

    answer = stage.remember(stronger)

    (session,) = stage.sessions()
    assert answer.session_ref == ref
    assert session.amr == ["mfa", "pwd", "sms"]
    assert stage.now() - session.authenticated_at < timedelta(minutes=1)
    assert session.expires_at - stage.now() > timedelta(days=13, hours=23)
    assert session.version == 2
    assert stage.events() == [("registered", None), ("factor_added", None)]


def test_an_older_token_that_arrives_late_takes_nothing_back(stage: Stage) -> None:
    login = stage.login("ada", "shop")
    stage.pass_time(minutes=10)
    stronger = stage.mosaic.state.add_factor(login.session_id, "client-shop", "sms")
    stage.remember(stronger)
    before = stage.session(stage.sessions()[0].id)

    answer = stage.remember(login, device_id="old phone")

    assert answer.verdict is Verdict.OK
    assert stage.session(before.id) == before


def test_two_tokens_of_the_same_second_add_up(stage: Stage) -> None:
    login = stage.login("ada", "shop")
    second = int(stage.now().timestamp())
    facts: dict[str, Any] = {"aud": "client-shop", "iat": second, "auth_time": second}
    weak = stage.mosaic.state.mint_id_token(amr=["pwd"], **facts)
    strong = stage.mosaic.state.mint_id_token(amr=["mfa", "pwd", "sms"], **facts)

    stage.remember(login, id_token=strong)
    stage.remember(login, id_token=weak)

    assert stage.sessions()[0].amr == ["mfa", "pwd", "sms"]


def test_a_token_without_auth_time_counts_from_its_issue(sqlite_stage: Stage) -> None:
    login = sqlite_stage.login("ada", "shop")
    issued_at = int(sqlite_stage.now().timestamp()) - 30
    token = sqlite_stage.mosaic.state.mint_id_token(
        aud="client-shop", iat=issued_at, auth_time=None
    )

    sqlite_stage.remember(login, id_token=token)

    assert sqlite_stage.sessions()[0].authenticated_at.timestamp() == issued_at


@pytest.fixture
def without_auth_time(stage: Stage) -> Stage:
    """Mosaic's tokens do not say when the user logged in; shop logged ada in two hours ago."""
    stage.mosaic.state.faults.add("session/authenticate", "change_claims", without=["auth_time"])
    return stage


def two_hours_ago(stage: Stage) -> Any:
    login = stage.login("ada", "shop")
    token = stage.mosaic.state.mint_id_token(aud="client-shop", auth_time=None)
    assert stage.remember(login, id_token=token).verdict is Verdict.OK
    stage.pass_time(hours=2)
    return login


@pytest.mark.parametrize("which", [0, 1], ids=["an earlier one", "the latest"])
def test_a_token_of_a_silent_authentication_makes_no_login_fresh(
    without_auth_time: Stage, which: int
) -> None:
    stage = without_auth_time
    login = two_hours_ago(stage)
    tokens = []
    for number in range(2):
        stage.pass_time(seconds=2)
        tokens.append(stage.silent_auth("ada", "shop", resource=f"urn:{number}").tokens.id_token)

    assert stage.remember(login, id_token=tokens[which]).verdict is Verdict.OK

    answer = stage.silent_auth("ada", "shop", max_age=3600)
    assert (answer.verdict, answer.reason) == (
        Verdict.INTERACTION_REQUIRED,
        Reason.MAX_AGE_EXCEEDED,
    )


def test_a_token_of_another_session_makes_no_login_fresh(without_auth_time: Stage) -> None:
    """No token names its session: an app may take it for one of any session of the user."""
    stage = without_auth_time
    login = two_hours_ago(stage)
    stage.registered("ada", "shop")
    stage.pass_time(hours=2, seconds=2)
    token = stage.silent_auth("ada", "shop").tokens.id_token

    stage.remember(login, id_token=token)

    assert stage.silent_auth("ada", "shop", max_age=3600).reason == Reason.MAX_AGE_EXCEEDED


def test_a_login_after_a_silent_authentication_is_fresh(without_auth_time: Stage) -> None:
    stage = without_auth_time
    login = two_hours_ago(stage)
    assert stage.silent_auth("ada", "shop").tokens is not None
    stage.pass_time(seconds=2)
    token = stage.mosaic.state.mint_id_token(aud="client-shop", auth_time=None)

    stage.remember(login, id_token=token)

    assert stage.silent_auth("ada", "shop", max_age=3600).verdict is Verdict.AUTHENTICATED


def test_a_session_that_was_logged_out_stays_ended(stage: Stage) -> None:
    login = stage.login("ada", "shop")
    ref = stage.remember(login).session_ref
    stronger = stage.mosaic.state.add_factor(login.session_id, "client-shop", "sms")
    stage.log_out(session_ref=ref)
    before = stage.dump()

    answer = stage.remember(stronger)

    assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, Reason.LOGGED_OUT)
    assert stage.dump() == before


def test_a_logout_that_comes_before_its_registration_wins(stage: Stage) -> None:
    login = stage.login("ada", "shop")
    receipt = stage.log_out(session_id=login.session_id)

    answer = stage.remember(login)

    assert receipt.verdict is Verdict.OK
    assert (receipt.sessions_ended, receipt.idp_pending) == (0, 1)
    assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, Reason.LOGGED_OUT)
    assert stage.silent_auth(app_id="shop").verdict is Verdict.LOGIN_REQUIRED
    assert stage.tell_mosaic() == ["confirmed"]
    assert not stage.mosaic.state.is_live(login.session_id)


def test_a_session_of_another_user_is_refused(stage: Stage) -> None:
    ada = stage.login("ada", "shop")
    stage.remember(ada)
    mallory = stage.login("mallory", "shop")
    before = stage.dump()

    answer = stage.remember(mallory, "mallory", session_id=ada.session_id)

    assert (answer.verdict, answer.reason) == (Verdict.INVALID_REQUEST, Reason.SUBJECT_MISMATCH)
    assert stage.dump() == before


def test_a_second_app_that_registers_the_session_shares_it(stage: Stage) -> None:
    login = stage.login("ada", "shop")
    stage.remember(login)
    at_forum = stage.mosaic.state.add_factor(login.session_id, "client-forum", "sms")

    stage.remember(at_forum, app_id="forum")

    assert len(stage.sessions()) == 1
    (listed,) = stage.status().sessions
    assert set(listed.apps) == {"shop", "forum"}
    assert stage.sessions()[0].registered_by == "shop"


def test_registering_by_an_id_that_mosaic_has_changed_finds_the_session(stage: Stage) -> None:
    login = stage.login("ada", "shop")
    ref = stage.remember(login).session_ref
    stage.mosaic.state.faults.add("session/authenticate", "rotate_session_id", times=1)
    assert stage.silent_auth().verdict is Verdict.AUTHENTICATED

    answer = stage.remember(login)

    assert answer.session_ref == ref
    assert len(stage.sessions()) == 1


def test_two_registrations_at_once_make_one_row(stage: Stage) -> None:
    login = stage.login("ada", "shop")
    at_forum = stage.mosaic.state.add_factor(login.session_id, "client-forum", "sms")

    answers = stage.at_once(
        *[lambda: stage.remember(login)] * 4,
        *[lambda: stage.remember(at_forum, app_id="forum")] * 4,
    )

    (session,) = stage.sessions()
    assert {answer.session_ref for answer in answers} == {str(session.id)}
    assert session.amr == ["mfa", "pwd", "sms"]
    assert stage.events().count(("registered", None)) == 1


def test_an_older_token_that_races_a_newer_one_waits_and_then_changes_nothing(
    postgres_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    """SQLite has one writer at a time; PostgreSQL would let both decide from the same old row."""
    with patient_locks(), Stage(postgres_url, redis_url, mosaic) as stage:
        stage.add_app("shop")
        login = stage.login("ada", "shop")
        stage.remember(login)
        stage.pass_time(minutes=1)
        late = stage.mosaic.state.add_factor(login.session_id, "client-shop", "eml")
        newest = stage.now() + timedelta(minutes=1)

        with stage.services.store.write() as connection:
            news = {"amr": ["all", "of", "them"], "amr_as_of": newest, "version": 9}
            # Locked, not changed, until somebody waits: for a changed row an INSERT waits, too.
            connection.execute(select(IdpSession.id).with_for_update())
            with stage.meanwhile(lambda: stage.remember(late)) as registering:
                wait_until(lambda: waiting_for_locks(stage) > 0, 60)
                connection.execute(update(IdpSession).values(news))
                connection.commit()

        assert registering.result().verdict is Verdict.OK
        (session,) = stage.sessions()
        assert session.amr == ["all", "of", "them"]
        assert (session.amr_as_of, session.version) == (newest, 9)


def test_a_registration_needs_no_call_once_the_keys_are_known(sqlite_stage: Stage) -> None:
    sqlite_stage.registered()

    sqlite_stage.registered("bob")

    calls = sqlite_stage.mosaic.state.calls
    assert calls.count() == calls.count("jwks") == 1


def test_without_keys_to_verify_with_nothing_is_believed(sqlite_stage: Stage) -> None:
    login = sqlite_stage.login("ada", "shop")
    sqlite_stage.mosaic.state.faults.add("jwks", "status", status=503)
    before = sqlite_stage.dump()

    answer = sqlite_stage.remember(login)

    assert (answer.verdict, answer.reason) == (
        Verdict.TEMPORARILY_UNAVAILABLE,
        Reason.IDP_UNAVAILABLE,
    )
    assert answer.retry_after is not None
    assert sqlite_stage.dump() == before


def test_a_sessions_lifetime_is_the_apps_where_it_has_one(sqlite_stage: Stage) -> None:
    sqlite_stage.add_app("kiosk", session_lifetime_seconds=600)

    ref = sqlite_stage.registered(app_id="kiosk")

    left = sqlite_stage.session(ref).expires_at - sqlite_stage.now()
    assert timedelta(seconds=540) < left <= timedelta(seconds=600)


def test_when_an_app_shares_a_session_says_the_token(stage: Stage) -> None:
    login = stage.login("ada", "shop")
    issued_at = int(time.time())

    stage.pass_time(minutes=3)
    stage.remember(login)

    with stage.services.store.read() as connection:
        shared = connection.execute(select(AppSession.__table__)).one()
    assert abs(shared.first_authenticated_at.timestamp() - issued_at) < 30
    assert shared.last_authenticated_at == shared.first_authenticated_at


def test_the_answer_names_no_secret(sqlite_stage: Stage) -> None:
    login = sqlite_stage.login("ada", "shop")
    request = requests.Register(session_id=login.session_id, user_id="ada", id_token=login.id_token)
    sent = sqlite_stage.seal("shop", request)

    sqlite_stage.run(sent)

    stored = [
        value
        for key in sqlite_stage.redis.keys("*")
        if sqlite_stage.redis.type(key) == b"list"
        for value in sqlite_stage.redis.lrange(key, 0, -1)
    ]
    assert stored
    assert not any(login.session_id.encode() in value for value in stored)
