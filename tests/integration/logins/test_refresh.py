"""Refresh tokens: one call each, one answer for all who bring it, nothing after an ending."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest

from session_client import contract, requests, times
from session_client.contract import LogoutScope, Reason, Task, Verdict
from simulator.idp.endpoints import Endpoint
from simulator.server import SimulatorServer
from tests.integration.logins.login_rig import (
    ALL,
    browse,
    calls,
    furnish,
    log_in,
    new_keys_that_do_not_come,
    restarted,
)
from tests.integration.storage.pg_locks import one_behind_the_other, patient_locks
from tests.stage import Stage, claims_of
from worker.logins import refresh as refreshing
from worker.maintenance.purge import purge_history
from worker.maintenance.scrub import scrub_answers
from worker.operations import apps
from worker.sign_in import refresh_tokens
from worker.storage.encryption import KeyRing

REFRESH = Endpoint.TOKEN_REFRESH
OFFLINE = ("offline", "logout_user")


@pytest.fixture(autouse=True)
def _offline(people: Sequence[Stage]) -> None:
    for stage in people:
        for app_id in ("shop", "forum"):
            apps.set_app(stage.services, app_id, allow=OFFLINE)


def asked(token: str) -> requests.Refresh:
    return requests.Refresh(refresh_token=token)


def refresh(stage: Stage, token: str, app_id: str = "shop", **options: Any) -> Any:
    return stage.ask(app_id, asked(token), **options)


def signed_in(stage: Stage) -> tuple[Any, str]:
    """Sign ada in at the shop; return the answer, and the shop's refresh token."""
    answer = log_in(stage)
    assert answer.tokens is not None
    assert answer.tokens.refresh_token is not None
    return answer, answer.tokens.refresh_token


def token_of(answer: Any) -> str:
    """Return the refresh token that an answer gives."""
    assert answer.verdict is Verdict.AUTHENTICATED, answer
    assert answer.tokens.refresh_token is not None
    return str(answer.tokens.refresh_token)


def sent(stage: Stage) -> int:
    return stage.mosaic.state.calls.count(REFRESH)


def mosaics_own(stage: Stage) -> list[str]:
    """Return the refresh tokens that Mosaic has given out and would still take."""
    return list(stage.mosaic.state.refresh_tokens._grants)


# --- what an app has


def test_an_app_gets_fresh_tokens_of_its_session_and_the_next_refresh_token(stage: Stage) -> None:
    login, token = signed_in(stage)
    stage.pass_time(hours=2)

    first = refresh(stage, token)
    second = refresh(stage, token_of(first))

    for answer in (first, second):
        assert (answer.user_id, answer.session_ref) == ("ada", login.session_ref)
        assert claims_of(answer.tokens.id_token)["sub"] == "ada"
        assert claims_of(answer.tokens.access_token)["client_id"] == "client-shop"
        assert answer.expires_at == login.expires_at  # it extends nothing
    assert len({token, token_of(first), token_of(second)}) == 3
    assert (sent(stage), stage.events()[-1]) == (2, ("refreshed", None))


def test_no_app_has_mosaics_own_refresh_token(stage: Stage) -> None:
    login, token = signed_in(stage)
    silent = browse(stage, login.browser_token)
    answers = [login, silent, refresh(stage, token), refresh(stage, token_of(silent), "forum")]

    kept, own_tokens = repr(stage.dump()), mosaics_own(stage)
    assert len(own_tokens) == 2  # of each app the latest; the two before were exchanged for them
    for own in own_tokens:
        assert own not in kept
        for answer in answers:
            token = token_of(answer)
            assert own not in token
            assert own.encode() not in base64.urlsafe_b64decode(token.removeprefix("msr1_"))


def test_without_the_capability_an_app_gets_none_and_may_use_none(sqlite_stage: Stage) -> None:
    stage = sqlite_stage
    stage.add_app("bank", methods=tuple(ALL))
    login = log_in(stage, "bank")
    before = calls(stage)

    refused = refresh(stage, "msr1_" + "x" * 60, "bank")

    assert login.tokens is not None
    assert login.tokens.refresh_token is None
    assert stage.silent_auth(app_id="bank").tokens.refresh_token is None
    assert (refused.verdict, refused.reason) == (Verdict.UNAUTHORIZED, Reason.NOT_PERMITTED)
    assert calls(stage) == before + 1  # the silent authentication's


