"""What the frameworks' parts do besides what the three apps of `examples/web` show."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import pytest
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import FastAPIError
from flask import Blueprint, Flask, request, session
from starlette.middleware.sessions import SessionMiddleware

from session_client import (
    AppKey,
    AsyncSessionClient,
    Authenticate,
    Authenticated,
    BeginSocial,
    Code,
    ConfigurationError,
    LoginAnswer,
    NotAnswered,
    Password,
    SendOtp,
    SessionClient,
    Social,
    SocialVerified,
    Task,
    VerifySocial,
    Wishes,
)
from session_client.flask import Sessions as FlaskSessions
from session_client.starlette import Sessions as StarletteSessions
from session_client.testing import SessionWorker, session_worker
from session_client.web import MemoryMarks
from tests.asgi import AsgiTransport
from tests.integration.client.social_rig import STATE, plan_a_login_at_a_provider

__all__ = ["session_worker"]

CLIENT: dict[str, Any] = {
    "broker_url": "redis://nobody",
    "app_id": "a",
    "app_key": AppKey.generate(),
}
WISHES = Wishes(ip_address="203.0.113.7")
PAYMENT = {"payee": "DE02120300000000202051", "amount": "12.50"}
GOOGLE = BeginSocial("google", "https://a.example/callback")
SETTINGS: dict[str, Any] = {"entry": "/enter", "notices": "/notice"}


def seen_of(answer: LoginAnswer) -> dict[str, Any]:
    if not isinstance(answer, Authenticated):
        return {"amr": None}
    return {"amr": answer.amr, "approved": answer.approval_data}


def flask_app() -> httpx.BaseTransport:
    app = Flask("a")
    app.secret_key = "s" * 32
    sessions = FlaskSessions(app, SessionClient(**CLIENT), marks=MemoryMarks(), **SETTINGS)

    @app.post("/begin")
    def begin() -> dict[str, str]:
        began = sessions.begin(SendOtp("sms"), step_up=True, approval_data=PAYMENT, wishes=WISHES)
        return {"began": type(began).__name__}

    @app.post("/begin-login/<user_id>")
    def begin_login(user_id: str) -> dict[str, str]:
        return {"began": type(sessions.begin(SendOtp("sms", user_id, "user_id"))).__name__}

    @app.post("/complete/<code>")
    def complete(code: str) -> dict[str, Any]:
        answer = sessions.complete(Code(code), step_up=True)
        return seen_of(answer)

    @app.get("/tokens")
    @sessions.signed_in
    async def tokens() -> dict[str, str]:
        return {"token": sessions.tokens().token_type}

    @app.get("/basket/<thing>")
    @sessions.signed_in
    def basket(thing: str) -> dict[str, Any]:
        session["basket"] = [*session.get("basket", ()), thing]
        return {"user": sessions.user.user_id, "basket": session["basket"]}

    @app.post("/logout")
    def logout() -> Any:
        return sessions.log_out()

    @app.get("/open")
    def unguarded() -> str:
        return sessions.user.user_id

    add_a_login_at_a_provider(app, sessions)
    app.testing = True
    return httpx.WSGITransport(app=app)


def add_a_login_at_a_provider(app: Flask, sessions: FlaskSessions) -> None:
    @app.post("/provider")
    def provider() -> dict[str, str]:
        return {"began": type(sessions.begin(GOOGLE)).__name__}

    @app.get("/callback")
    def callback() -> dict[str, Any]:
        verified = sessions.begin(VerifySocial(request.args["code"], request.args["state"]))
        return {"claims": verified.claims if isinstance(verified, SocialVerified) else None}

    @app.get("/finish")
    def finish() -> dict[str, str]:
        return {"answer": type(sessions.complete(Social("ada"))).__name__}

    @app.get("/at-once")
    def at_once() -> dict[str, str]:
        sessions.begin(VerifySocial("c", STATE))
        return finish()


def starlette_app() -> httpx.BaseTransport:
    app = FastAPI()
    sessions = StarletteSessions(app, AsyncSessionClient(**CLIENT), marks=MemoryMarks(), **SETTINGS)
    app.add_middleware(SessionMiddleware, secret_key="s" * 32, https_only=True)

    @app.post("/begin")
    async def begin(request: Request) -> dict[str, str]:
        began = await sessions.begin(
            request, SendOtp("sms"), step_up=True, approval_data=PAYMENT, wishes=WISHES
        )
        return {"began": type(began).__name__}

    @app.post("/begin-login/{user_id}")
    async def begin_login(request: Request, user_id: str) -> dict[str, str]:
        began = await sessions.begin(request, SendOtp("sms", user_id, "user_id"))
        return {"began": type(began).__name__}

    @app.post("/complete/{code}")
    async def complete(request: Request, code: str) -> dict[str, Any]:
        answer = await sessions.complete(request, Code(code), step_up=True)
        return seen_of(answer)

    @app.get("/tokens")
    async def tokens(request: Request) -> dict[str, str]:
        user = await sessions.signed_in()(request)
        return {"token": (await sessions.tokens(request, user)).token_type}

    @app.get("/basket/{thing}")
    async def basket(request: Request, thing: str) -> dict[str, Any]:
        user = await sessions.signed_in()(request)
        request.session["basket"] = [*request.session.get("basket", ()), thing]
        return {"user": user.user_id, "basket": request.session["basket"]}

    @app.post("/logout")
    async def logout(request: Request) -> Any:
        return await sessions.log_out(request)

    add_a_login_at_a_provider_async(app, sessions)
    return AsgiTransport(app)


def add_a_login_at_a_provider_async(app: FastAPI, sessions: StarletteSessions) -> None:
    @app.post("/provider")
    async def provider(request: Request) -> dict[str, str]:
        return {"began": type(await sessions.begin(request, GOOGLE)).__name__}

    @app.get("/callback")
    async def callback(request: Request, code: str, state: str) -> dict[str, Any]:
        verified = await sessions.begin(request, VerifySocial(code, state))
        return {"claims": verified.claims if isinstance(verified, SocialVerified) else None}

    @app.get("/finish")
    async def finish(request: Request) -> dict[str, str]:
        return {"answer": type(await sessions.complete(request, Social("ada"))).__name__}

    @app.get("/at-once")
    async def at_once(request: Request) -> dict[str, str]:
        await sessions.begin(request, VerifySocial("c", STATE))
        return await finish(request)


@pytest.fixture(params=[flask_app, starlette_app], ids=["flask", "starlette"])
def browser(request: pytest.FixtureRequest) -> Any:
    transport = request.param()
    with httpx.Client(transport=transport, base_url="https://a.example") as client:
        yield client
    getattr(transport, "stop", lambda: None)()


def arrive(browser: httpx.Client, worker: SessionWorker, user_id: str = "ada") -> None:
    name, value = worker.sign_in(user_id).cookie
    browser.cookies.set(name, value, domain="a.example")


def test_the_entry_signs_in_leads_back_and_tells_a_script(
    session_worker: SessionWorker, browser: httpx.Client
) -> None:
    asked = browser.get("/enter?next=/x", headers=session_worker.page)
    arrive(browser, session_worker)
    entered = browser.get("/enter?next=/x", headers=session_worker.page)

    assert asked.headers["Location"] == "/login?next=/enter%3Fnext%3D/x"
    assert entered.headers["Location"] == "/x"
    assert browser.get("/enter", headers=session_worker.script).status_code == 204


NOT_ASCII = {
    "/caf%C3%A9": "/caf%C3%A9",
    "/%E2%82%AC?a=b%26c": "/%E2%82%AC?a=b&c",
    "/%25C3%25A9": "/%C3%A9",
    "/%F0%9F%90%8E%23x": "/%F0%9F%90%8E#x",
}


def test_the_way_back_is_a_header_whatever_its_letters(
    session_worker: SessionWorker, browser: httpx.Client
) -> None:
    arrive(browser, session_worker)

    led = {
        asked: browser.get(f"/enter?next={asked}", headers=session_worker.page).headers["Location"]
        for asked in NOT_ASCII
    }

    assert led == NOT_ASCII


@pytest.mark.parametrize("thing", ["50%20off", "what?", "a#b", ";+&=", "a\\b"])
def test_a_login_leads_back_to_the_very_page_that_asked_for_it(
    session_worker: SessionWorker, browser: httpx.Client, thing: str
) -> None:
    page = session_worker.page
    asked = browser.get(f"/basket/{quote(thing)}?page=2%263", headers=page)
    (way_back,) = parse_qs(urlsplit(asked.headers["Location"]).query)["next"]
    arrive(browser, session_worker)

    assert browser.get(way_back, headers=page).json()["basket"] == [thing]
    assert urlsplit(way_back).query == "page=2%263"


def test_a_factor_is_begun_and_completed(
    session_worker: SessionWorker, browser: httpx.Client
) -> None:
    arrive(browser, session_worker)

    began = browser.post("/begin", headers=session_worker.form)
    code = session_worker.code_for("ada")
    done = browser.post(f"/complete/{code}", headers=session_worker.form)
    again = browser.post(f"/complete/{code}", headers=session_worker.form)

    assert began.json() == {"began": "CodeSent"}
    (start,) = [call for call in session_worker.calls if call.task is Task.START]
    assert start.payload["client_attributes"] == {"ip_address": WISHES.ip_address}
    assert done.json() == {"amr": ["mfa", "pwd", "sms"], "approved": PAYMENT}
    assert again.status_code == 409
    assert browser.get("/enter", headers=session_worker.script).status_code == 204


def test_who_has_clicked_twice_is_in_by_the_answer_to_the_second_click(
    session_worker: SessionWorker, browser: httpx.Client
) -> None:
    arrive(browser, session_worker)
    browser.post("/begin", headers=session_worker.form)
    code = session_worker.code_for("ada")
    at_both_clicks = httpx.Cookies(browser.cookies)

    dropped = browser.post(f"/complete/{code}", headers=session_worker.form)
    browser.cookies = at_both_clicks
    shown = browser.post(f"/complete/{code}", headers=session_worker.form)

    assert dropped.json() == shown.json() == {"amr": ["mfa", "pwd", "sms"], "approved": PAYMENT}
    assert browser.get("/basket/pear", headers=session_worker.page).json()["user"] == "ada"


def test_a_page_that_asks_for_a_factor_takes_no_login_that_was_begun_in_this_browser(
    session_worker: SessionWorker, browser: httpx.Client
) -> None:
    arrive(browser, session_worker)
    session_worker.add_user("mallory")

    began = browser.post("/begin-login/mallory", headers=session_worker.form)
    code = session_worker.code_for("mallory")
    done = browser.post(f"/complete/{code}", headers=session_worker.form)

    assert began.json() == {"began": "CodeSent"}
    assert done.status_code == 409
    assert Task.AUTHENTICATE not in {call.task for call in session_worker.calls}
    assert browser.get("/basket/pear", headers=session_worker.page).json()["user"] == "ada"


def test_a_provider_leads_back_by_get_and_the_login_goes_on(
    session_worker: SessionWorker, browser: httpx.Client
) -> None:
    plan_a_login_at_a_provider(session_worker)
    led_back = {**session_worker.page, "Sec-Fetch-Site": "cross-site"}
    callback = f"/callback?code=c&state={STATE}"

    stranger = browser.get(callback, headers=led_back)
    began = browser.post("/provider", headers=session_worker.form)
    verified = browser.get(callback, headers=led_back)
    done = browser.get("/finish", headers=session_worker.page)

    assert stranger.status_code == 409
    assert began.json() == {"began": "SocialBegun"}
    assert verified.json() == {"claims": {"sub": "7"}}
    assert done.json() == {"answer": "Authenticated"}
    assert browser.get("/enter", headers=session_worker.script).status_code == 204


def test_a_page_that_a_provider_leads_back_to_may_sign_in_at_once(
    session_worker: SessionWorker, browser: httpx.Client
) -> None:
    plan_a_login_at_a_provider(session_worker)

    browser.post("/provider", headers=session_worker.form)
    done = browser.get("/at-once", headers=session_worker.page)

    assert done.json() == {"answer": "Authenticated"}
    assert session_worker.calls[-1].payload["login"] == "verified"
    assert not [name for name in browser.cookies if "mosaic-login" in name]
    assert browser.get("/enter", headers=session_worker.script).status_code == 204


def test_tokens_are_of_who_is_in(session_worker: SessionWorker, browser: httpx.Client) -> None:
    arrive(browser, session_worker)

    answer = browser.get("/tokens", headers=session_worker.page)

    assert answer.json() == {"token": "bearer"}
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Cookie" in answer.headers["Vary"]


def test_nobody_finds_what_somebody_else_has_left_in_the_session(
    session_worker: SessionWorker, browser: httpx.Client
) -> None:
    def basket(thing: str) -> Any:
        return browser.get(f"/basket/{thing}", headers=session_worker.page).json()

    arrive(browser, session_worker)
    before = [basket("apple"), basket("pear")][-1]
    arrive(browser, session_worker, "bob")
    after = basket("kettle")
    out = browser.post("/logout", headers=session_worker.form)
    arrive(browser, session_worker, "bob")
    again = basket("lamp")

    assert before == {"user": "ada", "basket": ["apple", "pear"]}
    assert after == {"user": "bob", "basket": ["kettle"]}
    assert out.status_code == 303
    assert again == {"user": "bob", "basket": ["lamp"]}


def decorated(view: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap *view* as an app's own decorator does, such as one that keeps a cache."""

    @wraps(view)
    def around(*args: Any, **kwargs: Any) -> Any:
        return view(*args, **kwargs)

    return around


