"""For views that are ``async def``: what `session_client.django.views` has, awaited.

A thread waits in each case. Under ASGI it is the request's own, which Django's sessions and users
need anyway.
"""

from __future__ import annotations

from collections.abc import Mapping

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse

from session_client.django import views
from session_client.login_steps import FirstStep, Proof, S
from session_client.requests import Wishes
from session_client.values import Denied, LoginAnswer, LoginRequired, Tokens


async def alog_in(
    request: HttpRequest,
    proof: Proof,
    *,
    step_up: bool = False,
    device_id: str | None = None,
    wishes: Wishes | None = None,
) -> LoginAnswer:
    """See `log_in`."""
    return await sync_to_async(views.log_in)(
        request, proof, step_up=step_up, device_id=device_id, wishes=wishes
    )


async def abegin(
    request: HttpRequest,
    step: FirstStep[S],
    *,
    step_up: bool = False,
    approval_data: Mapping[str, str] | None = None,
    wishes: Wishes | None = None,
) -> S | Denied | LoginRequired:
    """See `begin`."""
    return await sync_to_async(
        lambda: views.begin(
            request, step, step_up=step_up, approval_data=approval_data, wishes=wishes
        )
    )()


async def acomplete(
    request: HttpRequest, proof: Proof, *, step_up: bool = False, wishes: Wishes | None = None
) -> LoginAnswer:
    """See `complete`."""
    return await sync_to_async(views.complete)(request, proof, step_up=step_up, wishes=wishes)


async def alog_out(request: HttpRequest) -> HttpResponse:
    """See `log_out`."""
    return await sync_to_async(views.log_out)(request)


async def atokens(request: HttpRequest, wishes: Wishes | None = None) -> Tokens:
    """See `tokens`."""
    return await sync_to_async(views.tokens)(request, wishes)
