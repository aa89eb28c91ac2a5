"""Which apps there are is asked of the database as rarely as may be, and never for long wrong."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from pytest_mock import MockerFixture
from sqlalchemy import delete, event, update
from sqlalchemy.exc import OperationalError

from models import App
from models import AppKey as AppKeyRow
from session_client import requests
from session_client.contract import Reason
from session_client.keys import AppKey
from tests.stage import Stage
from worker.app_registry import RENEW_AFTER_SECONDS, AppRegistry
from worker.errors import OperatorMustAct
from worker.storage.encryption import KeyRing


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
def whenever_asked(stage: Stage, act: Callable[..., None]) -> Iterator[None]:
    """Do *act* whenever a connection is taken to ask the database."""
    engine = stage.services.store.engine
    event.listen(engine, "checkout", act)
    try:
        yield
    finally:
        event.remove(engine, "checkout", act)


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
    with whenever_asked(stage, hold):
        early.start()
        assert has_begun.wait(60)
        meanwhile = apps.find("shop")
        go.set()
        early.join(60)
        afterwards = apps.find("shop")

    assert looks == ["early"]
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

    with whenever_asked(stage, fail):
        found = [apps.find("shop") for _ in range(2)]

    assert found == [known, known]
    assert apps.find("shop") is not known  # nor is it kept from looking again


CHANGES: dict[str, Any] = {
    "a policy": update(App).values(amr_all_of=["mfa"]),
    "its end": update(App).values(disabled_at=datetime(2030, 1, 1, tzinfo=UTC)),
    "a client": update(App).values(client_id="another"),
    "a secret": update(App).values(sealed_client_secret=b"opens with no key"),
    "a key's end": update(AppKeyRow).values(retired_at=datetime(2030, 1, 1, tzinfo=UTC)),
    "no app": delete(App),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_has_changed_is_seen_by_the_next_look(
    stage: Stage, apps: AppRegistry, clock: Clock, change: str
) -> None:
    stage.add_app("shop")
    before = shown(apps)
    clock.seconds += RENEW_AFTER_SECONDS + 0.1
    unchanged = shown(apps)
    with stage.services.store.write() as connection:
        connection.execute(CHANGES[change])
    clock.seconds += RENEW_AFTER_SECONDS + 0.1

    assert unchanged == before
    assert shown(apps) != before


def test_what_has_not_changed_is_not_opened_again(
    stage: Stage, apps: AppRegistry, clock: Clock, mocker: MockerFixture
) -> None:
    stage.add_app("shop")
    apps.find("shop")
    opened = mocker.spy(KeyRing, "open_bytes")
    clock.seconds += RENEW_AFTER_SECONDS + 0.1

    found = apps.find("shop")

    assert found is not None
    assert found.loaded_at == clock.seconds
    assert opened.call_count == 0


def shown(apps: AppRegistry) -> str:
    """Return all that a request would see of the app, but when it was loaded."""
    try:
        found = apps.find("shop")
    except OperatorMustAct:
        return "it does not open"
    return "none" if found is None else f"{replace(found, loaded_at=0.0)} {found.keys}"


def test_an_app_nobody_registered_costs_one_query_a_second(
    stage: Stage, apps: AppRegistry, clock: Clock
) -> None:
    asked: list[float] = []
    with whenever_asked(stage, lambda *_: asked.append(clock.seconds)):
        for _ in range(50):
            assert apps.find("stranger", "kid") is None
        clock.seconds += 1.1
        assert apps.find("stranger", "kid") is None

    assert asked == [1000.0, 1001.1]


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

    asked: list[None] = []
    with whenever_asked(sqlite_stage, lambda *_: asked.append(None)):
        answer = sqlite_stage.ask("stranger", requests.Status(user_id="ada"))

    assert answer.reason == Reason.UNKNOWN_APP
    assert asked == []
