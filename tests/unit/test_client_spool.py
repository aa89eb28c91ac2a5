"""Spooled logouts: kept until acknowledged, whatever the worker, the store or a key does."""

from __future__ import annotations

import inspect
import logging
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from sandbox.processes import poll_until
from session_client import (
    AppKey,
    ConfigurationError,
    Logout,
    LogoutSpool,
    Reason,
    SessionClient,
    SpoolCounts,
    SpooledLogout,
    SpoolStore,
    SqliteSpool,
    Verdict,
    contract,
    sealing,
    times,
)
from session_client._core.message import Message
from session_client.spool import drain, logouts, sql
from session_client.spool.pace import Pace

KEY = AppKey("k1", bytes(range(32)))
OLD_KEY = AppKey("k0", bytes(32))
USER = "ada-lovelace"
SECRET = "the-secret-session-id"
OK = (Verdict.OK, None)
DOWN = (Verdict.TEMPORARILY_UNAVAILABLE, Reason.STORE_UNAVAILABLE)
Says = tuple[Verdict, str | None] | None


def opened(envelope: str, key: AppKey = KEY) -> dict[str, Any]:
    return sealing.unseal(envelope, sealing.Kind.REQUEST, {key.kid: key}.get)


class Client(SessionClient):
    """Seals as the real one, and gets the answers that a test lays down; None is silence."""

    def __init__(self, *answers: Says, key: AppKey = KEY) -> None:
        super().__init__(broker_url="redis://127.0.0.1:1/0", app_id="shop", app_key=key)
        self.answers = list(answers)
        self.sent: list[str] = []
        self.batches: list[int] = []
        self.answers_about = "sessions.logout"
        self.retry_after: float | None = None
        self.on_send: Callable[[], object] = lambda: None

    @property
    def _driver(self) -> Any:
        return self

    def ask_all(
        self, messages: Sequence[Message], answer_to: str, quiet: float, longest: float
    ) -> Iterator[bytes | None]:
        assert contract.is_request_id(answer_to)
        assert 0 < quiet < longest
        self.on_send()
        self.batches.append(len(messages))
        self.sent += [message.request_id for message in messages]
        for message in messages:
            says = self.answers.pop(0) if self.answers else OK
            if says is None:
                yield None
                continue
            content = {"v": 1, "task": self.answers_about, "app_id": "shop", "verdict": says[0],
                       "reason": says[1], "request_id": message.request_id, "data": {},
                       "answered_at": "2026-11-02T08:00:00Z",
                       "retry_after": self.retry_after}  # fmt: skip
            yield sealing.seal(self._app.key, sealing.Kind.ANSWER, content).encode()