def test_no_request_is_answered_where_a_flask_view_was_routed_before_it_was_guarded(
    session_worker: SessionWorker,
) -> None:
    for place in ("app", "blueprint"):
        app, blueprint = Flask("a"), Blueprint("b", "b")
        sessions = FlaskSessions(app, SessionClient(**CLIENT), marks=MemoryMarks())
        routes = app if place == "app" else blueprint

        @sessions.signed_in
        @routes.get("/account")
        def account() -> str:
            return "everybody's"

        app.register_blueprint(blueprint)
        app.testing = True
        for _ in range(2):
            with pytest.raises(ConfigurationError, match=r"account is open .* below @app\.get"):
                app.test_client().get("/account", headers=session_worker.page)


def test_a_flask_view_may_be_routed_open_too_where_it_is_also_routed_guarded(
    session_worker: SessionWorker,
) -> None:
    app = Flask("a")
    app.secret_key = "s" * 32
    sessions = FlaskSessions(app, SessionClient(**CLIENT), marks=MemoryMarks())

    def news() -> str:
        return "news"

    app.add_url_rule("/open", "open", news)
    app.add_url_rule("/closed", "closed", sessions.signed_in(news))
    app.add_url_rule("/cached", "cached", decorated(sessions.signed_in(news)))
    browser = app.test_client()

    assert browser.get("/open", headers=session_worker.page).status_code == 200
    for closed in ("/closed", "/cached"):
        assert browser.get(closed, headers=session_worker.page).status_code == 303


