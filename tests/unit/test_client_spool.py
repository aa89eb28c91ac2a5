"""Spooled logouts: kept until acknowledged, whatever the worker, the store or a key does."""

from __future__ import annotations

import logging
import sqlite3
import stat
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sandbox.processes import poll_until
from session_client import (
    AppKey,
    ConfigurationError,
    LogoutSpool,
    NotAcknowledged,
    NotAnswered,
    Reason,
    SessionClient,
    SpoolCounts,
    SpooledLogout,
    SpoolStore,
    SqliteSpool,
    Verdict,
    WorkerUnavailable,
    contract,
    sealing,
    spool,
    times,
)
from session_client._core.call import Ask, Steps

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
        self.on_send: Callable[[], object] = lambda: None

    @property
    def _driver(self) -> Any:
        return self

    def run(self, life: Steps[Any]) -> Any:
        step = next(life)
        assert isinstance(step, Ask)
        request_id = step.message.request_id
        self.on_send()
        self.sent.append(request_id)
        says = self.answers.pop(0) if self.answers else OK
        try:
            if says is None or says[0] is Verdict.TEMPORARILY_UNAVAILABLE:
                why = (
                    NotAnswered("no answer in time") if says is None else WorkerUnavailable(says[1])
                )
                raise NotAcknowledged(request_id, str(why)) from why
            content = {"v": 1, "task": "sessions.logout", "app_id": "shop", "verdict": says[0],
                       "reason": says[1], "request_id": request_id, "data": {}}  # fmt: skip
            life.send(sealing.seal(self._app.key, sealing.Kind.ANSWER, content).encode())
        except StopIteration as end:
            return end.value


class Table:
    """A store of an app's own: a table, with a transaction for each change."""

    def __init__(self) -> None:
        self.rows: dict[str, SpooledLogout] = {}

    def add(self, logout: SpooledLogout) -> None:
        self.rows.pop(logout.request_id, None)
        self.rows[logout.request_id] = logout

    def waiting(self, limit: int) -> list[SpooledLogout]:
        return [row for row in self.rows.values() if row.refused is None][:limit]

    def acknowledged(self, request_id: str) -> None:
        self.rows.pop(request_id, None)

    def refuse(self, request_id: str, why: str) -> None:
        row = self.rows[request_id]
        self.rows[request_id] = SpooledLogout(request_id, row.envelope, why)

    def refused(self) -> list[SpooledLogout]:
        return [row for row in self.rows.values() if row.refused is not None]