def of_another_app(stage: Stage, login: Any, token: str) -> str:
    del token
    return token_of(browse(stage, login.browser_token))


def of_another_installation(stage: Stage, login: Any, token: str) -> str:
    del token
    app = stage.services.apps.find("shop")
    assert app is not None
    other = KeyRing({"k1": b"o" * 32}, b"l" * 32)
    sealed = refresh_tokens.seal(other, app, UUID(login.session_ref), mosaics_own(stage)[0])
    assert sealed is not None
    return sealed


def with_a_bit_changed(_: Stage, __: Any, token: str) -> str:
    return token[:-8] + ("B" if token[-8] == "A" else "A") + token[-7:]


FORGED: dict[str, Callable[[Stage, Any, str], str]] = {
    "another app's": of_another_app,
    "another installation's": of_another_installation,
    "with a bit changed": with_a_bit_changed,
    "cut off": lambda _, __, token: token[:-9],
    "without its prefix": lambda _, __, token: token.removeprefix("msr1_"),
    "Mosaic's own": lambda stage, _, __: mosaics_own(stage)[0],
    "a browser token": lambda _, login, __: str(login.browser_token),
    "not ASCII": lambda _, __, ___: "msr1_é",
    "not base64": lambda _, __, ___: "msr1_A",
    "a handle": lambda stage, _, __: (
        "msr1_" + base64.urlsafe_b64encode(stage.services.keyring.seal("{}", "x")).decode()
    ),
}


def test_what_is_not_this_apps_refresh_token_is_refused_before_any_call(
    sqlite_stage: Stage,
) -> None:
    login, token = signed_in(sqlite_stage)

    told = {}
    for kind, forge in FORGED.items():
        answer = refresh(sqlite_stage, forge(sqlite_stage, login, token))
        told[kind] = (answer.verdict, answer.reason)

    assert told == dict.fromkeys(FORGED, (Verdict.LOGIN_REQUIRED, Reason.REFRESH_REFUSED))
    assert sent(sqlite_stage) == 0
    assert refresh(sqlite_stage, token).verdict is Verdict.AUTHENTICATED


def test_a_token_that_is_too_long_to_come_back_is_not_given(
    sqlite_stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    long = {"refresh_token": "r" * 13_000}
    sqlite_stage.mosaic.state.faults.add(
        Endpoint.PASSWORD_AUTHENTICATE, "change_answer", changes=long
    )

    answer = log_in(sqlite_stage)

    assert answer.tokens is not None
    assert answer.tokens.refresh_token is None
    assert "refresh_token_too_large" in capsys.readouterr().err


def test_the_policy_of_the_app_holds(sqlite_stage: Stage) -> None:
    stage = sqlite_stage
    _, token = signed_in(stage)
    apps.set_app(stage.services, "shop", max_age_seconds=3600)
    stage.reread_apps()
    fresh = refresh(stage, token)
    stage.pass_time(hours=2)

    late = refresh(stage, token_of(fresh))

    assert (late.verdict, late.reason) == (
        Verdict.INTERACTION_REQUIRED,
        Reason.MAX_AGE_EXCEEDED,
    )
    assert sent(stage) == 1


# --- nothing after an ending

ENDINGS: dict[str, tuple[Callable[[Stage, Any], Any], Reason]] = {
    "logout": (
        lambda stage, login: stage.ask("shop", requests.Logout(browser_token=login.browser_token)),
        Reason.LOGGED_OUT,
    ),
    "logout everywhere": (
        lambda stage, _: stage.log_out("ada", "shop", scope=LogoutScope.USER),
        Reason.LOGGED_OUT,
    ),
    "another login": (
        lambda stage, login: log_in(stage, replaces=login.browser_token),
        Reason.REPLACED,
    ),
}


def test_after_an_ending_nothing_is_given_though_mosaic_has_not_heard_of_it(stage: Stage) -> None:
    for end, reason in ENDINGS.values():
        stage.pass_time(seconds=2)
        login, token = signed_in(stage)
        end(stage, login)

        answer = refresh(stage, token)

        assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, reason)
        assert (answer.tokens, answer.session_ref) == (None, login.session_ref)
    assert sent(stage) == 0