def test_another_decorator_between_route_and_guard_hides_no_open_view(
    session_worker: SessionWorker,
) -> None:
    app = Flask("a")
    sessions = FlaskSessions(app, SessionClient(**CLIENT), marks=MemoryMarks())

    @sessions.signed_in
    @decorated
    @app.get("/account")
    def account() -> str:
        return "everybody's"

    app.testing = True
    with pytest.raises(ConfigurationError, match="account is open"):
        app.test_client().get("/account", headers=session_worker.page)


def test_a_blueprint_that_catches_every_error_catches_no_answer_of_ours(
    session_worker: SessionWorker,
) -> None:
    app, api = Flask("a"), Blueprint("api", "api")
    app.secret_key = "s" * 32
    sessions = FlaskSessions(app, SessionClient(**CLIENT), marks=MemoryMarks())

    @api.errorhandler(Exception)
    def broken(error: Exception) -> tuple[str, int]:
        return f"a defect: {error!r}", 500

    @api.route("/login", methods=["GET", "POST"])
    def log_in() -> str:
        return type(sessions.log_in(Password("ada", "x"))).__name__

    app.register_blueprint(api)
    browser = app.test_client()

    assert browser.get("/login").status_code == 405
    assert browser.post("/login").status_code == 403
    session_worker.next(Authenticate, NotAnswered())
    away = browser.post("/login", headers=session_worker.form)
    assert (away.status_code, away.headers["Cache-Control"]) == (503, "no-store")
    assert "Retry-After" in away.headers


