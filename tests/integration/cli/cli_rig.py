"""Runs `mosaic-sessions` in this process, on the services of the current stage."""

from __future__ import annotations

import json
from typing import Any, NoReturn
from uuid import UUID

from click.testing import CliRunner, Result
from sqlalchemy import select

from models import Notice, NoticeMethod
from tests.stage import Stage
from worker.cli.root import commands
from worker.errors import NoticeRefused, NoticeUndelivered
from worker.maintenance import last_runs
from worker.maintenance.last_runs import Run
from worker.outbox import notice_delivery


def run(*arguments: str, expect: int = 0, stdin: str | None = None) -> Result:
    """Run a verb to its end; a traceback is never an acceptable end."""
    result = CliRunner().invoke(commands, arguments, input=stdin, catch_exceptions=False)
    assert result.exit_code == expect, result.output
    assert "Traceback" not in result.output
    return result


def told(*arguments: str, expect: int = 0) -> Any:
    """Run a verb with ``--json`` and return what it says."""
    return json.loads(run(*arguments, "--json", expect=expect).stdout)


def complaint(*arguments: str, expect: int = 1, stdin: str | None = None) -> str:
    """Run a verb that fails and return its one line on standard error."""
    result = run(*arguments, expect=expect, stdin=stdin)
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr.strip()


def three_notices(stage: Stage) -> tuple[UUID, UUID, UUID]:
    """Owe forum a notice that was given up, one whose attempt failed, and one never tried.

    The first two are 100 seconds older than the last. Returns their sessions.
    """
    stage.add_app("shop")
    stage.add_app("forum", notice_method=NoticeMethod.QUEUE, notice_address="forum-notices")
    given_up = _owed(stage, NoticeRefused("it will never take it"))
    failing = _owed(stage, NoticeUndelivered("it did not answer"))
    stage.pass_time(seconds=100)
    return given_up, failing, _owed(stage, None)


def make_older(stage: Stage, run: Run, seconds: float) -> None:
    """Make the latest *run* that much older: Redis' own clock cannot be moved."""
    make_key_older(stage, last_runs.key_of(run), seconds)


def make_key_older(stage: Stage, key: str, seconds: float) -> None:
    """Make what was written at *key* that much older, where its age is told by its lifetime."""
    left: Any = stage.redis.pttl(key)
    stage.redis.pexpire(key, int(left - seconds * 1000))


def _owed(stage: Stage, error: Exception | None) -> UUID:
    session = stage.registered("ada", "shop")
    stage.silent_auth("ada", "forum")
    stage.log_out("ada", "shop", session_ref=str(session))
    if error is not None:
        with stage.services.store.read() as connection:
            query = select(Notice.id).where(Notice.idp_session_id == session)
            notice = connection.execute(query).scalar_one()

        def publish(*_: object) -> NoReturn:
            raise error

        notice_delivery.deliver(stage.services, notice, publish)
    return session
