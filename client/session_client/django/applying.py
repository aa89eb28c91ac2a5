"""What the core decides, applied to Django's session, user and answer."""

from __future__ import annotations

import time
from http.cookies import Morsel
from typing import Any, TypeVar

from django.contrib import auth
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils.asyncio import async_unsafe
from django.utils.cache import patch_vary_headers

from session_client import web
from session_client.django.conf import configured
from session_client.web import Local, Turned
from session_client.web.outcome import Changes, Steps, by_name

T = TypeVar("T")

_BACKEND = "session_client.django.backend.Backend"


def run(steps: Steps[T]) -> T:
    """Take *steps* to their end."""
    settings = configured()
    return web.run(steps, settings.client, settings.options)


# Else it would hold up all requests of the loop, and a login be sent before the database refuses.
@async_unsafe("this waits for the worker: in an async view await alog_in, alog_out and so on")
def visit(request: HttpRequest) -> web.Visit:
    """Describe a request to a page that signs in or out."""
    written = tuple(headers_of(request))
    options, local = configured().options, local_of(request)
    return web.Visit(incoming(request), options, local, time.time(), written)


def incoming(request: HttpRequest) -> web.Incoming:
    """Describe *request*."""
    return web.Incoming(
        method=request.method or "GET",
        path=request.get_full_path(),
        host=request.get_host(),
        header=request.headers.get,
        cookies=request.META.get("HTTP_COOKIE"),
    )


def local_of(request: HttpRequest) -> Local | None:
    """Return who is in by Django's session; if that names no user any more, it is over."""
    local = web.from_dict(request.session.get(web.KEY))
    if local is None or local.is_over or auth.SESSION_KEY in request.session:
        return local
    return local.over()  # the app has called django.contrib.auth.logout


def apply(request: HttpRequest, changes: Changes, *, is_login: bool = False) -> None:
    """Do what *changes* say; headers are added by the middleware."""
    if changes.empties:
        request.session.flush()
        show_anonymous(request)
    local = changes.local
    if local is not None and not local.is_over and not _sign_in(request, local, is_login=is_login):
        local = local.over()
    if local is not None and local.is_over:
        for key in (auth.SESSION_KEY, auth.BACKEND_SESSION_KEY, auth.HASH_SESSION_KEY):
            request.session.pop(key, None)
        show_anonymous(request)
    if local is not None:
        request.session[web.KEY] = local.to_dict()
    headers_of(request).extend(changes.headers)


def show_anonymous(request: HttpRequest) -> None:
    """Let the views of *request* see an anonymous user, whatever Django's session says."""
    _show(request, AnonymousUser())


def headers_of(request: HttpRequest) -> list[tuple[str, str]]:
    """Return the list of headers that the middleware adds to the answer."""
    kept: Any = request
    if not hasattr(kept, "mosaic_headers"):
        kept.mosaic_headers = []
    return kept.mosaic_headers  # type: ignore[no-any-return]


def response_of(turned: Turned) -> HttpResponse:
    """Return the answer that is given in place of the view's."""
    response: HttpResponse
    if isinstance(turned.body, dict):
        response = JsonResponse(turned.body, status=turned.status)
    else:
        response = HttpResponse(turned.body, status=turned.status, content_type="text/plain")
    if turned.location is not None:
        response["Location"] = turned.location
    return response


def add_headers(request: HttpRequest, response: HttpResponse) -> None:
    """Add what was kept for the answer."""
    cookies, others = by_name(tuple(headers_of(request)))
    for number, cookie in enumerate(cookies):
        first, *attributes = cookie.split("; ")
        name, _, value = first.partition("=")
        morsel: Morsel[str] = Morsel()
        morsel.set(name, value, value)  # as it is: Django would put it in quotes
        for attribute in attributes:
            key, _, setting = attribute.partition("=")
            morsel[key] = setting or True
        # One may be cleared at several domains. Under another name than its own, Django's test
        # client would keep it beside the one that it replaces, and send both.
        response.cookies[f"{name} {number}" if name in response.cookies else name] = morsel
    for header, value in others.items():
        response[header] = value
    if others:
        patch_vary_headers(response, ["Cookie"])


def _show(request: Any, user: AbstractBaseUser | AnonymousUser) -> None:
    """Let ``request.user`` and ``request.auser()`` both be *user*.

    Django reads the session for each by itself, and remembers whom it has found: an async
    ``login_required`` would let in whom ``request.user`` does not name.
    """

    async def auser() -> AbstractBaseUser | AnonymousUser:
        return user

    request.user = request._cached_user = request._acached_user = user  # noqa: SLF001
    if hasattr(request, "auser"):  # since Django 5.0
        request.auser = auser


def _sign_in(request: HttpRequest, local: Local, *, is_login: bool) -> bool:
    """Return whether the user is in now; one who is not active here is let in nowhere by Django."""
    user = configured().user(local.user_id)
    who = request.session.get(auth.SESSION_KEY)
    # As Django's own login does.
    is_known = user is not None and who == user._meta.pk.value_to_string(user)  # noqa: SLF001
    if user is None or not user.is_active:
        if who is not None and not is_known:
            request.session.flush()  # what lies there is another user's
        return False
    if not is_known or is_login:
        auth.login(request, user, backend=_BACKEND)
        _show(request, user)
    if is_login:
        request.session.cycle_key()
    return True
