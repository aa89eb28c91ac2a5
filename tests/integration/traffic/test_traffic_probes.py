"""The breaker half open: a few probes find out whether Mosaic is well."""

from __future__ import annotations

import pytest

from session_client.contract import Reason
from tests.integration.traffic.traffic_rig import Process, Starter, end, pass_redis_time
from worker.errors import MosaicTimedOut, MosaicUnavailable

SHORT = 0.5


@pytest.fixture
def process(start: Starter) -> Process:
    return start(breaker_failures=3, breaker_open_seconds=5, breaker_open_max_seconds=15)


def half_open(process: Process, url: str) -> None:
    process.fail(3)
    pass_redis_time(url, 5)


def test_three_good_probes_close_it(process: Process, redis_url: str) -> None:
    half_open(process, redis_url)

    for _ in range(3):
        assert process.call() is None
    permits = [process.admit() for _ in range(10)]

    assert not any(permit.is_probe for permit in permits)


def test_two_good_probes_do_not_close_it(process: Process, redis_url: str) -> None:
    half_open(process, redis_url)
    for _ in range(2):
        process.call()

    assert process.admit().is_probe


def test_no_more_than_three_probes_are_under_way_at_once(
    process: Process, start: Starter, redis_url: str
) -> None:
    other = start()
    half_open(process, redis_url)
    probes = [process.admit(), other.admit(), process.admit()]
    assert all(probe.is_probe for probe in probes)

    held = other.held_back()
    assert (held.reason, held.retry_after) == (Reason.IDP_UNAVAILABLE, 1.0)
    end(probes[0])
    assert other.admit().is_probe


def test_three_failed_probes_open_it_for_twice_as_long_up_to_a_limit(
    process: Process, redis_url: str
) -> None:
    process.fail(3)
    for lasts in (10, 15, 15):
        pass_redis_time(redis_url, 60)
        process.fail(3)
        assert lasts - 3 < process.held_back().retry_after <= lasts


def test_once_closed_it_opens_as_briefly_as_at_first(process: Process, redis_url: str) -> None:
    half_open(process, redis_url)
    process.fail(3)
    pass_redis_time(redis_url, 60)
    for _ in range(3):
        process.call()

    process.fail(3)

    assert process.held_back().retry_after <= 5


def test_probes_that_fail_after_it_opened_again_are_of_no_account(
    process: Process, redis_url: str
) -> None:
    half_open(process, redis_url)
    late = [process.admit() for _ in range(2)]
    process.fail(3)

    for probe in late:
        end(probe, MosaicUnavailable())

    assert process.held_back().retry_after <= 10


def test_a_probe_whose_process_died_is_forgotten(process: Process, redis_url: str) -> None:
    half_open(process, redis_url)
    for _ in range(3):
        process.admit()
    process.held_back()

    pass_redis_time(redis_url, 36)

    assert process.admit().is_probe


@pytest.mark.parametrize("error", [MosaicTimedOut(), KeyboardInterrupt(), SystemExit()])
def test_a_probe_that_learnt_nothing_makes_room_for_another(
    process: Process, redis_url: str, error: BaseException
) -> None:
    half_open(process, redis_url)

    for _ in range(10):
        assert process.call(error, allowed_seconds=SHORT) is error

    assert process.admit().is_probe


def test_good_probes_count_for_nothing_once_others_opened_it_again(
    process: Process, redis_url: str
) -> None:
    half_open(process, redis_url)
    good = [process.admit() for _ in range(2)]
    process.fail(3)

    for probe in good:
        end(probe)
    pass_redis_time(redis_url, 60)
    process.call()

    assert process.admit().is_probe


def test_a_host_that_nobody_asks_any_more_is_forgotten(process: Process) -> None:
    process.fail(3)

    (key,) = process.redis.scan_iter("mosaic-sessions:breaker:*:app:*")
    left = process.redis.pttl(key)
    assert isinstance(left, int)
    assert 500_000 < left < 700_000


def test_good_probes_from_before_it_opened_again_do_not_help_to_close_it(
    process: Process, redis_url: str
) -> None:
    half_open(process, redis_url)
    process.call()
    process.call()
    process.fail(3)

    pass_redis_time(redis_url, 10)
    process.call()

    assert process.admit().is_probe


def test_probes_from_before_it_opened_again_leave_room_for_new_ones(
    process: Process, redis_url: str
) -> None:
    half_open(process, redis_url)
    for probe in [process.admit() for _ in range(3)]:
        end(probe, MosaicUnavailable())

    pass_redis_time(redis_url, 10)

    assert all(process.admit().is_probe for _ in range(3))
