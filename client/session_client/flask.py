"""Flask: guarded views, login and logout, notices. Needs ``mosaic-session-client[flask]``.

>>> sessions = Sessions(app, SessionClient.from_env(), marks=RedisMarks.from_env())
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload
from urllib.parse import quote

from flask import Flask, Response, abort, current_app, g, jsonify, request, session
from flask.typing import ResponseReturnValue

from session_client import web
from session_client.client import SessionClient
from session_client.errors import ConfigurationError
from session_client.login_steps import FirstStep, Proof, S
from session_client.requests import Wishes
from session_client.values import Denied, LoginAnswer, LoginRequired, Tokens
from session_client.web import MemoryMarks, RedisMarks, SignedIn, SqlMarks, Turned, TurnedAway
from session_client.web.options import Options, Settings
from session_client.web.outcome import Changes, Steps, by_name, redirect

if TYPE_CHECKING:
    from typing import Unpack

__all__ = ["MemoryMarks", "RedisMarks", "Sessions", "SignedIn", "SqlMarks"]

P = ParamSpec("P")
T = TypeVar("T")
View = Callable[P, ResponseReturnValue]
AnyView = Callable[P, ResponseReturnValue | Awaitable[ResponseReturnValue]]


class Sessions:
    """Who is signed in at this app, kept in `flask.session`, whatever stores that.

    Args:
        app: the application. It needs a ``SECRET_KEY`` or another store of sessions.
        client: of this app.
        settings: see `session_client.web.Options`.
    """

    def __init__(self, app: Flask, client: SessionClient, **settings: Unpack[Settings]) -> None:
        self.options = Options(**settings)
        self._client = client
        self._guarded: list[tuple[AnyView[...], View[...]]] = []
        app.before_request(self._refuse_open_views)
        app.after_request(self._finish)
        if self.options.notices is not None:
            app.add_url_rule(
                self.options.notices, "mosaic_notice", self._take_notice, methods=["POST"]
            )
        if self.options.entry is not None:
            app.add_url_rule(self.options.entry, "mosaic_entry", self.signed_in(self._enter))
        if self.options.hub is not None:
            app.add_url_rule(self.options.login, "mosaic_leave", self._leave)
            app.add_url_rule(self.options.transfer, "mosaic_arrive", self._arrive)
        if self.options.pass_on is not None:
            app.add_url_rule(self.options.pass_on, "mosaic_pass_on", self._pass_on)

    @overload
    def signed_in(self, view: AnyView[P], /) -> View[P]: ...
    @overload
    def signed_in(
        self, /, *, amr: tuple[str, ...] | list[str] = (), max_age: int | None = None
    ) -> Callable[[AnyView[P]], View[P]]: ...
    def signed_in(
        self,
        view: Callable[..., Any] | None = None,
        /,
        *,
        amr: tuple[str, ...] | list[str] = (),
        max_age: int | None = None,
    ) -> Any:
        """Guard a view: it runs for users who are signed in, silently if need be.

        It stands below ``@app.get(…)``, next to the view: above it everybody could open the page,
        so that the app answers no request then.

        Args:
            view: the view, where this is written without brackets.
            amr: factors that the session must have, such as ``["mfa"]``.
            max_age: seconds since the last active login, at most.
        """
        wants = web.Wants(amr=tuple(amr), max_age=max_age)

        def guarding(view: AnyView[P]) -> View[P]:
            @wraps(view)
            def guarded(*args: P.args, **kwargs: P.kwargs) -> ResponseReturnValue:
                decided = self._run(
                    web.guard(_incoming(), self.options, _local(), wants, now=time.time())
                )
                _apply(decided.changes)
                if isinstance(decided, Turned):
                    return _response(decided)
                g.mosaic_user = decided.user
                return current_app.ensure_sync(view)(*args, **kwargs)  # type: ignore[no-any-return]

            self._guarded.append((view, guarded))
            return guarded

        return guarding if view is None else guarding(view)

    @property
    def user(self) -> SignedIn:
        """Who is signed in, in a view that is guarded."""
        user = g.get("mosaic_user")
        if not isinstance(user, SignedIn):
            raise RuntimeError("sessions.user: only in a view with @sessions.signed_in")  # noqa: TRY004 - no type is wrong
        return user

    def log_in(
        self,
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
        return self._done(_visit(self.options).log_in(proof, step_up=step_up, more=more))

    def begin(
        self,
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
        return self._done(_visit(self.options).begin(step, step_up=step_up, more=more))

    def complete(
        self, proof: Proof, *, step_up: bool = False, wishes: Wishes | None = None
    ) -> LoginAnswer:
        """Complete the login that `begin` began here, or with ``step_up=True`` the step-up.

        409 where this browser has not begun it: neither is ever taken for the other.
        """
        more = {"wishes": wishes}
        return self._done(_visit(self.options).complete(proof, step_up=step_up, more=more))

    def log_out(self) -> Response:
        """Sign out here and at every app that shares the session; only in a POST."""
        turned = self._run(_visit(self.options).log_out())
        _apply(turned.changes)
        return _response(turned)

    def tokens(self, wishes: Wishes | None = None) -> Tokens:
        """Return tokens of the user who is signed in, such as ``Wishes(resource="https://api…")``."""
        return self._run(_visit(self.options).tokens(self.user, wishes or Wishes()))

    def back(self) -> Response:
        """Lead to where the login was asked for: the query's ``next``, if it is a page of ours."""
        return _response(redirect(web.safe_next(request.args.get("next"))))

    def _run(self, steps: Steps[T]) -> T:
        try:
            return web.run(steps, self._client, self.options)
        except TurnedAway as error:
            # An error handler does not get what is raised so: that of a blueprint which catches
            # every error would have a page of its own for it.
            abort(self._turned_away(error))

    def _done(self, steps: Steps[tuple[T, Changes]]) -> T:
        answer, changes = self._run(steps)
        _apply(changes)
        return answer

    def _enter(self) -> Response:
        if not _incoming().is_page:
            return Response(status=204)  # a script has asked whether somebody is in
        return self.back()

    def _leave(self) -> Response:
        return self._turned_away(TurnedAway(web.leave(_incoming(), self.options)))

    def _pass_on(self) -> Response:
        return self._turned_away(TurnedAway(self._run(web.pass_on(_incoming(), self.options))))

    def _arrive(self) -> Response:
        steps = web.arrive(_incoming(), self.options, _local(), time.time())
        return self._turned_away(TurnedAway(self._run(steps)))

    def _take_notice(self) -> Response:
        if request.content_length is None or request.content_length > web.LONGEST_NOTICE:
            return Response(status=413)
        token = request.form.get("logout_token", "")
        turned = self._run(web.take_notice(token, now=time.time()))
        _apply(turned.changes)
        return _response(turned)

    def _refuse_open_views(self) -> None:
        """Raise where a view was routed, and then guarded: its route knows nothing of the guard."""
        if not self._guarded:
            return
        routed = [*current_app.view_functions.values()]
        reached = [layer for view in routed for layer in _layers(view)]
        for view, guarded in self._guarded:
            is_open = any(layer in routed for layer in _layers(view))
            if is_open and guarded not in reached:
                raise ConfigurationError(
                    f"{view.__name__} is open to everybody: "
                    "write @sessions.signed_in below @app.get(…), next to the view"
                )
        self._guarded.clear()  # all are routed before the first request

    @staticmethod
    def _turned_away(error: TurnedAway) -> Response:
        _apply(error.turned.changes)
        return _response(error.turned)

    @staticmethod
    def _finish(response: Response) -> Response:
        cookies, others = by_name(tuple(g.pop("mosaic_headers", ())))
        for cookie in cookies:
            response.headers.add("Set-Cookie", cookie)
        for name, value in others.items():
            response.headers[name] = value
        if others:
            response.vary.add("Cookie")
        return response


