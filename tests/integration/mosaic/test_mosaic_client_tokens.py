"""Client tokens: how seldom they are fetched, and what happens when they stop working."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from threading import Thread

import pytest

from tests.integration.mosaic.mosaic_rig import (
    Free,
    Rig,
    at_once,
    authenticate,
    make_settings,
    running_rig,
)
from worker.errors import (
    ClientRefused,
    HeldBack,
    MosaicContractBroken,
    MosaicRateLimited,
    MosaicTimedOut,
    MosaicUnavailable,
)
from worker.mosaic import ClientSecret, client_tokens, failed_fetch
from worker.mosaic.client_tokens import LOOK_AGAIN_SECONDS, REFUSAL_SECONDS
from worker.mosaic.deadline import Deadline
from worker.mosaic.failed_fetch import FAILURE_SECONDS, HANGS_SECONDS

AUTHENTICATE = "session/authenticate"
TOKEN_KEY = "mosaic:client_token:shop"
LOCK_KEY = "mosaic:client_token_lock:shop"


@pytest.fixture
def rig() -> Iterator[Rig]:
    with running_rig() as rig:
        yield rig


def errors_in(outcomes: list[object]) -> list[Exception]:
    return [outcome for outcome in outcomes if isinstance(outcome, Exception)]


def test_twenty_threads_at_the_start_fetch_one_token(rig: Rig) -> None:
    session, gateway = rig.login().session_id, rig.gateway()

    outcomes = at_once(20, lambda: authenticate(gateway, rig.app, session))

    assert errors_in([*outcomes]) == []
    assert rig.count("token") == 1
    assert rig.count("jwks") == 1


def test_processes_share_one_token_through_redis(rig: Rig) -> None:
    session = rig.login().session_id
    gateways = iter([rig.gateway() for _ in range(8)])
    rig.state.faults.add("token", "latency", seconds=0.2)

    outcomes = at_once(8, lambda: authenticate(next(gateways), rig.app, session))

    assert errors_in([*outcomes]) == []
    assert rig.count("token") == 1
    assert rig.redis.pttl(TOKEN_KEY) > 3_500_000
    assert not rig.redis.exists(LOCK_KEY)


def test_the_hot_path_does_not_touch_redis(rig: Rig) -> None:
    session, gateway = rig.login().session_id, rig.gateway()
    authenticate(gateway, rig.app, session)
    before = rig.redis.info("stats")["total_commands_processed"]

    for _ in range(5):
        authenticate(gateway, rig.app, session)

    assert rig.redis.info("stats")["total_commands_processed"] == before + 1  # this look


def test_a_token_is_renewed_from_four_fifths_of_its_life(rig: Rig) -> None:
    session, gateway = rig.login().session_id, rig.gateway()
    authenticate(gateway, rig.app, session)

    rig.advance(0.79 * 3600)
    authenticate(gateway, rig.app, session)
    assert rig.count("token") == 1

    rig.advance(0.02 * 3600)
    at_once(10, lambda: authenticate(gateway, rig.app, session))
    assert rig.count("token") == 2


def test_while_one_thread_renews_the_others_go_on_with_the_current_token(rig: Rig) -> None:
    session, gateway = rig.login().session_id, rig.gateway()
    authenticate(gateway, rig.app, session)
    rig.advance(0.9 * 3600)

    with rig.state.gates.hold("token") as gate:
        patient = {"timeout_seconds": 60.0}  # so that it renews for as long as it may: 5 s
        renewing = Thread(target=authenticate, args=(gateway, rig.app, session), kwargs=patient)
        renewing.start()
        gate.wait_arrived()
        authenticate(gateway, rig.app, session, timeout_seconds=3)
        # Nor does another process fetch: it takes the shared token, which still works.
        authenticate(rig.gateway(), rig.app, session, timeout_seconds=3)
    renewing.join()

    assert rig.count("token") == 2


def test_a_failed_early_renewal_costs_the_caller_nothing(rig: Rig) -> None:
    session, gateway = rig.login().session_id, rig.gateway()
    authenticate(gateway, rig.app, session)
    rig.advance(0.9 * 3600)
    rig.state.faults.add("token", "status", status=500)

    for _ in range(5):
        authenticate(gateway, rig.app, session)

    assert rig.count("token") == 2  # one attempt, then a pause
    rig.state.faults.clear()
    rig.advance(LOOK_AGAIN_SECONDS + 1)
    authenticate(gateway, rig.app, session)
    assert rig.count("token") == 3


@pytest.fixture
def _any_failure_is_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_tokens, "SLOW_SECONDS", 0.0)


@pytest.mark.usefixtures("_any_failure_is_slow")
def test_a_fetch_that_hung_is_not_repeated_by_each_request(rig: Rig) -> None:
    session, gateway = rig.login().session_id, rig.gateway()
    rig.state.faults.add("token", "status", status=503)

    for _ in range(5):
        with pytest.raises(MosaicUnavailable, match=r"client token at .*: 503"):
            authenticate(gateway, rig.app, session)
    assert rig.count("token") == 1

    rig.state.faults.clear()
    rig.advance(FAILURE_SECONDS + 1)
    authenticate(gateway, rig.app, session)


@pytest.mark.usefixtures("_any_failure_is_slow")
@pytest.mark.parametrize(
    ("status", "told"), [(503, MosaicUnavailable), (429, HeldBack), (401, ClientRefused)]
)
def test_no_thread_waits_for_a_token_endpoint_that_hangs_again(
    rig: Rig, status: int, told: type[Exception]
) -> None:
    """Each thread is a slot of the worker, which other apps need."""
    session, gateway = rig.login().session_id, rig.gateway()
    rig.state.faults.add("token", "status", status=status, times=1)
    patient = {"timeout_seconds": 60.0}
    with pytest.raises((MosaicUnavailable, MosaicRateLimited, ClientRefused)):
        authenticate(gateway, rig.app, session)
    rig.advance(FAILURE_SECONDS + 1)

    with rig.state.gates.hold("token") as gate:
        fetching = Thread(target=authenticate, args=(gateway, rig.app, session), kwargs=patient)
        fetching.start()
        gate.wait_arrived()
        with pytest.raises(told):
            authenticate(gateway, rig.app, session, timeout_seconds=20)
        assert fetching.is_alive()
    fetching.join()

    authenticate(gateway, rig.app, session)


def test_a_fetch_that_failed_at_once_is_repeated_at_once(rig: Rig) -> None:
    session, gateway = rig.login().session_id, rig.gateway()
    rig.state.faults.add("token", "status", status=503, times=1)
    with pytest.raises(MosaicUnavailable):
        authenticate(gateway, rig.app, session)

    authenticate(gateway, rig.app, session)


@pytest.mark.parametrize(
    ("status", "told"), [(503, {MosaicUnavailable}), (429, {MosaicRateLimited, HeldBack})]
)
def test_who_has_waited_for_a_fetch_that_fails_does_not_fetch_too(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, status: int, told: set[type[Exception]]
) -> None:
    """One after the other they would hold their slots, as if it hung."""
    monkeypatch.setattr(client_tokens, "SLOW_SECONDS", 60.0)  # however busy the machine
    session, gateway = rig.login().session_id, rig.gateway()
    rig.state.faults.add("token", "latency", seconds=0.5)
    rig.state.faults.add("token", "status", status=status)

    outcomes = at_once(8, lambda: authenticate(gateway, rig.app, session, timeout_seconds=60))

    assert {type(outcome) for outcome in outcomes} == told
    assert rig.count("token") <= 3  # one, and what a busy machine has begun too late
    rig.state.faults.clear()
    authenticate(gateway, rig.app, session)


def test_a_fetch_that_takes_its_time_to_fail_hangs(rig: Rig) -> None:
    session, gateway = rig.login().session_id, rig.gateway()
    slow = client_tokens.SLOW_SECONDS + 0.1
    rig.state.faults.add("token", "latency", seconds=slow, times=1)
    rig.state.faults.add("token", "status", status=503, times=1)

    for _ in range(3):
        with pytest.raises(MosaicUnavailable) as raised:
            authenticate(gateway, rig.app, session, timeout_seconds=60)
        assert 1 <= raised.value.retry_after <= FAILURE_SECONDS

    assert rig.count("token") == 1


@pytest.mark.usefixtures("_any_failure_is_slow")
def test_a_token_endpoint_that_hangs_and_then_answers_what_none_does_hangs(rig: Rig) -> None:
    session, gateway = rig.login().session_id, rig.gateway()
    rig.state.faults.add("token", "status", status=404)

    for _ in range(3):
        with pytest.raises(MosaicContractBroken, match="404"):
            authenticate(gateway, rig.app, session)
    with pytest.raises(MosaicUnavailable, match="another process"):
        authenticate(rig.gateway(), rig.app, session)

    assert rig.count("token") == 1


@pytest.mark.usefixtures("_any_failure_is_slow")
def test_only_who_fetches_has_run_out_of_time(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else one with little time would send those that wait for it to ask one after the other."""
    monkeypatch.setattr(failed_fetch, "MIN_COUNTED_SECONDS", 0.0)
    session, gateway = rig.login().session_id, rig.gateway()
    with rig.state.gates.hold("token"), pytest.raises(MosaicTimedOut):
        authenticate(gateway, rig.app, session, timeout_seconds=1.5)

    with pytest.raises(MosaicUnavailable) as told:
        authenticate(gateway, rig.app, session)

    assert type(told.value) is MosaicUnavailable
    assert rig.count("token") == 1


