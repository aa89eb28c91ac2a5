"""A worker that only answers, so that a test can say how; and clients on every kind of broker."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterable
from typing import Any, Self

import redis

from session_client import AppKey, contract, sealing

KEY = AppKey("k1", bytes(range(32)))
OTHER_KEY = AppKey("k2", bytes(32))

Content = dict[str, Any]

# What a yes holds at least.
DATA: dict[str, Content] = {
    "sessions.register": {"session_ref": "ref", "expires_at": "2026-11-16T08:00:00Z"}
}


def answer_to(request: Content, **changes: Any) -> Content:
    """Return what a worker would seal for *request*."""
    answer = {name: request[name] for name in ("v", "task", "app_id", "request_id")}
    answer["answered_at"] = "2026-11-02T08:00:00Z"
    return answer | {"verdict": "ok", "data": DATA.get(request["task"], {})} | changes


def sealed(content: Content, key: AppKey = KEY) -> bytes:
    return sealing.seal(key, sealing.Kind.ANSWER, content).encode()


class Responder:
    """Takes messages off the queues as a worker does and pushes what *answers* returns."""

    def __init__(
        self,
        url: str,
        answers: Callable[[Content], list[bytes]] | None = None,
        queues: Iterable[contract.Queue] = contract.Queue,
    ) -> None:
        self._redis = redis.Redis.from_url(url)
        self._queues = [queue.value for queue in queues]
        self._answers = answers or (lambda request: [sealed(answer_to(request))])
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.requests: list[Content] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._redis.close()

    def _run(self) -> None:
        while not self._ended.is_set():
            item: Any = self._redis.brpop(self._queues, timeout=0.05)
            if item is not None:
                self._serve(json.loads(item[1]))

    def _serve(self, message: Content) -> None:
        _, kwargs, _ = json.loads(base64.b64decode(message["body"]))
        request = sealing.unseal(kwargs["envelope"], sealing.Kind.REQUEST, lambda _: KEY)
        self.requests.append(request)
        box = message["headers"].get(contract.ANSWER_TO, request["request_id"])
        key = contract.reply_key(request["app_id"], box)
        for raw in self._answers(request):
            self._redis.rpush(key, raw)