def _visit(options: Options) -> web.Visit:
    written = tuple(g.get("mosaic_headers", ()))
    return web.Visit(_incoming(), options, _local(), time.time(), written)


def _incoming() -> web.Incoming:
    path = quote(request.root_path + request.path, safe=web.UNQUOTED)
    query = request.query_string.decode("latin-1")
    return web.Incoming(
        method=request.method,
        path=web.with_query(path, query),
        host=request.host,
        header=request.headers.get,
        cookies=request.headers.get("Cookie"),
    )


def _local() -> web.Local | None:
    return web.from_dict(session.get(web.KEY))


def _apply(changes: Changes) -> None:
    if changes.empties:
        session.clear()
    if changes.local is not None:
        before = _local()
        session[web.KEY] = changes.local.to_dict()
        if changes.local.is_signed_in_since(before):
            _give_new_id()
    g.setdefault("mosaic_headers", []).extend(changes.headers)


def _layers(view: Any) -> Iterator[Any]:
    """Yield *view*, and what its decorators have wrapped."""
    while view is not None:
        yield view
        view = getattr(view, "__wrapped__", None)


def _give_new_id() -> None:
    """Have the store of sessions, if there is one, keep this one under another id.

    Flask's own cookies have none. Flask-Session, and what is written like it, knows how.
    """
    regenerate = getattr(current_app.session_interface, "regenerate", None)
    if regenerate is not None:
        regenerate(session)


def _response(turned: Turned) -> Response:
    if isinstance(turned.body, dict):
        response = jsonify(turned.body)
    else:
        response = Response(turned.body, mimetype="text/plain")
    response.status_code = turned.status
    if turned.location is not None:
        response.headers["Location"] = turned.location
    return response
