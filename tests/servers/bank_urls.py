"""The bank's pages, and one of an async view."""

from __future__ import annotations

from django.http import HttpRequest, JsonResponse
from django.urls import include, path

from session_client.django import signed_in


@signed_in
async def me(request: HttpRequest) -> JsonResponse:
    user = await request.auser()
    return JsonResponse({"user": user.get_username()})


urlpatterns = [path("me", me), path("", include("examples.web.bank.views"))]
