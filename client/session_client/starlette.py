"""Starlette and FastAPI. Needs ``pip install mosaic-session-client[starlette]``.

>>> sessions = Sessions(app, AsyncSessionClient.from_env(), marks=RedisMarks.from_env())
>>> app.add_middleware(SessionMiddleware, secret_key="…", https_only=True)
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import parse_qs, quote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from session_client import web
from session_client.errors import ConfigurationError
from session_client.login_steps import FirstStep, Proof, S
from session_client.requests import Wishes
from session_client.values import Denied, LoginAnswer, LoginRequired, Tokens
from session_client.web import MemoryMarks, RedisMarks, SignedIn, SqlMarks, Turned, TurnedAway
from session_client.web.options import Options, Settings
from session_client.web.outcome import Changes, Header, Steps, by_name, redirect

if TYPE_CHECKING:
    from typing import Unpack

    from session_client import AsyncSessionClient

__all__ = ["MemoryMarks", "RedisMarks", "Sessions", "SignedIn", "SqlMarks"]

T = TypeVar("T")

_HEADERS: Final = "mosaic.headers"


class SignedInNeedsBrackets:
    """Write ``Depends(sessions.signed_in())``.

    Without the brackets FastAPI would take the guard that `Sessions.signed_in` returns for a user,
    and let everybody in. It refuses a route whose dependency has a parameter of a class that it
    cannot read, and names the class.
    """


class Sessions:
    """Who is signed in at this app, kept in ``request.session``, whatever stores that.

    Args:
        app: a Starlette or FastAPI application with a session middleware.
        client: of this app.
        settings: see `session_client.web.Options`.
    """

    def __init__(
        self, app: Starlette, client: AsyncSessionClient, **settings: Unpack[Settings]
    ) -> None:
        self.options = Options(**settings)
        self._client = client
        app.add_middleware(_HeaderLayer)
        app.add_exception_handler(TurnedAway, _turned_away)
        if self.options.notices is not None:
            route = Route(self.options.notices, self._take_notice, methods=["POST"])
            app.router.routes.append(route)
        if self.options.entry is not None:
            app.router.routes.append(Route(self.options.entry, self._enter))
        if self.options.hub is not None:
            app.router.routes.append(Route(self.options.login, self._leave))
            app.router.routes.append(Route(self.options.transfer, self._arrive))
        if self.options.pass_on is not None:
            app.router.routes.append(Route(self.options.pass_on, self._pass_on))

    def signed_in(
        self,
        _brackets: SignedInNeedsBrackets | None = None,
        /,
        *,
        amr: tuple[str, ...] | list[str] = (),
        max_age: int | None = None,
    ) -> Callable[[Request], Awaitable[SignedIn]]:
        """Return what guards a view: a dependency of FastAPI, or ``await guard(request)``.

        Args:
            amr: factors that the session must have, such as ``["mfa"]``.
            max_age: seconds since the last active login, at most.

        Raises `ConfigurationError` where it, or what it returns, is to decorate a view.
        """
        if _brackets is not None:
            raise _no_decorator()
        wants = web.Wants(amr=tuple(amr), max_age=max_age)

        async def guard(request: Request) -> SignedIn:
            _have_it_caught(request)
            decided = await self._run(
                web.guard(_incoming(request), self.options, _local(request), wants, now=time.time())
            )
            if isinstance(decided, Turned):
                raise TurnedAway(decided)
            _apply(request, decided.changes)
            return decided.user

        return _Guard(guard)

    async def log_in(
        self,
        request: Request,
        proof: Proof,
        *,
        step_up: bool = False,
        device_id: str | None = None,
        wishes: Wishes | None = None,
    ) -> LoginAnswer:
        """Sign in by *proof*, or add it as a factor with ``step_up=True``; only in a POST.

        Cookie and local session are written with the answer to this request. A worker that is away
        is answered with 503, another site's form with 403, before the view goes on.
        """
        more = {"device_id": device_id, "wishes": wishes}
        steps = self._visit(request).log_in(proof, step_up=step_up, more=more)
        return await self._done(request, steps)

    async def begin(
        self,
        request: Request,
        step: FirstStep[S],
        *,
        step_up: bool = False,
        approval_data: Mapping[str, str] | None = None,
        wishes: Wishes | None = None,
    ) -> S | Denied | LoginRequired:
        """Take the first step of a login in this browser, or of adding a factor; only in a POST.

        `VerifySocial` goes on with one, in the page that the provider leads back to, also by GET.
        By the factor the user approves *approval_data*, which the answer to `complete` has again.
        """
        more = {"approval_data": approval_data, "wishes": wishes}
        steps = self._visit(request).begin(step, step_up=step_up, more=more)
        return await self._done(request, steps)

    async def complete(
        self,
        request: Request,
        proof: Proof,
        *,
        step_up: bool = False,
        wishes: Wishes | None = None,
    ) -> LoginAnswer:
        """Complete the login that `begin` began here, or with ``step_up=True`` the step-up.

        409 where this browser has not begun it: neither is ever taken for the other.
        """
        visit = self._visit(request)
        steps = visit.complete(proof, step_up=step_up, more={"wishes": wishes})
        return await self._done(request, steps)

    async def log_out(self, request: Request) -> Response:
        """Sign out here and at every app that shares the session; only in a POST."""
        turned = await self._run(self._visit(request).log_out())
        _apply(request, turned.changes)
        return _response(turned)

    async def tokens(
        self, request: Request, user: SignedIn, wishes: Wishes | None = None
    ) -> Tokens:
        """Return tokens of *user*, who is signed in, such as ``Wishes(resource="https://api…")``."""
        return await self._run(self._visit(request).tokens(user, wishes or Wishes()))

    @staticmethod
    def back(request: Request) -> Response:
        """Lead to where the login was asked for: the query's ``next``, if it is a page of ours."""
        return _response(redirect(web.safe_next(request.query_params.get("next"))))

    def _visit(self, request: Request) -> web.Visit:
        _have_it_caught(request)
        written = tuple(request.scope.get(_HEADERS, ()))
        return web.Visit(_incoming(request), self.options, _local(request), time.time(), written)

    async def _run(self, steps: Steps[T]) -> T:
        return await web.run_async(steps, self._client, self.options, run_in_threadpool)

    async def _done(self, request: Request, steps: Steps[tuple[T, Changes]]) -> T:
        answer, changes = await self._run(steps)
        _apply(request, changes)
        return answer

    async def _enter(self, request: Request) -> Response:
        await self.signed_in()(request)
        if not _incoming(request).is_page:
            return Response(status_code=204)  # a script has asked whether somebody is in
        return self.back(request)

    async def _leave(self, request: Request) -> Response:
        raise TurnedAway(web.leave(_incoming(request), self.options))

    async def _pass_on(self, request: Request) -> Response:
        raise TurnedAway(await self._run(web.pass_on(_incoming(request), self.options)))

    async def _arrive(self, request: Request) -> Response:
        steps = web.arrive(_incoming(request), self.options, _local(request), time.time())
        raise TurnedAway(await self._run(steps))

    async def _take_notice(self, request: Request) -> Response:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > web.LONGEST_NOTICE:
                return Response(status_code=413)
        token = parse_qs(body.decode(errors="replace")).get("logout_token", [""])[0]
        turned = await self._run(web.take_notice(token, now=time.time()))
        request.scope.setdefault(_HEADERS, []).extend(turned.changes.headers)
        return _response(turned)