def test_a_fetch_that_a_short_deadline_cut_off_is_repeated_at_once(rig: Rig) -> None:
    session, gateway = rig.login().session_id, rig.gateway()
    rig.state.faults.add("token", "latency", seconds=5, times=1)
    with pytest.raises(MosaicTimedOut):
        authenticate(gateway, rig.app, session, timeout_seconds=1.5)

    authenticate(gateway, rig.app, session, timeout_seconds=60)


@pytest.mark.usefixtures("_any_failure_is_slow")
def test_another_processs_token_is_taken_by_one_whose_fetch_has_hung(rig: Rig) -> None:
    session, gateway = rig.login().session_id, rig.gateway()
    rig.state.faults.add("token", "status", status=503, times=1)
    with pytest.raises(MosaicUnavailable):
        authenticate(gateway, rig.app, session)
    rig.gateway().try_client(rig.app)  # asks Mosaic whatever is known

    authenticate(gateway, rig.app, session)

    assert rig.count("token") == 2


@pytest.mark.usefixtures("_any_failure_is_slow")
def test_a_fetch_that_hung_is_repeated_by_no_other_process(rig: Rig) -> None:
    """Under prefork each slot of a worker is a process."""
    session, processes = rig.login().session_id, [rig.gateway() for _ in range(4)]
    rig.state.faults.add("token", "status", status=503)

    for process in processes:
        with pytest.raises(MosaicUnavailable) as raised:
            authenticate(process, rig.app, session)
        assert 1 <= raised.value.retry_after <= FAILURE_SECONDS

    assert rig.count("token") == 1


