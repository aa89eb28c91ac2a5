"""Stops the worker, or lets another one in, at each step that leaves its process.

A step is a statement, a commit, a trip to Redis, a call, a message. A worker that was killed does
nothing any more: whatever it would do on its way out is refused, as if it were not there.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NoReturn

import psycopg
import pytest
import redis
from kombu.exceptions import OperationalError as BrokerError
from sqlalchemy import Engine, event
from sqlalchemy.exc import OperationalError

from worker.app import app as celery_app
from worker.http_client import HttpClient
from worker.http_client.client import NoAnswer
from worker.storage.prepared import DriverStatement
from worker.storage.redis_scripts import ScriptRunner
from worker.wiring import Services


class How(StrEnum):
    """What happens at a step."""

    KILLED = "killed before it"
    REFUSED = "refused: it is not done, and the worker hears so"
    LOST = "lost: it is done, and the worker does not hear of it"
    MET = "met: something else comes in between"


class Killed(BaseException):
    """The worker is dead."""


@dataclass
class Step:
    """What a worker is about to do: of which kind, and what."""

    kind: str  # statement, commit, run, redis, call or message
    what: str

    @property
    def writes(self) -> bool:
        """Whether it commits something, or may."""
        return self.kind == "commit" or (self.kind == "run" and self.what.startswith("WITH"))

    def __str__(self) -> str:
        return f"{self.kind} {self.what[:60]}"


@dataclass
class Cut:
    """Watches the steps of one thread, and has *how* happen at the one at *place*."""

    services: Services
    place: int
    how: How
    meet: Callable[[], Any] = lambda: None
    is_met_within: bool = False  # also at each statement of a transaction
    steps: list[Step] = field(default_factory=list)
    _is_dead: bool = False
    _is_within: bool = False  # a step that takes others
    _is_in_transaction: bool = False

    def __post_init__(self) -> None:
        self._thread = threading.get_ident()

    @property
    def was_made(self) -> bool:
        """Whether the worker came to the place."""
        return len(self.steps) > self.place

    def _step(self, kind: str, what: str, work: Callable[[], Any], fail: Callable[[], Any]) -> Any:
        """Do *work*; *fail* says in the words of its library that it failed, if it did."""
        if threading.get_ident() != self._thread or self._is_within:
            return work()
        if self._is_dead:
            raise Killed
        self.steps.append(Step(kind, " ".join(what.split())))
        how = self.how if len(self.steps) == self.place + 1 else None
        if how is How.KILLED:
            self._is_dead = True
            raise Killed
        if how is How.REFUSED:
            return fail()
        self._is_within = True
        try:
            if how is How.MET:
                self.meet()
            result = work()
        finally:
            self._is_within = False
        return fail() if how is How.LOST else result

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch what this thread does within.

        Of statements only where something is to be met: killed before one of them, a worker has
        done as much as if it were killed before their commit. And without `is_met_within` only
        those outside of transactions, and where one begins: who meets it within may have to wait
        for it.
        """
        with ExitStack() as exits:
            patch = exits.enter_context(pytest.MonkeyPatch.context())
            self._watch_database(patch)
            if self.how is How.MET:
                exits.enter_context(self._watch_statements())
            self._watch_redis(patch)
            self._watch_calls(patch)
            self._watch_messages(patch)
            yield

    def _watch_database(self, patch: pytest.MonkeyPatch) -> None:
        dialect = self.services.store.engine.dialect
        do_commit, do_rollback = dialect.do_commit, dialect.do_rollback
        fetch = DriverStatement._fetch

        def commit(connection: Any) -> None:
            self._leave_transaction()
            raw = getattr(connection, "dbapi_connection", connection)
            if self.how is How.MET and self.services.store.is_sqlite:
                do_commit(connection)
                return
            self._step("commit", "", lambda: do_commit(connection), lambda: _break(raw))

        def roll_back(connection: Any) -> None:
            self._leave_transaction()
            do_rollback(connection)

        def run(statement: DriverStatement, *given: Any) -> Any:
            work = lambda: fetch(statement, *given)  # noqa: E731
            return self._step("run", statement.prepared.sql, work, _database_is_away)

        patch.setattr(dialect, "do_commit", commit)
        patch.setattr(dialect, "do_rollback", roll_back)
        patch.setattr(DriverStatement, "_fetch", run)

    def _leave_transaction(self) -> None:
        if threading.get_ident() == self._thread and not self._is_within:
            self._is_in_transaction = False

    @contextmanager
    def _watch_statements(self) -> Iterator[None]:
        """Those of all databases that this thread uses: a rotation of keys has one of its own.

        On SQLite whoever is met within a transaction would wait for the whole database.
        """

        def before(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if threading.get_ident() != self._thread or self._is_within:
                return
            if not self._is_in_transaction or self.is_met_within:
                self._step("statement", statement, lambda: None, _database_is_away)
            self._is_in_transaction |= statement.startswith("BEGIN")

        event.listen(Engine, "before_cursor_execute", before)
        try:
            yield
        finally:
            event.remove(Engine, "before_cursor_execute", before)

    def _watch_redis(self, patch: pytest.MonkeyPatch) -> None:
        run_all = ScriptRunner.run_all
        execute: Any = redis.Redis.execute_command

        def scripts(runner: ScriptRunner, *calls: Any) -> Any:
            what = " ".join(key for call in calls for key in call.keys)
            return self._step("redis", what, lambda: run_all(runner, *calls), _redis_is_away)

        def command(client: Any, *words: Any, **options: Any) -> Any:
            work = lambda: execute(client, *words, **options)  # noqa: E731
            return self._step("redis", str(words[0]), work, _redis_is_away)

        patch.setattr(ScriptRunner, "run_all", scripts)
        patch.setattr(redis.Redis, "execute_command", command)

    def _watch_calls(self, patch: pytest.MonkeyPatch) -> None:
        send = HttpClient.send

        def watched(client: HttpClient, request: Any, *given: Any) -> Any:
            fail = lambda: NoAnswer("Cut", is_sent=self.how is How.LOST)  # noqa: E731
            return self._step("call", request.url, lambda: send(client, request, *given), fail)

        patch.setattr(HttpClient, "send", watched)

    def _watch_messages(self, patch: pytest.MonkeyPatch) -> None:
        send = celery_app.send_task

        def watched(name: str, *given: Any, **options: Any) -> Any:
            work = lambda: send(name, *given, **options)  # noqa: E731
            return self._step("message", name, work, _broker_is_away)

        patch.setattr(celery_app, "send_task", watched)


def _break(connection: Any) -> NoReturn:
    if isinstance(connection, sqlite3.Connection):
        raise sqlite3.OperationalError("disk I/O error")
    connection.close()
    raise psycopg.OperationalError("the connection is lost")


def _database_is_away() -> NoReturn:
    raise OperationalError("", None, psycopg.OperationalError("the connection is lost"))


def _redis_is_away() -> NoReturn:
    raise redis.ConnectionError("Connection closed by server.")


def _broker_is_away() -> NoReturn:
    raise BrokerError("Connection refused")
