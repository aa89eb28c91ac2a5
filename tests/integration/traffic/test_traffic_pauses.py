"""When Mosaic says 429: everybody whom it concerns waits, and nobody else."""

from __future__ import annotations

import pytest
from sqlalchemy import select, update

from models import Logout
from session_client.contract import Reason, Verdict
from tests.integration.traffic.traffic_rig import (
    DESK,
    FORUM,
    SHOP,
    Client,
    Process,
    Starter,
    another_process,
    end,
    pass_redis_time,
    seconds,
)
from tests.stage import Stage
from worker.errors import MosaicRateLimited
from worker.outbox.mosaic_logouts import end_at_idp
from worker.traffic import Lane

ASK, TELL = "session/authenticate", "session/logout"


def limited(
    process: Process, asked: float | None = None, lane: Lane = Lane.AUTH, app: Client = SHOP
) -> float:
    """Be told 429; return for how long the caller is told to wait."""
    raised = process.call(MosaicRateLimited(retry_after=asked), lane, app)
    assert isinstance(raised, MosaicRateLimited)
    return raised.retry_after


def test_the_time_mosaic_asks_for_is_kept_by_every_process(start: Starter, redis_url: str) -> None:
    process, other = start(), start()

    assert limited(process, 47) == 47

    held = other.held_back()
    assert held.reason is Reason.RATE_LIMITED
    assert 37 < held.retry_after <= 47
    pass_redis_time(redis_url, 47)
    other.admit()


@pytest.mark.parametrize(
    ("told", "held", "free"),
    [(Lane.AUTH, (Lane.AUTH,), (Lane.LOGOUT,)), (Lane.LOGOUT, tuple(Lane), ())],
)
def test_a_logout_waits_for_logouts_only_and_the_rest_for_both(
    start: Starter, told: Lane, held: tuple[Lane, ...], free: tuple[Lane, ...]
) -> None:
    process = start()
    limited(process, 30, told)

    for lane in held:
        assert process.held_back(lane).retry_after > 20
    for lane in free:
        process.admit(lane)


def test_other_applications_go_on_when_one_is_limited(start: Starter) -> None:
    process = start()
    limited(process, 30, app=SHOP)

    process.admit(app=FORUM)
    process.admit(app=DESK)


def test_an_application_that_is_told_twice_is_still_the_only_one_that_waits(
    start: Starter,
) -> None:
    process = start()
    first, second = process.admit(), process.admit()
    for permit in (first, second):
        end(permit, MosaicRateLimited(retry_after=30))

    process.held_back(app=SHOP)
    process.admit(app=FORUM)


@pytest.mark.parametrize("lane", Lane)
def test_two_applications_told_at_once_stop_all_of_our_address(start: Starter, lane: Lane) -> None:
    process, other = start(), start()
    limited(process, 30, lane, SHOP)
    limited(process, 20, lane, FORUM)

    held = other.held_back(lane, DESK)
    assert held.reason is Reason.RATE_LIMITED
    assert 15 < held.retry_after <= 20


def test_an_application_told_after_the_others_pause_is_over_stops_nobody_else(
    start: Starter,
) -> None:
    process = start()
    assert limited(process, 0.001, app=SHOP) == 0.1  # Redis keeps no key for no time at all
    while process.redis.exists(f"mosaic-sessions:limited:last:{Lane.AUTH}"):
        pass  # a tenth of a second

    limited(process, 30, app=FORUM)

    process.admit(app=DESK)


def test_a_shorter_pause_does_not_end_a_longer_one(start: Starter) -> None:
    process = start()
    late = process.admit()
    limited(process, 30)

    end(late, MosaicRateLimited(retry_after=1))

    assert process.held_back().retry_after > 20


def test_without_a_time_from_mosaic_pauses_grow_with_jitter_up_to_a_minute(
    start: Starter, redis_url: str
) -> None:
    process = start()
    pauses = []
    for _ in range(9):
        pauses.append(limited(process))
        pass_redis_time(redis_url, pauses[-1])

    for times, pause in enumerate(pauses):
        ceiling = min(60, 2**times)
        assert ceiling / 2 <= pause <= ceiling
    assert len({pause / min(60, 2**times) for times, pause in enumerate(pauses)}) > 1


