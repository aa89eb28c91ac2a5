"""The addresses of notices and of the entry, for ``include("session_client.django.urls")``."""

from __future__ import annotations

from django.urls import URLPattern, path

from session_client.django import views
from session_client.django.conf import configured


def _patterns() -> list[URLPattern]:
    options = configured().options
    patterns = []
    if options.notices is not None:
        patterns.append(path(options.notices.lstrip("/"), views.take_notice, name="mosaic-notice"))
    if options.entry is not None:
        patterns.append(path(options.entry.lstrip("/"), views.enter, name="mosaic-entry"))
    if options.hub is not None:
        patterns.append(path(options.login.lstrip("/"), views.leave, name="mosaic-leave"))
        patterns.append(path(options.transfer.lstrip("/"), views.arrive, name="mosaic-arrive"))
    if options.pass_on is not None:
        patterns.append(path(options.pass_on.lstrip("/"), views.pass_on, name="mosaic-pass-on"))
    return patterns


urlpatterns = _patterns()
