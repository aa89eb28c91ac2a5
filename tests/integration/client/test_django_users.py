"""Whom Django's views see: sync and async, plain and with ``login_required``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync, markcoroutinefunction, sync_to_async

from session_client import NotAnswered, Password
from session_client.requests import Status
from session_client.testing import SessionWorker, session_worker
from tests.integration.client.django_rig import NAME, asgi, django, settings

__all__ = ["asgi", "django", "session_worker", "settings"]

VIEWS = ("by_call", "by_await", "strict_by_call", "strict_by_await")
# By ``request.user`` and by ``request.auser()``; ``login_required`` leads to the login.
ANONYMOUS = {"by_call": ", ", "by_await": ", ", "strict_by_call": "302", "strict_by_await": "302"}
ADA = dict.fromkeys(VIEWS, "ada, ada")
PAGE = SessionWorker.page


def name_of_user(request: Any) -> str:
    return str(request.user.get_username())


class LooksEarly:
    """A middleware that asks who is in before ours has decided: Django remembers the answer."""

    sync_capable = False
    async_capable = True

    def __init__(self, get_response: Callable[..., Any]) -> None:
        self._get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request: Any) -> Any:
        await request.auser()
        await sync_to_async(name_of_user)(request)
        return await self._get_response(request)


@pytest.fixture(params=[False, True], ids=["", "looked at early"])
def browser(request: pytest.FixtureRequest, asgi: Callable[..., Any]) -> Any:
    """Sends a request of one browser to the view of this path."""
    from django.conf import settings  # noqa: PLC0415
    from django.contrib.auth.decorators import login_required  # noqa: PLC0415
    from django.http import HttpResponse  # noqa: PLC0415

    from session_client.django import signed_in  # noqa: PLC0415

    def by_call(request: Any) -> Any:
        user = async_to_sync(request.auser)()
        return HttpResponse(f"{name_of_user(request)}, {user.get_username()}")

    async def by_await(request: Any) -> Any:
        user = await request.auser()
        name = await sync_to_async(name_of_user)(request)
        return HttpResponse(f"{name}, {user.get_username()}")

    middleware = list(settings.MIDDLEWARE)
    if request.param:
        middleware.insert(-1, f"{__name__}.{LooksEarly.__name__}")
    return asgi(
        {"MIDDLEWARE": middleware, "LOGIN_URL": "/login"},
        home=signed_in(by_call),
        by_call=by_call,
        by_await=by_await,
        strict_by_call=login_required(by_call),
        strict_by_await=login_required(by_await),
    )


def comes(browser: Any, worker: SessionWorker, user_id: str) -> Any:
    login = worker.sign_in(user_id)
    browser.cookies[NAME] = login.session.token
    return login


def seen_in(browser: Any) -> dict[str, str]:
    answers = {name: browser("get", f"/{name}", **PAGE) for name in VIEWS}
    return {
        name: answer.content.decode() if answer.status_code == 200 else str(answer.status_code)
        for name, answer in answers.items()
    }


def inactive(user_id: str) -> str:
    from django.contrib.auth import get_user_model  # noqa: PLC0415

    get_user_model().objects.update_or_create(username=user_id, defaults={"is_active": False})
    return user_id


def test_no_view_sees_whom_nobody_can_vouch_for(
    session_worker: SessionWorker, settings: Callable[..., None], browser: Any
) -> None:
    settings(RECHECK=0, GRACE=0)
    comes(browser, session_worker, "ada")
    browser("get", "/", **PAGE)
    before = seen_in(browser)

    for _ in VIEWS:
        session_worker.next(Status, NotAnswered())
    away = seen_in(browser)

    assert (before, away, seen_in(browser)) == (ADA, ANONYMOUS, ADA)


def test_no_view_sees_whom_a_mark_says_to_be_out(
    session_worker: SessionWorker, settings: Callable[..., None], browser: Any
) -> None:
    from session_client.django.marks import DatabaseMarks  # noqa: PLC0415

    for view in VIEWS:
        login = comes(browser, session_worker, "ada")
        browser("get", "/", **PAGE)
        assert seen_in(browser) == ADA

        DatabaseMarks().put(f"ended:{login.session.session_ref}", 0.0, 60.0)
        answer = browser("get", f"/{view}", **PAGE)

        assert ANONYMOUS[view] in {answer.content.decode(), str(answer.status_code)}
        assert seen_in(browser) == ANONYMOUS


def test_each_view_sees_who_was_signed_in_silently(
    session_worker: SessionWorker, settings: Callable[..., None], browser: Any
) -> None:
    settings(SILENT="all")
    for view in VIEWS:
        browser.cookies.clear()
        comes(browser, session_worker, "ada")

        assert browser("get", f"/{view}", **PAGE).content == b"ada, ada"


@pytest.mark.parametrize("recheck", [0, 300])
def test_no_view_sees_a_user_who_is_not_active_here(
    session_worker: SessionWorker, settings: Callable[..., None], browser: Any, recheck: int
) -> None:
    from django.contrib.auth import SESSION_KEY  # noqa: PLC0415
    from django.contrib.sessions.backends.db import SessionStore  # noqa: PLC0415

    settings(SILENT="all", RECHECK=recheck)
    for view in VIEWS:
        browser.cookies.clear()
        comes(browser, session_worker, inactive("gone"))

        first = browser("get", f"/{view}", **PAGE)

        assert ANONYMOUS[view] in {first.content.decode(), str(first.status_code)}
        assert seen_in(browser) == ANONYMOUS
        assert browser("get", "/", **PAGE).status_code == 403
        if "sessionid" in browser.cookies:
            assert SESSION_KEY not in SessionStore(browser.cookies["sessionid"].value)


def test_a_login_of_a_user_who_is_not_active_here_signs_in_nobody(
    session_worker: SessionWorker, settings: Callable[..., None], asgi: Callable[..., Any]
) -> None:
    from django.contrib.auth import user_logged_in  # noqa: PLC0415
    from django.http import HttpResponse  # noqa: PLC0415

    from session_client.django import log_in  # noqa: PLC0415

    def login(request: Any) -> Any:
        answer = log_in(request, Password("gone", "password"))
        seen = name_of_user(request), async_to_sync(request.auser)().get_username()
        return HttpResponse(f"{type(answer).__name__} {seen}")

    told: list[Any] = []
    user_logged_in.connect(lambda **of: told.append(of), weak=False, dispatch_uid="told")
    session_worker.add_user(inactive("gone"))
    try:
        answer = asgi(login=login)("post", "/login", **SessionWorker.form)
    finally:
        user_logged_in.disconnect(dispatch_uid="told")

    assert answer.content == b"Authenticated ('', '')"
    assert told == []


def test_a_user_who_is_not_active_here_finds_nothing_of_somebody_else(
    session_worker: SessionWorker, settings: Callable[..., None], asgi: Callable[..., Any]
) -> None:
    from django.contrib import auth  # noqa: PLC0415
    from django.contrib.auth import get_user_model  # noqa: PLC0415
    from django.http import HttpResponse  # noqa: PLC0415

    def by_djangos_own(request: Any) -> Any:
        ada, _ = get_user_model().objects.get_or_create(username="ada")
        auth.login(request, ada, backend="session_client.django.backend.Backend")
        request.session["basket"] = ["apple"]
        return HttpResponse()

    def basket(request: Any) -> Any:
        return HttpResponse(f"{name_of_user(request)} {request.session.get('basket')}")

    settings(SILENT="all")
    browser = asgi(own=by_djangos_own, basket=basket)
    browser("get", "/own", **PAGE)
    before = browser("get", "/basket", **PAGE).content
    comes(browser, session_worker, inactive("gone"))

    assert before == b"ada ['apple']"
    assert browser("get", "/basket", **PAGE).content == b" None"


@pytest.mark.parametrize("right", ["is_staff", "is_superuser"])
def test_no_user_of_mosaic_has_the_rights_of_a_local_admin_of_that_name_unasked(
    session_worker: SessionWorker,
    settings: Callable[..., None],
    browser: Any,
    caplog: pytest.LogCaptureFixture,
    right: str,
) -> None:
    from django.contrib.auth import get_user_model  # noqa: PLC0415

    settings(SILENT="all", RECHECK=0)
    name = f"root-{right}"
    admin = get_user_model().objects.update_or_create(username=name, defaults={right: False})[0]
    comes(browser, session_worker, name)
    before = seen_in(browser)
    setattr(admin, right, True)
    admin.save()

    seen, guarded = seen_in(browser), browser("get", "/", **PAGE).status_code
    said = caplog.text
    settings(SILENT="all", RECHECK=0, USER="session_client.django.backend.find_any_user")
    asked = seen_in(browser)

    assert before == asked == dict.fromkeys(VIEWS, f"{name}, {name}")
    assert (seen, guarded) == (ANONYMOUS, 403)
    assert "'session_client.django.backend.find_any_user'" in said


def test_a_user_who_is_made_active_again_is_in_at_once(
    session_worker: SessionWorker, settings: Callable[..., None], browser: Any
) -> None:
    from django.contrib.auth import get_user_model  # noqa: PLC0415

    settings(SILENT="all", RECHECK=0)
    user = get_user_model().objects.get_or_create(username="ada")[0]
    comes(browser, session_worker, "ada")
    seen = []
    for is_active in (True, False, True):
        user.is_active = is_active
        user.save()
        seen.append(seen_in(browser))

    assert seen == [ADA, ANONYMOUS, ADA]
