"""Shop (Flask), forum (FastAPI) and bank (Django) of `examples/web` on a real worker.

Whatever users do in whatever order: who is in at one is in at all, who is out is out, and nobody
ever sees the page of somebody else.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from flask import Flask
from starlette.middleware.sessions import SessionMiddleware

from sandbox.processes import poll_until
from session_client import AsyncSessionClient, Password, SessionClient
from session_client.flask import Sessions
from session_client.starlette import Sessions as StarletteSessions
from simulator.controls.devices import PasskeyDevice
from tests.acceptance.web_rig import HOSTS, PASSWORD, Browser, WebApps, web_apps
from tests.asgi import AsgiTransport

APPS = tuple(HOSTS)


@pytest.fixture(scope="module")
def apps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebApps]:
    with web_apps(tmp_path_factory.mktemp("web")) as apps:
        for number, user in enumerate(
            ("ada", "bob", "carl", "dora", "eve", "faye", "gail", "hal", "ida")
        ):
            phone = f"+44163296{number:04}"
            apps.stack.mosaic.add_user(user, password=PASSWORD, phone=phone)
        yield apps


@pytest.fixture
def browser(apps: WebApps) -> Browser:
    return apps.browser()


def step_up(apps: WebApps, browser: Browser, user_id: str) -> None:
    assert browser.open("bank", follow=False).headers["Location"] == "/step-up?next=/"
    browser.open("bank")
    assert browser.send("bank", "/step-up?next=/", {"send": ""}).status_code == 200
    answer = browser.send("bank", "/step-up?next=/", {"code": apps.code_for(user_id)})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/"), answer.text


def test_signed_in_at_one_known_at_all_stepped_up_once_and_out_everywhere(
    apps: WebApps, browser: Browser
) -> None:
    assert browser.open("shop", follow=False).headers["Location"] == "/login?next=/"
    browser.sign_in("ada")
    phone = apps.browser()
    phone.sign_in("ada", "bank")

    assert browser.who_is_in("shop") == "ada"
    assert browser.who_is_in("forum") == "ada"
    step_up(apps, browser, "ada")
    assert browser.who_is_in("bank") == "ada"
    assert browser.who_is_in("forum") == "ada"
    phone.open("shop")
    copies = browser.local_cookies()
    out = browser.send("shop", "/logout")

    assert out.status_code == 303
    assert out.headers["Clear-Site-Data"] == '"cache"'
    assert browser.token is None
    assert [browser.is_in(app) for app in APPS] == [False, False, False]
    assert phone.who_is_in("shop") == "ada"
    # Who has kept copies of all cookies of the apps' own has nothing: the notices have ended them.
    thief = apps.browser()
    for name, value in copies.items():
        domain, cookie = name.split()
        thief.client.cookies.set(cookie, value, domain=domain)
    assert not any(thief.is_in(app) for app in APPS)


@pytest.mark.parametrize("app", APPS)
def test_a_logout_elsewhere_is_told_and_ends_the_session_here(
    apps: WebApps, browser: Browser, app: str
) -> None:
    browser.sign_in("dora")
    if app == "bank":
        step_up(apps, browser, "dora")
    assert browser.is_in(app)
    token = browser.token
    elsewhere = next(other for other in ("forum", "shop") if other != app)
    assert browser.is_in(elsewhere)

    assert browser.call(elsewhere, "POST", "/logout").status_code == 204

    # With the dead cookie put back: it is the notice that counts now.
    browser.client.cookies.set("__Secure-mosaic-sso", str(token), domain=".apps.example.com")
    poll_until(lambda: not browser.is_in(app), 30, what="the notice to arrive")


@pytest.mark.parametrize("app", APPS)
def test_another_user_of_the_browser_never_sees_the_first_ones_page(
    browser: Browser, app: str
) -> None:
    browser.sign_in("bob")
    browser.open(app)

    browser.sign_in("carl", "shop" if app == "bank" else "bank")

    assert browser.who_is_in(app) in {None, "carl"}
    assert browser.who_is_in("shop") == "carl"
    assert browser.who_is_in("forum") == "carl"


@pytest.mark.parametrize("app", APPS)
def test_a_cookie_that_is_forged_or_sent_twice_signs_nobody_in(browser: Browser, app: str) -> None:
    for forged in ("msb1_" + "x" * 43, "ada", '"; DROP', "msb1_" + "y" * 44):
        browser.client.cookies.set("__Secure-mosaic-sso", forged, domain=".apps.example.com")
        assert not browser.is_in(app)
    browser.client.cookies.clear()
    browser.sign_in("bob")
    cookie = f"__Secure-mosaic-sso={browser.token}"
    for sent, is_known in ((cookie, True), (f"{cookie}; {cookie}", False)):
        browser.client.cookies.clear()
        browser.client.headers["Cookie"] = sent
        page = browser.open(app, follow=False)
        # The bank wants one more factor of whom it knows.
        is_let_on = page.status_code == 200 or "/step-up" in page.headers["Location"]
        assert is_let_on is is_known


@pytest.mark.parametrize("app", APPS)
def test_a_local_session_that_is_made_up_is_none(browser: Browser, app: str) -> None:
    browser.sign_in("bob")
    name = "sessionid" if app == "bank" else "session"
    for forged in ("eyJfbW9zYWljIjp7InUiOiJhZGEifX0.x.y", "x", ""):
        browser.client.cookies.set(name, forged, domain=HOSTS[app])

        assert browser.who_is_in(app) != "ada"


@pytest.mark.parametrize("app", APPS)
def test_what_another_site_sends_does_nothing(browser: Browser, app: str) -> None:
    browser.sign_in("bob")
    elsewhere = {"Sec_Fetch_Site": "cross-site", "Origin": "https://evil.example"}

    out = browser.send(app, "/logout", None, **elsewhere)
    by_get = browser.client.get(f"https://{HOSTS[app]}/logout")
    credentials = {"user": "eve", "password": PASSWORD}
    if app == "forum":
        login = browser.client.post(
            f"https://{HOSTS[app]}/login",
            json=credentials,
            headers={"Sec-Fetch-Site": "cross-site"},
        )
    else:
        login = browser.send(app, "/login", credentials, **elsewhere)

    assert (out.status_code, by_get.status_code, login.status_code) == (403, 405, 403)
    assert browser.who_is_in("shop") == "bob"


@pytest.mark.parametrize("app", ["shop", "bank"])
def test_a_login_leads_back_to_a_page_of_this_app_alone(browser: Browser, app: str) -> None:
    for wanted, location in (
        ("//evil.example", "/"),
        ("https://evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/%5Cevil.example/%0d%0aX:y", "/"),
        ("/?page=2", "/?page=2"),
    ):
        answer = browser.send(app, f"/login?next={wanted}", {"user": "bob", "password": PASSWORD})

        assert answer.headers["Location"] == location


def test_a_call_is_told_where_the_login_is_and_signs_nobody_in(browser: Browser) -> None:
    browser.sign_in("bob")

    answer = browser.call("forum", "GET", "/me")

    assert (answer.status_code, answer.json()["error"]) == (401, "login_required")
    assert browser.is_in("forum")
    assert browser.call("forum", "GET", "/me").json() == {"user": "bob"}
    assert browser.call("forum", "DELETE", "/account").json() == {"closed": "bob"}


@pytest.mark.parametrize("app", ["shop", "bank"])
def test_a_form_with_nothing_in_it_is_refused_and_is_no_fault(browser: Browser, app: str) -> None:
    for fields in ({"user": "", "password": ""}, {"user": "eve", "password": ""}):
        answer = browser.send(app, "/login", fields)

        assert (answer.status_code, "That was not right." in answer.text) == (403, True)
    assert browser.send(app, "/login", {"user": "x" * 9999, "password": "x"}).status_code == 403


@pytest.mark.parametrize("app", ["shop", "bank"])
def test_a_login_form_that_is_sent_twice_at_once_signs_in(browser: Browser, app: str) -> None:
    browser.open(app)
    with ThreadPoolExecutor(2) as threads:
        sent = [threads.submit(browser.sign_in, "eve", app) for _ in range(2)]
        for each in sent:
            each.result(timeout=60)

    assert browser.who_is_in("shop") == "eve"
    assert browser.who_is_in("forum") == "eve"
    browser.send("shop", "/logout")
    assert not any(browser.is_in(each) for each in APPS)


def test_a_code_that_is_sent_twice_at_once_steps_up(apps: WebApps, browser: Browser) -> None:
    browser.sign_in("eve")
    browser.open("bank")
    browser.send("bank", "/step-up", {"send": ""})
    code = {"code": apps.code_for("eve")}
    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(lambda _: browser.send("bank", "/step-up", code), range(2)))

    # 409 is of a click that has come after the first one's answer: the login is complete by then.
    assert {answer.status_code for answer in answers} <= {303, 409}
    assert browser.who_is_in("bank") == "eve"


def test_who_has_clicked_twice_is_in_by_the_answer_to_the_second_click(
    apps: WebApps, browser: Browser
) -> None:
    browser.sign_in("gail")
    browser.open("bank")
    browser.send("bank", "/step-up", {"send": ""})
    code = {"code": apps.code_for("gail")}
    # What a browser does: it drops the answer to the first one, with the cookies in it.
    cookies_at_both_clicks = browser.client.cookies.jar
    first = apps.browser()
    first.client.cookies.update(cookies_at_both_clicks)

    dropped = first.send("bank", "/step-up", code)
    shown = browser.send("bank", "/step-up", code)

    assert (dropped.status_code, shown.status_code) == (303, 303)
    assert browser.who_is_in("bank") == "gail"


@pytest.mark.parametrize("app", APPS)
def test_who_is_signed_out_before_the_code_comes_is_led_to_the_login(
    apps: WebApps, browser: Browser, app: str
) -> None:
    user_id, phone = f"kay-{app}", f"+4416329700{APPS.index(app)}"
    apps.stack.mosaic.add_user(user_id, password=PASSWORD, phone=phone)
    browser.sign_in(user_id)
    sent = browser.send(app, "/step-up?next=/", {"send": ""} if app == "bank" else None)
    elsewhere = apps.browser()
    elsewhere.client.cookies.update(browser.client.cookies)
    elsewhere.send("shop", "/logout")

    answer = browser.send(app, "/step-up?next=/", {"code": apps.code_for(user_id)})

    assert sent.status_code == 200
    assert (answer.status_code, answer.headers.get("Location")) == (303, "/")
    assert browser.open(app).url.path == "/login"


def test_a_wrong_password_is_refused_and_changes_nothing(browser: Browser) -> None:
    browser.sign_in("bob")

    for app in ("shop", "bank"):
        answer = browser.send(app, "/login", {"user": "eve", "password": "wrong"})
        assert (answer.status_code, "That was not right." in answer.text) == (403, True)
    answer = browser.call("forum", "POST", "/login", {"user": "eve", "password": "wrong"})

    assert (answer.status_code, answer.json()) == (403, {"error": "Denied"})
    assert browser.who_is_in("shop") == "bob"


def use_key(browser: Browser, key: PasskeyDevice) -> httpx.Response:
    """Do what the script of the bank's page does."""
    browser.open("bank")
    protection = {
        "X-CSRFToken": str(browser.client.cookies.get("csrftoken", domain=HOSTS["bank"])),
        "Origin": f"https://{HOSTS['bank']}",
    }
    begun = browser.call("bank", "POST", "/passkey", **protection)
    if begun.status_code != 200:
        return begun
    return browser.send("bank", "/step-up?next=/", {"signed": key.answer(begun.json())})


