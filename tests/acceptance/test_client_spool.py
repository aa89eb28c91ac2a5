"""A spooled logout reaches a worker that comes later, and is committed once."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import redis

from sandbox.processes import poll_until
from sandbox.stack import Stack
from session_client import AppKey, LoginRequired, LogoutSpool, Reason, SpoolCounts, SqliteSpool
from tests.acceptance.client_rig import Apps, count, working


def test_a_spooled_logout_is_committed_once_by_a_worker_that_comes_later(tmp_path: Path) -> None:
    path = tmp_path / "logouts.db"
    store = SqliteSpool(path)
    with Stack() as stack:
        stack.migrate()
        apps = Apps(stack, "shop")
        shop = apps.clients["shop"]
        with working(stack):
            session = apps.register("ada").session_ref

        spool = LogoutSpool(shop, store, thread=False)
        spool.logout(user_id="ada", session_ref=session)
        assert spool.deliver(timeout=0.3) == 0
        with redis.Redis.from_url(stack.broker_url) as broker:
            broker.flushall()  # what was published is lost; what was written down is not
        backup = sqlite3.connect(":memory:")
        with closing(sqlite3.connect(path)) as kept:
            kept.backup(backup)

        with working(stack):
            spool.start()
            poll_until(lambda: not store.counts().waiting, 60)
            spool.stop()
            with closing(sqlite3.connect(path)) as again:
                backup.backup(again)  # as after a crash before it was forgotten
            backup.close()
            poll_until(lambda: spool.deliver() == 1, 60)

            silent = shop.silent_auth(user_id="ada", timeout=20)
            assert silent == LoginRequired(Reason.LOGGED_OUT)
            assert count(stack, "logout_requests") == 1
        assert store.refused() == []
        apps.close()


def test_logouts_of_an_app_with_a_wrong_key_stand_in_sight_and_go_out_once_it_has_the_right_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, wrong_key = SqliteSpool(tmp_path / "logouts.db"), AppKey.generate()
    with Stack() as stack:
        stack.migrate()
        apps = Apps(stack, "shop")
        with working(stack):
            session = apps.register("ada").session_ref
            with apps.client("shop", wrong_key.text()) as mistaken:
                spool = LogoutSpool(mistaken, store, thread=False)
                request_id = spool.logout(user_id="ada", session_ref=session)
                assert spool.deliver(timeout=60) == 0

            assert spool.counts() == SpoolCounts(waiting=0, refused=1)
            assert f"logout {request_id} is refused" in caplog.text
            assert "unauthorized: wrong_key" in caplog.text
            assert wrong_key.text() not in caplog.text

            spool = LogoutSpool(apps.clients["shop"], store, earlier_keys=[wrong_key], thread=False)
            assert spool.retry_refused() == 1
            assert spool.deliver(timeout=60) == 1
            assert spool.counts() == SpoolCounts(waiting=0, refused=0)

            silent = apps.clients["shop"].silent_auth(user_id="ada", timeout=20)
            assert silent == LoginRequired(Reason.LOGGED_OUT)
        apps.close()