def test_an_ending_takes_the_tokens_on_their_way_back(stage: Stage) -> None:
    for end, reason in ENDINGS.values():
        stage.pass_time(seconds=2)
        login, token = signed_in(stage)
        with (
            stage.mosaic.state.gates.hold(REFRESH) as gate,
            stage.meanwhile(partial(refresh, stage, token)) as asking,
        ):
            gate.wait_arrived()
            end(stage, login)
            gate.release()
            answer = asking.result(timeout=60)

        assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, reason)
        assert answer.tokens is None
        assert refresh(stage, token).reason == reason
    assert ("refreshed", None) not in stage.events()


def test_no_tokens_pass_by_an_ending_that_is_about_to_be_committed(
    postgres_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with patient_locks(), Stage(postgres_url, redis_url, mosaic) as stage:
        furnish(stage)
        apps.set_app(stage.services, "shop", allow=OFFLINE)
        login, token = signed_in(stage)
        end = requests.Logout(browser_token=login.browser_token)
        with (
            mosaic.state.gates.hold(REFRESH) as gate,
            stage.meanwhile(partial(refresh, stage, token)) as asking,
        ):
            gate.wait_arrived()

            def go_on() -> Any:
                gate.release()
                return asking.result(timeout=60)

            ref = UUID(login.session_ref)
            _, answer = one_behind_the_other(stage, ref, [partial(stage.ask, "shop", end), go_on])

    assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, Reason.LOGGED_OUT)
    assert answer.tokens is None


def test_of_a_session_that_has_expired_or_is_forgotten_nothing_is_given(
    sqlite_stage: Stage,
) -> None:
    login, token = signed_in(sqlite_stage)
    sqlite_stage.pass_time(days=15)
    expired = refresh(sqlite_stage, token)
    ENDINGS["logout"][0](sqlite_stage, login)
    sqlite_stage.tell_mosaic()
    sqlite_stage.pass_time(days=400)
    purge_history(sqlite_stage.services)

    assert expired.reason == Reason.EXPIRED
    assert refresh(sqlite_stage, token).reason == Reason.NO_SESSION
    assert sent(sqlite_stage) == 0


def test_an_answer_told_before_is_not_told_again_once_the_session_has_ended(stage: Stage) -> None:
    login, token = signed_in(stage)
    sealed = stage.seal("shop", asked(token))
    first = stage.deliver(sealed)
    ENDINGS["logout"][0](stage, login)
    stage.redis.flushall()

    again = stage.deliver(sealed)
    other = refresh(stage, token)

    assert first.verdict is Verdict.AUTHENTICATED
    assert [a.reason for a in (again, other)] == [Reason.LOGGED_OUT] * 2
    assert (again.tokens, other.tokens) == (None, None)


# --- one call


def test_of_many_at_once_one_asks_mosaic_and_all_get_its_answer(stage: Stage) -> None:
    _, token = signed_in(stage)
    answers = stage.at_once(*[lambda: refresh(stage, token)] * 6)

    assert {token_of(answer) for answer in answers} == {token_of(answers[0])}
    assert len({answer.tokens.access_token for answer in answers}) == 1
    assert sent(stage) == 1
    assert refresh(stage, token_of(answers[-1])).verdict is Verdict.AUTHENTICATED


def test_who_comes_while_it_is_under_way_waits_for_its_answer(stage: Stage) -> None:
    _, token = signed_in(stage)
    with (
        stage.mosaic.state.gates.hold(REFRESH) as gate,
        stage.meanwhile(lambda: refresh(stage, token)) as first,
    ):
        gate.wait_arrived()
        with stage.meanwhile(lambda: refresh(stage, token)) as second:
            gate.release()
            answers = [first.result(timeout=60), second.result(timeout=60)]

    assert answers[0].tokens == answers[1].tokens
    assert sent(stage) == 1


def test_who_lost_the_answer_gets_it_for_a_minute_and_its_tokens_are_as_old_as_they_are(
    stage: Stage,
) -> None:
    _, token = signed_in(stage)
    first = refresh(stage, token)
    stage.redis.flushall()
    stage.pass_time(seconds=50)
    again = refresh(stage, token)
    stage.pass_time(seconds=20)
    scrub_answers(stage.services)
    late = refresh(stage, token)

    assert token_of(again) == token_of(first)
    assert again.tokens.expires_in == first.tokens.expires_in - 50
    assert (late.verdict, late.reason) == (Verdict.LOGIN_REQUIRED, Reason.REFRESH_REFUSED)
    assert sent(stage) == 1
    assert refresh(stage, token_of(first)).verdict is Verdict.AUTHENTICATED