def test_a_mosaic_that_asks_for_no_time_is_asked_more_and_more_seldom(
    process: Process, redis_url: str
) -> None:
    pauses = []
    for _ in range(5):
        pauses.append(limited(process, 0))
        pass_redis_time(redis_url, pauses[-1])

    for times, pause in enumerate(pauses):
        assert 2**times / 2 <= pause <= 2**times


def test_calls_under_way_when_the_pause_began_do_not_make_it_grow(start: Starter) -> None:
    """Sixteen calls told 429 at once are one occasion, not one that lasts an hour."""
    process = start()
    # The fifth in a row: a pause of eight seconds or more, to be told the others within it.
    process.redis.set("mosaic-sessions:limited:times:shop:auth", 4)
    permits = [process.admit() for _ in range(16)]

    told = [end(permit, MosaicRateLimited()) for permit in permits]

    assert process.held_back().retry_after <= 16
    assert all(isinstance(error, MosaicRateLimited) and error.retry_after <= 16 for error in told)


def test_how_often_it_happened_is_remembered_beyond_the_longest_pause(start: Starter) -> None:
    process = start()
    pause = 0.0
    for _ in range(7):
        pause = limited(process)
        process.redis.delete("mosaic-sessions:pause:app:shop:auth")

    left = process.redis.pttl("mosaic-sessions:limited:times:shop:auth")
    assert isinstance(left, int)
    assert left / 1000 > pause + 30


# --- as apps see it


@pytest.fixture
def stage(sqlite_stage: Stage) -> Stage:
    sqlite_stage.add_app("shop")
    sqlite_stage.add_app("forum")
    return sqlite_stage


def test_no_call_reaches_mosaic_from_any_process_while_it_asked_us_to_wait(
    stage: Stage, redis_url: str
) -> None:
    stage.registered()
    stage.mosaic.state.faults.add(ASK, "rate_limited", retry_after=40, times=1)
    told = stage.silent_auth()

    with another_process(stage):
        waits = stage.silent_auth()
        assert stage.silent_auth("ada", "shop").verdict is Verdict.AUTHENTICATED

    for answer in (told, waits):
        assert answer.verdict is Verdict.TEMPORARILY_UNAVAILABLE
        assert answer.reason == Reason.RATE_LIMITED
    assert told.retry_after == 40
    assert 20 < waits.retry_after <= 40
    assert stage.mosaic.state.calls.count(ASK, "client-forum") == 1
    pass_redis_time(redis_url, 40)
    assert stage.silent_auth().verdict is Verdict.AUTHENTICATED


def test_a_logout_held_back_is_put_off_uncounted_and_delivered_afterwards(
    stage: Stage, redis_url: str
) -> None:
    refs = [stage.registered(user) for user in ("ada", "bob")]
    for user, ref in zip(("ada", "bob"), refs, strict=True):
        stage.log_out(user, session_ref=str(ref))
    tried, held_back = (row.id for row in stage.logouts())
    stage.mosaic.state.faults.add(TELL, "rate_limited", retry_after=40, times=1)

    assert end_at_idp(stage.services, tried) is None
    assert end_at_idp(stage.services, held_back) is None

    with stage.services.store.read() as connection:
        columns = (Logout.attempts, Logout.next_attempt_at, Logout.lease_token)
        rows = {
            row.id: row for row in connection.execute(select(Logout.id, Logout.closed_at, *columns))
        }
    assert stage.mosaic.state.calls.count(TELL) == 1
    assert (rows[tried].attempts, rows[held_back].attempts) == (1, 0)
    for row in rows.values():
        assert row.closed_at is row.lease_token is None
        assert 20 < seconds(row.next_attempt_at - stage.now()) <= 40 + 2

    pass_redis_time(redis_url, 40)
    stage.pass_time(seconds=43)
    assert stage.tell_mosaic() == ["confirmed", "confirmed"]


def test_a_delivery_that_failed_often_is_not_put_off_for_long_when_it_was_only_held_back(
    stage: Stage,
) -> None:
    stage.log_out(session_ref=str(stage.registered()))
    with stage.services.store.write() as connection:
        connection.execute(update(Logout).values(attempts=12))
    app = stage.services.apps.find("shop")
    assert app is not None
    permit = stage.services.traffic.admit_logout(app.mosaic, "another", is_untried=True)
    end(permit, MosaicRateLimited(retry_after=20))

    assert stage.tell_mosaic() == [None]

    (row,) = stage.logouts()
    assert row.attempts == 12
    assert seconds(row.next_attempt_at - stage.now()) <= 20 + 2