@pytest.mark.usefixtures("_any_failure_is_slow")
def test_no_process_waits_for_another_one_that_asks_a_token_endpoint_that_hangs(rig: Rig) -> None:
    session, first, other = rig.login().session_id, rig.gateway(), rig.gateway()
    rig.state.faults.add("token", "status", status=503, times=1)
    for process in (first, other):
        with pytest.raises(MosaicUnavailable):
            authenticate(process, rig.app, session)
    rig.advance(FAILURE_SECONDS + 1)

    with rig.state.gates.hold("token") as gate:
        fetching = Thread(target=authenticate, args=(first, rig.app, session))
        fetching.start()
        gate.wait_arrived()
        with pytest.raises(MosaicUnavailable, match="another process"):
            authenticate(other, rig.app, session, timeout_seconds=60)
        assert fetching.is_alive()
    fetching.join()

    authenticate(other, rig.app, session)


@pytest.mark.usefixtures("_any_failure_is_slow")
@pytest.mark.parametrize("seconds", [HANGS_SECONDS + 1, -7200.0])
def test_a_fetch_that_hung_long_ago_or_by_another_clock_refuses_nobody(
    rig: Rig, seconds: float
) -> None:
    gateway = rig.gateway()
    rig.state.faults.add("token", "status", status=503, times=1)
    with pytest.raises(MosaicUnavailable):
        authenticate(gateway, rig.app, rig.login().session_id)
    rig.advance(seconds)
    session = rig.login().session_id

    with rig.state.gates.hold("token") as gate:
        fetching = Thread(target=authenticate, args=(gateway, rig.app, session))
        fetching.start()
        gate.wait_arrived()
        with pytest.raises(MosaicTimedOut):  # it waited, which is not in vain any more
            authenticate(gateway, rig.app, session, timeout_seconds=0.5)
        assert fetching.is_alive()
    fetching.join()

    authenticate(gateway, rig.app, session)


