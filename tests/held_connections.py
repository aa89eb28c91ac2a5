"""Watches that no database connection is held while Mosaic or an app is called.

An open transaction would keep its locks, and its place in the pool, for as long as they hang.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, event

from worker.http_client import HttpClient


@contextmanager
def none_held_in_calls(engine: Engine) -> Iterator[None]:
    """Fail at the end if a thread has called somebody while it held a connection of *engine*."""
    holders: dict[int, int] = {}  # thread by connection
    calls: list[str] = []
    send = HttpClient.send

    def take(_connection: Any, record: Any, _proxy: Any) -> None:
        holders[id(record)] = threading.get_ident()

    def give_back(_connection: Any, record: Any) -> None:
        holders.pop(id(record), None)

    def watched(client: HttpClient, request: Any, *others: Any) -> Any:
        if threading.get_ident() in list(holders.values()):
            calls.append(f"{request.method} {request.url}")
        return send(client, request, *others)

    event.listen(engine, "checkout", take)
    event.listen(engine, "checkin", give_back)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HttpClient, "send", watched)
        yield
    assert calls == [], "a connection to the database was held meanwhile"
