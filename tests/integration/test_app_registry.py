"""Which apps there are is asked of the database as rarely as may be, and never for long wrong."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from session_client import requests
from session_client.contract import Reason
from session_client.keys import AppKey
from tests.stage import Stage
from worker.app_registry import RENEW_AFTER_SECONDS, AppRegistry


@dataclass
class Clock:
    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def apps(stage: Stage, clock: Clock) -> AppRegistry:
    services = stage.services
    return AppRegistry(services.store, services.keyring, services.settings, clock)


@contextmanager
def statements(stage: Stage) -> Iterator[list[str]]:
    """Keep what the database is asked."""
    asked: list[str] = []

    def keep(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("SELECT"):
            asked.append(statement)

    engine = stage.services.store.engine
    event.listen(engine, "before_cursor_execute", keep)
    try:
        yield asked
    finally:
        event.remove(engine, "before_cursor_execute", keep)


def test_one_thread_looks_early_for_changes_and_the_others_do_not_wait(
    stage: Stage, apps: AppRegistry, clock: Clock
) -> None:
    stage.add_app("shop")
    known = apps.find("shop")
    clock.seconds += RENEW_AFTER_SECONDS + 0.1
    has_begun, go = threading.Event(), threading.Event()
    looks: list[str] = []

    def hold(*_: Any) -> None:
        looks.append(threading.current_thread().name)
        has_begun.set()
        assert go.wait(60)

    found: list[Any] = []
    early = threading.Thread(target=lambda: found.append(apps.find("shop")), name="early")
    engine = stage.services.store.engine
    event.listen(engine, "before_cursor_execute", hold)
    try:
        early.start()
        assert has_begun.wait(60)
        meanwhile = apps.find("shop")
        go.set()
        early.join(60)
        afterwards = apps.find("shop")
    finally:
        event.remove(engine, "before_cursor_execute", hold)

    assert set(looks) == {"early"}
    assert known is not None
    assert meanwhile is known
    assert found[0].loaded_at == clock.seconds
    assert afterwards is found[0]


def test_who_looks_early_in_vain_is_served_with_what_is_known(
    stage: Stage, apps: AppRegistry, clock: Clock
) -> None:
    stage.add_app("shop")
    known = apps.find("shop")
    clock.seconds += RENEW_AFTER_SECONDS + 0.1

    def fail(*_: Any) -> None:
        raise OperationalError("", None, Exception("canary"))

    engine = stage.services.store.engine
    event.listen(engine, "before_cursor_execute", fail)
    try:
        found = [apps.find("shop") for _ in range(2)]
    finally:
        event.remove(engine, "before_cursor_execute", fail)

    assert found == [known, known]
    assert apps.find("shop") is not known  # nor is it kept from looking again


def test_an_app_nobody_registered_costs_one_query_a_second(
    stage: Stage, apps: AppRegistry, clock: Clock
) -> None:
    with statements(stage) as asked:
        for _ in range(50):
            assert apps.find("stranger", "kid") is None
        first = len(asked)
        clock.seconds += 1.1
        assert apps.find("stranger", "kid") is None

    assert (first, len(asked)) == (1, 2)


def test_an_app_just_registered_is_served_within_a_second(
    stage: Stage, apps: AppRegistry, clock: Clock
) -> None:
    assert apps.find("shop") is None
    key = stage.add_app("shop")

    clock.seconds += 1.1

    found = apps.find("shop", key.kid)
    assert found is not None
    assert found.keys == {key.kid: key}


def test_others_are_not_taken_for_the_one_that_is_not_there(
    stage: Stage, apps: AppRegistry
) -> None:
    stage.add_app("shop")
    assert apps.find("stranger") is None

    assert apps.find("shop") is not None


def test_names_that_nobody_has_fill_no_memory(apps: AppRegistry) -> None:
    for number in range(3000):
        apps.find(f"stranger-{number}")

    assert len(apps._unknown) <= 1000


def test_requests_in_a_strangers_name_are_refused_without_asking_the_database(
    sqlite_stage: Stage,
) -> None:
    sqlite_stage.keys["stranger"] = AppKey.generate()
    sqlite_stage.ask("stranger", requests.Status(user_id="ada"))

    with statements(sqlite_stage) as asked:
        answer = sqlite_stage.ask("stranger", requests.Status(user_id="ada"))

    assert answer.reason == Reason.UNKNOWN_APP
    assert asked == []
