"""`MosaicGateway`, against a Mosaic that answers over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from simulator.controls.faults import FaultKind
from tests.integration.mosaic.mosaic_rig import (
    Free,
    Rig,
    authenticate,
    make_app,
    make_settings,
    running_rig,
)
from worker.errors import (
    ClientRefused,
    MosaicContractBroken,
    MosaicRateLimited,
    MosaicUnavailable,
    SessionGone,
    SessionWorkerError,
    TokenRejected,
    WrongSubject,
)
from worker.mosaic import SilentAuthCall, SilentAuthOptions

AUTHENTICATE = "session/authenticate"
LOGOUT = "session/logout"


@pytest.fixture
def rig() -> Iterator[Rig]:
    with running_rig() as rig:
        yield rig


def test_a_live_session_gives_verified_tokens(rig: Rig) -> None:
    login = rig.login()

    tokens, identity = authenticate(rig.gateway(), rig.app, login.session_id)

    assert tokens.access_token
    assert tokens.refresh_token
    assert (tokens.token_type, tokens.expires_in) == ("Bearer", 3600)
    assert tokens.session_id == login.session_id
    assert (identity.user_id, identity.amr) == ("ada", ("pwd",))
    assert identity.auth_time is not None
    assert identity.auth_time.tzinfo is UTC


def test_the_optional_fields_reach_mosaic_in_its_own_words(rig: Rig) -> None:
    # The simulator refuses unknown and misplaced fields.
    login = rig.login()
    rig.state.add_user("ada", email="ada@example.com")
    options = SilentAuthOptions(
        resource="https://api.example",
        claims={"id_token": {"email": None}},
        org_id="org",
        user_agent="browser",
        ip_address="192.0.2.1",
        device_id="device",
    )

    tokens, identity = rig.gateway().authenticate_session(
        Free(),
        rig.app,
        SilentAuthCall(session_id=login.session_id, user_id="ada", options=options),
        timeout_seconds=5,
    )

    assert identity.user_id == "ada"
    assert tokens.access_token


def test_a_session_id_mosaic_changes_is_returned(rig: Rig) -> None:
    login = rig.login()
    rig.state.faults.add(AUTHENTICATE, "rotate_session_id")

    tokens, _ = authenticate(rig.gateway(), rig.app, login.session_id)

    assert tokens.session_id != login.session_id
    assert rig.state.is_live(tokens.session_id)


def test_an_unknown_session_is_gone(rig: Rig) -> None:
    with pytest.raises(SessionGone):
        authenticate(rig.gateway(), rig.app, "no-such-session")


def test_logout_ends_the_session_at_mosaic(rig: Rig) -> None:
    login, other = rig.login(), rig.login("bob")

    rig.gateway().logout_session(Free(), rig.app, login.session_id, timeout_seconds=5)

    assert not rig.state.is_live(login.session_id)
    assert rig.state.is_live(other.session_id)


@pytest.mark.parametrize("status", [204, 400, 404])
def test_logout_of_a_dead_session_is_success(rig: Rig, status: int) -> None:
    rig.state.policy.change(dead_logout_status=status)

    rig.gateway().logout_session(Free(), rig.app, "no-such-session", timeout_seconds=5)


def test_logout_by_an_app_without_the_right_is_refused_after_one_fresh_token(rig: Rig) -> None:
    rig.state.policy.change(only_creator_may_log_out=True)
    rig.state.add_client("forum", "forum-secret")
    session = rig.state.login("ada", "forum").session_id
    gateway = rig.gateway()

    for _ in range(5):
        with pytest.raises(ClientRefused):
            gateway.logout_session(Free(), rig.app, session, timeout_seconds=5)

    # Each further call is one call: no token is fetched again for the same refusal.
    assert rig.count(LOGOUT) == 6
    assert rig.count("token") == 2
    assert rig.state.is_live(session)


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        (400, ["Session not found"], SessionGone),
        (302, "elsewhere", MosaicContractBroken),
        (429, "slow down", MosaicRateLimited),
        (503, "maintenance", MosaicUnavailable),
    ],
)
def test_a_refusal_becomes_our_error(
    rig: Rig, status: int, message: str | list[str], expected: type[SessionWorkerError]
) -> None:
    login = rig.login()
    rig.state.faults.add(AUTHENTICATE, "status", status=status, message=message)

    with pytest.raises(expected):
        authenticate(rig.gateway(), rig.app, login.session_id)


def test_the_wait_mosaic_asks_for_is_passed_on(rig: Rig) -> None:
    login = rig.login()
    rig.state.faults.add(AUTHENTICATE, "rate_limited", retry_after=42)

    with pytest.raises(MosaicRateLimited) as caught:
        authenticate(rig.gateway(), rig.app, login.session_id)

    assert caught.value.retry_after == 42


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("drop_request", MosaicUnavailable),
        ("drop_answer", MosaicUnavailable),
        ("cut_body", MosaicUnavailable),
        ("invalid_json", MosaicUnavailable),
    ],
)
def test_a_broken_answer_becomes_our_error(
    rig: Rig, fault: str, expected: type[SessionWorkerError]
) -> None:
    login = rig.login()
    rig.state.faults.add(AUTHENTICATE, fault)

    with pytest.raises(expected) as caught:
        authenticate(rig.gateway(), rig.app, login.session_id)

    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("fault", ["drop_request", "drop_answer"])
def test_a_logout_without_an_answer_is_not_taken_for_done(rig: Rig, fault: str) -> None:
    login = rig.login()
    rig.state.faults.add(LOGOUT, fault)

    with pytest.raises(MosaicUnavailable):
        rig.gateway().logout_session(Free(), rig.app, login.session_id, timeout_seconds=5)


@pytest.mark.parametrize(
    ("forgery", "check"),
    [
        (FaultKind.WRONG_SIGNATURE, "signature"),
        (FaultKind.UNKNOWN_KID, "kid"),
        (FaultKind.WRONG_AUD, "aud"),
        (FaultKind.WRONG_ISS, "iss"),
        (FaultKind.EXPIRED, "exp"),
        (FaultKind.ALG_NONE, "alg"),
        (FaultKind.HS256_PUBLIC_KEY, "alg"),
        (FaultKind.WRONG_SUB, "sub"),
    ],
)
def test_tokens_with_a_forged_id_token_are_not_returned(
    rig: Rig, forgery: FaultKind, check: str
) -> None:
    login = rig.login()
    rig.state.faults.add(AUTHENTICATE, forgery)

    with pytest.raises(TokenRejected) as caught:
        authenticate(rig.gateway(), rig.app, login.session_id)

    assert caught.value.check == check
    assert isinstance(caught.value, WrongSubject) is (forgery is FaultKind.WRONG_SUB)


def test_a_slow_mosaic_is_given_up_within_the_time_allowed(rig: Rig) -> None:
    login, gateway = rig.login(), rig.gateway()
    started_at = datetime.now(UTC)

    with rig.state.gates.hold(AUTHENTICATE), pytest.raises(MosaicUnavailable):
        authenticate(gateway, rig.app, login.session_id, timeout_seconds=0.3)

    assert (datetime.now(UTC) - started_at).total_seconds() < 10


def test_the_token_fetch_counts_against_the_time_allowed(rig: Rig) -> None:
    login, gateway = rig.login(), rig.gateway()
    rig.state.faults.add("token", "latency", seconds=4)
    started_at = datetime.now(UTC)

    with rig.state.gates.hold(AUTHENTICATE), pytest.raises(MosaicUnavailable):
        authenticate(gateway, rig.app, login.session_id, timeout_seconds=4.5)

    assert (datetime.now(UTC) - started_at).total_seconds() < 8.3  # and not 4 + 4.5


def test_no_time_at_all_costs_no_call(rig: Rig) -> None:
    with pytest.raises(MosaicUnavailable):
        authenticate(rig.gateway(), rig.app, "session", timeout_seconds=0)

    assert rig.state.calls.count() == 0


def test_a_mosaic_that_is_not_there_is_unavailable(rig: Rig) -> None:
    app = make_app("http://127.0.0.1:1")

    with pytest.raises(MosaicUnavailable):
        authenticate(rig.gateway(), app, "session")


@pytest.mark.parametrize(
    "url", ["ftp://example.com", "http://example.com:port", "http://" + "a" * 64, "nonsense"]
)
def test_an_address_that_is_no_url_is_for_the_operator(rig: Rig, url: str) -> None:
    with pytest.raises(MosaicContractBroken):
        authenticate(rig.gateway(), make_app(url), "session")


def test_an_id_token_an_app_hands_in_is_verified(rig: Rig) -> None:
    gateway, login = rig.gateway(), rig.login()

    assert gateway.verify_id_token(rig.app, login.id_token, "ada").user_id == "ada"
    with pytest.raises(WrongSubject):
        gateway.verify_id_token(rig.app, login.id_token, "bob")
    rig.advance(3600 + 61)
    with pytest.raises(TokenRejected, match="exp"):
        gateway.verify_id_token(rig.app, login.id_token, "ada")


def test_no_secret_is_seen_in_any_repr(rig: Rig) -> None:
    login, gateway = rig.login(), rig.gateway()
    tokens, identity = authenticate(gateway, rig.app, login.session_id)

    seen = repr((tokens, identity, rig.app, gateway, vars(gateway)))

    for secret in (tokens.access_token, str(tokens.id_token), login.session_id, "shop-secret"):
        assert secret not in seen


def test_nothing_in_redis_is_in_clear(rig: Rig) -> None:
    login = rig.login()
    authenticate(rig.gateway(), rig.app, login.session_id)

    stored = rig.redis.get("mosaic:client_token:shop")
    assert isinstance(stored, bytes)

    assert rig.state.clients._tokens
    for token in rig.state.clients._tokens:
        assert token.encode() not in stored


def test_settings_decide_how_long_a_handed_in_token_may_take() -> None:
    with running_rig() as rig:
        rig.settings = make_settings(mosaic_timeout_seconds=0.2)
        rig.state.faults.add("jwks", "latency", seconds=1)
        with pytest.raises(MosaicUnavailable):
            rig.gateway().verify_id_token(rig.app, rig.login().id_token, "ada")
