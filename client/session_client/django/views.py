"""What an app's views use: `signed_in`, `log_in`, `begin`, `complete`, `log_out`, `back`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar, overload

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from session_client import web
from session_client.django import applying
from session_client.django.conf import configured
from session_client.login_steps import FirstStep, Proof, S
from session_client.requests import Wishes
from session_client.values import Authenticated, Denied, LoginAnswer, LoginRequired, Tokens
from session_client.web import SignedIn, Turned, TurnedAway
from session_client.web.outcome import Changes, Steps, redirect

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
View = Callable[Concatenate[HttpRequest, P], R]


@overload
def signed_in(view: View[P, R], /) -> View[P, R]: ...
@overload
def signed_in(
    *, amr: tuple[str, ...] | list[str] = (), max_age: int | None = None
) -> Callable[[View[P, R]], View[P, R]]: ...
def signed_in(
    view: Callable[..., Any] | None = None,
    /,
    *,
    amr: tuple[str, ...] | list[str] = (),
    max_age: int | None = None,
) -> Any:
    """Guard a view, sync or async: it runs for users who are signed in, silently if need be.

    Args:
        view: the view, where this is written without brackets.
        amr: factors that the session must have, such as ``["mfa"]``.
        max_age: seconds since the last active login, at most.
    """
    wants = web.Wants(amr=tuple(amr), max_age=max_age)

    def guarding(view: Callable[..., Any]) -> Callable[..., Any]:
        if iscoroutinefunction(view):

            @wraps(view)
            async def guarded_async(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
                turned = await sync_to_async(_guard)(request, wants)
                return turned or await view(request, *args, **kwargs)

            guarded: Any = guarded_async
        else:

            @wraps(view)
            def guarded_sync(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
                return _guard(request, wants) or view(request, *args, **kwargs)

            guarded = guarded_sync
        guarded.mosaic_guarded = True  # the middleware leaves it to us
        return guarded  # type: ignore[no-any-return]

    return guarding if view is None else guarding(view)


def who_is_in(request: HttpRequest) -> SignedIn:
    """Return who is signed in, in a view that is guarded: ``session_ref``, ``amr`` and so on."""
    user: Any = getattr(request, "mosaic_user", None)
    if not isinstance(user, SignedIn):
        raise RuntimeError("who_is_in: only in a view with @signed_in")  # noqa: TRY004
    return user


def log_in(
    request: HttpRequest,
    proof: Proof,
    *,
    step_up: bool = False,
    device_id: str | None = None,
    wishes: Wishes | None = None,
) -> LoginAnswer:
    """Sign in by *proof*, or add it as a factor with ``step_up=True``; only in a POST.

    Cookie and local session are written with the answer to this request. A worker that is away is
    answered with 503, another site's form with 403, before the view goes on.
    """
    more = {"device_id": device_id, "wishes": wishes}
    return _done(request, applying.visit(request).log_in(proof, step_up=step_up, more=more))


def begin(
    request: HttpRequest,
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
    return _done(request, applying.visit(request).begin(step, step_up=step_up, more=more))


def complete(
    request: HttpRequest, proof: Proof, *, step_up: bool = False, wishes: Wishes | None = None
) -> LoginAnswer:
    """Complete the login that `begin` began here, or with ``step_up=True`` the step-up.

    409 where this browser has not begun it: neither is ever taken for the other.
    """
    visit = applying.visit(request)
    return _done(request, visit.complete(proof, step_up=step_up, more={"wishes": wishes}))


def log_out(request: HttpRequest) -> HttpResponse:
    """Sign out here and at every app that shares the session; a view, for POST alone."""
    turned = applying.run(applying.visit(request).log_out())
    applying.apply(request, turned.changes)
    return applying.response_of(turned)


def tokens(request: HttpRequest, wishes: Wishes | None = None) -> Tokens:
    """Return tokens of the user who is signed in, such as ``Wishes(resource="https://api…")``."""
    steps = applying.visit(request).tokens(who_is_in(request), wishes or Wishes())
    return applying.run(steps)


def back(request: HttpRequest) -> HttpResponse:
    """Lead to where the login was asked for: the query's ``next``, if it is a page of ours."""
    return applying.response_of(redirect(web.safe_next(request.GET.get("next"))))


def enter(request: HttpRequest) -> HttpResponse:
    """Sign in silently, or lead to the login and back; tell a script whether somebody is in."""
    turned = _guard(request, web.Wants())
    if turned is not None:
        return turned
    return back(request) if applying.incoming(request).is_page else HttpResponse(status=204)


enter.mosaic_guarded = True  # type: ignore[attr-defined]


def leave(request: HttpRequest) -> HttpResponse:
    """Send a browser to the hub that signs in for this app too."""
    raise TurnedAway(web.leave(applying.incoming(request), configured().options))


def pass_on(request: HttpRequest) -> HttpResponse:
    """At a hub: send whoever is signed in back to another app with a ticket."""
    raise TurnedAway(applying.run(web.pass_on(applying.incoming(request), configured().options)))


def arrive(request: HttpRequest) -> HttpResponse:
    """Sign in the browser that comes back from the hub."""
    visit = applying.visit(request)
    steps = web.arrive(visit.request, visit.options, visit.local, visit.now)
    raise TurnedAway(applying.run(steps))


@csrf_exempt  # no browser sends it: what it says is signed
def take_notice(request: HttpRequest) -> HttpResponse:
    """Take the worker's notice that a session has ended."""
    if request.method != "POST":
        return HttpResponse(status=405, headers={"Allow": "POST"})
    if int(request.META.get("CONTENT_LENGTH") or 0) > web.LONGEST_NOTICE:
        return HttpResponse(status=413)
    token = str(request.POST.get("logout_token", ""))
    turned = applying.run(web.take_notice(token, now=time.time()))
    applying.apply(request, turned.changes)
    return applying.response_of(turned)


def _guard(request: HttpRequest, wants: web.Wants) -> HttpResponse | None:
    """Return the answer in place of the view's, or None for the view to run."""
    options = configured().options
    local = applying.local_of(request)
    if local is not None and not local.is_over and request.user.is_anonymous:
        # The row of that user is gone, such as with a transaction in which it was made: the user
        # comes in anew, where each page would be refused until the next recheck.
        local = local.over()
    decided = applying.run(
        web.guard(applying.incoming(request), options, local, wants, now=time.time())
    )
    applying.apply(request, decided.changes)
    if isinstance(decided, Turned):
        return applying.response_of(decided)
    if not request.user.is_active:
        raise PermissionDenied("this user is not let in here")
    request.mosaic_user = decided.user  # type: ignore[attr-defined]
    return None


def _done(request: HttpRequest, steps: Steps[tuple[T, Changes]]) -> T:
    answer, changes = applying.run(steps)
    applying.apply(request, changes, is_login=isinstance(answer, Authenticated))
    return answer
