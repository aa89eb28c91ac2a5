"""What the client's parts for web frameworks must do with whatever versions are installed.

Run by `tests.matrix`, where nothing is installed but the client, the frameworks and pytest.
"""

from __future__ import annotations

import asyncio
import atexit
import secrets
import tempfile
from importlib.util import find_spec
from typing import Any

import django
import flask
import httpx
import pytest
from django.conf import settings
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from session_client import (
    AppKey,
    AsyncSessionClient,
    Authenticated,
    ConfigurationError,
    Password,
    SessionClient,
)
from session_client import flask as for_flask
from session_client import starlette as for_starlette
from session_client.testing import SessionWorker

HOST = "a.apps.example.com"
OPTIONS: dict[str, Any] = {"cookie_domain": "apps.example.com", "notices": "/notice"}
KNOWN: dict[str, Any] = {
    "broker_url": "redis://nobody",
    "app_id": "a",
    "app_key": AppKey.generate(),
}
FOLDER = tempfile.TemporaryDirectory(prefix="frameworks-")
atexit.register(FOLDER.cleanup)
SETTINGS = {name.upper(): value for name, value in OPTIONS.items()}
settings.configure(
    SECRET_KEY=secrets.token_hex(),
    ALLOWED_HOSTS=[HOST],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": FOLDER.name + "/db"}},
    INSTALLED_APPS=[
        "django.contrib.auth",
        "django.contrib.contenttypes",
        "django.contrib.sessions",
        "session_client.django",
    ],
    MIDDLEWARE=[
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "session_client.django.middleware.Middleware",
    ],
    AUTHENTICATION_BACKENDS=["session_client.django.backend.Backend"],
    MOSAIC_SESSIONS={**SETTINGS, "CLIENT": SessionClient(**KNOWN)},
    ROOT_URLCONF=__name__,
    USE_TZ=True,
)
django.setup()

from django.core.management import call_command  # noqa: E402 - it wants settings
from django.http import HttpResponse  # noqa: E402
from django.urls import include, path  # noqa: E402

from session_client.django import log_in, log_out, signed_in  # noqa: E402


@signed_in
def home(request: Any) -> HttpResponse:
    return HttpResponse(request.user.get_username())


@signed_in
async def home_async(request: Any) -> HttpResponse:
    return HttpResponse(request.user.get_username())


def login(request: Any) -> HttpResponse:
    is_in = isinstance(log_in(request, Password("ada", "password")), Authenticated)
    return HttpResponse(status=204 if is_in else 403)


urlpatterns = [
    path("", home),
    path("async", home_async),
    path("login", login),
    path("logout", log_out),
    path("", include("session_client.django.urls")),
]


def django_app() -> httpx.AsyncBaseTransport:
    from django.core.asgi import get_asgi_application  # noqa: PLC0415

    application: Any = get_asgi_application()
    return httpx.ASGITransport(app=application)


def flask_app() -> httpx.BaseTransport:
    app = flask.Flask("a")
    app.secret_key = secrets.token_hex()
    sessions = for_flask.Sessions(
        app, SessionClient(**KNOWN), marks=for_flask.MemoryMarks(), **OPTIONS
    )

    @app.get("/")
    @sessions.signed_in
    def home() -> str:
        return sessions.user.user_id

    @app.post("/login")
    def login() -> tuple[str, int]:
        is_in = isinstance(sessions.log_in(Password("ada", "password")), Authenticated)
        return "", 204 if is_in else 403

    @app.post("/logout")
    def logout() -> Any:
        return sessions.log_out()

    return httpx.WSGITransport(app=app)


def starlette_app() -> httpx.AsyncBaseTransport:
    from starlette.applications import Starlette  # noqa: PLC0415
    from starlette.middleware.sessions import SessionMiddleware  # noqa: PLC0415

    app = Starlette()
    sessions = for_starlette.Sessions(
        app, AsyncSessionClient(**KNOWN), marks=for_starlette.MemoryMarks(), **OPTIONS
    )
    app.add_middleware(SessionMiddleware, secret_key=secrets.token_hex())
    guard = sessions.signed_in()

    async def home(request: Any) -> Response:
        return PlainTextResponse((await guard(request)).user_id)

    async def login(request: Any) -> Response:
        answer = await sessions.log_in(request, Password("ada", "password"))
        return Response(status_code=204 if isinstance(answer, Authenticated) else 403)

    app.add_route("/", home)
    app.add_route("/login", login, methods=["POST"])
    app.add_route("/logout", sessions.log_out, methods=["POST"])
    return httpx.ASGITransport(app=app)


