"""The session worker: the service that owns every conversation with Mosaic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celery import Celery

    app: Celery


def __getattr__(name: str) -> Any:
    # `celery -A worker …` asks for `app`; importing a single room must not build the whole house.
    if name == "app":
        from worker.app import app  # noqa: PLC0415 - on demand

        return app
    raise AttributeError(name)
