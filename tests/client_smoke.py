"""What the client must do with whatever libraries this interpreter has; run by `tests.matrix`.

It imports the standard library and the client alone: no test library is installed beside them.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import threading
import time
import warnings
from typing import Any

from session_client import (
    AsyncSessionClient,
    BrokerUnavailable,
    NotAnswered,
    SessionClient,
    SessionClientError,
)

MANY = 200


def main(places: dict[str, str], key: str) -> None:
    """Try everything; an exception ends the process with a trace."""
    known: dict[str, Any] = {"app_id": "shop", "app_key": key}
    for url in (places["plain"], places["tls"]):
        threads_and_forks(SessionClient(broker_url=url, **known))
        asyncio.run(tasks(AsyncSessionClient(broker_url=url, **known)))
    gc.collect()
    # From here on old libraries have warnings of their own: asyncio leaves a connection behind
    # whose handshake has failed, and Celery is older than this Python.
    warnings.simplefilter("ignore")
    for kind in (SessionClient, AsyncSessionClient):
        certificate_of_another_host(kind(broker_url=places["wrong_host"], **known))
    silence(SessionClient(broker_url=places["mute"], **known))
    asyncio.run(silence_for_many(AsyncSessionClient(broker_url=places["nobody"], **known)))
    if places.get("celery"):
        client = SessionClient(broker_url="memory://", reply_url=places["plain"], **known)
        assert raised(lambda: client.status(user_id="ada", timeout=5.0)) is NotAnswered


def threads_and_forks(client: SessionClient) -> None:
    """Calls of many threads, and of a child of a process that has called before."""
    assert client.status(user_id="ada", timeout=30) == ()
    told: list[Any] = []
    askers = [
        threading.Thread(target=lambda: told.append(client.status(user_id="ada", timeout=30)))
        for _ in range(8)
    ]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    assert told == [()] * 8
    pid = os.fork()
    if pid == 0:
        os._exit(0 if client.status(user_id="ada", timeout=30) == () else 1)
    assert os.waitpid(pid, 0)[1] == 0
    assert client.status(user_id="ada", timeout=30) == ()
    client.close()


async def tasks(client: AsyncSessionClient) -> None:
    """Calls of many tasks, of which some are cancelled. Nobody closes the client."""
    calls = [asyncio.ensure_future(client.status(user_id="ada", timeout=30)) for _ in range(MANY)]
    for call in calls[::10]:
        call.cancel()
    told = await asyncio.gather(*calls, return_exceptions=True)
    assert told.count(()) == MANY - MANY // 10, told


def certificate_of_another_host(client: SessionClient | AsyncSessionClient) -> None:
    """A Redis whose certificate is good, but for another name, is told nothing."""

    def call() -> Any:
        if isinstance(client, AsyncSessionClient):
            return asyncio.run(awaited(client))
        return client.status(user_id="ada", timeout=10)

    assert raised(call) is BrokerUnavailable


async def awaited(client: AsyncSessionClient) -> Any:
    """Ask."""
    return await client.status(user_id="ada", timeout=10)


def silence(client: SessionClient) -> None:
    """A broker that accepts and says nothing costs a call's own time."""
    started = time.monotonic()
    assert raised(lambda: client.status(user_id="ada", timeout=0.3)) in {
        NotAnswered,
        BrokerUnavailable,
    }
    assert time.monotonic() - started < 5


async def silence_for_many(client: AsyncSessionClient) -> None:
    """As much for many at once."""
    started = time.monotonic()
    calls = [client.status(user_id="ada", timeout=1.0) for _ in range(MANY)]
    told = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(error) for error in told} == {NotAnswered}, told
    assert time.monotonic() - started < 5


def raised(call: Any) -> type[BaseException] | None:
    """Return what *call* raises."""
    try:
        call()
    except SessionClientError as error:
        return type(error)
    return None


if __name__ == "__main__":
    warnings.simplefilter("error")
    main(json.loads(sys.argv[1]), sys.argv[2])