@pytest.mark.parametrize("noted", ["", "soon", "nan", "inf", "1e999"])
def test_what_is_no_moment_of_a_hang_refuses_nobody(rig: Rig, noted: str) -> None:
    rig.connect().set("mosaic:client_token_hang:shop", noted)

    authenticate(rig.gateway(), rig.app, rig.login().session_id)


def test_a_token_is_never_used_in_its_last_half_minute(rig: Rig) -> None:
    session, gateway = rig.login().session_id, rig.gateway()
    authenticate(gateway, rig.app, session)
    rig.advance(3600 - 29)
    rig.state.faults.add("token", "status", status=500)

    with pytest.raises(MosaicUnavailable):
        authenticate(gateway, rig.app, session)

    assert rig.count(AUTHENTICATE) == 1


def test_a_short_lived_token_is_used_for_half_its_life(rig: Rig) -> None:
    rig.state.policy.change(client_token_seconds=20)
    session, gateway = rig.login().session_id, rig.gateway()

    for _ in range(3):
        authenticate(gateway, rig.app, session)
    assert rig.count("token") == 1

    rig.advance(11)
    authenticate(gateway, rig.app, session)
    assert rig.count("token") == 2


def test_a_token_mosaic_forgot_is_replaced_once_and_the_call_repeated_once(rig: Rig) -> None:
    session, gateway = rig.login().session_id, rig.gateway()
    authenticate(gateway, rig.app, session)

    for number in range(2, 5):
        rig.state.revoke_client_tokens()
        authenticate(gateway, rig.app, session)
        assert rig.count("token") == number

    assert rig.count(AUTHENTICATE) == 1 + 3 * 2


def test_a_role_that_is_new_reaches_the_app_with_a_fresh_token(rig: Rig) -> None:
    session, gateway = rig.login().session_id, rig.gateway()
    rig.state.faults.add(AUTHENTICATE, "status", status=403, times=1)

    authenticate(gateway, rig.app, session)

    assert rig.count("token") == 2


@pytest.mark.parametrize("status", [401, 403])
def test_a_client_that_stays_refused_is_not_asked_for_in_a_loop(rig: Rig, status: int) -> None:
    session, gateway = rig.login().session_id, rig.gateway()
    rig.state.faults.add(AUTHENTICATE, "status", status=status)

    for _ in range(10):
        with pytest.raises(ClientRefused):
            authenticate(gateway, rig.app, session)

    assert rig.count("token") == 2
    assert rig.count(AUTHENTICATE) == 11

    rig.advance(REFUSAL_SECONDS + 1)
    with pytest.raises(ClientRefused):
        authenticate(gateway, rig.app, session)
    assert rig.count("token") == 3


def test_a_client_that_lacks_one_right_and_has_another_costs_no_fetch_for_each_call(
    rig: Rig,
) -> None:
    session, gateway = rig.login().session_id, rig.gateway()
    rig.state.faults.add("session/logout", "status", status=403)

    for _ in range(5):
        authenticate(gateway, rig.app, session)
        with pytest.raises(ClientRefused):
            gateway.logout_session(Free(), rig.app, session, timeout_seconds=5)

    assert rig.count("token") == 2


def test_a_storm_of_401_makes_one_fetch(rig: Rig) -> None:
    session = rig.login().session_id
    gateways = [rig.gateway(), rig.gateway()]
    for gateway in gateways:
        authenticate(gateway, rig.app, session)
    rig.state.revoke_client_tokens()
    turns = iter(gateways * 25)

    outcomes = at_once(50, lambda: authenticate(next(turns), rig.app, session))

    assert errors_in([*outcomes]) == []
    assert rig.count("token") == 2


def test_a_process_that_learns_of_a_revoked_token_late_takes_the_new_shared_one(rig: Rig) -> None:
    session, early, late = rig.login().session_id, rig.gateway(), rig.gateway()
    authenticate(early, rig.app, session)
    authenticate(late, rig.app, session)
    rig.state.revoke_client_tokens()

    authenticate(early, rig.app, session)
    authenticate(late, rig.app, session)

    assert rig.count("token") == 2
    assert rig.redis.exists(TOKEN_KEY)


