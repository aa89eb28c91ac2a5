"""The code in README.md and docs/apps.md runs as it stands there, with a worker and without."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import session_client
from sandbox.processes import poll_until
from sandbox.redis_server import RedisServer
from sandbox.stack import Stack
from session_client import (
    AsyncSessionClient,
    Authenticated,
    LoginRequired,
    Logout,
    NotAcknowledged,
    Reason,
    Register,
    SilentAuth,
    SpoolCounts,
)
from tests.acceptance.client_rig import ROOT, Apps, working

PAGES = [(ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/apps.md")]
# The sample of the hub runs beside the tests of tickets.
FIRST, FOR_AN_API, IN_AN_APP, _HUB, AWAY, A_JOB, NOT_LOST = (
    sample
    for page in PAGES
    for sample in re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
)
GRANTED = ("--methods", "password", "--allow", "offline")
CALLS = (Register, SilentAuth, Logout)


class Headers(list[tuple[str, str]]):
    """Those of a response; what cookies they set the browser brings along from then on."""

    def __init__(self) -> None:
        super().__init__()
        self.jar: list[str] = []

    def append(self, header: tuple[str, str]) -> None:
        super().append(header)
        name, value = header
        if name.lower() == "set-cookie":
            self.jar.append(value.partition(";")[0])


class App(dict[str, Any]):
    """The names around a sample: what the app's own functions are called with is kept.

    Those of `session_client` a sample imports itself, as a reader must.
    """

    def __init__(self, **names: Any) -> None:
        super().__init__(names)
        self.called: list[tuple[str, Any]] = []
        for name in ("sign_in", "send_to_login", "end_own_session", "log_out_again_later"):
            self[name] = lambda *given, name=name: self.called.append((name, given))

    def run(self, sample: str) -> None:
        exec(compile(sample, "docs", "exec"), self)  # noqa: S102 - it is ours

    def call(self, name: str, *given: Any) -> Any:
        return asyncio.run(self[name](*given))


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> float:
    """How long a call waits whose sample does not say: this machine may be busy."""
    return waiting(60.0, monkeypatch)


@pytest.fixture
def haste(monkeypatch: pytest.MonkeyPatch) -> float:
    """The same where nothing can come."""
    return waiting(0.3, monkeypatch)


def waiting(seconds: float, monkeypatch: pytest.MonkeyPatch) -> float:
    for call in CALLS:
        defaults = call.__init__.__kwdefaults__
        assert defaults is not None
        monkeypatch.setitem(defaults, "timeout", seconds)
    return seconds


@pytest.mark.usefixtures("patience")
def test_the_samples_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # one opens a spool
    with Stack() as stack, ExitStack() as exits:
        stack.migrate()
        stack.beat()
        apps = Apps(stack, "shop", "forum")
        exits.callback(apps.close)
        worker = exits.enter_context(working(stack))
        stack.run("mosaic-sessions", "apps", "set", "forum", *GRANTED)
        stack.mosaic.add_user("eve", password="a password")
        headers = Headers()
        app = App(cookies=headers.jar, headers=headers, name="eve", password="a password")

        app.run(
            FIRST.replace("rediss://…", stack.broker_url).replace("3f9c….…", apps.keys["forum"])
        )
        exits.callback(app["client"].close)
        ((name, (user_id, _)),) = app.called
        assert (name, user_id) == ("sign_in", "eve")
        assert "Max-Age=0" in headers[-1][1] + headers[-2][1]
        poll_until(lambda: not stack.mosaic.live_sessions("eve"), 60, what="Mosaic to be told")

        app.run(FOR_AN_API)
        known = app["sign_in_for_an_api"](app["client"], app["sso"], [], "eve", "a password")
        assert isinstance(known, Authenticated)
        app["kept"] = known.tokens.refresh_token
        app.run(AWAY)
        assert app["kept"] not in {None, known.tokens.refresh_token}
        run_a_job(app, known)

        app["ref"] = apps.register("ada", "forum").session_ref
        app.run(NOT_LOST)
        exits.callback(app["spool"].stop)
        assert app["receipt"].sessions_ended == 1
        poll_until(lambda: app["spool"].counts() == SpoolCounts(waiting=0, refused=0), 60)

        app.run(IN_AN_APP)
        login = apps.login("ada", "forum")
        forum = AsyncSessionClient(
            broker_url=stack.broker_url, app_id="forum", app_key=apps.keys["forum"]
        )
        named = app.call("after_login", forum, "ada", login.session_id, login.id_token)
        assert named.keys() == {"session_ref"}
        shop = apps.clients["shop"]
        assert isinstance(shop.silent_auth(user_id="ada"), Authenticated)
        app.call("log_out", forum, "ada", named["session_ref"])
        assert shop.silent_auth(user_id="ada") == LoginRequired(Reason.LOGGED_OUT)
        assert app.called[1:] == [("end_own_session", ("ada",))]

        login = apps.login("bob", "forum")
        with monkeypatch.context() as patch, worker.frozen():
            waiting(0.5, patch)  # it is done, but after the app has given up
            assert app.call("after_login", forum, "bob", login.session_id, login.id_token) is None
        named = app.call("after_login", forum, "bob", login.session_id, login.id_token)
        app.call("log_out", forum, "bob", named["session_ref"])
        assert shop.silent_auth(user_id="bob") == LoginRequired(Reason.LOGGED_OUT)

        # A login bypass: whatever a browser says is believed.
        eves = apps.login("eve", "forum")
        for user_id, session_id, id_token in (
            ("ada", eves.session_id, eves.id_token),
            ("ada", "made-up", "made-up"),
            ("ada", eves.session_id, apps.login("eve", "shop").id_token),
        ):
            assert app.call("after_login", forum, user_id, session_id, id_token) is None


def run_a_job(app: App, login: Authenticated) -> None:
    app.run(A_JOB)
    done: list[str] = []
    steps = [
        lambda: done.append("before"),
        lambda: app["client"].logout(browser_token=login.browser_token),
        lambda: done.append("after"),
    ]
    by_whom = (app["client"], login.user_id, login.session_ref)

    assert app["run_while_signed_in"](*by_whom, steps[:1]) is True
    assert app["run_while_signed_in"](*by_whom, steps) is False
    assert done == ["before", "before"]


@pytest.fixture(params=["no broker", "no worker"])
def lonely(request: pytest.FixtureRequest) -> Iterator[AsyncSessionClient]:
    """A client with nobody at the other end."""
    with RedisServer() as server:
        client = AsyncSessionClient(
            broker_url=server.url(), app_id="shop", app_key=session_client.AppKey.generate()
        )
        if request.param == "no broker":
            server.stop()
        yield client


@pytest.mark.usefixtures("haste")
def test_without_broker_or_worker_nobody_gets_in_and_users_get_out_here(
    lonely: AsyncSessionClient,
) -> None:
    app = App()
    app.run(IN_AN_APP)

    assert app.call("after_login", lonely, "ada", "made-up", "made-up") is None
    app.call("log_out", lonely, "ada", "of-an-earlier-login")

    ended, (later, (error,)) = app.called
    assert ended == ("end_own_session", ("ada",))
    assert later == "log_out_again_later"
    assert isinstance(error, NotAcknowledged)