@pytest.fixture(params=["sqlite", "table"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> SpoolStore:
    """The contract of a store, once on ours and once on an app's."""
    return SqliteSpool(tmp_path / "logouts.db") if request.param == "sqlite" else Table()


def spooled(client: SessionClient, store: SpoolStore, number: int) -> list[str]:
    spool = LogoutSpool(client, store)
    return [spool.logout(user_id=USER, session_id=f"{SECRET}-{n}") for n in range(number)]


def waiting(store: SpoolStore) -> list[str]:
    return [logout.request_id for logout in store.waiting(100)]


def test_logouts_are_delivered_in_their_order_and_forgotten(store: SpoolStore) -> None:
    client = Client()
    ids = spooled(client, store, 3)
    assert waiting(store) == ids

    assert LogoutSpool(client, store).deliver() == 3

    assert client.sent == ids
    assert (waiting(store), store.refused()) == ([], [])


def test_silence_keeps_them_all_and_ends_the_round(store: SpoolStore) -> None:
    client = Client(OK, None)
    ids = spooled(client, store, 3)

    assert LogoutSpool(client, store).deliver() == 1

    assert client.sent == ids[:2]
    assert waiting(store) == ids[1:]


def test_a_worker_that_asks_for_patience_is_asked_again_with_the_same_request(
    store: SpoolStore,
) -> None:
    client = Client(DOWN)
    ids = spooled(client, store, 2)
    spool = LogoutSpool(client, store)

    assert [spool.deliver(), spool.deliver()] == [0, 2]

    assert client.sent == [ids[0], *ids]


def test_a_defect_that_one_request_meets_does_not_keep_back_the_others(store: SpoolStore) -> None:
    client = Client((Verdict.TEMPORARILY_UNAVAILABLE, Reason.INTERNAL_ERROR))
    ids = spooled(client, store, 2)

    assert LogoutSpool(client, store).deliver() == 1
    assert waiting(store) == ids[:1]


def test_a_refused_one_is_kept_in_sight_and_does_not_keep_back_the_others(
    store: SpoolStore,
) -> None:
    client = Client((Verdict.UNAUTHORIZED, Reason.APP_DISABLED))
    ids = spooled(client, store, 2)
    spool = LogoutSpool(client, store)

    assert spool.deliver() == 1
    assert spool.deliver() == 0

    assert client.sent == ids
    (refused,) = store.refused()
    assert (refused.request_id, refused.refused) == (ids[0], "unauthorized: app_disabled")


def test_what_was_refused_can_be_tried_again(store: SpoolStore) -> None:
    client = Client((Verdict.UNAUTHORIZED, Reason.APP_DISABLED))
    ids = spooled(client, store, 1)
    spool = LogoutSpool(client, store)
    spool.deliver()

    assert spool.retry_refused() == 1
    assert spool.deliver() == 1

    assert client.sent == ids * 2
    assert store.refused() == []


@pytest.mark.parametrize("reason", [Reason.DEADLINE_PASSED, Reason.CLOCK_SKEW])
def test_one_that_is_too_old_is_the_same_logout_as_a_request_of_today(
    store: SpoolStore, reason: Reason, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client((Verdict.INVALID_REQUEST, reason))
    with monkeypatch.context() as long_ago:
        long_ago.setattr(times, "now", lambda: datetime(2026, 1, 1, tzinfo=UTC))
        (old_id,) = spooled(client, store, 1)
    old = opened(store.waiting(1)[0].envelope)
    spool = LogoutSpool(client, store)

    assert spool.deliver() == 0
    (again,) = store.waiting(100)
    new = opened(again.envelope)

    assert again.request_id == new["request_id"] != old_id
    assert {name: new[name] for name in ("v", "task", "app_id", "payload")} == {
        name: old[name] for name in ("v", "task", "app_id", "payload")
    }
    issued_at, deadline = times.from_wire(new["issued_at"]), times.from_wire(new["deadline"])
    assert abs(issued_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert deadline - issued_at == contract.MAX_LIFETIME[contract.Task.LOGOUT]
    assert spool.deliver() == 1
    assert waiting(store) == []


def test_a_crash_between_the_acknowledgement_and_forgetting_means_a_repeat_of_the_same_request(
    store: SpoolStore,
) -> None:
    class Crashing(Table):
        def acknowledged(self, request_id: str) -> None:
            raise RuntimeError(f"crashed before {request_id} was forgotten")

    client, crashing = Client(), Crashing()
    ids = spooled(client, crashing, 1)
    with pytest.raises(RuntimeError):
        LogoutSpool(client, crashing).deliver()
    store.add(crashing.rows[ids[0]])

    LogoutSpool(client, store).deliver()

    assert client.sent == ids * 2


def test_a_crash_while_one_is_sealed_anew_loses_none() -> None:
    class Crashing(Table):
        def acknowledged(self, request_id: str) -> None:
            raise RuntimeError(f"crashed before {request_id} was forgotten")

    client, store = Client((Verdict.INVALID_REQUEST, Reason.DEADLINE_PASSED)), Crashing()
    spooled(client, store, 1)

    with pytest.raises(RuntimeError):
        LogoutSpool(client, store).deliver()

    assert len(store.waiting(100)) == 2


def test_after_the_apps_key_was_rotated_logouts_under_the_old_one_go_out_under_the_new(
    store: SpoolStore,
) -> None:
    # The answer to the old envelope would be sealed with a key that this client does not have.
    (old_id,) = spooled(Client(key=OLD_KEY), store, 1)
    client = Client(None)
    spool = LogoutSpool(client, store, earlier_keys=[OLD_KEY.text()])

    assert spool.deliver() == 0
    (again,) = store.waiting(100)

    assert opened(again.envelope)["payload"]["session_id"] == f"{SECRET}-0"
    assert client.sent == [again.request_id] != [old_id]
    assert spool.deliver() == 1


def test_one_that_no_key_opens_is_refused_and_does_not_keep_back_the_others(
    store: SpoolStore,
) -> None:
    (old_id,) = spooled(Client(key=OLD_KEY), store, 1)
    store.add(SpooledLogout("damaged", "x"))
    client = Client()
    ids = spooled(client, store, 1)

    assert LogoutSpool(client, store).deliver() == 1

    assert client.sent == ids
    assert [logout.request_id for logout in store.refused()] == [old_id, "damaged"]


def test_what_cannot_be_a_logout_is_not_written_down(store: SpoolStore) -> None:
    with pytest.raises(ConfigurationError):
        LogoutSpool(Client(), store).logout(user_id="ada")

    assert waiting(store) == []


def test_one_added_again_under_its_id_is_there_once(store: SpoolStore) -> None:
    store.add(SpooledLogout("a", "1"))
    store.refuse("a", "why")
    store.add(SpooledLogout("a", "2"))

    assert (store.waiting(100), store.refused()) == ([SpooledLogout("a", "2")], [])


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
    store: SpoolStore, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client((Verdict.UNAUTHORIZED, Reason.WRONG_KEY))
    (refused_id, _) = spooled(client, store, 2)

    LogoutSpool(client, store).deliver()

    (error,) = logged(caplog, logging.ERROR)
    assert refused_id in error
    assert "unauthorized: wrong_key" in error
    assert SECRET not in caplog.text
    assert USER not in caplog.text
    assert "eyJ" not in caplog.text  # how an envelope begins


def test_one_that_no_key_opens_is_an_error_in_the_log_too(
    store: SpoolStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.add(SpooledLogout("damaged", "x"))

    LogoutSpool(Client(), store).deliver()

    (error,) = logged(caplog, logging.ERROR)
    assert "damaged" in error
    assert "not among ours" in error


def test_the_app_is_told_of_each_refusal_once_it_is_kept(store: SpoolStore) -> None:
    client = Client((Verdict.UNAUTHORIZED, Reason.WRONG_KEY))
    (refused_id, _) = spooled(client, store, 2)
    told: list[tuple[SpooledLogout, list[SpooledLogout]]] = []

    spool = LogoutSpool(client, store, on_refused=lambda one: told.append((one, store.refused())))
    spool.deliver()
    spool.deliver()

    ((one, kept),) = told
    assert (one.request_id, one.refused) == (refused_id, "unauthorized: wrong_key")
    assert kept == [one]


def test_an_app_that_fails_when_it_is_told_does_not_keep_back_the_others(
    store: SpoolStore, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: SpooledLogout) -> None:
        raise RuntimeError("the pager is down")

    client = Client((Verdict.UNAUTHORIZED, Reason.WRONG_KEY))
    ids = spooled(client, store, 2)

    assert LogoutSpool(client, store, on_refused=fail).deliver() == 1

    assert client.sent == ids
    assert "on_refused" in caplog.text


def test_silence_is_a_warning_now_and_then_and_not_each_time(
    store: SpoolStore, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(None, DOWN, None, None)
    ids = spooled(client, store, 2)
    logouts = LogoutSpool(client, store)
    monkeypatch.setattr(spool, "WARN_EVERY_SECONDS", 3600.0)
    logouts.deliver()
    logouts.deliver()
    logouts.deliver()

    (warning,) = logged(caplog, logging.WARNING)
    assert ids[0] in warning
    assert "no answer in time" in warning
    assert "2 wait" in warning
    assert SECRET not in caplog.text

    monkeypatch.setattr(spool, "WARN_EVERY_SECONDS", 0.0)
    logouts.deliver()

    assert len(logged(caplog, logging.WARNING)) == 2


def test_a_delivery_without_trouble_says_nothing(
    store: SpoolStore, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client()
    spooled(client, store, 2)

    LogoutSpool(client, store).deliver()

    assert caplog.records == []


def test_a_spool_tells_what_waits_and_what_was_refused(store: SpoolStore) -> None:
    client = Client((Verdict.UNAUTHORIZED, Reason.WRONG_KEY), None)
    ids = spooled(client, store, 4)
    spool = LogoutSpool(client, store)
    spool.deliver()

    assert spool.counts() == SpoolCounts(waiting=3, refused=1)
    assert [one.request_id for one in spool.refused()] == ids[:1]

    spool.retry_refused()

    assert spool.counts() == SpoolCounts(waiting=4, refused=0)


# --- the background thread


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "PAUSE_SECONDS", 0.02)


@pytest.mark.usefixtures("quick")
def test_the_thread_delivers_what_was_there_and_what_comes(store: SpoolStore) -> None:
    client = Client(None, None)
    spooled(client, store, 1)
    spool = LogoutSpool(client, store)
    spool.start()
    spool.start()
    poll_until(lambda: not waiting(store), 60)

    spool.logout(user_id="ada", session_id="later")
    poll_until(lambda: not waiting(store), 60)
    spool.stop()

    assert [t for t in threading.enumerate() if t.name == "logout-spool"] == []


def test_a_new_logout_wakes_the_thread_at_once(
    store: SpoolStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "PAUSE_SECONDS", 60.0)
    client = Client()
    logouts = LogoutSpool(client, store)
    logouts.start()
    time.sleep(0.1)

    logouts.logout(user_id="ada", session_id="s")
    poll_until(lambda: not waiting(store), 60)
    started = time.monotonic()
    logouts.stop()

    assert time.monotonic() - started < 9  # its own is 10


@pytest.mark.usefixtures("quick")
def test_a_store_that_fails_for_a_while_does_not_end_the_thread(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Failing(Table):
        failures = 2

        def waiting(self, limit: int) -> list[SpooledLogout]:
            if self.failures:
                self.failures -= 1
                raise sqlite3.OperationalError("database is locked")
            return super().waiting(limit)

    client, store = Client(), Failing()
    logouts = LogoutSpool(client, store)
    logouts.logout(user_id="ada", session_id=SECRET)
    logouts.start()
    poll_until(lambda: not store.rows, 60)
    logouts.stop()

    assert caplog.text.count("trying again") == 2
    assert SECRET not in caplog.text


@pytest.mark.usefixtures("quick")
def test_stop_returns_in_time_and_a_thread_that_was_held_up_does_not_run_on(
    store: SpoolStore,
) -> None:
    held, release = threading.Event(), threading.Event()
    client = Client()

    def hold() -> None:
        held.set()
        release.wait(60)

    client.on_send = hold
    ids = spooled(client, store, 3)
    logouts = LogoutSpool(client, store)
    logouts.start()
    assert held.wait(60)
    thread = next(t for t in threading.enumerate() if t.name == "logout-spool")

    started = time.monotonic()
    logouts.stop(timeout=0.2)
    assert time.monotonic() - started < 9
    assert waiting(store) == ids
    logouts.start()  # before the first one has noticed
    release.set()
    thread.join(60)

    assert not thread.is_alive()
    poll_until(lambda: not waiting(store), 60)
    logouts.stop()
    assert set(client.sent) == set(ids)


# --- the file


def test_the_file_is_for_its_owner_alone_and_holds_no_secret_in_clear(tmp_path: Path) -> None:
    path = tmp_path / "logouts.db"
    with sqlite3.connect(path) as reader:  # holds the write-ahead log open, to look into it too
        spooled(Client(), SqliteSpool(path), 20)
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


def test_many_threads_may_open_and_use_one_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "logouts.db"

    def use(number: int) -> None:
        store = SqliteSpool(path)
        store.add(SpooledLogout(f"{number}", "x"))
        store.add(SpooledLogout(f"{number}-done", "x"))
        store.acknowledged(f"{number}-done")

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(use, range(48)))

    assert len(SqliteSpool(path).waiting(100)) == 48
