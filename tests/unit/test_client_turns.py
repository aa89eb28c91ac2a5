"""What the asyncio client does in one turn of an event loop, which is no other call's then."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from session_client import AppKey, AsyncSessionClient
from session_client._redis.settings import Place
from session_client._redis.turns import AT_ONCE, Turns
from tests.certificates import make_certificate


async def begin_all(turns: Turns, many: int, cancelled: frozenset[int]) -> dict[int, list[int]]:
    """Have *many* calls begin at once; return which began in which turn of the loop."""
    turn = 0
    begun: dict[int, list[int]] = {}

    async def count() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    async def call(number: int) -> None:
        await turns.take()
        begun.setdefault(turn, []).append(number)

    counting = asyncio.create_task(count())
    calls = [asyncio.create_task(call(number)) for number in range(many)]
    await asyncio.sleep(0)
    for number in cancelled:
        calls[number].cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    counting.cancel()
    return begun


def test_a_crowd_of_calls_begins_in_its_order_and_some_in_each_turn() -> None:
    cancelled = frozenset({5 * AT_ONCE, 7 * AT_ONCE})

    begun = asyncio.run(begin_all(Turns(), 500, cancelled))

    assert max(map(len, begun.values())) <= AT_ONCE
    in_order = [number for numbers in begun.values() for number in numbers]
    assert in_order == [number for number in range(500) if number not in cancelled]


def test_calls_begin_at_once_where_there_is_no_crowd() -> None:
    async def begin() -> int:
        turns, passed = Turns(), 0

        async def count() -> None:
            nonlocal passed
            passed += 1

        for _ in range(AT_ONCE):
            counting = asyncio.create_task(count())
            await turns.take()
            counting.cancel()
        return passed

    assert asyncio.run(begin()) == 0


def url_of(folder: Path) -> str:
    certificate = make_certificate(folder, "127.0.0.1")
    return f"rediss://127.0.0.1:1/0?ssl_ca_certs={certificate}"


def tls_of(place: Place) -> Any:
    connection: Any = place.for_asyncio()
    return connection.ssl_context


def test_certificates_are_read_once_for_some_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([1.0, 1.0, 2.0, 302.0, 302.0])
    monkeypatch.setattr("session_client._redis.settings.time.monotonic", lambda: next(clock))
    place = Place(url_of(tmp_path), "app-shop")

    place.read_certificates()
    first, later = tls_of(place), tls_of(place)

    assert first.context is not None
    assert later is not first
    assert later.context is None


def test_a_client_reads_them_when_it_is_made_and_a_call_tells_what_is_wrong(
    tmp_path: Path,
) -> None:
    known: Any = {"app_id": "shop", "app_key": AppKey.generate()}
    good = AsyncSessionClient(broker_url=url_of(tmp_path), **known)
    nowhere = "rediss://127.0.0.1:1/0?ssl_ca_certs=/nowhere"
    bad = AsyncSessionClient(broker_url=nowhere, **known)

    contexts = [tls_of(client._driver._make()._replies._place).context for client in (good, bad)]

    assert [context is not None for context in contexts] == [True, False]
