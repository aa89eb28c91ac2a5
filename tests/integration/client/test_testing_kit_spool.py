"""The testing kit's pretend worker behind a spool, and before who takes notices from a queue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from sandbox.processes import poll_until
from session_client import (
    AppKey,
    AsyncSessionClient,
    LogoutSpool,
    NotAnswered,
    SessionClient,
    SpoolCounts,
    SqliteSpool,
    Unavailable,
    WorkerUnavailable,
)
from session_client.flask import MemoryMarks, Sessions
from session_client.requests import Logout
from session_client.spool import drain, logouts
from session_client.testing import (
    NotPretended,
    SessionWorker,
    no_session_worker,
    session_worker,
)

__all__ = ["no_session_worker", "session_worker"]

PLACE: Any = {"broker_url": "redis://127.0.0.1:1", "app_id": "shop", "app_key": AppKey.generate()}
CLIENT = SessionClient(**PLACE)
OUTAGES: list[type[Unavailable]] = [Unavailable, *Unavailable.__subclasses__()]
NOTHING = SpoolCounts(waiting=0, refused=0)


@pytest.fixture(scope="module", autouse=True)
def made_at_import(tmp_path_factory: pytest.TempPathFactory) -> LogoutSpool:
    """Before any test: behind its client stands what leads to a broker."""
    store = SqliteSpool(tmp_path_factory.mktemp("spool") / "logouts.db")
    return LogoutSpool(CLIENT, store, thread=False)


@pytest.fixture
def made_in_a_test(tmp_path: Path) -> LogoutSpool:
    return LogoutSpool(CLIENT, SqliteSpool(tmp_path / "logouts.db"), thread=False)


@pytest.fixture(params=["made_at_import", "made_in_a_test"])
def spool(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> LogoutSpool:
    monkeypatch.setattr(drain, "MAX_PAUSE_SECONDS", 0.0)  # what is put back is due at once
    monkeypatch.setattr(logouts, "WARN_EVERY_SECONDS", 0.0)
    found: LogoutSpool = request.getfixturevalue(request.param)
    return found


def test_a_spool_delivers_to_the_pretend_worker(
    session_worker: SessionWorker, spool: LogoutSpool
) -> None:
    logins = [session_worker.sign_in("ada") for _ in range(3)]
    for login in logins:
        spool.logout(browser_token=login.session.token)

    assert spool.deliver() == 3

    assert not any(map(session_worker.is_live, logins))
    assert spool.counts() == NOTHING


@pytest.mark.parametrize("outage", OUTAGES)
def test_what_an_outage_keeps_back_is_delivered_after_it(
    session_worker: SessionWorker,
    spool: LogoutSpool,
    outage: type[Unavailable],
    caplog: pytest.LogCaptureFixture,
) -> None:
    ada = session_worker.sign_in("ada")
    session_worker.next(Logout, outage("planned"))
    spool.logout(browser_token=ada.session.token)

    assert spool.deliver() == 0
    assert spool.counts() == SpoolCounts(waiting=1, refused=0)
    assert session_worker.is_live(ada)
    assert "not acknowledged (planned)" in caplog.text

    assert spool.deliver() == 1
    assert spool.counts() == NOTHING
    assert not session_worker.is_live(ada)


@pytest.mark.parametrize("outage", [NotAnswered, WorkerUnavailable])
def test_what_the_worker_does_not_answer_does_not_keep_back_the_others(
    session_worker: SessionWorker, spool: LogoutSpool, outage: type[Unavailable]
) -> None:
    ada, bob = session_worker.sign_in("ada"), session_worker.sign_in("bob")
    session_worker.next(Logout, outage())
    for login in (ada, bob):
        spool.logout(browser_token=login.session.token)

    assert spool.deliver() == 2

    tokens = [called.payload["browser_token"] for called in session_worker.calls]
    assert tokens == [ada.session.token, bob.session.token, ada.session.token]


def test_what_the_model_does_not_know_is_told_by_the_spool_too(
    session_worker: SessionWorker, made_in_a_test: LogoutSpool
) -> None:
    made_in_a_test.logout(user_id="ada", session_id="s")

    with pytest.raises(NotPretended, match=r"session_worker\.next\(Logout, …\)"):
        made_in_a_test.deliver()


def test_a_web_app_spools_a_logout_and_its_thread_delivers_it(
    session_worker: SessionWorker, tmp_path: Path
) -> None:
    spool = LogoutSpool(CLIENT, SqliteSpool(tmp_path / "logouts.db"))
    app = Flask("shop")
    app.secret_key = "s" * 32
    sessions = Sessions(app, CLIENT, marks=MemoryMarks(), spool=spool)
    app.post("/logout")(sessions.log_out)
    ada, browser = session_worker.sign_in("ada"), app.test_client()
    browser.set_cookie(*ada.cookie)
    session_worker.next(Logout, NotAnswered())

    answer = browser.post("/logout", headers=session_worker.form)

    assert answer.status_code == 303
    poll_until(lambda: spool.counts() == NOTHING, 60)
    spool.stop()
    assert not session_worker.is_live(ada)
    assert len(session_worker.calls) == 2


def test_without_the_fixture_a_spool_fails_and_names_it(made_in_a_test: LogoutSpool) -> None:
    made_in_a_test.logout(user_id="ada", session_ref="r")

    with pytest.raises(AssertionError, match="session_worker"):
        made_in_a_test.deliver()


def take() -> object:
    return list(CLIENT.notices("shop-notices", timeout=1))


def take_in_an_event_loop() -> object:
    async def take() -> list[object]:
        return [notice async for notice in AsyncSessionClient(**PLACE).notices("q", timeout=1)]

    return asyncio.run(take())


@pytest.mark.parametrize("take", [take, take_in_an_event_loop])
def test_a_queue_of_notices_is_not_pretended(
    session_worker: SessionWorker, take: Callable[[], object]
) -> None:
    with pytest.raises(NotPretended, match="LogoutNotice"):
        take()


@pytest.mark.parametrize("take", [take, take_in_an_event_loop])
def test_without_the_fixture_a_queue_of_notices_fails_and_names_it(
    take: Callable[[], object],
) -> None:
    with pytest.raises(AssertionError, match="session_worker"):
        take()