def test_the_same_request_gets_the_same_answer_also_when_redis_has_forgotten_it(
    stage: Stage,
) -> None:
    _, token = signed_in(stage)
    sealed = stage.seal("shop", asked(token))
    first = stage.deliver(sealed)
    stage.redis.flushall()

    assert stage.deliver(sealed) == first
    assert sent(stage) == 1


def test_the_same_request_id_for_another_token_is_refused(sqlite_stage: Stage) -> None:
    login, token = signed_in(sqlite_stage)
    other = token_of(browse(sqlite_stage, login.browser_token, "shop"))
    sealed = sqlite_stage.seal("shop", asked(token))
    sqlite_stage.deliver(sealed)
    sqlite_stage.redis.flushall()

    answer = refresh(sqlite_stage, other, request_id=sealed.request_id)

    assert answer.reason == Reason.REQUEST_ID_REUSED


def test_a_token_that_mosaic_does_not_rotate_serves_again(sqlite_stage: Stage) -> None:
    _, token = signed_in(sqlite_stage)
    sqlite_stage.mosaic.state.policy.change(rotates_refresh_tokens=False)

    answers = [refresh(sqlite_stage, token)]
    for again in (token_of(answers[0]), token):
        sqlite_stage.pass_time(minutes=2)
        answers.append(refresh(sqlite_stage, again))

    assert [answer.verdict for answer in answers] == [Verdict.AUTHENTICATED] * 3
    assert sent(sqlite_stage) == 3


def test_who_waits_for_a_call_that_is_taken_back_makes_one(sqlite_stage: Stage) -> None:
    _, token = signed_in(sqlite_stage)
    state, locked = sqlite_stage.mosaic.state, {"error_code": "auth_locked"}
    state.faults.add(REFRESH, "status", status=403, body=locked, times=1)
    with (
        state.gates.hold(REFRESH, before=True) as gate,
        sqlite_stage.meanwhile(partial(refresh, sqlite_stage, token)) as first,
    ):
        gate.wait_arrived()
        with sqlite_stage.meanwhile(partial(refresh, sqlite_stage, token)) as second:
            gate.release()
            answers = [first.result(timeout=60), second.result(timeout=60)]

    assert Reason.USER_LOCKED in {answer.reason for answer in answers}
    assert refresh(sqlite_stage, token).verdict is Verdict.AUTHENTICATED


# --- what Mosaic says

LOSSES = ["drop_answer", "drop_request", "cut_body", "invalid_json"]


def test_a_lost_answer_is_said_to_be_unknown_and_the_token_is_not_sent_again(
    stage: Stage,
) -> None:
    for number, loss in enumerate(LOSSES, 1):
        login, token = signed_in(stage)
        stage.mosaic.state.faults.add(REFRESH, loss, times=1)

        answers = [refresh(stage, token), refresh(stage, token)]

        for answer in answers:
            told = (answer.verdict, answer.reason, answer.retry_after)
            assert told == (Verdict.TEMPORARILY_UNAVAILABLE, Reason.OUTCOME_UNKNOWN, None), loss
        assert sent(stage) == number
        assert stage.events()[-1] == ("outcome_unknown", "refresh")
        # The session lives on: the app asks silently.
        assert browse(stage, login.browser_token, "shop").verdict is Verdict.AUTHENTICATED


def test_tokens_that_do_not_verify_are_given_to_nobody(sqlite_stage: Stage) -> None:
    for forgery in ("wrong_signature", "wrong_aud", "expired"):
        _, token = signed_in(sqlite_stage)
        sqlite_stage.mosaic.state.faults.add(REFRESH, forgery, times=1)

        assert refresh(sqlite_stage, token).reason == Reason.OUTCOME_UNKNOWN, forgery


def test_what_nobody_can_make_sense_of_uses_the_token_up_perhaps(sqlite_stage: Stage) -> None:
    state = sqlite_stage.mosaic.state
    for status in (404, 418):
        _, token = signed_in(sqlite_stage)
        state.faults.add(REFRESH, "status", status=status, times=1)

        answers = [refresh(sqlite_stage, token), refresh(sqlite_stage, token)]

        assert {answer.reason for answer in answers} == {Reason.OUTCOME_UNKNOWN}, status
    _, token = signed_in(sqlite_stage)
    state.rotate_keys(keep_old=False)
    state.faults.add(Endpoint.JWKS, "status", status=503)

    assert refresh(sqlite_stage, token).reason == Reason.OUTCOME_UNKNOWN


