"""The middleware: a user who has signed out elsewhere is out here, in unguarded views too."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.db import connections
from django.http import HttpRequest, HttpResponse

from session_client import web
from session_client.django import applying
from session_client.django.conf import configured
from session_client.web import Passed, TurnedAway


class Middleware:
    """Goes after Django's ``AuthenticationMiddleware``."""

    sync_capable = True
    async_capable = True

    def __init__(
        self, get_response: Callable[[HttpRequest], HttpResponse | Awaitable[HttpResponse]]
    ) -> None:
        self._get_response: Callable[[HttpRequest], Any] = get_response
        self._is_awaited = iscoroutinefunction(get_response)
        if self._is_awaited:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponse | Awaitable[HttpResponse]:
        """Answer, with what was decided about the browser's cookies."""
        if self._is_awaited:
            return self._awaited(request)
        response: HttpResponse = self._get_response(request)
        applying.add_headers(request, response)
        return response

    async def _awaited(self, request: HttpRequest) -> HttpResponse:
        response: HttpResponse = await self._get_response(request)
        applying.add_headers(request, response)
        return response

    def process_view(
        self, request: HttpRequest, view: Callable[..., Any], *_: object
    ) -> HttpResponse | None:
        """See to it that ``request.user`` is right, unless the view's own guard does."""
        is_guarded = getattr(view, "mosaic_guarded", False)
        if is_guarded and not _may_be_taken_back():
            return None
        settings = configured()
        decided = applying.run(
            web.glance(
                applying.incoming(request),
                settings.options,
                (local := applying.local_of(request)),
                silently=settings.is_silent_everywhere or is_guarded,
                now=time.time(),
            )
        )
        if isinstance(decided, Passed):
            applying.apply(request, decided.changes)
            return None
        applying.apply(request, decided)
        if local is not None:
            applying.show_anonymous(request)
        return None

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        """Answer in place of a view whose login or logout got another answer."""
        if not isinstance(error, TurnedAway):
            return None
        applying.apply(request, error.turned.changes)
        return applying.response_of(error.turned)


def _may_be_taken_back() -> bool:
    """Whether views run in a transaction, which ends with what they raise.

    A guard is a part of its view. Of a user who came in by a page that is not there, Django would
    take back session and user, and answer 400.
    """
    return any(database["ATOMIC_REQUESTS"] for database in connections.settings.values())
