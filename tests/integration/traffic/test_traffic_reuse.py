"""An answer of a moment ago serves an identical request: soon, honestly, and never too long."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

from session_client.contract import Reason, Verdict
from simulator.server import SimulatorServer
from tests.integration.traffic.traffic_fleet import ASK
from tests.integration.traffic.traffic_rig import another_process
from tests.stage import Stage, redis_client


@pytest.fixture
def stage(sqlite_url: str, redis_url: str, mosaic: SimulatorServer) -> Iterator[Stage]:
    with Stage(sqlite_url, redis_url, mosaic, reuse_seconds="30") as stage:
        stage.add_app("shop")
        stage.add_app("forum", capabilities=("offline",))
        yield stage


def asked(stage: Stage) -> int:
    return stage.mosaic.state.calls.count(ASK)


def test_an_identical_request_soon_after_makes_no_call_at_any_process(stage: Stage) -> None:
    ref = stage.registered()
    first = stage.silent_auth()
    stage.pass_time(seconds=10)

    with another_process(stage):
        second = stage.silent_auth()

    assert second.verdict is Verdict.AUTHENTICATED
    assert asked(stage) == 1
    assert UUID(second.session_ref) == ref
    assert second.tokens.access_token == first.tokens.access_token
    assert second.tokens.id_token == first.tokens.id_token
    assert second.expires_at == first.expires_at


def test_its_tokens_are_told_to_be_as_old_as_they_are_and_to_be_refreshed_by_one(
    stage: Stage,
) -> None:
    stage.registered()
    first = stage.silent_auth()
    stage.pass_time(seconds=20)

    second = stage.silent_auth()

    assert first.tokens.expires_in == 3600
    assert 3600 - 29 <= second.tokens.expires_in <= 3600 - 20
    assert first.tokens.refresh_token is not None
    assert second.tokens.refresh_token is None


def test_after_the_reuse_time_mosaic_is_asked_again(stage: Stage) -> None:
    stage.registered()
    first = stage.silent_auth()
    stage.pass_time(seconds=31)

    second = stage.silent_auth()

    assert asked(stage) == 2
    assert second.tokens.access_token != first.tokens.access_token


def test_an_answer_is_kept_for_half_the_life_of_its_token_at_most(
    stage: Stage, redis_url: str
) -> None:
    stage.mosaic.state.policy.change(user_token_seconds=20)
    stage.registered()
    stage.silent_auth()

    with redis_client(redis_url) as client:
        (key,) = client.scan_iter("mosaic-sessions:flight:*:answer")
        left: Any = client.pttl(key)
    assert 0 < left <= 10_000


def test_no_token_and_no_session_id_lies_in_redis_in_clear(stage: Stage, redis_url: str) -> None:
    user = "ada.lovelace@example.com"
    login = stage.login(user, "shop")
    stage.remember(login, user)
    answer = stage.silent_auth(user)

    everything = b"".join(_everything_in(redis_url))

    assert b":flight:" in everything
    tokens = answer.tokens
    for secret in (
        *(tokens.access_token, tokens.id_token, tokens.refresh_token),
        *(login.session_id, login.id_token, user),
    ):
        assert secret.encode() not in everything


def _everything_in(url: str) -> Iterator[bytes]:
    with redis_client(url) as client:
        for key in client.scan_iter():
            yield key
            kind = client.type(key)
            if kind == b"string":
                yield bytes(client.get(key) or b"")  # type: ignore[arg-type]
            elif kind == b"list":
                values: Any = client.lrange(key, 0, -1)
                yield from values
            elif kind == b"hash":
                fields: Any = client.hgetall(key)
                for name, value in fields.items():
                    yield name + value
            else:
                raise AssertionError(kind)


# --- what ends it


def test_never_across_an_added_factor(stage: Stage) -> None:
    login = stage.login("ada", "shop")
    stage.remember(login)
    first = stage.silent_auth()
    stage.remember(stage.mosaic.state.add_factor(login.session_id, "client-shop", "sms"))

    second = stage.silent_auth()

    assert asked(stage) == 2
    assert second.tokens.access_token != first.tokens.access_token


def test_a_session_with_a_new_id_is_shared_under_it(stage: Stage) -> None:
    stage.mosaic.state.faults.add(ASK, "rotate_session_id", times=1)
    stage.registered()

    answers = [stage.silent_auth() for _ in range(3)]

    assert {answer.verdict for answer in answers} == {Verdict.AUTHENTICATED}
    assert asked(stage) == 1


# --- another policy


def test_a_stricter_request_is_held_to_what_the_shared_identity_proves(stage: Stage) -> None:
    """The session was registered with more than Mosaic's own tokens say of it."""
    login = stage.login("ada", "shop")
    boast = stage.mosaic.state.mint_id_token(aud="client-shop", amr=["mfa", "pwd", "sms"])
    ref = stage.remember(login, id_token=boast).session_ref
    assert stage.silent_auth().verdict is Verdict.AUTHENTICATED

    answer = stage.silent_auth(amr_all_of=["mfa"])

    assert (answer.verdict, answer.reason) == (Verdict.INTERACTION_REQUIRED, Reason.AMR_MISSING)
    assert (answer.missing_amr, answer.tokens) == (("mfa",), None)
    assert answer.session_ref == ref
    assert asked(stage) == 1


def test_a_shorter_maximum_age_is_held_against_the_shared_identity(stage: Stage) -> None:
    login = stage.login("ada", "shop")
    stage.pass_time(hours=2)
    stage.remember(login, id_token=stage.mosaic.state.mint_id_token(aud="client-shop"))
    assert stage.silent_auth().verdict is Verdict.AUTHENTICATED

    answer = stage.silent_auth(max_age=3600)

    assert (answer.reason, answer.tokens) == (Reason.MAX_AGE_EXCEEDED, None)
    assert stage.silent_auth(max_age=3 * 3600).verdict is Verdict.AUTHENTICATED
    assert asked(stage) == 1


def test_a_login_grows_too_old_while_its_answer_is_reused(stage: Stage) -> None:
    stage.registered()
    stage.pass_time(seconds=50)
    assert stage.silent_auth(max_age=60).verdict is Verdict.AUTHENTICATED
    stage.pass_time(seconds=15)

    answer = stage.silent_auth(max_age=60)

    assert (answer.verdict, answer.reason) == (
        Verdict.INTERACTION_REQUIRED,
        Reason.MAX_AGE_EXCEEDED,
    )


def test_what_one_was_refused_another_is_not_given_either(stage: Stage) -> None:
    """An app that got no tokens is not linked to the session, and would not hear of a logout."""
    login = stage.login("ada", "shop")
    boast = stage.mosaic.state.mint_id_token(aud="client-shop", amr=["mfa", "pwd", "sms"])
    stage.remember(login, id_token=boast)
    assert stage.silent_auth(amr_all_of=["mfa"]).verdict is Verdict.INTERACTION_REQUIRED

    assert stage.silent_auth().verdict is Verdict.AUTHENTICATED

    assert asked(stage) == 2
    (session,) = stage.status(app_id="forum").sessions
    assert set(session.apps) == {"forum", "shop"}