def fastapi_app() -> httpx.AsyncBaseTransport:
    from fastapi import Depends, FastAPI  # noqa: PLC0415 - not in each row
    from starlette.middleware.sessions import SessionMiddleware  # noqa: PLC0415

    app = FastAPI()
    sessions = for_starlette.Sessions(
        app, AsyncSessionClient(**KNOWN), marks=for_starlette.MemoryMarks(), **OPTIONS
    )
    app.add_middleware(SessionMiddleware, secret_key=secrets.token_hex())
    guard = Depends(sessions.signed_in())

    @app.get("/")
    def home(user: for_starlette.SignedIn = guard) -> Any:
        return PlainTextResponse(user.user_id)

    @app.post("/login")
    async def login(request: Request) -> Any:
        answer = await sessions.log_in(request, Password("ada", "password"))
        return Response(status_code=204 if isinstance(answer, Authenticated) else 403)

    @app.post("/logout")
    async def logout(request: Request) -> Any:
        return await sessions.log_out(request)

    with pytest.raises(ConfigurationError):
        sessions.signed_in()(login)  # type: ignore[arg-type] # a decorator, by its writer's intent
    return httpx.ASGITransport(app=app)


class Browser:
    """One browser, at one app."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.cookies = httpx.Cookies()

    def ask(self, method: str, where: str = "/", **form: Any) -> httpx.Response:
        site = "none" if method == "GET" else "same-origin"
        headers = {"Sec-Fetch-Dest": "document", "Sec-Fetch-Site": site}
        address = f"https://{HOST}{where}"
        if isinstance(self._transport, httpx.AsyncBaseTransport):
            answer = asyncio.run(self._awaited(method, address, headers, form))
        else:
            with httpx.Client(transport=self._transport, cookies=self.cookies) as client:
                answer = client.request(method, address, headers=headers, **form)
                self.cookies = client.cookies
        return answer

    async def _awaited(
        self, method: str, address: str, headers: dict[str, str], form: dict[str, Any]
    ) -> httpx.Response:
        async with httpx.AsyncClient(transport=self._transport, cookies=self.cookies) as client:
            answer = await client.request(method, address, headers=headers, **form)
            self.cookies = client.cookies
        return answer


APPS = [flask_app, starlette_app, django_app, *([fastapi_app] if find_spec("fastapi") else [])]


@pytest.mark.parametrize("make", APPS)
def test_in_known_and_out(make: Any, session_worker: SessionWorker) -> None:
    call_command("migrate", verbosity=0)
    session_worker.browser = for_flask.Sessions(
        flask.Flask("b"), SessionClient(**KNOWN), marks=for_flask.MemoryMarks(), **OPTIONS
    ).options.cookie
    session_worker.add_user("ada")
    browser = Browser(make())

    assert browser.ask("GET").headers["location"] == "/login?next=/"
    assert browser.ask("POST", "/login").status_code == 204
    assert browser.ask("GET").text == "ada"
    assert browser.ask("POST", "/logout").status_code == 303
    assert browser.ask("GET").status_code == 303

    bob = session_worker.sign_in("bob")  # at another app
    browser.cookies.set(*bob.cookie, domain=".apps.example.com")
    assert browser.ask("GET").text == "bob"
    told = browser.ask("POST", "/notice", data=session_worker.notice(bob))
    assert told.status_code == 200
    session_worker.end(bob)
    assert browser.ask("GET").status_code == 303


def test_an_async_view_of_django(session_worker: SessionWorker) -> None:
    call_command("migrate", verbosity=0)
    browser = Browser(django_app())
    session_worker.browser = session_worker.browser.__class__(domain="apps.example.com")
    ada = session_worker.sign_in("ada")
    browser.cookies.set(*ada.cookie, domain=".apps.example.com")

    assert browser.ask("GET", "/async").text == "ada"