def test_a_security_key_that_answers_only_to_its_users_name_is_a_second_factor(
    apps: WebApps, browser: Browser
) -> None:
    host = f"https://{HOSTS['bank']}"
    apps.stack.mosaic.policy.change(passkey_domain="apps.example.com", passkey_origins=[host])
    key = PasskeyDevice(origin=host, is_discoverable=False)
    apps.stack.mosaic.passkeys.register("carl", key.credential_id, key.public_key)
    without = apps.browser()
    without.sign_in("bob")
    browser.sign_in("carl")

    stepped_up = use_key(browser, key)

    assert (stepped_up.status_code, stepped_up.headers["Location"]) == (303, "/")
    assert browser.who_is_in("bank") == "carl"
    assert use_key(without, key).status_code == 403


@pytest.mark.parametrize("app", ["shop", "bank"])
def test_a_form_that_lacks_its_fields_is_refused_and_no_fault_of_the_app(
    browser: Browser, app: str
) -> None:
    for fields in ({}, {"user": "eve"}, {"password": PASSWORD}):
        assert browser.send(app, "/login", fields).status_code in {400, 403}
    browser.sign_in("faye", app)
    if app == "bank":  # to whom no code was sent a moment ago: that would be refused
        browser.send("bank", "/step-up", {"send": ""})
        assert browser.send("bank", "/step-up", {}).status_code == 403


