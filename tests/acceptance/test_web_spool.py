"""A web app's logout that the worker does not acknowledge: kept, and delivered once it is back."""

from __future__ import annotations

from pathlib import Path

from flask import Flask

from sandbox.processes import poll_until
from sandbox.stack import Stack
from session_client import (
    Authenticated,
    LogoutSpool,
    Password,
    SessionClient,
    SpoolCounts,
    SqliteSpool,
)
from session_client.flask import MemoryMarks, Sessions

FORM = {"Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "same-origin"}


def test_a_logout_that_nobody_acknowledged_is_delivered_later(tmp_path: Path) -> None:
    with Stack() as stack:
        stack.migrate()
        key = stack.add_app("shop", "--methods", "password")
        stack.mosaic.add_user("ada", password="secret")
        worker = stack.worker()
        with SessionClient(broker_url=stack.broker_url, app_id="shop", app_key=key) as client:
            spool = LogoutSpool(client, SqliteSpool(tmp_path / "logouts.db"))
            app = Flask("shop")
            app.secret_key = "s" * 32
            sessions = Sessions(app, client, marks=MemoryMarks(), spool=spool)
            app.post("/logout")(sessions.log_out)
            login = client.authenticate(Password("ada", "secret"), timeout=30)
            assert isinstance(login, Authenticated)
            browser = app.test_client()
            browser.set_cookie("__Host-mosaic-sso", str(login.browser_token))

            with worker.frozen():
                answer = browser.post("/logout", headers=FORM)

            assert (answer.status_code, answer.location) == (303, "/")
            assert browser.get_cookie("__Host-mosaic-sso") is None
            # Both arrive, the first try and what was kept: one logout, and none is refused.
            poll_until(lambda: spool.counts() == SpoolCounts(waiting=0, refused=0), 60)
            poll_until(lambda: not stack.mosaic.live_sessions("ada"), 60)
            spool.stop()