def test_a_rejected_token_is_not_taken_back_from_redis(rig: Rig) -> None:
    tokens = rig.gateway()._client_tokens
    rejected = tokens.get(rig.app, Deadline.after(5))
    shared = rig.redis.get(TOKEN_KEY)
    assert isinstance(shared, bytes)

    tokens.rejected(rig.app, rejected, 401)
    rig.redis.set(TOKEN_KEY, shared)  # by a process that has not tried it yet

    assert tokens.get(rig.app, Deadline.after(5)) != rejected


@pytest.mark.parametrize("answer", ["messages", "oauth"])
def test_a_wrong_secret_is_refused_and_not_asked_for_again_at_once(rig: Rig, answer: str) -> None:
    rig.state.policy.change(wrong_client_answer=answer)
    session, gateway = rig.login().session_id, rig.gateway()
    wrong = replace(rig.app, credential=ClientSecret("wrong"))

    for _ in range(10):
        with pytest.raises(ClientRefused):
            authenticate(gateway, wrong, session)
    assert rig.count("token") == 1

    rig.advance(REFUSAL_SECONDS + 1)
    with pytest.raises(ClientRefused):
        authenticate(gateway, wrong, session)
    assert rig.count("token") == 2


def test_a_clock_that_was_set_back_keeps_out_no_client_that_was_refused_before(rig: Rig) -> None:
    gateway = rig.gateway()
    for endpoint, status in (("token", 401), ("session/logout", 403)):
        rig.state.faults.add(endpoint, "status", status=status)
        with pytest.raises(ClientRefused):
            gateway.logout_session(Free(), rig.app, "a session", timeout_seconds=5)
        rig.state.faults.clear()
        rig.state.revoke_client_tokens()

        rig.advance(-3600)
        gateway.logout_session(Free(), rig.app, "a session", timeout_seconds=5)


@pytest.mark.parametrize("slow_seconds", [60.0, 0.0])
def test_a_corrected_secret_works_at_once(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, slow_seconds: float
) -> None:
    """However long the wrong one has taken to be refused."""
    monkeypatch.setattr(client_tokens, "SLOW_SECONDS", slow_seconds)
    session, gateway = rig.login().session_id, rig.gateway()
    with pytest.raises(ClientRefused):
        authenticate(gateway, replace(rig.app, credential=ClientSecret("wrong")), session)

    authenticate(gateway, rig.app, session)


def test_an_app_with_a_wrong_secret_does_not_live_on_the_token_of_another(rig: Rig) -> None:
    session = rig.login().session_id
    authenticate(rig.gateway(), rig.app, session)

    with pytest.raises(ClientRefused):
        authenticate(rig.gateway(), replace(rig.app, credential=ClientSecret("wrong")), session)


def test_a_rate_limit_on_tokens_is_passed_on(rig: Rig) -> None:
    rig.state.faults.add("token", "rate_limited", retry_after=9)

    with pytest.raises(MosaicRateLimited) as caught:
        authenticate(rig.gateway(), rig.app, rig.login().session_id)

    assert caught.value.retry_after == 9


def test_without_redis_each_process_fetches_its_own_token(rig: Rig) -> None:
    session = rig.login().session_id
    rig.redis_server.stop()
    gateways = [rig.gateway(), rig.gateway()]

    for gateway in gateways * 3:
        authenticate(gateway, rig.app, session)
    assert rig.count("token") == 2

    rig.state.revoke_client_tokens()
    authenticate(gateways[0], rig.app, session)
    assert rig.count("token") == 3


def test_a_redis_that_hangs_holds_up_one_call_and_not_all(rig: Rig) -> None:
    session, gateway = rig.login().session_id, rig.gateway(redis_timeout_seconds=1)
    rig.redis_server.freeze()
    started_at = time.monotonic()
    try:
        at_once(5, lambda: authenticate(gateway, rig.app, session))
    finally:
        rig.redis_server.thaw()

    # One wait for the timeout of its socket (1 s), not five; then Redis is left alone for a while.
    assert time.monotonic() - started_at < 5
    assert rig.count("token") == 1
    assert rig.count(AUTHENTICATE) == 5


