"""Name resolution that hangs, fails, and is asked by many at once."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from worker.http_client import Deadline, Resolve, Resolver, dns, system_addresses


class Gate:
    """A resolver that hangs until it is opened, but for the host *quick*."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.asked: list[str] = []

    def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        if host != "quick":
            assert self.opened.wait(60)
        return ["192.0.2.7"]


def test_the_system_knows_this_machine() -> None:
    assert set(system_addresses("localhost")) <= {"127.0.0.1", "::1"}
    assert system_addresses("127.0.0.1") == ["127.0.0.1"]


def test_all_addresses_are_returned_in_their_order() -> None:
    resolver = Resolver(lambda _: ["192.0.2.9", "2001:db8::1", "192.0.2.1"])

    found = resolver.addresses("app", Deadline.after(5))

    assert found == ("192.0.2.9", "2001:db8::1", "192.0.2.1")


def test_a_lookup_that_hangs_is_left_behind_at_the_deadline() -> None:
    gate = Gate()
    started_at = time.monotonic()

    with pytest.raises(TimeoutError):
        Resolver(gate).addresses("slow", Deadline.after(0.2))

    assert 0.2 <= time.monotonic() - started_at < 5
    gate.opened.set()


def test_a_name_that_hangs_costs_one_thread_and_holds_up_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = Gate()
    resolver = Resolver(gate)
    waiting = threading.Semaphore(0)

    def remaining(_: Deadline) -> float:
        waiting.release()  # asked for by a lookup that has found what to wait for
        return 60.0

    monkeypatch.setattr(Deadline, "remaining", remaining)
    with ThreadPoolExecutor(9) as pool:
        slow = [pool.submit(resolver.addresses, "slow", Deadline.after(60)) for _ in range(8)]
        quick = pool.submit(resolver.addresses, "quick", Deadline.after(5))

        assert quick.result(30) == ("192.0.2.7",)
        assert all(waiting.acquire(timeout=60) for _ in range(9))
        assert not any(lookup.done() for lookup in slow)
        gate.opened.set()
        assert {lookup.result(60) for lookup in slow} == {("192.0.2.7",)}

    assert sorted(gate.asked) == ["quick", "slow"]


def test_an_answer_is_not_kept_for_later_callers() -> None:
    gate = Gate()
    resolver = Resolver(gate)

    for _ in range(3):
        resolver.addresses("quick", Deadline.after(5))

    assert gate.asked == ["quick"] * 3


def fail(_: str) -> Sequence[str]:
    raise socket.gaierror(socket.EAI_AGAIN, "try again")


def stumble(_: str) -> Sequence[str]:
    raise UnicodeError("label too long")


@pytest.mark.parametrize(
    ("resolve", "error"), [(fail, OSError), (stumble, UnicodeError), (lambda _: [], OSError)]
)
def test_a_name_that_does_not_resolve_may_do_so_later(
    resolve: Resolve, error: type[Exception]
) -> None:
    resolver = Resolver(resolve)

    for _ in range(2):
        with pytest.raises(error):
            resolver.addresses("app", Deadline.after(5))


def test_an_error_nobody_expected_is_not_swallowed() -> None:
    def break_down(_: str) -> Sequence[str]:
        raise LookupError

    with pytest.raises(LookupError):
        Resolver(break_down).addresses("app", Deadline.after(5))


def test_lookups_that_hang_are_limited_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dns, "MAX_LOOKUPS", 2)
    gate = Gate()
    resolver = Resolver(gate)
    for host in ("slow-1", "slow-2"):
        with pytest.raises(TimeoutError):
            resolver.addresses(host, Deadline.after(0))

    with pytest.raises(OSError, match="too many"):
        resolver.addresses("quick", Deadline.after(5))

    gate.opened.set()
    while resolver._lookups:
        time.sleep(0.001)
    assert resolver.addresses("quick", Deadline.after(5)) == ("192.0.2.7",)