def test_fastapi_takes_no_route_whose_guard_lacks_its_brackets() -> None:
    app = FastAPI()
    sessions = StarletteSessions(app, AsyncSessionClient(**CLIENT), marks=MemoryMarks())

    guard = Depends(sessions.signed_in)

    def account(user: Any = guard) -> str:
        return f"everybody's: {user}"

    with pytest.raises(FastAPIError, match="SignedInNeedsBrackets"):
        app.get("/account")(account)
    with pytest.raises(FastAPIError, match="SignedInNeedsBrackets"):
        app.get("/account", dependencies=[guard])(lambda: "everybody's")


def test_starlettes_guard_is_no_decorator_and_takes_no_request() -> None:
    app = FastAPI()
    sessions: Any = StarletteSessions(app, AsyncSessionClient(**CLIENT), marks=MemoryMarks())

    def account() -> str:
        return "everybody's"

    for wrong in (account, app.get("/account")(account), Request({"type": "http"})):
        with pytest.raises(ConfigurationError, match=r"Depends\(sessions\.signed_in\(\)\)"):
            sessions.signed_in(wrong)


def test_what_starlettes_guard_is_to_decorate_is_refused_when_it_is_defined() -> None:
    app = FastAPI()
    sessions: Any = StarletteSessions(app, AsyncSessionClient(**CLIENT), marks=MemoryMarks())

    async def account() -> str:
        return "everybody's"

    for view in (account, app.get("/account")(account), decorated(app.post("/account")(account))):
        with pytest.raises(ConfigurationError, match=r"Depends\(sessions\.signed_in\(\)\)"):
            sessions.signed_in(max_age=60)(view)