def test_no_token_is_used_up_while_there_are_no_keys_to_read_the_answer_with(stage: Stage) -> None:
    _, token = signed_in(stage)
    stage.mosaic.state.faults.add(Endpoint.JWKS, "status", status=503)

    with restarted(stage):
        answers = [refresh(stage, token) for _ in range(3)]

        for answer in answers:
            told = (answer.verdict, answer.reason)
            assert told == (Verdict.TEMPORARILY_UNAVAILABLE, Reason.IDP_UNAVAILABLE)
        assert sent(stage) == 0
        stage.mosaic.state.faults.clear()
        stage.pass_time(seconds=6)
        assert refresh(stage, token).verdict is Verdict.AUTHENTICATED


def test_tokens_of_a_new_key_that_does_not_come_are_given_to_nobody(sqlite_stage: Stage) -> None:
    _, token = signed_in(sqlite_stage)
    with (
        restarted(sqlite_stage, mosaic_timeout_seconds=3.0) as services,
        new_keys_that_do_not_come(sqlite_stage, services),
    ):
        answer = refresh(sqlite_stage, token)

    assert answer.reason == Reason.OUTCOME_UNKNOWN


def test_tokens_that_say_less_than_the_app_wants_are_not_given(sqlite_stage: Stage) -> None:
    apps.set_app(sqlite_stage.services, "shop", amr_all_of=("pwd",))
    login, token = signed_in(sqlite_stage)
    weaker = {"amr": ["eml"]}
    sqlite_stage.mosaic.state.faults.add(REFRESH, "change_claims", changes=weaker, times=1)

    answer = refresh(sqlite_stage, token)

    assert (answer.verdict, answer.missing_amr) == (Verdict.INTERACTION_REQUIRED, ("pwd",))
    assert (answer.tokens, answer.session_ref) == (None, login.session_ref)


def test_without_an_id_token_the_access_token_proves_the_user(sqlite_stage: Stage) -> None:
    _, token = signed_in(sqlite_stage)
    sqlite_stage.mosaic.state.faults.add(REFRESH, "missing_id_token", times=1)

    answer = refresh(sqlite_stage, token)

    assert answer.verdict is Verdict.AUTHENTICATED
    assert answer.tokens.id_token is None


def test_another_users_tokens_quarantine_the_session(stage: Stage) -> None:
    login, token = signed_in(stage)
    stage.mosaic.state.faults.add(REFRESH, "wrong_sub", times=1)

    answer = refresh(stage, token)

    assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, Reason.QUARANTINED)
    assert browse(stage, login.browser_token, "shop").reason == Reason.QUARANTINED
    assert [row.outcome for row in stage.logouts()] == [None]  # Mosaic is to end it


REFUSALS: list[tuple[dict[str, Any], str, str]] = [
    ({"message": "Session not found", "error_code": 400}, "login_required", "gone_at_idp"),
    ({"message": "Invalid refresh token"}, "login_required", "refresh_refused"),
    ({"error": "invalid_grant"}, "login_required", "refresh_refused"),
    ({"error_code": "user_not_active"}, "login_required", "user_not_active"),
    ({"error": "invalid_client"}, "temporarily_unavailable", "client_refused"),
]


def test_what_mosaic_refuses_is_a_verdict(sqlite_stage: Stage) -> None:
    for body, verdict, reason in REFUSALS:
        login, token = signed_in(sqlite_stage)
        sqlite_stage.mosaic.state.faults.add(REFRESH, "status", status=400, body=body, times=1)

        answer = refresh(sqlite_stage, token)

        assert (answer.verdict, answer.reason) == (verdict, reason)
        is_live = browse(sqlite_stage, login.browser_token, "shop").verdict == "authenticated"
        assert is_live == (reason != "gone_at_idp"), body
        # What says nothing of the token uses it up for nobody.
        serves = refresh(sqlite_stage, token).verdict is Verdict.AUTHENTICATED
        assert serves == (reason in {"user_not_active", "client_refused"}), body


# Mosaic has looked at the client token alone.
NOT_LET_IN = ["Unauthorized", "jwt expired", "Invalid or expired token", "Access token is invalid"]