class _Guard:
    """Calls what decides about a request, and refuses a view at import.

    An ``async def`` as a decorator would do nothing but warn, and leave the page open.
    """

    def __init__(self, decide: Callable[[Request], Awaitable[SignedIn]]) -> None:
        self._decide = decide
        # Where FastAPI looks before it calls: whether to await it, and what to call it with. Python
        # itself takes what the class has.
        self.__dict__["__call__"] = decide
        self.__signature__ = inspect.signature(decide, eval_str=True)

    def __call__(self, request: Request) -> Awaitable[SignedIn]:
        if not isinstance(request, Request):
            raise _no_decorator()
        return self._decide(request)


def _no_decorator() -> ConfigurationError:
    # The route of a view that stands below would be open to everybody.
    return ConfigurationError(
        "sessions.signed_in: no decorator of a view; write Depends(sessions.signed_in()), "
        "or guard = sessions.signed_in() and await guard(request) in the view"
    )


class _HeaderLayer:
    """Adds headers to whatever answer a view gives: a dependency's own would be lost with some."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        added: list[Header] = scope.setdefault(_HEADERS, [])

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start" and added:
                headers = MutableHeaders(scope=message)
                cookies, others = by_name(tuple(added))
                for cookie in cookies:
                    headers.append("Set-Cookie", cookie)
                for name, value in others.items():
                    headers[name] = value
                headers.add_vary_header("Cookie")
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _have_it_caught(request: Request) -> None:
    """Have the app that serves *request* answer where a view is turned away from.

    An app that is mounted has handlers of its own, and would answer 500.
    """
    handlers, _ = request.scope.get("starlette.exception_handlers", ({}, {}))
    handlers.setdefault(TurnedAway, _turned_away)


async def _turned_away(request: Request, error: Exception) -> Response:
    assert isinstance(error, TurnedAway)  # noqa: S101 - registered for it alone
    _apply(request, error.turned.changes)
    return _response(error.turned)


def _incoming(request: Request) -> web.Incoming:
    # Of the scope: what `request.url` has as a path is no more unquoted, and not yet quoted.
    path = quote(request.scope["path"], safe=web.UNQUOTED)
    query = request.scope.get("query_string", b"").decode("latin-1")
    return web.Incoming(
        method=request.method,
        path=web.with_query(path, query),
        host=request.headers.get("host", ""),
        header=request.headers.get,
        cookies=request.headers.getlist("cookie"),
    )


def _local(request: Request) -> web.Local | None:
    return web.from_dict(request.session.get(web.KEY))


def _apply(request: Request, changes: Changes) -> None:
    if changes.empties:
        request.session.clear()
    if changes.local is not None:
        before = _local(request)
        request.session[web.KEY] = changes.local.to_dict()
        if changes.local.is_signed_in_since(before):
            _give_new_id(request)
    request.scope.setdefault(_HEADERS, []).extend(changes.headers)


def _give_new_id(request: Request) -> None:
    """Have the store of sessions, if there is one, keep this one under another id.

    Starlette's own cookies have none. starsessions, and what is written like it, knows how.
    """
    regenerate = getattr(request.scope.get("session_handler"), "regenerate_id", None)
    if regenerate is not None:
        regenerate()


def _response(turned: Turned) -> Response:
    response: Response
    if isinstance(turned.body, dict):
        response = JSONResponse(turned.body, turned.status)
    elif turned.body:
        response = PlainTextResponse(turned.body, turned.status)
    else:
        response = Response(status_code=turned.status)
    if turned.location is not None:
        response.headers["Location"] = turned.location
    return response
