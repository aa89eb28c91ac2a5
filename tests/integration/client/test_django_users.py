"""Whom Django's views see: sync and async, plain and with ``login_required``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync, markcoroutinefunction, sync_to_async

from session_client import NotAnswered
from session_client.requests import Status
from session_client.testing import SessionWorker, session_worker
from tests.integration.client.django_rig import NAME, asgi, django, settings

__all__ = ["asgi", "django", "session_worker", "settings"]

VIEWS = ("by_call", "by_await", "strict_by_call", "strict_by_await")
# By ``request.user`` and by ``request.auser()``; ``login_required`` leads to the login.
NOBODY = {"by_call": ", ", "by_await": ", ", "strict_by_call": "302", "strict_by_await": "302"}
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

    assert (before, away, seen_in(browser)) == (ADA, NOBODY, ADA)


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

        assert NOBODY[view] in {answer.content.decode(), str(answer.status_code)}
        assert seen_in(browser) == NOBODY


def test_each_view_sees_who_was_signed_in_silently(
    session_worker: SessionWorker, settings: Callable[..., None], browser: Any
) -> None:
    settings(SILENT="all")
    for view in VIEWS:
        browser.cookies.clear()
        comes(browser, session_worker, "ada")

        assert browser("get", f"/{view}", **PAGE).content == b"ada, ada"