@pytest.fixture
def store(tmp_path: Path) -> SqliteSpool:
    return SqliteSpool(tmp_path / "logouts.db")


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is put back is due at once."""
    monkeypatch.setattr(drain, "MAX_PAUSE_SECONDS", 0.0)


def spool_of(client: SessionClient, store: SpoolStore, **options: Any) -> LogoutSpool:
    return LogoutSpool(client, store, thread=False, **options)


def spooled(client: SessionClient, store: SpoolStore, number: int) -> list[str]:
    spool = spool_of(client, store)
    return [spool.logout(user_id=USER, session_id=f"{SECRET}-{n}") for n in range(number)]


def rows(store: SqliteSpool) -> list[tuple[str, str]]:
    """What waits, looked at without claiming it."""
    with closing(sqlite3.connect(store._path)) as connection:
        return connection.execute(
            "SELECT request_id, envelope FROM spooled_logouts WHERE refused IS NULL ORDER BY id"
        ).fetchall()


def waiting(store: SqliteSpool) -> list[str]:
    return [request_id for request_id, _ in rows(store)]


def test_logouts_are_delivered_in_their_order_and_forgotten(store: SqliteSpool) -> None:
    client = Client()
    ids = spooled(client, store, 3)
    assert waiting(store) == ids

    assert spool_of(client, store).deliver() == 3

    assert client.sent == ids
    assert (waiting(store), store.refused()) == ([], [])


def test_a_batch_is_published_at_once_and_silence_keeps_what_was_not_answered(
    store: SqliteSpool,
) -> None:
    client = Client(OK, None, OK, None)
    ids = spooled(client, store, 3)

    assert spool_of(client, store).deliver() == 2

    assert client.batches == [3, 1]
    assert client.sent == [*ids, ids[1]]
    assert waiting(store) == ids[1:2]


def test_what_is_put_back_rests_a_while(
    store: SqliteSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "MAX_PAUSE_SECONDS", 10.0)
    client = Client(None)
    ids = spooled(client, store, 1)
    spool = spool_of(client, store)

    assert [spool.deliver(), spool.deliver()] == [0, 0]

    assert client.sent == ids
    assert spool.counts() == SpoolCounts(waiting=1, refused=0)


def rests(store: SqliteSpool) -> float:
    """Return in how many seconds the one that waits is due, and have it be due at once."""
    with closing(sqlite3.connect(store._path)) as connection:
        due = f"SELECT not_before - {SqliteSpool._NOW} FROM spooled_logouts"  # noqa: S608 - ours
        ((seconds,),) = connection.execute(due).fetchall()
        connection.execute("UPDATE spooled_logouts SET not_before = 0")
        connection.commit()
    return float(seconds)


def test_what_is_put_back_rests_twice_as_long_each_time_and_ten_seconds_at_most(
    store: SqliteSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "MAX_PAUSE_SECONDS", 10.0)
    client = Client(*[None] * 7)
    spooled(client, store, 1)
    spool = spool_of(client, store)

    pauses = []
    for _ in range(7):
        spool.deliver()
        pauses.append(rests(store))

    assert pauses == pytest.approx([1, 2, 4, 8, 10, 10, 10], abs=0.9)


@pytest.mark.parametrize(("asks", "pause"), [(0.0, 1), (0.2, 1), (3.0, 3), (600.0, 10)])
def test_what_is_put_off_rests_as_long_as_the_worker_asks_from_one_to_ten_seconds(
    store: SqliteSpool, monkeypatch: pytest.MonkeyPatch, asks: float, pause: float
) -> None:
    monkeypatch.setattr(drain, "MAX_PAUSE_SECONDS", 10.0)
    client = Client(DOWN)
    client.retry_after = asks
    spooled(client, store, 1)

    spool_of(client, store).deliver()

    assert rests(store) == pytest.approx(pause, abs=0.9)


def test_a_worker_that_asks_for_patience_is_asked_again_with_the_same_request(
    store: SqliteSpool,
) -> None:
    client = Client(DOWN)
    ids = spooled(client, store, 2)
    spool = spool_of(client, store)

    assert spool.deliver() == 2

    assert client.sent == [*ids, ids[0]]


def test_a_defect_that_one_request_meets_does_not_keep_back_the_others(store: SqliteSpool) -> None:
    broken = (Verdict.TEMPORARILY_UNAVAILABLE, Reason.INTERNAL_ERROR)
    client = Client(broken, OK, broken)
    ids = spooled(client, store, 2)

    assert spool_of(client, store).deliver() == 1
    assert waiting(store) == ids[:1]


def test_a_refused_one_is_kept_in_sight_and_does_not_keep_back_the_others(
    store: SqliteSpool,
) -> None:
    client = Client((Verdict.UNAUTHORIZED, Reason.APP_DISABLED))
    ids = spooled(client, store, 2)
    spool = spool_of(client, store)

    assert spool.deliver() == 1
    assert spool.deliver() == 0

    assert client.sent == ids
    (refused,) = store.refused()
    assert (refused.request_id, refused.refused) == (ids[0], "unauthorized: app_disabled")


def test_what_was_refused_can_be_tried_again(store: SqliteSpool) -> None:
    client = Client((Verdict.UNAUTHORIZED, Reason.APP_DISABLED))
    ids = spooled(client, store, 1)
    spool = spool_of(client, store)
    spool.deliver()

    assert spool.retry_refused() == 1
    assert spool.deliver() == 1

    assert client.sent == ids * 2
    assert store.refused() == []


@pytest.mark.parametrize("reason", [Reason.DEADLINE_PASSED, Reason.CLOCK_SKEW])
def test_one_that_is_too_old_is_the_same_logout_as_a_request_of_today(
    store: SqliteSpool, reason: Reason, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client((Verdict.INVALID_REQUEST, reason))
    with monkeypatch.context() as long_ago:
        long_ago.setattr(times, "now", lambda: datetime(2026, 1, 1, tzinfo=UTC))
        (old_id,) = spooled(client, store, 1)
    old = opened(rows(store)[0][1])
    spool = spool_of(client, store)

    assert spool.deliver() == 0
    ((again, envelope),) = rows(store)
    new = opened(envelope)

    assert again == new["request_id"] != old_id
    assert {name: new[name] for name in ("v", "task", "app_id", "payload")} == {
        name: old[name] for name in ("v", "task", "app_id", "payload")
    }
    issued_at, deadline = times.from_wire(new["issued_at"]), times.from_wire(new["deadline"])
    assert abs(issued_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert deadline - issued_at == contract.MAX_LIFETIME[contract.Task.LOGOUT]
    assert spool.deliver() == 1
    assert waiting(store) == []


def test_a_crash_before_it_is_settled_means_a_repeat_of_the_same_request(
    store: SqliteSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "LEASE_SECONDS", 0.0)
    client = Client()
    ids = spooled(client, store, 1)
    with monkeypatch.context() as crash:
        crash.setattr(store, "settle", Mock(side_effect=RuntimeError("crashed")))
        with pytest.raises(RuntimeError):
            spool_of(client, store).deliver()
    assert waiting(store) == ids

    time.sleep(0.01)  # the lease is over
    spool_of(client, store).deliver()

    assert client.sent == ids * 2
    assert waiting(store) == []


def test_after_the_apps_key_was_rotated_logouts_under_the_old_one_go_out_under_the_new(
    store: SqliteSpool,
) -> None:
    # The answer to the old envelope would be sealed with a key that this client does not have.
    (old_id,) = spooled(Client(key=OLD_KEY), store, 1)
    client = Client(None)
    spool = spool_of(client, store, earlier_keys=[OLD_KEY.text()])

    assert spool.deliver() == 0
    ((again, envelope),) = rows(store)

    assert opened(envelope)["payload"]["session_id"] == f"{SECRET}-0"
    assert client.sent == [again] != [old_id]
    assert spool.deliver() == 1


def test_one_that_no_key_opens_is_refused_and_does_not_keep_back_the_others(
    store: SqliteSpool,
) -> None:
    (old_id,) = spooled(Client(key=OLD_KEY), store, 1)
    store.add(SpooledLogout("damaged", "x"))
    client = Client()
    ids = spooled(client, store, 1)

    assert spool_of(client, store).deliver() == 1

    assert client.sent == ids
    assert [logout.request_id for logout in store.refused()] == [old_id, "damaged"]


def test_an_answer_about_another_task_settles_nothing(store: SqliteSpool) -> None:
    client = Client()
    client.answers_about = "sessions.status"
    ids = spooled(client, store, 1)

    assert spool_of(client, store).deliver() == 0

    assert waiting(store) == ids


def test_what_cannot_be_a_logout_is_not_written_down(store: SqliteSpool) -> None:
    with pytest.raises(ConfigurationError):
        spool_of(Client(), store).logout(user_id="ada")

    assert waiting(store) == []


def test_it_takes_what_a_logout_takes_but_what_is_about_waiting() -> None:
    takes, asks = (
        dict(inspect.signature(logout).parameters) for logout in (LogoutSpool.logout, Logout)
    )
    wanted = {name: asked for name, asked in asks.items() if name not in {"wait", "timeout"}}

    assert {name: takes.get(name) for name in wanted} == wanted
    assert takes.keys() - wanted.keys() == {"self", "connection", "within", "other"}


WAYS_TO_NAME: list[dict[str, Any]] = [
    {"browser_token": "b"},
    {"user_id": USER, "session_ref": "r"},
    {"user_id": USER, "session_id": "s"},
    {"user_id": USER, "device_id": "d"},
    {"user_id": USER, "everywhere": True},
]


@pytest.mark.parametrize("named", WAYS_TO_NAME, ids=str)
def test_what_is_written_down_is_the_logout_that_was_asked_for(
    store: SqliteSpool, named: dict[str, Any]
) -> None:
    request_id = spool_of(Client(), store).logout(**named, request_id="r" * 16)

    ((kept, envelope),) = rows(store)
    content = opened(envelope)
    assert kept == content["request_id"] == request_id == "r" * 16
    assert content["payload"] == Logout(**named).payload()


@pytest.mark.parametrize("request_id", [None, "r" * 16])
def test_for_a_browser_without_a_token_nothing_is_written_down(
    store: SqliteSpool, request_id: str | None
) -> None:
    spool = LogoutSpool(Client(), store)

    told = spool.logout(browser_token=None, request_id=request_id)

    assert contract.is_request_id(told)
    assert request_id in {None, told}
    assert spool.counts() == SpoolCounts(waiting=0, refused=0)
    with pytest.raises(ConfigurationError, match=r"^browser_token: "):
        spool.logout(browser_token=None, user_id=USER)


@pytest.mark.parametrize("more", [{"wait": "all"}, {"wait": "local"}, {"timeout": 3.0}], ids=str)
@pytest.mark.parametrize("named", [*WAYS_TO_NAME, {"browser_token": None}], ids=str)
def test_nothing_is_promised_to_who_would_wait(
    store: SqliteSpool, named: dict[str, Any], more: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError, match=rf"^{next(iter(more))}: .*client\.logout"):
        spool_of(Client(), store).logout(**named, **more)

    assert waiting(store) == []


def test_what_no_logout_takes_is_refused_by_name(store: SqliteSpool) -> None:
    with pytest.raises(TypeError, match="browser_tokn"):
        spool_of(Client(), store).logout(browser_tokn="b")  # type: ignore[arg-type]

    assert waiting(store) == []


def test_the_envelope_is_in_no_repr() -> None:
    assert "sealed-text" not in repr(SpooledLogout("a", "sealed-text"))


# --- what is said of them


def logged(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno == level and record.name == "session_client.spool"
    ]


def test_a_refusal_for_good_is_an_error_in_the_log_without_the_secret(
    store: SqliteSpool, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client((Verdict.UNAUTHORIZED, Reason.WRONG_KEY))
    (refused_id, _) = spooled(client, store, 2)

    spool_of(client, store).deliver()

    (error,) = logged(caplog, logging.ERROR)
    assert refused_id in error
    assert "unauthorized: wrong_key" in error
    assert SECRET not in caplog.text
    assert USER not in caplog.text
    assert "eyJ" not in caplog.text  # how an envelope begins


def test_one_that_no_key_opens_is_an_error_in_the_log_too(
    store: SqliteSpool, caplog: pytest.LogCaptureFixture
) -> None:
    store.add(SpooledLogout("damaged", "x"))

    spool_of(Client(), store).deliver()

    (error,) = logged(caplog, logging.ERROR)
    assert "damaged" in error
    assert "not among ours" in error


def test_the_app_is_told_of_each_refusal_once_it_is_kept(store: SqliteSpool) -> None:
    client = Client((Verdict.UNAUTHORIZED, Reason.WRONG_KEY))
    (refused_id, _) = spooled(client, store, 2)
    told: list[tuple[SpooledLogout, list[SpooledLogout]]] = []

    spool = spool_of(client, store, on_refused=lambda one: told.append((one, store.refused())))
    spool.deliver()
    spool.deliver()

    ((one, kept),) = told
    assert (one.request_id, one.refused) == (refused_id, "unauthorized: wrong_key")
    assert kept == [one]


def test_many_refusals_of_one_batch_are_looked_up_once(
    store: SqliteSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(*[(Verdict.UNAUTHORIZED, Reason.WRONG_KEY)] * 3)
    ids = spooled(client, store, 3)
    told: list[str] = []
    spool = spool_of(client, store, on_refused=lambda one: told.append(one.request_id))
    look = Mock(side_effect=store.refused)
    monkeypatch.setattr(store, "refused", look)

    spool.deliver()

    assert told == ids
    assert look.call_count == 1


def test_an_app_that_fails_when_it_is_told_does_not_keep_back_the_others(
    store: SqliteSpool, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: SpooledLogout) -> None:
        raise RuntimeError("the pager is down")

    client = Client(*[(Verdict.UNAUTHORIZED, Reason.WRONG_KEY)] * 2)
    ids = spooled(client, store, 3)

    assert spool_of(client, store, on_refused=fail).deliver() == 1

    assert client.sent == ids
    assert caplog.text.count("on_refused failed") == 2


def test_silence_is_a_warning_now_and_then_and_not_each_time(
    store: SqliteSpool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(*[None] * 8)
    spooled(client, store, 2)
    spool = spool_of(client, store)
    monkeypatch.setattr(logouts, "WARN_EVERY_SECONDS", 3600.0)
    for _ in range(3):
        spool.deliver()

    (warning,) = logged(caplog, logging.WARNING)
    assert "no answer in time" in warning
    assert "2 wait" in warning
    assert SECRET not in caplog.text

    monkeypatch.setattr(logouts, "WARN_EVERY_SECONDS", 0.0)
    spool.deliver()

    assert len(logged(caplog, logging.WARNING)) == 2


def test_a_delivery_without_trouble_says_nothing(
    store: SqliteSpool, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client()
    spooled(client, store, 2)

    spool_of(client, store).deliver()

    assert caplog.records == []


def test_a_spool_tells_what_waits_and_what_was_refused(store: SqliteSpool) -> None:
    client = Client((Verdict.UNAUTHORIZED, Reason.WRONG_KEY), *[None] * 3)
    ids = spooled(client, store, 4)
    spool = spool_of(client, store)
    spool.deliver()

    assert spool.counts() == SpoolCounts(waiting=3, refused=1)
    assert [one.request_id for one in spool.refused()] == ids[:1]

    spool.retry_refused()

    assert spool.counts() == SpoolCounts(waiting=4, refused=0)


# --- the background thread


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logouts, "PAUSE_SECONDS", 0.02)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "logout-spool"]


@pytest.mark.usefixtures("quick")
def test_the_thread_starts_by_itself_and_delivers_what_was_there_and_what_comes(
    store: SqliteSpool,
) -> None:
    client = Client(None, None)
    spooled(client, store, 1)
    spool = LogoutSpool(client, store)
    assert threads() == []

    spool.logout(user_id="ada", session_id="later")
    poll_until(lambda: not waiting(store), 60)
    spool.start()
    assert len(threads()) == 1
    spool.stop()

    assert threads() == []


@pytest.mark.usefixtures("quick")
def test_what_was_refused_is_sent_by_the_thread_of_a_process_that_has_logged_nobody_out(
    store: SqliteSpool,
) -> None:
    spool_of(Client((Verdict.UNAUTHORIZED, Reason.APP_DISABLED)), store).logout(
        user_id=USER, session_id=SECRET
    )
    spool_of(Client((Verdict.UNAUTHORIZED, Reason.APP_DISABLED)), store).deliver()
    spool = LogoutSpool(Client(), store)

    assert spool.retry_refused() == 1

    poll_until(lambda: spool.counts() == SpoolCounts(waiting=0, refused=0), 60)
    spool.stop()


@pytest.mark.usefixtures("quick")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_has_ended_is_followed_by_another(store: SqliteSpool) -> None:
    client = Client()
    client.on_send = Mock(side_effect=[SystemExit, None])  # an app's own `on_refused` may do it
    spool = LogoutSpool(client, store)
    spool.start()
    (thread,) = threads()
    spool.logout(user_id=USER, session_id=SECRET)
    thread.join(60)

    spool.logout(user_id=USER, session_id="another")

    assert not thread.is_alive()
    poll_until(lambda: len(waiting(store)) == 1, 60)  # the other is held for its lease
    spool.stop()


@pytest.mark.usefixtures("quick")
def test_a_logout_is_kept_where_the_system_gives_no_thread_and_the_next_one_starts_it(
    store: SqliteSpool,
) -> None:
    spool = LogoutSpool(Client(), store)
    usual = threading.stack_size(1 << 47)  # no system has as much
    try:
        spool.logout(user_id=USER, session_id=SECRET)
    finally:
        threading.stack_size(usual)
    assert len(waiting(store)) == 1

    spool.logout(user_id=USER, session_id="another")

    poll_until(lambda: not waiting(store), 60)
    spool.stop()


def test_a_new_logout_wakes_the_thread_at_once(
    store: SqliteSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logouts, "PAUSE_SECONDS", 60.0)
    spool = LogoutSpool(Client(), store)
    spool.start()
    time.sleep(0.1)

    spool.logout(user_id="ada", session_id="s")
    poll_until(lambda: not waiting(store), 60)
    started = time.monotonic()
    spool.stop()

    assert time.monotonic() - started < 9  # its own is 10


@pytest.mark.usefixtures("quick")
def test_while_nobody_answers_one_after_the_other_is_tried_and_not_all_of_them(
    store: SqliteSpool,
) -> None:
    client = Client(*[None] * 8)
    ids = spooled(client, store, 5)
    spool = LogoutSpool(client, store)
    spool.start()
    poll_until(lambda: not waiting(store), 60)
    spool.stop()

    assert client.batches[:4] == [5, 1, 1, 1]
    assert set(client.sent) == set(ids)


def test_a_clock_that_is_wrong_has_the_thread_rest_between_two_tries(
    store: SqliteSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logouts, "PAUSE_SECONDS", 60.0)
    client = Client(*[(Verdict.INVALID_REQUEST, Reason.CLOCK_SKEW)] * 1000)
    spooled(client, store, 1)
    spool = LogoutSpool(client, store)
    spool.start()
    poll_until(lambda: client.sent, 60)
    time.sleep(0.3)  # without a rest: a try every few milliseconds
    spool.stop()

    assert len(client.sent) <= 2  # one more if the thread was woken while it tried


def test_a_batch_that_no_key_opens_does_not_have_the_thread_rest(
    store: SqliteSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logouts, "PAUSE_SECONDS", 60.0)
    monkeypatch.setattr(drain, "BATCH", 2)
    for number in range(4):
        store.add(SpooledLogout(f"damaged-{number}", "x"))
    client = Client()
    ids = spooled(client, store, 1)
    spool = LogoutSpool(client, store)
    spool.start()
    poll_until(lambda: client.sent == ids, 20)
    spool.stop()


@pytest.mark.usefixtures("quick")
def test_a_store_that_fails_for_a_while_does_not_end_the_thread(
    store: SqliteSpool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim, failures = store.claim, [sqlite3.OperationalError("database is locked")] * 2

    def failing(by: str, limit: int, lease_seconds: float) -> list[SpooledLogout]:
        if failures:
            raise failures.pop()
        return claim(by, limit, lease_seconds)

    monkeypatch.setattr(store, "claim", failing)
    spool = LogoutSpool(Client(), store)
    spool.logout(user_id="ada", session_id=SECRET)
    poll_until(lambda: not waiting(store), 60)
    spool.stop()

    assert caplog.text.count("trying again") == 2
    assert SECRET not in caplog.text


@pytest.mark.usefixtures("quick")
def test_stop_returns_in_time_and_a_thread_that_was_held_up_does_not_run_on(
    store: SqliteSpool,
) -> None:
    held, release = threading.Event(), threading.Event()
    client = Client()

    def hold() -> None:
        held.set()
        release.wait(60)

    client.on_send = hold
    ids = spooled(client, store, 3)
    spool = LogoutSpool(client, store)
    spool.start()
    assert held.wait(60)
    (thread,) = threads()

    started = time.monotonic()
    spool.stop(timeout=0.2)
    assert time.monotonic() - started < 9
    assert waiting(store) == ids
    spool.start()  # before the first one has noticed
    release.set()
    thread.join(60)

    assert not thread.is_alive()
    poll_until(lambda: not waiting(store), 60)
    spool.stop()
    assert set(client.sent) == set(ids)


# --- who cannot wait for the store


@pytest.mark.usefixtures("quick")
def test_who_does_not_wait_for_a_locked_file_is_told_so_and_the_logout_is_delivered_all_the_same(
    store: SqliteSpool,
) -> None:
    client = Client()
    spool = LogoutSpool(client, store)
    with closing(sqlite3.connect(store._path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(TimeoutError, match="still tried"):
            spool.logout(user_id=USER, session_id=SECRET, request_id="a" * 20, within=0.01)
        assert client.sent == []
        other.rollback()

    poll_until(lambda: client.sent == ["a" * 20], 60)
    poll_until(lambda: spool.counts() == SpoolCounts(waiting=0, refused=0), 60)
    spool.stop()


@pytest.mark.usefixtures("quick")
def test_a_store_that_stays_locked_leaves_few_threads_behind(
    store: SqliteSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql, "_BUSY_SECONDS", 60.0)
    client = Client()
    spool = LogoutSpool(client, store)
    with closing(sqlite3.connect(store._path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for number in range(2 * logouts.MOST_WRITERS):
            with pytest.raises((TimeoutError, sqlite3.OperationalError)):
                spool.logout(user_id=USER, session_id=SECRET, request_id=f"{number:020}", within=0)
        writers = [one for one in threading.enumerate() if "spool-writer" in one.name]
        other.rollback()

    assert len(writers) == logouts.MOST_WRITERS
    poll_until(lambda: len(client.sent) == logouts.MOST_WRITERS, 60)
    spool.stop()


def test_a_store_that_is_in_time_takes_a_logout_as_it_does_without_a_limit(
    store: SqliteSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = LogoutSpool(Client(), store)
    monkeypatch.setattr(spool, "start", lambda: None)

    kept = spool.logout(user_id=USER, session_id=SECRET, within=60.0)
    assert [one.request_id for one in store.claim("a test", 10, 60.0)] == [kept]
    with closing(sqlite3.connect(store._path)) as other:
        other.execute("DROP TABLE spooled_logouts")
    with pytest.raises(sqlite3.OperationalError):
        spool.logout(user_id=USER, session_id=SECRET, within=60.0)


def test_a_store_that_fails_after_the_limit_is_an_error_in_the_log_without_the_secret(
    store: SqliteSpool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    told = threading.Event()

    def fail(_: SpooledLogout, connection: object = None) -> None:
        assert told.wait(60)
        raise sqlite3.OperationalError("database is locked")

    monkeypatch.setattr(store, "add", fail)
    spool = LogoutSpool(Client(), store)
    monkeypatch.setattr(spool, "start", lambda: None)
    with pytest.raises(TimeoutError):
        spool.logout(user_id=USER, session_id=SECRET, request_id="a" * 20, within=0.01)
    told.set()

    poll_until(lambda: "aaaa could not be kept" in caplog.text, 60)
    assert "database is locked" in caplog.text
    assert SECRET not in caplog.text


# --- the file


def test_the_file_is_for_its_owner_alone_and_holds_no_secret_in_clear(tmp_path: Path) -> None:
    path = tmp_path / "logouts.db"
    store = SqliteSpool(path)
    with sqlite3.connect(path) as reader:  # holds the write-ahead log open, to look into it too
        spooled(Client(), store, 20)
        reader.execute("SELECT * FROM spooled_logouts").fetchall()
        files = list(tmp_path.iterdir())
        assert len(files) == 3
        for file in files:
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
            assert SECRET.encode() not in file.read_bytes()
            assert USER.encode() not in file.read_bytes()
    reader.close()


def test_the_file_is_never_open_to_others_not_even_while_it_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[int] = []
    connect = sqlite3.connect

    def watched(path: Path, **given: Any) -> Any:
        modes.append(stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o644)
        return connect(path, **given)

    monkeypatch.setattr(sqlite3, "connect", watched)
    SqliteSpool(tmp_path / "logouts.db")

    assert modes == [0o600]


def test_as_many_go_out_at_once_as_are_answered_in_a_second() -> None:
    pace = Pace()

    def after(seconds: float, *, asked: int | None = None, is_answered: bool = True) -> int:
        asked = pace.limit if asked is None else asked
        pace.learn(drain.Round(asked=asked, seconds=seconds, is_answered=is_answered))
        return pace.limit

    assert [after(0.1) for _ in range(5)] == [40, 80, 160, 200, 200]
    assert [after(1.5), after(2.5), after(9.0)] == [200, 100, 50]
    assert after(0.1, asked=3) == 50  # all that there was: it tells nothing of more
    assert [after(5.0, is_answered=False), after(2.5), after(0.1)] == [1, 1, 2]
