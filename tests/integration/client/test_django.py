"""What Django's part does besides what the bank of `examples/web` shows."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import SynchronousOnlyOperation

from session_client import (
    Authenticated,
    BeginSocial,
    Code,
    Denied,
    Password,
    SendOtp,
    Social,
    VerifySocial,
)
from session_client.browser_cookie import BrowserCookie
from session_client.requests import Wishes
from session_client.testing import SessionWorker, session_worker
from tests.integration.client.django_rig import HOST, NAME, asgi, django, settings
from tests.integration.client.social_rig import STATE, plan_a_login_at_a_provider

__all__ = ["asgi", "django", "session_worker", "settings"]

PAGE = {"HTTP_SEC_FETCH_DEST": "document", "HTTP_SEC_FETCH_SITE": "none"}
FORM = {"HTTP_SEC_FETCH_DEST": "document", "HTTP_SEC_FETCH_SITE": "same-origin"}
GOOGLE = BeginSocial("google", f"https://{HOST}/callback")


def visit(view: Callable[..., Any], *, method: str = "get", **environ: Any) -> tuple[Any, Any]:
    """Take a request through sessions, users and our middleware to *view*."""
    from django.contrib.auth.middleware import AuthenticationMiddleware  # noqa: PLC0415
    from django.contrib.sessions.middleware import SessionMiddleware  # noqa: PLC0415
    from django.test import RequestFactory  # noqa: PLC0415

    from session_client.django.middleware import Middleware  # noqa: PLC0415

    session = environ.pop("session", None)
    request = getattr(RequestFactory(), method)("/x", secure=True, HTTP_HOST=HOST, **environ)
    if session is not None:
        request.COOKIES["sessionid"] = session

    def answer(request: Any) -> Any:
        stopped = ours.process_view(request, view, (), {})
        try:
            return stopped or view(request)
        except Exception as error:
            turned = ours.process_exception(request, error)
            if turned is None:
                raise
            return turned

    ours = Middleware(answer)
    chain = SessionMiddleware(AuthenticationMiddleware(ours))
    return request, chain(request)


def name_of_user(request: Any) -> Any:
    from django.http import HttpResponse  # noqa: PLC0415

    return HttpResponse(request.user.get_username())


def cookie(worker: SessionWorker, user_id: str = "ada") -> tuple[Any, dict[str, str]]:
    login = worker.sign_in(user_id)
    return login, {**PAGE, "HTTP_COOKIE": f"{NAME}={login.session.token}"}


def guarded(view: Callable[..., Any] = name_of_user) -> Callable[..., Any]:
    from session_client.django import signed_in  # noqa: PLC0415

    return signed_in(view)


def test_views_that_nobody_guards_know_the_user_until_the_end(
    session_worker: SessionWorker, settings: Callable[..., None]
) -> None:
    login, sent = cookie(session_worker)
    request, answer = visit(guarded(), **sent)
    session = request.session.session_key
    assert answer.content == b"ada"

    _, known = visit(name_of_user, session=session, **sent)
    from session_client.django.marks import DatabaseMarks  # noqa: PLC0415

    DatabaseMarks().put(f"ended:{login.session.session_ref}", 0.0, 60.0)
    over, ended = visit(name_of_user, session=session, **sent)
    _, afterwards = visit(name_of_user, session=session, **sent)

    assert (known.content, ended.content, afterwards.content) == (b"ada", b"", b"")
    assert "_auth_user_id" not in over.session  # where Django's own parts look


def test_views_that_nobody_guards_know_nobody_whom_nobody_can_vouch_for(
    session_worker: SessionWorker, settings: Callable[..., None]
) -> None:
    from session_client import NotAnswered  # noqa: PLC0415
    from session_client.requests import Status  # noqa: PLC0415

    settings(RECHECK=0, GRACE=0)
    _, sent = cookie(session_worker)
    session = visit(guarded(), **sent)[0].session.session_key
    session_worker.next(Status, NotAnswered())

    _, away = visit(name_of_user, session=session, **sent)
    _, back = visit(name_of_user, session=session, **sent)

    assert (away.content, back.content) == (b"", b"ada")


def test_silent_all_signs_in_on_every_page(
    session_worker: SessionWorker, settings: Callable[..., None]
) -> None:
    settings()
    _, sent = cookie(session_worker)
    assert visit(name_of_user, **sent)[1].content == b""

    settings(SILENT="all")

    assert visit(name_of_user, **sent)[1].content == b"ada"


def test_djangos_own_logout_ends_it_here_too(session_worker: SessionWorker) -> None:
    from django.contrib.auth import SESSION_KEY  # noqa: PLC0415

    _, sent = cookie(session_worker)
    request, _ = visit(guarded(), **sent)
    del request.session[SESSION_KEY]
    request.session.save()

    form = {**FORM, "HTTP_COOKIE": sent["HTTP_COOKIE"]}
    _, answer = visit(guarded(), session=request.session.session_key, method="post", **form)

    assert answer.status_code == 303


def test_a_user_who_is_not_active_here_is_refused(
    session_worker: SessionWorker, settings: Callable[..., None]
) -> None:
    from django.contrib.auth import get_user_model  # noqa: PLC0415
    from django.core.exceptions import PermissionDenied  # noqa: PLC0415

    def inactive(user_id: str) -> Any:
        user, _ = get_user_model().objects.get_or_create(username=user_id, is_active=False)
        return user

    settings(USER=inactive)
    _, sent = cookie(session_worker, "gone")

    with pytest.raises(PermissionDenied):
        visit(guarded(), **sent)


def test_a_user_whom_django_has_lost_is_made_anew_and_not_refused(
    session_worker: SessionWorker,
) -> None:
    from django.contrib.auth import get_user_model  # noqa: PLC0415

    _, sent = cookie(session_worker, "lost")
    session = visit(guarded(), **sent)[0].session.session_key
    get_user_model().objects.filter(username="lost").delete()

    again, answer = visit(guarded(), session=session, **sent)
    _, known = visit(name_of_user, session=again.session.session_key, **sent)

    assert (answer.content, known.content) == (b"lost", b"lost")


def test_a_user_who_comes_in_by_a_page_that_is_not_there_is_in_with_atomic_requests_too(
    session_worker: SessionWorker,
    settings: Callable[..., None],
    asgi: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from django.db import connections  # noqa: PLC0415
    from django.http import Http404  # noqa: PLC0415

    def missing(request: Any) -> Any:
        raise Http404

    settings()
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", True)
    send = asgi(home=guarded(), missing=guarded(missing))
    send.cookies[NAME] = session_worker.sign_in("new-here").session.token

    not_there = send("get", "/missing", **session_worker.page)
    there = send("get", "/", **session_worker.page)

    assert (not_there.status_code, there.content) == (404, b"new-here")
    assert len(session_worker.calls) == 1


def test_the_entry_leads_back_and_tells_a_script(session_worker: SessionWorker) -> None:
    from session_client.django.views import enter  # noqa: PLC0415

    _, sent = cookie(session_worker)
    request, page = visit(enter, **sent)
    script = {**sent, "HTTP_SEC_FETCH_DEST": "empty"}

    assert page.headers["Location"] == "/"
    assert visit(enter, session=request.session.session_key, **script)[1].status_code == 204
    assert visit(enter, **PAGE)[1].headers["Location"] == "/login?next=/x"


def test_the_way_back_is_a_header_whatever_its_letters(session_worker: SessionWorker) -> None:
    from session_client.django.views import enter  # noqa: PLC0415

    _, sent = cookie(session_worker)
    _, page = visit(enter, **sent, QUERY_STRING="next=/%E2%82%AC")

    assert page.headers["Location"] == "/%E2%82%AC"


def test_tokens_are_of_who_is_in(session_worker: SessionWorker) -> None:
    from django.http import HttpResponse  # noqa: PLC0415

    from session_client.django import tokens, who_is_in  # noqa: PLC0415

    def view(request: Any) -> Any:
        return HttpResponse(f"{who_is_in(request).user_id} {tokens(request, Wishes()).token_type}")

    _, sent = cookie(session_worker)

    assert visit(guarded(view), **sent)[1].content == b"ada bearer"
    with pytest.raises(RuntimeError, match="signed_in"):
        visit(who_is_in, **PAGE)


def test_a_first_step_that_is_denied_is_returned(session_worker: SessionWorker) -> None:
    from session_client.django import begin  # noqa: PLC0415
    from session_client.logins import Start  # noqa: PLC0415

    session_worker.next(Start, Denied("too_many_attempts"))

    def view(request: Any) -> Any:
        from django.http import HttpResponse  # noqa: PLC0415

        return HttpResponse(repr(begin(request, SendOtp("sms", "+44", "phone_number"))))

    assert b"too_many_attempts" in visit(view, method="post", **FORM)[1].content


def test_the_address_of_notices_takes_small_posts_alone(session_worker: SessionWorker) -> None:
    from session_client.django.views import take_notice  # noqa: PLC0415

    form = {"data": {"logout_token": "x" * 70_000}}

    assert visit(take_notice, **PAGE)[1].status_code == 405
    assert visit(take_notice, method="post", **form)[1].status_code == 413
    assert session_worker.calls == []


def test_a_login_of_the_same_user_gives_the_session_another_id(
    session_worker: SessionWorker,
) -> None:
    from django.http import HttpResponse  # noqa: PLC0415

    from session_client import Password  # noqa: PLC0415
    from session_client.django import log_in  # noqa: PLC0415

    def again(request: Any) -> Any:
        return HttpResponse(type(log_in(request, Password("ada", "password"))).__name__)

    _, sent = cookie(session_worker)
    before = visit(guarded(), **sent)[0].session.session_key
    request, answer = visit(again, session=before, method="post", **{**sent, **FORM})

    assert answer.content == b"Authenticated"
    assert request.user.get_username() == "ada"
    assert request.session.session_key not in {None, before}
    assert not request.session.exists(before)


def test_nobody_finds_what_somebody_else_has_left_in_the_session(
    session_worker: SessionWorker,
) -> None:
    from django.http import HttpResponse  # noqa: PLC0415

    from session_client.django import log_out  # noqa: PLC0415

    def basket(request: Any) -> Any:
        request.session["basket"] = [*request.session.get("basket", ()), request.user.username]
        return HttpResponse(",".join(request.session["basket"]))

    _, ada = cookie(session_worker)
    _, bob = cookie(session_worker, "bob")
    of_ada = visit(guarded(basket), **ada)[0].session.session_key
    request, answer = visit(guarded(basket), session=of_ada, **bob)
    of_bob = request.session.session_key
    out, _ = visit(log_out, session=of_bob, method="post", **{**bob, **FORM})

    assert answer.content == b"bob"
    assert of_bob != of_ada
    assert "basket" not in out.session
    assert not out.user.is_authenticated
    assert not out.session.exists(of_bob)


def test_a_logout_clears_the_cookie_at_each_domain_that_it_had(
    session_worker: SessionWorker, settings: Callable[..., None]
) -> None:
    from session_client.django import log_out  # noqa: PLC0415

    moved = BrowserCookie(domain="apps.example.com", former_domains=["old.example.com"])
    settings(COOKIE_DOMAIN=None, COOKIE=moved)
    _, sent = cookie(session_worker)

    answer = visit(log_out, method="post", **{**sent, **FORM})[1]

    cleared = [text for text in answer.cookies.output().splitlines() if NAME in text]
    assert ["Domain=apps" in text for text in cleared] == [True, False]
    assert "Domain=old.example.com" in cleared[1]


def test_an_outage_is_503_in_a_login_too(session_worker: SessionWorker) -> None:
    from session_client import NotAnswered, Password  # noqa: PLC0415
    from session_client.django import log_in  # noqa: PLC0415
    from session_client.logins import Authenticate  # noqa: PLC0415

    session_worker.next(Authenticate, NotAnswered())

    answer = visit(lambda r: log_in(r, Password("ada", "x")), method="post", **FORM)[1]
    assert answer.status_code == 503


def test_the_hub_and_the_way_to_it_have_addresses(
    session_worker: SessionWorker, settings: Callable[..., None]
) -> None:
    from session_client.django import urls  # noqa: PLC0415

    settings(HUB="https://hub.example/pass?for_app=bank", PASS_ON="/pass")
    views = {f"/{found.pattern}": found.callback for found in urls._patterns()}

    away = visit(views["/login"], **PAGE)[1]
    assert away.headers["Location"].startswith("https://hub.example/pass?for_app=bank&challenge=")
    assert "__Secure-" not in str(away.cookies)
    assert "__Host-mosaic-transfer-" in str(away.cookies)
    assert visit(views["/transfer"], **PAGE)[1].status_code == 409
    assert visit(views["/pass"], **PAGE)[1].status_code == 400


def test_settings_that_cannot_be_right_are_named(settings: Callable[..., None]) -> None:
    from django.core.exceptions import ImproperlyConfigured  # noqa: PLC0415

    from session_client.django.conf import configured  # noqa: PLC0415

    for wrong, said in (({"SILENT": "never"}, "SILENT"), ({"LOGINN": "/x"}, "LOGINN")):
        settings(**wrong)
        with pytest.raises(ImproperlyConfigured, match=said):
            configured()


def test_what_is_missing_in_the_settings_is_found_at_the_start() -> None:
    from django.test import override_settings  # noqa: PLC0415

    from session_client.django.apps import check_settings  # noqa: PLC0415

    ours = "session_client.django.middleware.Middleware"
    auth = "django.contrib.auth.middleware.AuthenticationMiddleware"
    for middleware, found in (([], "E001"), ([ours, auth], "E002"), ([auth, ours], None)):
        with override_settings(MIDDLEWARE=middleware):
            ids = [str(error.id) for error in check_settings()]
        assert ids == ([f"mosaic_sessions.{found}"] if found else [])
    with override_settings(AUTHENTICATION_BACKENDS=[]):
        assert [error.id for error in check_settings()] == ["mosaic_sessions.E003"]


def test_the_backend_proves_nobody_and_the_model_needs_no_migration() -> None:
    from django.core.management import call_command  # noqa: PLC0415

    from session_client.django.backend import Backend  # noqa: PLC0415
    from session_client.django.models import Mark  # noqa: PLC0415

    assert Backend().authenticate(None, username="ada", password="x") is None
    assert str(Mark(name="ended:x")) == "ended:x"
    call_command("makemigrations", "mosaic_sessions", check=True, dry_run=True, verbosity=0)


@pytest.fixture
def awaited(settings: Callable[..., None], asgi: Callable[..., Any]) -> Callable[..., Any]:
    """Takes a request under ASGI to the view of this name."""
    from django.http import HttpResponse  # noqa: PLC0415
    from django.views import View  # noqa: PLC0415

    from session_client.django import (  # noqa: PLC0415
        abegin,
        alog_in,
        alog_out,
        atokens,
        back,
        log_in,
        signed_in,
        who_is_in,
    )

    @signed_in
    async def home(request: Any) -> Any:
        tokens = await atokens(request, Wishes(resource="https://api.example.com"))
        assert tokens.access_token
        return HttpResponse(who_is_in(request).user_id)

    class Page(View):
        async def get(self, request: Any) -> Any:
            return HttpResponse((await request.auser()).get_username())

    async def login(request: Any) -> Any:
        answer = await alog_in(request, Password("ada", request.POST["password"]))
        return back(request) if isinstance(answer, Authenticated) else HttpResponse(status=403)

    async def blocks(request: Any) -> Any:
        log_in(request, Password("ada", "secret"))

    async def begins(request: Any) -> Any:
        wishes = Wishes(ip_address="203.0.113.7")
        begun = await abegin(request, SendOtp("sms"), step_up=True, wishes=wishes)
        return HttpResponse(type(begun).__name__)

    return asgi(  # type: ignore[no-any-return]
        home=home,
        page=signed_in(Page.as_view()),
        login=login,
        blocks=blocks,
        begins=begins,
        logout=alog_out,
    )


def test_async_views_sign_in_and_out(
    session_worker: SessionWorker, awaited: Callable[..., Any]
) -> None:
    session_worker.add_user("ada", "secret")
    page, form = session_worker.page, session_worker.form

    assert awaited("get", "/", **page).headers["Location"] == "/login?next=/"
    assert awaited("post", "/login", {"password": "x"}, **form).status_code == 403
    signed_in = awaited("post", "/login?next=/page", {"password": "secret"}, **form)
    assert (signed_in.status_code, signed_in.headers["Location"]) == (303, "/page")
    assert awaited("get", "/page", **page).content == b"ada"
    assert awaited("get", "/", **page).content == b"ada"
    assert awaited("post", "/begins", **form).content == b"CodeSent"
    address = session_worker.calls[-1].payload["client_attributes"]
    assert address == {"ip_address": "203.0.113.7"}
    foreign = {**form, "sec-fetch-site": "cross-site"}
    assert awaited("post", "/logout", **foreign).status_code == 403
    assert awaited("get", "/page", **page).content == b"ada"
    assert awaited("post", "/logout", **form).status_code == 303
    assert awaited("get", "/page", **page).headers["Location"] == "/login?next=/page"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_provider_leads_back_by_get_and_the_login_goes_on(
    session_worker: SessionWorker, asgi: Callable[..., Any], kind: str
) -> None:
    from django.http import HttpResponse  # noqa: PLC0415

    from session_client.django import abegin, acomplete, begin, complete  # noqa: PLC0415

    is_sync = kind == "sync"
    verify = VerifySocial("c", STATE)

    async def provider(request: Any) -> Any:
        return HttpResponse(type(await abegin(request, GOOGLE)).__name__)

    async def callback(request: Any) -> Any:
        return HttpResponse(repr(await abegin(request, verify)))

    async def finish(request: Any) -> Any:
        return HttpResponse(type(await acomplete(request, Social("ada"))).__name__)

    browser = asgi(
        provider=provider,
        callback=(lambda r: HttpResponse(repr(begin(r, verify)))) if is_sync else callback,
        finish=(lambda r: HttpResponse(repr(complete(r, Social("ada"))))) if is_sync else finish,
    )
    plan_a_login_at_a_provider(session_worker)
    page, form = session_worker.page, session_worker.form
    led_back = {**page, "sec-fetch-site": "cross-site"}

    stranger = browser("get", "/callback", **led_back)
    began = browser("post", "/provider", **form)
    verified = browser("get", "/callback", **led_back)
    done = browser("get", "/finish", **page)

    assert stranger.status_code == 409
    assert began.content == b"SocialBegun"
    assert verified.content.startswith(b"SocialVerified")
    assert done.content.startswith(b"Authenticated")


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_page_that_asks_for_a_factor_takes_none_but_one_that_was_begun_as_such(
    session_worker: SessionWorker, asgi: Callable[..., Any], kind: str
) -> None:
    from django.http import HttpResponse, JsonResponse  # noqa: PLC0415

    from session_client.django import abegin, acomplete, begin, complete, log_in  # noqa: PLC0415

    def login(request: Any) -> Any:
        log_in(request, Password("ada", "secret"))
        return HttpResponse(type(begin(request, SendOtp("sms", "ada", "user_id"))).__name__)

    asked: dict[str, Any] = {"approval_data": {"amount": "12.50"}}

    def factor(request: Any) -> Any:
        return HttpResponse(type(begin(request, SendOtp("sms"), step_up=True, **asked)).__name__)

    async def factor_async(request: Any) -> Any:
        begun = await abegin(request, SendOtp("sms"), step_up=True, **asked)
        return HttpResponse(type(begun).__name__)

    def approved(answer: Any) -> Any:
        return JsonResponse(answer.approval_data)

    def finish(request: Any) -> Any:
        code = Code(session_worker.code_for("ada"))
        return approved(complete(request, code, step_up=True))

    async def finish_async(request: Any) -> Any:
        code = Code(session_worker.code_for("ada"))
        return approved(await acomplete(request, code, step_up=True))

    session_worker.add_user("ada", "secret")
    factor_so, finish_so = (factor, finish) if kind == "sync" else (factor_async, finish_async)
    browser, form = asgi(login=login, factor=factor_so, finish=finish_so), session_worker.form

    login_begun = browser("post", "/login", **form)
    as_a_factor = browser("post", "/finish", **form)
    factor_begun = browser("post", "/factor", **form)
    done = browser("post", "/finish", **form)

    assert (login_begun.content, as_a_factor.status_code) == (b"CodeSent", 409)
    assert factor_begun.content == b"CodeSent"
    assert json.loads(done.content) == {"amount": "12.50"}


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_page_that_a_provider_leads_back_to_may_sign_in_at_once(
    session_worker: SessionWorker, asgi: Callable[..., Any], kind: str
) -> None:
    from django.http import HttpResponse  # noqa: PLC0415

    from session_client.django import abegin, acomplete, begin, complete  # noqa: PLC0415

    verify, is_sync = VerifySocial("c", STATE), kind == "sync"

    async def provider(request: Any) -> Any:
        return HttpResponse(type(await abegin(request, GOOGLE)).__name__)

    async def callback(request: Any) -> Any:
        await abegin(request, verify)
        return HttpResponse(type(await acomplete(request, Social("ada"))).__name__)

    def callback_sync(request: Any) -> Any:
        begin(request, verify)
        return HttpResponse(type(complete(request, Social("ada"))).__name__)

    browser = asgi(provider=provider, callback=callback_sync if is_sync else callback)
    plan_a_login_at_a_provider(session_worker)

    browser("post", "/provider", **session_worker.form)
    done = browser("get", "/callback", **session_worker.page)

    handles = [value.OutputString() for value in done.cookies.values() if "-login-" in value.key]
    assert done.content == b"Authenticated"
    # Both that were used: no cookie stands twice in an answer, and a browser keeps neither.
    assert [("Max-Age=0" in text) for text in handles] == [True, True]


def test_djangos_own_test_client_brings_each_cookie_once(
    session_worker: SessionWorker, awaited: Callable[..., Any]
) -> None:
    session_worker.add_user("ada", "secret")
    page, form = session_worker.page, session_worker.form
    awaited.cookies[NAME] = session_worker.sign_in("ada").session.token  # type: ignore[attr-defined]

    seen = [awaited("get", "/", **page).content]
    for _ in range(2):
        awaited("post", "/login", {"password": "secret"}, **form)
        seen.append(awaited("get", "/", **page).content)

    assert seen == [b"ada"] * 3


def test_what_blocks_is_refused_in_an_async_view_before_anybody_is_asked(
    session_worker: SessionWorker, awaited: Callable[..., Any]
) -> None:
    session_worker.add_user("ada", "secret")
    awaited("post", "/login", {"password": "secret"}, **session_worker.form)
    asked = len(session_worker.calls)

    with pytest.raises(SynchronousOnlyOperation, match="alog_in"):
        awaited("post", "/blocks", **session_worker.form)

    assert len(session_worker.calls) == asked
