"""Purging: history goes after its time, the living and the unfinished stay."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from uuid import UUID

import pytest
from sqlalchemy import insert, update
from structlog.testing import capture_logs

from models import CallKind, LoginCall, Notice, Ticket, UserWatermark, new_id
from sandbox.ports import free_port
from session_client import requests, times
from session_client.contract import LogoutScope, Reason
from simulator.server import SimulatorServer
from tests.integration.cli.cli_rig import make_older
from tests.integration.outbox.propagation_rig import by_queue, receipt
from tests.stage import Stage
from worker import wiring
from worker.maintenance import batches, last_runs, pace
from worker.maintenance.expire import expire_sessions
from worker.maintenance.last_runs import Run
from worker.maintenance.purge import purge_history
from worker.storage import redis_client
from worker.tasks import maintenance as tasks

NOTHING = dict.fromkeys(
    (
        "sessions",
        "watermarks",
        "device_watermarks",
        "receipts",
        "login_calls",
        "tickets",
        "events",
        "operator_actions",
    ),
    0,
)


@pytest.fixture
def keeper(store_url: str, redis_url: str, mosaic: SimulatorServer) -> Iterator[Stage]:
    """A stage that keeps ended sessions for 10 days and events for 20, in batches of two."""
    overrides = {"keep_ended_days": "10", "keep_events_days": "20", "maintenance_batch": "2"}
    with Stage(store_url, redis_url, mosaic, **overrides) as stage:
        stage.add_app("shop")
        stage.add_app("forum")
        stage.add_app("desk", capabilities=("logout_user",))
        yield stage


def rows(stage: Stage) -> dict[str, int]:
    return {table: len(found) for table, found in stage.dump().items()}


def test_what_is_past_its_time_goes_with_all_that_belongs_to_it(keeper: Stage) -> None:
    for _ in range(5):
        keeper.mosaic.state.faults.add("session/authenticate", "rotate_session_id", times=1)
        keeper.registered()
        keeper.silent_auth()
    keeper.log_out(app_id="desk", scope=LogoutScope.USER)
    assert set(keeper.tell_mosaic()) == {"confirmed"}
    keeper.pass_time(days=10, seconds=1)

    counts = purge_history(keeper.services)

    assert counts.is_complete
    assert counts.rows == NOTHING | {"sessions": 5, "watermarks": 1, "receipts": 1}
    left = {name: count for name, count in rows(keeper).items() if count}
    assert left == {"apps": 3, "app_keys": 3, "session_events": 20, "operator_actions": 3}
    keeper.pass_time(days=10)
    later = purge_history(keeper.services).rows
    assert (later["events"], later["operator_actions"]) == (20, 3)


def test_nothing_goes_before_its_time(keeper: Stage) -> None:
    ref = keeper.registered()
    keeper.log_out(session_ref=str(ref))
    keeper.tell_mosaic()
    keeper.pass_time(days=9, hours=23)
    before = keeper.dump()

    counts = purge_history(keeper.services)

    assert counts.rows == NOTHING
    assert keeper.dump() == before


def test_a_live_session_is_never_purged_however_old(keeper: Stage) -> None:
    ref = keeper.registered()
    for _ in range(4):
        keeper.pass_time(days=13)
        keeper.silent_auth()
    keeper.pass_time(days=60)  # past its time, but nobody has marked it yet

    purge_history(keeper.services)

    assert keeper.session(ref).ended_at is None


def test_a_session_mosaic_must_still_be_told_about_stays(keeper: Stage) -> None:
    ref = keeper.registered()
    keeper.log_out(session_ref=str(ref))
    keeper.pass_time(days=13)

    assert purge_history(keeper.services).rows["sessions"] == 0
    assert keeper.session(ref).sealed_session_id is not None
    assert keeper.tell_mosaic() == ["confirmed"]
    assert purge_history(keeper.services).rows["sessions"] == 1


@pytest.mark.parametrize("owed_to", ["Mosaic", "an app"])
def test_the_receipt_of_what_is_still_owed_stays_with_it(keeper: Stage, owed_to: str) -> None:
    by_queue(keeper, "stock")
    ref = keeper.registered()
    keeper.silent_auth("ada", "stock")
    receipt_id = keeper.log_out(session_ref=str(ref)).receipt_id
    if owed_to == "an app":
        assert keeper.tell_mosaic() == ["confirmed"]
    else:
        close_notices(keeper)
    keeper.pass_time(days=12)

    counts = purge_history(keeper.services)

    assert (counts.rows["sessions"], counts.rows["receipts"]) == (0, 0)
    assert receipt(keeper, receipt_id).sessions_ended == 1
    if owed_to == "an app":
        close_notices(keeper)
    else:
        assert keeper.tell_mosaic() == ["confirmed"]
    counts = purge_history(keeper.services)
    assert (counts.rows["sessions"], counts.rows["receipts"]) == (1, 1)


def close_notices(stage: Stage) -> None:
    with stage.services.store.write() as connection:
        connection.execute(update(Notice).values(closed_at=stage.now(), outcome="confirmed"))


def logged_out_for_long(stage: Stage, count: int) -> None:
    """Let there be sessions that are kept no more, and what a logout leaves behind."""
    for _ in range(count):
        stage.registered()
    stage.log_out(app_id="desk", scope=LogoutScope.USER)
    stage.tell_mosaic()
    stage.pass_time(days=21)


def flying_time(seconds_a_look: float = 1000) -> SimpleNamespace:
    """A clock that goes on by so much whenever it is looked at, and no pauses."""
    clock = itertools.count(0, seconds_a_look)
    return SimpleNamespace(monotonic=lambda: next(clock), sleep=lambda _: None)


def test_one_run_takes_its_time_once_for_all_it_deletes(
    keeper: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged_out_for_long(keeper, 5)
    # It is looked at once a run, and twice a batch.
    monkeypatch.setattr(batches, "time", flying_time(seconds_a_look=10))
    monkeypatch.setattr(pace, "_quickest", {})

    counts = purge_history(keeper.services)

    assert not counts.is_complete
    assert counts.rows["sessions"] == 2  # also where no time is left all go on, by a batch
    assert counts.rows["events"] == 2


def test_what_comes_last_is_deleted_as_fast_as_what_comes_first(
    keeper: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged_out_for_long(keeper, 12)
    monkeypatch.setattr(batches, "time", flying_time(seconds_a_look=1))
    monkeypatch.setattr(pace, "_quickest", {})

    rows = purge_history(keeper.services).rows

    assert 2 < rows["sessions"] < 12
    assert 0 <= rows["sessions"] - rows["events"] <= 2


# --- by beat, which asks each minute


def test_a_purge_that_is_done_is_not_done_again_within_its_time(keeper: Stage) -> None:
    tasks.purge_history()
    make_older(keeper, Run.PURGE_HISTORY, 3500)
    with capture_logs() as soon:
        tasks.purge_history()
    make_older(keeper, Run.PURGE_HISTORY, 50)
    with capture_logs() as later:
        tasks.purge_history()

    assert soon == []
    assert [line["event"] for line in later] == ["history_purged"]


def expired_for_long(stage: Stage, count: int) -> None:
    """Let there be sessions that are kept no more."""
    for _ in range(count):
        stage.registered()
    stage.pass_time(days=15)
    expire_sessions(stage.services)
    stage.pass_time(days=11)


def test_a_purge_that_did_not_come_to_its_end_goes_on_when_beat_asks_again(
    keeper: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    expired_for_long(keeper, 3)
    with monkeypatch.context() as patch:
        patch.setattr(batches, "time", flying_time())
        tasks.purge_history()
    left = len(keeper.sessions())
    noted = last_runs.ages(keeper.services.redis)[Run.PURGE_HISTORY]

    tasks.purge_history()

    assert (left, noted) == (1, None)
    assert keeper.sessions() == []
    assert last_runs.ages(keeper.services.redis)[Run.PURGE_HISTORY] is not None


def test_without_redis_a_purge_is_done_each_time(keeper: Stage) -> None:
    cut_off = redis_client.connect_redis(f"redis://127.0.0.1:{free_port()}/0")
    with wiring.use(replace(keeper.services, redis=cut_off)), capture_logs() as logs:
        tasks.purge_history()
        tasks.purge_history()
    cut_off.close()

    assert [line["event"] for line in logs] == ["history_purged", "run_not_noted"] * 2


def test_a_dry_run_counts_the_same_and_deletes_nothing(keeper: Stage) -> None:
    ref = keeper.registered()
    keeper.log_out(session_ref=str(ref))
    keeper.tell_mosaic()
    keeper.pass_time(days=21)
    before = keeper.dump()

    counts = purge_history(keeper.services, dry_run=True)

    past = {"sessions": 1, "receipts": 1, "events": 3, "operator_actions": 3}
    assert counts.rows == NOTHING | past
    assert keeper.dump() == before
    assert purge_history(keeper.services).rows == counts.rows


def a_ticket(stage: Stage, session: UUID, **age: float) -> bytes:
    """A ticket whose time was over that long ago."""
    name = new_id().bytes
    with stage.services.store.write() as connection:
        connection.execute(
            insert(Ticket).values(
                ticket_hash=name,
                idp_session_id=session,
                from_app="shop",
                for_app="forum",
                challenge=bytes(32),
                expires_at=stage.now() - timedelta(**age),
            )
        )
    return name


def a_login_call(stage: Stage, **age: float) -> UUID:
    """A call that was sent that long ago, and whose answer nobody heard."""
    name, sent_at = new_id(), stage.now() - timedelta(**age)
    with stage.services.store.write() as connection:
        connection.execute(
            insert(LoginCall).values(
                id=name,
                app_id="shop",
                request_id=name.hex,
                digest=bytes(32),
                kind=CallKind.LOGIN.value,
                method="password",
                sent_at=sent_at,
                call_until=sent_at,
                answer_until=sent_at,
            )
        )
    return name


def test_a_ticket_goes_an_hour_after_its_time_and_its_session_stays(keeper: Stage) -> None:
    ref = keeper.registered()
    for _ in range(3):
        a_ticket(keeper, ref, minutes=61)
    kept = {a_ticket(keeper, ref, minutes=59), a_ticket(keeper, ref, minutes=-1)}

    counts = purge_history(keeper.services)

    assert counts.rows == NOTHING | {"tickets": 3}
    assert {row[0] for row in keeper.dump()["tickets"]} == kept
    assert keeper.session(ref).ended_at is None


def test_a_watermark_goes_whatever_its_user_is_called(keeper: Stage) -> None:
    # PostgreSQL's arrays are written with braces, commas, quotes, backslashes and NULL.
    meant = [chr(code) for code in (*range(1, 128), 0xE9, 0x2028, 0x1F600)]
    names = {*meant, *(f"a{a}{b}" for a in '{},"\\ ' for b in meant), "", "NULL", "null", "{}"}
    long_ago = keeper.services.now() - timedelta(days=11)
    with keeper.services.store.write() as connection:
        marks = [{"user_id": name, "logged_out_at": long_ago} for name in names]
        connection.execute(insert(UserWatermark), marks)

    counts = purge_history(keeper.services)

    assert counts.rows["watermarks"] == len(names)
    assert not keeper.dump()["user_watermarks"]


def test_what_names_a_session_goes_with_it(keeper: Stage) -> None:
    ref = keeper.registered()
    a_ticket(keeper, ref, minutes=1)
    keeper.log_out(session_ref=str(ref))
    keeper.tell_mosaic()
    keeper.pass_time(days=10, seconds=1)

    purge_history(keeper.services)

    assert rows(keeper)["browser_tokens"] == rows(keeper)["tickets"] == 0


def test_the_journal_of_calls_is_kept_as_long_as_requests_are(keeper: Stage) -> None:
    for _ in range(3):
        a_login_call(keeper, days=10, seconds=1)
    kept = a_login_call(keeper, days=9)

    counts = purge_history(keeper.services)

    assert counts.rows == NOTHING | {"login_calls": 3}
    assert [row[0] for row in keeper.dump()["login_calls"]] == [kept]


@pytest.fixture
def forgetful(store_url: str, redis_url: str, mosaic: SimulatorServer) -> Iterator[Stage]:
    """A stage that is told to keep nothing that has ended."""
    with Stage(store_url, redis_url, mosaic, keep_ended_days="0") as stage:
        stage.add_app("shop")
        stage.add_app("desk", capabilities=("logout_user",))
        yield stage


@pytest.mark.parametrize("hours", [1, 23.9])
def test_a_logout_that_comes_again_after_a_purge_spares_the_login_that_followed_it(
    forgetful: Stage, hours: float
) -> None:
    forgetful.registered()
    everywhere = requests.Logout(user_id="ada", everywhere=True)
    deadline = times.to_wire(forgetful.now() + timedelta(hours=24))
    sent = forgetful.seal("desk", everywhere, deadline=deadline)
    first = forgetful.deliver(sent)
    assert forgetful.tell_mosaic() == ["confirmed"]
    forgetful.pass_time(hours=hours)
    purge_history(forgetful.services)
    forgetful.redis.flushall()  # the answers it keeps may be lost
    ref = forgetful.registered()

    again = forgetful.deliver(sent)

    assert again.receipt_id == first.receipt_id
    assert (again.sessions_ended, again.idp_confirmed) == (1, 1)
    assert forgetful.session(ref).ended_at is None


def test_a_session_logged_out_before_its_registration_is_known_when_that_comes(
    forgetful: Stage,
) -> None:
    login = forgetful.login("ada", "shop")
    forgetful.log_out(session_id=login.session_id)
    forgetful.tell_mosaic()
    forgetful.pass_time(minutes=10)
    purge_history(forgetful.services)

    assert forgetful.remember(login).reason == Reason.LOGGED_OUT


def test_what_no_message_can_ask_for_any_more_goes_when_nothing_is_to_be_kept(
    forgetful: Stage,
) -> None:
    forgetful.registered()
    forgetful.log_out(app_id="desk", scope=LogoutScope.USER)
    forgetful.tell_mosaic()
    forgetful.pass_time(days=2, seconds=1)

    counts = purge_history(forgetful.services)

    assert counts.rows == NOTHING | {"sessions": 1, "watermarks": 1, "receipts": 1}


def test_when_its_time_is_up_the_next_run_goes_on(
    keeper: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    expired_for_long(keeper, 5)
    with monkeypatch.context() as patch:
        patch.setattr(batches, "time", flying_time())
        first = purge_history(keeper.services)

    second = purge_history(keeper.services)

    assert (first.rows["sessions"], first.is_complete) == (2, False)
    assert (second.rows["sessions"], second.is_complete) == (3, True)


def test_the_task_does_the_same(keeper: Stage) -> None:
    expired_for_long(keeper, 1)

    tasks.purge_history()

    assert keeper.sessions() == []