def test_a_code_that_was_begun_in_another_browser_is_refused(apps: WebApps) -> None:
    mine, other = apps.browser(), apps.browser()
    for browser in (mine, other):
        browser.sign_in("eve")
    mine.open("bank")
    other.open("bank")
    mine.send("bank", "/step-up", {"send": ""})

    answer = other.send("bank", "/step-up", {"code": apps.code_for("eve")})

    assert answer.status_code == 409
    assert not other.is_in("bank")


def signs_in_by_the_hub(transport: str, client: dict[str, Any]) -> httpx.BaseTransport:
    settings: dict[str, Any] = {"hub": "https://hub.apps.example.com/pass?for_app=forum"}
    if transport == "flask":
        app = Flask("spoke")
        app.secret_key = "p" * 32
        sessions = Sessions(app, SessionClient(**client), **settings)
        app.get("/")(sessions.signed_in(lambda: sessions.user.user_id))
        return httpx.WSGITransport(app=app)
    fast = FastAPI()
    async_sessions = StarletteSessions(fast, AsyncSessionClient(**client), **settings)
    fast.add_middleware(SessionMiddleware, secret_key="p" * 32, https_only=True)

    @fast.get("/")
    async def home(request: Request) -> Response:
        return Response((await async_sessions.signed_in()(request)).user_id)

    return AsgiTransport(fast)


