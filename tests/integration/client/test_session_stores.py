"""Stores of sessions beside the frameworks' own: a session gets a new id when its user signs in.

An attacker who has planted the id, from a sibling host, would else read what the user puts there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI, Request
from flask import Flask, session
from flask.sessions import SecureCookieSession, SessionInterface
from starlette.datastructures import MutableHeaders

from session_client import AppKey, AsyncSessionClient, Password, SessionClient
from session_client.flask import Sessions as FlaskSessions
from session_client.starlette import Sessions as StarletteSessions
from session_client.testing import SessionWorker, session_worker
from tests.asgi import AsgiTransport

__all__ = ["session_worker"]

COOKIE = "sid"
CLIENT: dict[str, Any] = {
    "broker_url": "redis://nobody",
    "app_id": "a",
    "app_key": AppKey.generate(),
}


class OfFlask(SessionInterface):
    """Keeps sessions by an id, as Flask-Session does."""

    def __init__(self) -> None:
        self.kept: dict[str, dict[str, Any]] = {}

    def open_session(self, app: Flask, request: Any) -> SecureCookieSession:
        del app
        sid = request.cookies.get(COOKIE) or uuid4().hex
        found = SecureCookieSession(self.kept.get(sid, {}))
        found["sid"] = sid
        return found

    def save_session(self, app: Flask, session: Any, response: Any) -> None:
        del app
        self.kept[session["sid"]] = dict(session)
        response.set_cookie(COOKIE, session["sid"])

    def regenerate(self, session: Any) -> None:
        del self.kept[session["sid"]]
        session["sid"] = uuid4().hex


class OfStarlette:
    """Keeps sessions by an id, as starsessions does."""

    kept: dict[str, dict[str, Any]]

    def __init__(self, app: Any, kept: dict[str, dict[str, Any]]) -> None:
        self._app, self.kept = app, kept

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        sid = Request(scope).cookies.get(COOKIE) or uuid4().hex
        handler = scope["session_handler"] = Handler(sid)
        scope["session"] = dict(self.kept.get(sid, {}))

        async def save(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.kept[handler.session_id] = dict(scope["session"])
                headers = MutableHeaders(scope=message)
                headers.append("Set-Cookie", f"{COOKIE}={handler.session_id}")
            await send(message)

        await self._app(scope, receive, save)


class Handler:
    def __init__(self, session_id: str) -> None:
        self.session_id = session_id

    def regenerate_id(self) -> None:
        self.session_id = uuid4().hex


def flask_app() -> httpx.BaseTransport:
    app = Flask("a")
    app.session_interface = OfFlask()
    sessions = FlaskSessions(app, SessionClient(**CLIENT))

    @app.post("/login")
    def login() -> str:
        return type(sessions.log_in(Password("ada", "p"))).__name__

    @app.get("/guarded")
    @sessions.signed_in
    def guarded() -> str:
        session["basket"] = sessions.user.user_id
        return ""

    @app.get("/open")
    def unguarded() -> str:
        return str(session.setdefault("basket", ""))

    return httpx.WSGITransport(app=app)


def starlette_app() -> httpx.BaseTransport:
    app = FastAPI()
    sessions = StarletteSessions(app, AsyncSessionClient(**CLIENT))
    app.add_middleware(OfStarlette, kept={})
    guard = sessions.signed_in()

    @app.post("/login")
    async def login(request: Request) -> str:
        return type(await sessions.log_in(request, Password("ada", "p"))).__name__

    @app.get("/guarded")
    async def guarded(request: Request) -> str:
        request.session["basket"] = (await guard(request)).user_id
        return ""

    @app.get("/open")
    async def unguarded(request: Request) -> Any:
        return request.session.setdefault("basket", "")

    return AsgiTransport(app)


def _by_login(browser: httpx.Client, worker: SessionWorker) -> None:
    worker.add_user("ada", password="p")
    browser.post("/login", headers=worker.form).raise_for_status()


def _silently(browser: httpx.Client, worker: SessionWorker) -> None:
    name, value = worker.sign_in("ada").cookie
    browser.cookies.set(name, value, domain="a.example")


@pytest.mark.parametrize("sign_in", [_by_login, _silently])
@pytest.mark.parametrize("make", [flask_app, starlette_app])
def test_a_planted_session_shows_nothing_of_the_user_who_signs_in(
    session_worker: SessionWorker,
    make: Callable[[], Any],
    sign_in: Callable[[httpx.Client, SessionWorker], None],
) -> None:
    transport = make()
    attacker = httpx.Client(transport=transport, base_url="https://a.example")
    attacker.get("/open")
    browser = httpx.Client(
        transport=transport, base_url="https://a.example", cookies=attacker.cookies
    )

    sign_in(browser, session_worker)
    browser.get("/guarded", headers=session_worker.page).raise_for_status()
    seen = attacker.get("/open").text
    kept = browser.cookies[COOKIE]
    browser.get("/guarded", headers=session_worker.page).raise_for_status()

    assert "ada" not in seen
    assert "ada" in browser.get("/open").text
    assert browser.cookies[COOKIE] == kept  # one id for as long as nothing is proved
    getattr(transport, "stop", lambda: None)()
