"""An app that takes notices of logouts as Celery messages on its own queue.

Register it at the worker with `--notice-queue desk-notices`, then:

    export SESSION_BROKER_URL=…                     # the worker's broker
    export SESSION_APP_ID=desk SESSION_APP_KEY=…    # as `mosaic-sessions apps add` printed it
    export SESSIONS_DB=…                            # this example's local sessions, a SQLite file
    celery -A examples.queue_app worker -Q desk-notices -l info \
        --without-gossip --without-mingle --without-heartbeat

Without the last three it would publish to other workers of the broker and listen to them, for which
the Redis user that docs/operations.md gives it has no right.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing

from celery import Celery
from starlette.config import Config

from session_client import SessionClient, broker, contract

config = Config()
BROKER_URL = config("SESSION_BROKER_URL")  # Celery reads BROKER_URL by itself: not that name
APP_ID = config("SESSION_APP_ID")
SESSIONS_DB = config("SESSIONS_DB")

app = Celery("desk", broker=broker.kombu_url(BROKER_URL))
# As the worker does it, but what is under way is noted under keys of this app's own: the others'
# jobs are none of its business.
app.conf.broker_transport_options = broker.transport_options(
    client_name=f"app-{APP_ID}", app_id=APP_ID
)
app.conf.broker_use_ssl = broker.tls_options(BROKER_URL)
app.conf.task_ignore_result = True
app.conf.worker_enable_remote_control = False

client = SessionClient.from_env()


@app.task(name=contract.LOGOUT_NOTICE_TASK)
def logged_out(app_id: str, envelope: str) -> None:
    """End the local session, then say so. What goes wrong in between brings the notice again."""
    del app_id  # anybody could have written it: what counts is inside the seal
    notice = client.open_notice(envelope)
    with closing(sqlite3.connect(SESSIONS_DB)) as sessions, sessions:
        sessions.execute("DELETE FROM sessions WHERE session_ref = ?", (notice.session_ref,))
    client.confirm(notice)