@pytest.mark.parametrize("framework", ["flask", "starlette"])
def test_an_app_on_another_domain_signs_in_by_the_hub(apps: WebApps, framework: str) -> None:
    here: dict[str, Any] = {"broker_url": apps.stack.broker_url}
    hub = Flask("hub")
    hub.secret_key = "p" * 32
    shop = SessionClient(**here, app_id="shop", app_key=apps.keys["shop"])
    sessions = Sessions(hub, shop, pass_on="/pass")
    login = Password("bob", PASSWORD)
    hub.post("/login")(lambda: (sessions.log_in(login), sessions.back())[1])
    apps.add("hub", httpx.WSGITransport(app=hub))
    forum = {**here, "app_id": "forum", "app_key": apps.keys["forum"]}
    apps.add("spoke", signs_in_by_the_hub(framework, forum))
    browser = apps.browser()

    asked = browser.open("spoke", follow=False)
    while asked.next_request is not None and "next=/pass" not in asked.headers["Location"]:
        asked = browser.client.send(asked.next_request)
    where = urlsplit(asked.headers["Location"])
    back = browser.send("hub", f"{where.path}?{where.query}")
    page = browser.client.get(
        f"https://hub.apps.example.com{back.headers['Location']}", follow_redirects=True
    )

    assert (str(page.url), page.text) == ("https://spoke.apps.example.com/", "bob")
    assert browser.is_in("spoke")
    assert apps.browser().open("spoke", "/transfer?ticket=x&challenge=y").status_code == 409


def test_an_app_without_marks_and_notices_is_right_after_its_recheck(apps: WebApps) -> None:
    client = SessionClient(
        broker_url=apps.stack.broker_url, app_id="shop", app_key=apps.keys["shop"]
    )
    plain = Flask("plain")
    plain.secret_key = "p" * 32
    sessions = Sessions(plain, client, recheck=0.2, cookie_domain="apps.example.com")
    plain.get("/")(sessions.signed_in(lambda: sessions.user.user_id))
    apps.add("plain", httpx.WSGITransport(app=plain))
    browser = apps.browser()
    browser.sign_in("dora", "bank")
    assert browser.open("plain").text == "dora"
    token = browser.token

    assert browser.send("bank", "/logout").status_code == 303
    # The dead cookie is put back, so that it tells nothing.
    browser.client.cookies.set("__Secure-mosaic-sso", str(token), domain=".apps.example.com")

    poll_until(lambda: not browser.is_in("plain"), 30, what="the recheck")
    client.close()


def test_a_worker_that_is_away_is_503_and_never_the_login(apps: WebApps) -> None:
    known = apps.browser()
    known.sign_in("carl")
    assert known.is_in("forum")
    new = [(app, apps.browser()) for app in APPS]
    for _, browser in new:
        browser.sign_in("bob", "bank")

    with apps.worker.frozen():
        still_in = known.is_in("forum")
        with ThreadPoolExecutor() as threads:  # each waits for as long as a call may take
            answers = list(threads.map(lambda one: one[1].open(one[0], follow=False), new))

    assert still_in
    assert [answer.status_code for answer in answers] == [503] * 3
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in answers)


# Last: from then on these apps want a factor of every session.
@pytest.mark.parametrize(("app", "user_id"), [("shop", "hal"), ("forum", "ida")])
def test_an_app_whose_pages_want_no_factor_asks_for_one_that_an_operator_wants(
    apps: WebApps, app: str, user_id: str
) -> None:
    def asks() -> Browser | None:
        browser = apps.browser()
        if app == "forum":
            browser.call(app, "POST", "/login", {"user": user_id, "password": PASSWORD})
        else:
            browser.sign_in(user_id, app)
        page = browser.open(app)
        return browser if (page.status_code, page.url.path) == (200, "/step-up") else None

    apps.stack.run("mosaic-sessions", "apps", "set", app, "--require-amr", "mfa")
    browser = poll_until(asks, 30, 0.5, what="the worker to see the change")
    assert isinstance(browser, Browser)
    asked = browser.send(app, "/step-up?next=/")
    wrong = browser.send(app, "/step-up?next=/", {"code": "12"})
    done = browser.send(app, "/step-up?next=/", {"code": apps.code_for(user_id)})

    assert asked.status_code == 200
    assert (wrong.status_code, "That did not work." in wrong.text) == (403, True)
    assert (done.status_code, done.headers["Location"]) == (303, "/")
    assert browser.who_is_in(app) == user_id
