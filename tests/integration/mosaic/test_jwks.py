"""Signing keys: seldom fetched, changed without a hitch, never a lever to hammer Mosaic."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from secrets import token_hex
from threading import Thread

import pytest
from joserfc import jws

from simulator.idp.keys import rsa_key
from tests.integration.mosaic.mosaic_rig import (
    Rig,
    at_once,
    authenticate,
    make_settings,
    running_rig,
)
from worker.errors import MosaicContractBroken, MosaicTimedOut, MosaicUnavailable, TokenRejected
from worker.mosaic import MosaicGateway
from worker.mosaic.failed_fetch import FAILURE_SECONDS, HANGS_SECONDS, MIN_COUNTED_SECONDS
from worker.mosaic.jwks import MAX_FAILURE_SECONDS


@pytest.fixture
def rig() -> Iterator[Rig]:
    with running_rig() as rig:
        yield rig


def verify(rig: Rig, gateway: MosaicGateway) -> str:
    return gateway.verify_id_token(rig.app, rig.state.mint_id_token(), "ada").user_id


def with_random_kid() -> str:
    key = rsa_key(-2)
    return jws.serialize_compact({"alg": "RS256", "kid": token_hex(8)}, json.dumps({}), key)


@pytest.mark.parametrize("signing", ["RS256", "PS256"])
@pytest.mark.parametrize("published", ["signing", "RS256", "PS256", "none"])
def test_mosaics_key_serves_whichever_of_its_algorithms_the_key_set_names(
    rig: Rig, signing: str, published: str
) -> None:
    rig.state.policy.change(signing_algorithm=signing, published_algorithm=published)

    tokens, identity = authenticate(rig.gateway(), rig.app, rig.login().session_id)

    assert jws.extract_compact(str(tokens.id_token).encode()).headers()["alg"] == signing
    assert identity.user_id == "ada"
    assert rig.count("jwks") == 1


def test_a_thousand_unknown_kids_cost_one_refetch(rig: Rig) -> None:
    gateway = rig.gateway()
    verify(rig, gateway)
    tokens = iter([with_random_kid() for _ in range(1000)])

    def reject_some() -> None:
        for _ in range(100):
            with pytest.raises(TokenRejected, match="kid"):
                gateway.verify_id_token(rig.app, next(tokens), "ada")

    outcomes = at_once(10, reject_some)

    assert outcomes == [None] * 10
    assert rig.count("jwks") == 2
    assert verify(rig, gateway) == "ada"


def test_bad_signatures_cost_no_more_refetches_than_unknown_kids(rig: Rig) -> None:
    gateway = rig.gateway()

    for _ in range(20):
        forged = rig.state.mint_id_token(forgery="wrong_signature")
        with pytest.raises(TokenRejected, match="signature"):
            gateway.verify_id_token(rig.app, forged, "ada")

    assert rig.count("jwks") == 2


@pytest.mark.parametrize("keep_old", [True, False])
def test_a_new_key_is_accepted_after_one_refetch(rig: Rig, *, keep_old: bool) -> None:
    gateway = rig.gateway()
    verify(rig, gateway)
    rig.state.rotate_keys(keep_old=keep_old)

    outcomes = at_once(10, lambda: verify(rig, gateway))

    assert outcomes == ["ada"] * 10
    assert rig.count("jwks") == 2


def test_the_refetch_is_allowed_again_after_a_while(rig: Rig) -> None:
    gateway = rig.gateway()
    verify(rig, gateway)
    with pytest.raises(TokenRejected):
        gateway.verify_id_token(rig.app, with_random_kid(), "ada")
    rig.state.rotate_keys()

    with pytest.raises(TokenRejected, match="kid"):
        verify(rig, gateway)
    rig.advance(61)

    assert verify(rig, gateway) == "ada"
    assert rig.count("jwks") == 3


def test_keys_are_kept_for_an_hour(rig: Rig) -> None:
    gateway = rig.gateway()

    for _ in range(3):
        rig.advance(1199)
        verify(rig, gateway)
    assert rig.count("jwks") == 1

    rig.advance(1300)
    verify(rig, gateway)
    assert rig.count("jwks") == 2


def test_old_keys_go_on_while_mosaic_does_not_publish_them(rig: Rig) -> None:
    gateway = rig.gateway()
    verify(rig, gateway)
    rig.state.faults.add("jwks", "status", status=503)
    rig.advance(3601)

    for _ in range(5):
        assert verify(rig, gateway) == "ada"
    assert rig.count("jwks") == 2  # not with every token

    rig.state.faults.clear()
    rig.advance(61)
    assert verify(rig, gateway) == "ada"
    assert rig.count("jwks") == 3


def test_a_failed_refetch_for_an_unknown_kid_keeps_the_old_keys(rig: Rig) -> None:
    gateway = rig.gateway()
    verify(rig, gateway)
    rig.state.faults.add("jwks", "invalid_json")

    with pytest.raises(TokenRejected, match="kid"):
        gateway.verify_id_token(rig.app, with_random_kid(), "ada")

    assert verify(rig, gateway) == "ada"


def test_while_one_thread_fetches_anew_the_others_use_the_old_keys(rig: Rig) -> None:
    gateway = rig.gateway()
    verify(rig, gateway)
    rig.advance(3601)

    with rig.state.gates.hold("jwks") as gate:
        fetching = Thread(target=verify, args=(rig, gateway))
        fetching.start()
        gate.wait_arrived()
        assert verify(rig, gateway) == "ada"
    fetching.join()

    assert rig.count("jwks") == 2


@pytest.mark.parametrize(
    ("status", "error"), [(503, MosaicUnavailable), (404, MosaicContractBroken)]
)
def test_without_any_keys_it_works_once_they_are_there(
    rig: Rig, status: int, error: type[Exception]
) -> None:
    gateway = rig.gateway()
    rig.state.faults.add("jwks", "status", status=status, times=1)

    with pytest.raises(error, match=f"jwks at {rig.app.jwks_url}: {status}"):
        verify(rig, gateway)
    rig.advance(5)

    assert verify(rig, gateway) == "ada"


@pytest.mark.parametrize("status", [503, 404])
def test_a_failed_fetch_is_not_repeated_with_each_token(rig: Rig, status: int) -> None:
    gateway = rig.gateway()
    rig.state.faults.add("jwks", "status", status=status)
    verify_once = partial(verify, rig, gateway)

    outcomes = [*at_once(10, verify_once), *at_once(10, verify_once)]

    kinds = {(type(outcome), str(outcome)) for outcome in outcomes}
    assert len(kinds) == 1
    assert rig.count("jwks") == 1
    rig.advance(5)
    at_once(10, verify_once)
    assert rig.count("jwks") == 2


def test_mosaic_is_left_alone_for_as_long_as_it_asks_within_half_a_minute(rig: Rig) -> None:
    gateway = rig.gateway()
    rig.state.faults.add("jwks", "rate_limited", retry_after=28, times=1)
    with pytest.raises(MosaicUnavailable) as first:
        verify(rig, gateway)
    rig.advance(18)

    with pytest.raises(MosaicUnavailable) as second:
        verify(rig, gateway)

    assert (first.value.retry_after, rig.count("jwks")) == (28, 1)
    assert second.value.retry_after == pytest.approx(10, abs=5)
    rig.advance(10)
    assert verify(rig, gateway) == "ada"


@pytest.mark.parametrize("status", [503, 429])
def test_one_bad_answer_for_the_keys_keeps_users_out_for_half_a_minute_at_most(
    rig: Rig, status: int
) -> None:
    gateway = rig.gateway()
    asks_long = {"Retry-After": "1800"}
    rig.state.faults.add("jwks", "status", status=status, headers=asks_long, times=1)
    with pytest.raises(MosaicUnavailable) as first:
        gateway.require_keys(rig.app, timeout_seconds=5)
    assert first.value.retry_after == MAX_FAILURE_SECONDS
    with pytest.raises(MosaicUnavailable):
        gateway.require_keys(rig.app, timeout_seconds=5)
    assert rig.count("jwks") == 1

    rig.advance(MAX_FAILURE_SECONDS)

    gateway.require_keys(rig.app, timeout_seconds=5)
    assert verify(rig, gateway) == "ada"


def test_no_thread_waits_for_a_key_set_that_has_failed_and_hangs(rig: Rig) -> None:
    gateway = rig.gateway()
    rig.state.faults.add("jwks", "status", status=503, times=1)
    with pytest.raises(MosaicUnavailable):
        verify(rig, gateway)
    rig.advance(FAILURE_SECONDS + 1)

    with rig.state.gates.hold("jwks") as gate:
        fetching = Thread(target=verify, args=(rig, gateway))
        fetching.start()
        gate.wait_arrived()
        with pytest.raises(MosaicUnavailable, match="503"):
            verify(rig, gateway)
        assert fetching.is_alive()
    fetching.join()

    assert verify(rig, gateway) == "ada"


@pytest.mark.parametrize("seconds", [HANGS_SECONDS + 1, -7200.0])
def test_a_failure_of_long_ago_or_by_another_clock_refuses_nobody(rig: Rig, seconds: float) -> None:
    gateway = rig.gateway()
    rig.state.faults.add("jwks", "status", status=503, times=1)
    with pytest.raises(MosaicUnavailable):
        verify(rig, gateway)
    rig.advance(seconds)

    with rig.state.gates.hold("jwks") as gate:
        fetching = Thread(target=verify, args=(rig, gateway))
        fetching.start()
        gate.wait_arrived()
        with pytest.raises(MosaicTimedOut):  # it waited, which is not in vain any more
            gateway.require_keys(rig.app, timeout_seconds=0.5)
        assert fetching.is_alive()
    fetching.join()

    assert verify(rig, gateway) == "ada"


def test_a_failed_fetch_says_when_the_next_one_is(rig: Rig) -> None:
    rig.state.faults.add("jwks", "status", status=503, times=1)

    with pytest.raises(MosaicUnavailable) as failed:
        verify(rig, rig.gateway())

    assert failed.value.retry_after == FAILURE_SECONDS


@pytest.mark.parametrize("status", [429, 404])
def test_no_failed_fetch_puts_off_the_next_for_longer_than_a_refetch(rig: Rig, status: int) -> None:
    rig.settings = make_settings(jwks_refetch_seconds=3)
    gateway = rig.gateway()
    asks_long = {"Retry-After": "1800"}
    rig.state.faults.add("jwks", "status", status=status, headers=asks_long, times=1)
    with pytest.raises((MosaicUnavailable, MosaicContractBroken)):
        verify(rig, gateway)

    rig.advance(3)

    assert verify(rig, gateway) == "ada"


@pytest.mark.parametrize(
    ("headers", "pause_seconds"),
    [({}, FAILURE_SECONDS), ({"Retry-After": "1800"}, MAX_FAILURE_SECONDS)],
)
def test_a_key_that_is_new_since_a_renewal_failed_is_fetched_once_the_pause_is_over(
    rig: Rig, headers: dict[str, str], pause_seconds: float
) -> None:
    gateway = rig.gateway()
    verify(rig, gateway)
    rig.advance(3601)
    rig.state.faults.add("jwks", "status", status=503, headers=headers, times=1)
    assert verify(rig, gateway) == "ada"
    rig.state.rotate_keys(keep_old=False)

    with pytest.raises(TokenRejected, match="kid"):
        verify(rig, gateway)

    assert rig.count("jwks") == 2
    rig.advance(pause_seconds)
    assert verify(rig, gateway) == "ada"
    assert rig.count("jwks") == 3


def test_an_operator_who_tries_a_key_set_asks_at_once(rig: Rig) -> None:
    gateway = rig.gateway()
    rig.state.faults.add("jwks", "rate_limited", retry_after=90, times=1)
    with pytest.raises(MosaicUnavailable):
        verify(rig, gateway)

    gateway.try_key_set(rig.app)

    assert verify(rig, gateway) == "ada"
    rig.state.rotate_keys(keep_old=False)
    assert verify(rig, gateway) == "ada"  # what failed before puts off no fetch any more


def test_a_request_with_little_time_speaks_for_no_other(rig: Rig) -> None:
    gateway = rig.gateway()
    with rig.state.gates.hold("jwks"), pytest.raises(MosaicUnavailable):
        gateway.require_keys(rig.app, timeout_seconds=0.3)

    assert verify(rig, gateway) == "ada"


def test_a_fetch_that_failed_at_once_speaks_for_all_however_little_time_it_had(rig: Rig) -> None:
    gateway = rig.gateway()
    rig.state.faults.add("jwks", "status", status=503)

    for _ in range(3):
        with pytest.raises(MosaicUnavailable):
            gateway.require_keys(rig.app, timeout_seconds=MIN_COUNTED_SECONDS * 0.9)

    assert rig.count("jwks") == 1


def test_a_fetch_that_had_its_time_speaks_for_those_that_wait(rig: Rig) -> None:
    gateway = rig.gateway()
    with rig.state.gates.hold("jwks"), pytest.raises(MosaicUnavailable):
        gateway.require_keys(rig.app, timeout_seconds=MIN_COUNTED_SECONDS + 0.1)

    with pytest.raises(MosaicUnavailable):
        verify(rig, gateway)

    assert rig.count("jwks") == 1


def test_keys_that_are_there_are_enough_however_old(rig: Rig) -> None:
    gateway = rig.gateway()
    verify(rig, gateway)
    rig.advance(7200)

    gateway.require_keys(rig.app, timeout_seconds=5)

    assert rig.count("jwks") == 1


def test_whoever_waits_for_the_first_keys_gives_up_at_the_deadline(rig: Rig) -> None:
    gateway = rig.gateway()
    session = rig.login().session_id

    with rig.state.gates.hold("jwks") as gate:
        first = Thread(target=lambda: authenticate(gateway, rig.app, session))
        first.start()
        gate.wait_arrived()
        with pytest.raises(MosaicUnavailable):
            authenticate(gateway, rig.app, session, timeout_seconds=0.3)
    first.join()


def test_a_clock_set_back_makes_no_key_set_eternal(rig: Rig) -> None:
    gateway = rig.gateway()
    verify(rig, gateway)

    rig.advance(-7200)
    verify(rig, gateway)

    assert rig.count("jwks") == 2