def test_fastapi_awaits_the_guard_as_a_value_and_as_a_dependency_of_the_route(
    session_worker: SessionWorker,
) -> None:
    app = FastAPI()
    sessions = StarletteSessions(app, AsyncSessionClient(**CLIENT), marks=MemoryMarks())
    app.add_middleware(SessionMiddleware, secret_key="s" * 32, https_only=True)
    guard = Depends(sessions.signed_in())

    @app.get("/value")
    def value(user: Any = guard) -> str:
        return str(user.user_id)

    @app.get("/route", dependencies=[guard])
    def route() -> str:
        return "in"

    transport = AsgiTransport(app)
    with httpx.Client(transport=transport, base_url="https://a.example") as browser:
        closed = [browser.get(path).status_code for path in ("/value", "/route")]
        arrive(browser, session_worker)
        seen = [
            browser.get(path, headers=session_worker.page).json() for path in ("/value", "/route")
        ]
    transport.stop()

    assert closed == [401, 401]
    assert seen == ["ada", "in"]


def test_an_app_that_is_mounted_is_guarded_and_signs_in_like_the_one_around_it(
    session_worker: SessionWorker,
) -> None:
    app, mounted = FastAPI(), FastAPI()
    sessions = StarletteSessions(app, AsyncSessionClient(**CLIENT), marks=MemoryMarks())
    app.add_middleware(SessionMiddleware, secret_key="s" * 32, https_only=True)
    app.mount("/api", mounted)

    @mounted.get("/who", dependencies=[Depends(sessions.signed_in())])
    def who() -> str:
        return "in"

    @mounted.get("/login")
    async def log_in(request: Request) -> str:
        await sessions.log_in(request, Password("ada", "x"))
        return "never"

    transport = AsgiTransport(app)
    with httpx.Client(transport=transport, base_url="https://a.example") as browser:
        call = browser.get("/api/who")
        page = browser.get("/api/who", headers=session_worker.page)
        by_get = browser.get("/api/login")
        arrive(browser, session_worker)
        seen = browser.get("/api/who", headers=session_worker.page)
    transport.stop()

    assert (call.status_code, call.json()["error"]) == (401, "login_required")
    assert (page.status_code, page.headers["Location"]) == (303, "/login?next=/api/who")
    assert by_get.status_code == 405
    assert seen.json() == "in"


def test_a_notice_that_is_too_long_is_not_read(
    session_worker: SessionWorker, browser: httpx.Client
) -> None:
    answer = browser.post("/notice", data={"logout_token": "x" * 70_000})

    assert answer.status_code == 413
    assert session_worker.calls == []


def test_who_is_in_is_only_known_where_it_was_asked(session_worker: SessionWorker) -> None:
    with (
        httpx.Client(transport=flask_app(), base_url="https://a.example") as client,
        pytest.raises(RuntimeError, match="signed_in"),
    ):
        client.get("/open")