def test_a_redis_that_dies_after_the_fetch_costs_no_second_fetch(rig: Rig) -> None:
    session, gateway = rig.login().session_id, rig.gateway()

    with rig.state.gates.hold("token") as gate:
        fetching = Thread(target=authenticate, args=(gateway, rig.app, session))
        fetching.start()
        gate.wait_arrived()
        rig.redis_server.stop()
    fetching.join()

    assert rig.count("token") == 1
    assert rig.count(AUTHENTICATE) == 1


def test_what_cannot_be_opened_in_redis_is_written_over(rig: Rig) -> None:
    session = rig.login().session_id
    rig.redis.set(TOKEN_KEY, b"garbage")

    authenticate(rig.gateway(), rig.app, session)
    authenticate(rig.gateway(), rig.app, session)

    assert rig.count("token") == 1


def test_a_token_sealed_with_a_lost_key_is_fetched_anew(rig: Rig) -> None:
    session = rig.login().session_id
    authenticate(rig.gateway(), rig.app, session)
    rig.settings = make_settings(encryption_keys="k2:" + "eHh4" * 10 + "eHg=")

    authenticate(rig.gateway(), rig.app, session)

    assert rig.count("token") == 2


def test_a_fetcher_that_died_holds_the_others_up_no_longer_than_its_lease(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = rig.login().session_id
    rig.redis.set(LOCK_KEY, "a dead process", px=400)

    authenticate(rig.gateway(), rig.app, session, timeout_seconds=3)

    assert rig.count("token") == 1


def test_a_lock_that_was_taken_by_another_clock_of_redis_keeps_nobody_waiting(rig: Rig) -> None:
    session = rig.login().session_id
    rig.redis.set(LOCK_KEY, "a dead process", ex=7200)  # as it lasts once the clock is set back

    authenticate(rig.gateway(), rig.app, session, timeout_seconds=3)

    assert rig.count("token") == 1
    assert not rig.redis.exists(LOCK_KEY)


def test_whoever_waits_for_another_process_gives_up_at_its_deadline(rig: Rig) -> None:
    rig.redis.set(LOCK_KEY, "a slow process", px=6_000)
    gateway = rig.gateway()

    outcomes = at_once(3, lambda: authenticate(gateway, rig.app, "session", timeout_seconds=0.3))

    assert [type(outcome) for outcome in outcomes] == [MosaicTimedOut] * 3
    assert rig.count("token") == 0
    assert rig.redis.get(LOCK_KEY) == b"a slow process"


def test_another_process_renewing_early_is_left_to_it(rig: Rig) -> None:
    session, gateway = rig.login().session_id, rig.gateway()
    authenticate(gateway, rig.app, session)
    rig.advance(0.9 * 3600)
    rig.redis.set(LOCK_KEY, "a slow process", px=6_000)

    authenticate(gateway, rig.app, session)

    assert rig.count("token") == 1


def test_a_fetch_is_over_before_its_lock_is() -> None:
    assert client_tokens.FETCH_SECONDS < client_tokens.LEASE_SECONDS


def test_a_lock_whose_lease_is_over_is_not_released_for_its_new_holder(rig: Rig) -> None:
    session, gateway = rig.login().session_id, rig.gateway()
    with rig.state.gates.hold("token") as gate:
        fetching = Thread(target=authenticate, args=(gateway, rig.app, session))
        fetching.start()
        gate.wait_arrived()
        rig.redis.set(LOCK_KEY, "the next holder", px=60_000)
    fetching.join()

    assert rig.redis.get(LOCK_KEY) == b"the next holder"


def test_a_thread_that_finds_another_renewing_does_not_wait_for_it(rig: Rig) -> None:
    session, gateway = rig.login().session_id, rig.gateway()
    authenticate(gateway, rig.app, session)
    rig.advance(0.9 * 3600)

    with gateway._client_tokens._slot(rig.app).renewing:
        authenticate(gateway, rig.app, session)

    assert rig.count("token") == 1


def test_a_success_with_an_older_token_says_nothing_about_the_newer(rig: Rig) -> None:
    session, gateway = rig.login().session_id, rig.gateway()
    authenticate(gateway, rig.app, session)
    slot = gateway._client_tokens._slot(rig.app)
    slot.is_proven = False

    gateway._client_tokens.accepted(rig.app, "older")

    assert not slot.is_proven
