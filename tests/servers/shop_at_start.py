"""The shop of `examples/web`, which asks the worker once before its server forks."""

from __future__ import annotations

from examples.web.shop import app, sessions

__all__ = ["app"]

sessions._client.check()
