"""Requests that are sent now and waited for later, or never: the client itself always waits."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import redis

from session_client import NotAnswered, SessionClient, ended
from session_client._core import call, message, opening
from session_client._core.call import Ask, Steps
from session_client._core.message import Message
from session_client.requests import Request

R = TypeVar("R")


@dataclass(frozen=True)
class Pending(Generic[R]):
    """A request on its way."""

    client: SessionClient
    request: Request[R]
    message: Message
    until: float

    @property
    def request_id(self) -> str:
        return self.message.request_id

    def wait(self, timeout: float | None = None) -> R:
        """Return what it comes to; raise what the client raises."""
        until = self.until if timeout is None else time.monotonic() + timeout
        value: R = self.client._driver.run(self._life(until))
        return value

    def _life(self, until: float) -> Steps[R]:
        raw = yield Ask(self.message, until, is_due=False)
        if raw is None:
            raise NotAnswered("no answer in time", request_id=self.request_id)
        answer = opening.answered(self.message, raw, self.client._app.key)
        ended.SEEN.learn(answer)
        return call.value_of(self.request, call.about_people(self.message, answer))


def send(client: SessionClient, request: Request[R], *, timeout: float = 5.0) -> Pending[R]:
    """Publish *request*, once; the worker drops it after *timeout* seconds."""
    limited: Any = replace(request, timeout=timeout)
    sealed = message.seal(limited, app_id=client._app.app_id, key=client._app.key)
    until = time.monotonic() + timeout
    push = ("LPUSH", sealed.queue.value, sealed.to_wire())
    client._driver._link()._publish.exchange(until, push=push)
    return Pending(client, limited, sealed, until)


def publish(url: str, sealed: Message) -> None:
    """Put a sealed request on its queue, as the client does."""
    with redis.Redis.from_url(url) as broker:
        broker.lpush(sealed.queue.value, sealed.to_wire())