@pytest.mark.parametrize("message", [*NOT_LET_IN, "Token is invalid", "Who are you?"])
def test_a_401_about_the_client_token_uses_no_refresh_token_up(stage: Stage, message: str) -> None:
    _, token = signed_in(stage)
    stage.mosaic.state.faults.add(REFRESH, "status", status=401, message=message, times=1)

    refused = refresh(stage, token)
    number = sent(stage)
    answer = refresh(stage, token)

    assert (refused.reason, number) == (Reason.CLIENT_REFUSED, 1)
    assert answer.verdict is Verdict.AUTHENTICATED


@pytest.mark.parametrize(
    "body",
    [
        {"error": "invalid_grant"},
        {"message": "Invalid refresh token", "error_code": 401},
        {"message": "Refresh token expired", "error": "Unauthorized"},
    ],
    ids=str,
)
def test_a_401_about_the_refresh_token_uses_it_up(sqlite_stage: Stage, body: Any) -> None:
    state = sqlite_stage.mosaic.state
    _, token = signed_in(sqlite_stage)
    fetched = state.calls.count(Endpoint.TOKEN)
    state.faults.add(REFRESH, "status", status=401, body=body, times=1)

    answers = [refresh(sqlite_stage, token), refresh(sqlite_stage, token)]

    assert {answer.reason for answer in answers} == {Reason.REFRESH_REFUSED}
    assert (sent(sqlite_stage), state.calls.count(Endpoint.TOKEN)) == (1, fetched)


GONE = REFUSALS[0][0]


def refreshed_beside(stage: Stage, token: str, meanwhile: Callable[[], object]) -> Any:
    """Return the answer to a refresh for which Mosaic finds no session, while *meanwhile* ran."""
    stage.mosaic.state.faults.add(REFRESH, "status", status=400, body=GONE, times=1)
    with (
        stage.mosaic.state.gates.hold(REFRESH) as gate,
        stage.meanwhile(lambda: refresh(stage, token)) as refreshed,
    ):
        gate.wait_arrived()
        meanwhile()
        gate.release()
        return refreshed.result(timeout=60)


def test_not_found_for_a_session_that_has_changed_meanwhile_ends_nothing(stage: Stage) -> None:
    login, token = signed_in(stage)

    def change_its_id() -> None:
        stage.mosaic.state.faults.add("session/authenticate", "rotate_session_id", times=1)
        assert browse(stage, login.browser_token).verdict is Verdict.AUTHENTICATED

    first = refreshed_beside(stage, token, change_its_id)
    second = refresh(stage, token)

    assert (first.verdict, first.reason) == (
        Verdict.TEMPORARILY_UNAVAILABLE,
        Reason.SESSION_CHANGED,
    )
    assert second.verdict is Verdict.AUTHENTICATED
    assert [row.ended_at for row in stage.sessions()] == [None]


def test_not_found_for_a_session_that_was_logged_out_meanwhile_says_so(stage: Stage) -> None:
    login, token = signed_in(stage)
    log_out = requests.Logout(browser_token=login.browser_token)

    answer = refreshed_beside(stage, token, lambda: stage.ask("shop", log_out))

    assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, Reason.LOGGED_OUT)


@pytest.mark.parametrize(
    ("endpoint", "kind", "status"),
    [(Endpoint.TOKEN, "status", 503), (REFRESH, "rate_limited", None)],
    ids=["no client token", "rate limited"],
)
def test_what_mosaic_did_not_take_may_be_sent_under_the_same_id(
    stage: Stage, endpoint: str, kind: str, status: int | None
) -> None:
    _, token = signed_in(stage)
    if endpoint == Endpoint.TOKEN:
        stage.mosaic.state.revoke_client_tokens()
        stage.redis.flushall()
        stage.services.mosaic._client_tokens._slots.clear()
    stage.mosaic.state.faults.add(endpoint, kind, status=status, times=1)
    sealed = stage.seal("shop", asked(token))

    held_back = stage.deliver(sealed)
    stage.redis.flushall()
    answer = stage.deliver(sealed)

    assert held_back.verdict is Verdict.TEMPORARILY_UNAVAILABLE
    assert held_back.retry_after is not None
    assert answer.verdict is Verdict.AUTHENTICATED


def set_url(stage: Stage, **urls: Any) -> None:
    """Have an operator set addresses of the shop's, and nobody remember anything from before."""
    apps.set_app(stage.services, "shop", **urls)
    stage.reread_apps()
    stage.redis.flushall()
    stage.services.mosaic._client_tokens._slots.clear()


