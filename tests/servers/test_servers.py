"""The example apps under the servers that people run them with: every call is answered.

What WSGI servers do to a client: it is made, and here used, before the fork; threads are replaced
by greenlets after that; processes end after so many requests while others wait.
"""

from __future__ import annotations

import re
import ssl
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from sandbox.ports import HOST, free_port
from sandbox.processes import ManagedProcess, poll_until
from sandbox.stack import START_SECONDS, Stack
from sandbox.web_apps import environment_of
from session_client import Registered, SessionClient

ROOT = Path(__file__).parents[2]
CALLS, ASYNC_CALLS = 300, 120
PEOPLE = 30
AT_ONCE = 16
# Without the root certificates, which no page here needs: they would cost more than all else.
BROWSERS = httpx.Client(timeout=60, trust_env=False, verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
PAGE = {"Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "none", "Connection": "close"}
SHOP = "tests.servers.shop_at_start:app"
# A process that has just been forked does not hear that it is to stop: gunicorn kills it after so
# many seconds (30, if not said), which is less than the test waits for the server to end.
GUNICORN = (
    *("gunicorn", "--workers", "2", "--preload", "--graceful-timeout", "10"),
    *("--bind", "{address}"),
)
UVICORN = ("uvicorn", "--port", "{port}", "--log-level", "warning")
SERVERS: dict[str, tuple[str, ...]] = {
    "gevent": (*GUNICORN, "--worker-class", "gevent", SHOP),
    "gevent, few requests a process": (
        *GUNICORN, "--worker-class", "gevent", "--max-requests", "50", SHOP,
    ),
    "threads": (*GUNICORN, "--worker-class", "gthread", "--threads", "8", SHOP),
    "uwsgi": (
        "uwsgi", "--http-socket", "{address}", "--module", SHOP, "--master", "--processes", "2",
        "--threads", "8", "--need-app", "--die-on-term", "--max-requests", "50", "--listen", "100",
    ),
}  # fmt: skip
ASYNC_APPS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "fastapi": ("forum", "/me", (*UVICORN, "examples.web.forum:app")),
    "django, a view that blocks": (
        "bank", "/", (*UVICORN, "--factory", "django.core.asgi:get_asgi_application"),
    ),
    "django, an async view": (
        "bank", "/me", (*UVICORN, "--factory", "django.core.asgi:get_asgi_application"),
    ),
}  # fmt: skip


@dataclass
class Scene:
    """A worker, three apps it knows, and people who are signed in."""

    stack: Stack
    worker: ManagedProcess
    keys: dict[str, str]
    people: dict[str, str]  # the browser's token, by user

    @contextmanager
    def served(self, app: str, *command: str) -> Iterator[Served]:
        """Run an app under a server; it must end by itself when it is told to."""
        port = free_port()
        environment = environment_of(self.stack, app, self.keys[app], 1 + [*self.keys].index(app))
        environment["DJANGO_SETTINGS_MODULE"] = "tests.servers.bank_settings"
        words = [word.format(address=f"{HOST}:{port}", port=port) for word in command]
        with ManagedProcess(
            [str(Path(sys.executable).parent / words[0]), *words[1:]],
            environment=environment,
            log_path=self.stack.folder / f"{port}.log",
            cwd=ROOT,
        ) as process:
            served = Served(f"http://{HOST}:{port}", f"{app}.apps.localhost", process)
            poll_until(served.is_up, START_SECONDS, what=f"{words[0]} to start")
            yield served
            process.terminate(timeout=20)
        assert "Traceback" not in process.log_text()


@dataclass
class Served:
    """One app under one server."""

    address: str
    host: str
    process: ManagedProcess

    def load(self, path: str, token: str | None = None) -> httpx.Response:
        """Load a page, in a browser that has nothing but the apps' common cookie."""
        cookie = {} if token is None else {"Cookie": f"__Secure-mosaic-sso={token}"}
        headers = {"Host": self.host, **PAGE, **cookie}
        return BROWSERS.get(f"{self.address}{path}", headers=headers)

    def is_up(self) -> bool:
        assert self.process.is_alive, self.process.log_text()
        try:
            return self.load("/login").status_code == 200
        except httpx.TransportError:
            return False

    def load_many(self, path: str, people: dict[str, str], calls: int) -> list[str]:
        """Have people load a page each in turn; return what is not theirs."""
        turns = [*people] * (calls // len(people))

        def wrong(user: str) -> str:
            answer = self.load(path, people[user])
            is_theirs = re.search(rf"\b{user}\b", answer.text) is not None
            return "" if is_theirs else f"{answer.status_code} {answer.text[:80]}"

        with ThreadPoolExecutor(AT_ONCE) as threads:
            return [each for each in threads.map(wrong, turns) if each]


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Stack() as stack:
        stack.migrate()
        keys = {app: stack.add_app(app) for app in ("shop", "forum", "bank")}
        worker = stack.worker()
        people = {}
        with SessionClient(
            broker_url=stack.broker_url, app_id="shop", app_key=keys["shop"]
        ) as client:
            for number in range(PEOPLE):
                user = f"user{number}"
                login = stack.mosaic.login(user, "client-shop", amr=("pwd", "totp"))
                answer = client.register(
                    user_id=user, session_id=login.session_id, id_token=login.id_token, timeout=30
                )
                assert isinstance(answer, Registered)
                people[user] = str(answer.browser_token)
        scene = Scene(stack, worker, keys, people)
        _migrate_bank(scene)
        yield scene


def _migrate_bank(scene: Scene) -> None:
    with ManagedProcess(
        [str(Path(sys.executable).parent / "django-admin"), "migrate", "--verbosity", "0"],
        environment=environment_of(scene.stack, "bank", scene.keys["bank"], 1),
        log_path=scene.stack.folder / "migrate.log",
        cwd=ROOT,
    ) as process:
        assert process.wait(timeout=60) == 0, process.log_text()


@pytest.mark.parametrize("server", SERVERS)
def test_every_call_is_answered_to_whom_it_is_about(scene: Scene, server: str) -> None:
    with scene.served("shop", *SERVERS[server]) as shop:

        def has_begun_anew() -> bool:
            assert shop.load_many("/", scene.people, CALLS) == []
            return shop.process.log_text().count("Booting worker") > 2

        if server == "gevent, few requests a process":
            # A worker answers what it has accepted before it ends: all calls, on a fast machine.
            poll_until(has_begun_anew, 60, what="a worker that took the place of another")
        else:
            assert not has_begun_anew()


@pytest.mark.parametrize("app", ASYNC_APPS)
def test_an_async_server_answers_every_call_too(scene: Scene, app: str) -> None:
    name, path, command = ASYNC_APPS[app]
    with scene.served(name, *command) as served:
        assert served.load_many(path, scene.people, ASYNC_CALLS) == []


@pytest.mark.parametrize("app", ["fastapi", "django, an async view"])
def test_calls_that_nobody_answers_hold_up_no_other(scene: Scene, app: str) -> None:
    name, path, command = ASYNC_APPS[app]
    with scene.served(name, *command) as served, ThreadPoolExecutor(PEOPLE) as threads:
        served.load(path)
        with scene.worker.frozen():
            started = time.monotonic()
            waiting = [threads.submit(served.load, path, each) for each in scene.people.values()]
            poll_until(lambda: _is_asked(scene), 20, what="all calls to be waited for")
            other_since = time.monotonic()
            other = served.load("/login")
            other_took = time.monotonic() - other_since
            is_held_up = any(each.done() for each in waiting)
            answers = [each.result() for each in waiting]
            took = time.monotonic() - started

    assert [answer.status_code for answer in answers] == [503] * PEOPLE
    assert other.status_code == 200
    assert not is_held_up, f"the other page took {other_took:.1f} s"
    assert took < 15, "one after the other they take minutes"


def _is_asked(scene: Scene) -> bool:
    """Whether most have published, and wait; some the worker holds that was stopped."""
    with closing(redis.Redis.from_url(scene.stack.broker_url)) as broker:
        waiting: Any = broker.llen("auth")
        return bool(waiting >= PEOPLE // 2)
