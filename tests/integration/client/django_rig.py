"""Django's part of the client, in the bank of `examples/web` or with views of a test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from session_client import AppKey
from tests import django_site

HOST = "bank.apps.example.com"
NAME = "__Secure-mosaic-sso"


@pytest.fixture(autouse=True)
def django(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "SESSION_BROKER_URL": "redis://nobody",
        "SESSION_APP_ID": "bank",
        "SESSION_APP_KEY": AppKey.generate().text(),
    }.items():
        monkeypatch.setenv(name, value)
    django_site.bank()


@pytest.fixture
def settings() -> Iterator[Callable[..., None]]:
    """Changes ``MOSAIC_SESSIONS`` for a test."""
    from django.test import override_settings  # noqa: PLC0415 - once Django is set up

    changed: list[Any] = []

    def change(**more: Any) -> None:
        override = override_settings(
            MOSAIC_SESSIONS={"COOKIE_DOMAIN": "apps.example.com", "ENTRY": "/enter", **more}
        )
        override.enable()
        changed.append(override)

    yield change
    for override in reversed(changed):
        override.disable()


@pytest.fixture
def asgi() -> Callable[..., Any]:
    """Takes requests of one browser under ASGI, through all middleware, to views by their paths.

    *more* are Django's settings, for these requests alone.
    """
    from django.test import AsyncClient, override_settings  # noqa: PLC0415
    from django.urls import include, path  # noqa: PLC0415

    def serving(more: dict[str, Any] | None = None, **views: Callable[..., Any]) -> Any:
        urls = ModuleType("asgi_urls")
        urls.urlpatterns = [  # type: ignore[attr-defined]
            *(path("" if name == "home" else name, view) for name, view in views.items()),
            path("", include("session_client.django.urls")),
        ]
        client = AsyncClient()

        def send(method: str, where: str, *form: Any, **headers: str) -> Any:
            async def ask() -> Any:
                return await getattr(client, method)(where, *form, secure=True, headers=headers)

            with override_settings(ROOT_URLCONF=urls, ALLOWED_HOSTS=["testserver"], **more or {}):
                return asyncio.run(ask())

        send.cookies = client.cookies  # type: ignore[attr-defined]
        return send

    return serving