@pytest.mark.parametrize("elsewhere", ["no client token", "no such path", "a redirect"])
def test_a_wrong_address_uses_no_token_up(stage: Stage, elsewhere: str) -> None:
    """Whoever answers there is not Mosaic: each app would lose the tokens of all who are away."""
    _, token = signed_in(stage)
    faults = stage.mosaic.state.faults
    if elsewhere == "no client token":
        set_url(stage, token_url=f"{stage.mosaic.url}/elsewhere")
    elif elsewhere == "no such path":
        faults.add(REFRESH, "status", status=404, text="<html>not here</html>", times=1)
    else:
        faults.add(REFRESH, "status", status=302, times=1)
    sealed = stage.seal("shop", asked(token))

    refused = stage.deliver(sealed)
    set_url(stage, token_url=stage.mosaic.token_url)
    answer = stage.deliver(sealed)

    assert refused.verdict is Verdict.TEMPORARILY_UNAVAILABLE
    assert refused.reason != Reason.OUTCOME_UNKNOWN
    assert answer.verdict is Verdict.AUTHENTICATED


def test_it_takes_from_the_users_budget(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    few = {"mosaic_user_calls_per_minute": "8"}
    with Stage(sqlite_url, redis_url, mosaic, **few) as stage:
        furnish(stage)
        apps.set_app(stage.services, "shop", allow=OFFLINE)
        login, token = signed_in(stage)
        first = refresh(stage, token)
        silent = [browse(stage, login.browser_token, "shop") for _ in range(4)]

        held_back = refresh(stage, token_of(first))

    assert silent[0].verdict is Verdict.AUTHENTICATED
    assert (held_back.reason, sent(stage)) == (Reason.RATE_LIMITED, 1)


def test_none_is_begun_when_nobody_may_hear_of_it(sqlite_stage: Stage) -> None:
    _, token = signed_in(sqlite_stage)
    deadline = times.to_wire(sqlite_stage.now() + timedelta(seconds=2))

    answer = refresh(sqlite_stage, token, deadline=deadline)

    assert answer.reason == Reason.DEADLINE_PASSED
    assert sent(sqlite_stage) == 0


# --- a worker that dies


def test_killed_after_mosaic_rotated_it_is_unknown_and_never_sent_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    login, token = signed_in(stage)
    sealed = stage.seal("shop", asked(token))
    with monkeypatch.context() as patch:
        patch.setattr(refreshing, "_store", killed)
        with pytest.raises(KeyboardInterrupt):
            stage.run(sealed)
    stage.pass_time(seconds=60)

    other = refresh(stage, token)
    same = refresh(stage, token, request_id=sealed.request_id)

    assert [same.reason, other.reason] == [Reason.OUTCOME_UNKNOWN] * 2
    assert sent(stage) == 1
    assert browse(stage, login.browser_token, "shop").verdict is Verdict.AUTHENTICATED


def test_an_answer_that_comes_after_it_was_called_unknown_is_thrown_away(stage: Stage) -> None:
    _, token = signed_in(stage)
    sealed = stage.seal("shop", asked(token))
    with (
        stage.mosaic.state.gates.hold(REFRESH) as gate,
        stage.meanwhile(lambda: stage.run(sealed)) as slow,
    ):
        gate.wait_arrived()
        stage.pass_time(seconds=50)
        scrub_answers(stage.services)
        gate.release()
        slow.result(timeout=60)

    assert stage.answer_to(sealed).reason == Reason.OUTCOME_UNKNOWN
    assert ("refreshed", None) not in stage.events()


def test_a_former_key_opens_it_and_one_that_left_the_ring_makes_it_none(
    sqlite_stage: Stage,
) -> None:
    _, token = signed_in(sqlite_stage)
    keys = sqlite_stage.services.keyring
    for ring, is_known in (({"k2": b"n" * 32, "k1": b"e" * 32}, True), ({"k2": b"n" * 32}, False)):
        services = replace(sqlite_stage.services, keyring=KeyRing(ring, b"l" * 32))
        found = refresh_tokens.find(services.keyring, "shop", token)
        assert (found is not None) == is_known
    assert refresh_tokens.find(keys, "forum", token) is None


def test_the_task_lies_with_those_that_wait_for_mosaic() -> None:
    assert contract.QUEUE_OF[Task.REFRESH] is contract.QUEUE_OF[Task.SILENT_AUTH]
