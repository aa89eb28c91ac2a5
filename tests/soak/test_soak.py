"""Minutes of ordinary life with the broker cut and restarted again and again (scenario F24).

Nothing is lost, and the worker neither grows nor collects connections. `make soak` runs it.
"""

from __future__ import annotations

import itertools
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from sandbox.environment import soak_minutes
from sandbox.processes import ManagedProcess, poll_until
from sandbox.proxy import FaultProxy
from sandbox.redis_server import RedisServer
from sandbox.stack import Stack
from session_client import SessionClient, SessionClientError, Verdict
from tests.faults.conftest import SHORT_TIMES
from tests.faults.looking import outcomes

PATIENT = 60.0
BREAK_EVERY_SECONDS = 20.0
MAX_GROWTH = 1.2  # of memory after the first quarter
MAX_MORE_FILES = 8


def memory_kib(process: ManagedProcess) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def open_files(process: ManagedProcess) -> int:
    return len(list(Path(f"/proc/{process.pid}/fd").iterdir()))


@pytest.mark.timeout(0)
def test_a_long_life_with_a_bad_network_loses_nothing_and_leaks_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with ExitStack() as exits:
        redis = exits.enter_context(RedisServer(appendonly=True))
        proxy = exits.enter_context(FaultProxy("127.0.0.1", redis.port))
        url = f"redis://127.0.0.1:{proxy.port}/0"
        stack = exits.enter_context(Stack(redis=redis, broker_url=url, settings=SHORT_TIMES))
        stack.migrate()
        keys = {app_id: stack.add_app(app_id) for app_id in ("shop", "forum")}
        shop, forum = (
            exits.enter_context(SessionClient(broker_url=redis.url(), app_id=a, app_key=k))
            for a, k in keys.items()
        )
        worker = stack.worker("-c", "4")
        stack.beat()

        begin = time.monotonic()
        end = begin + soak_minutes() * 60
        warm_at, break_at = begin + (end - begin) / 4, begin + BREAK_EVERY_SECONDS
        breaks = itertools.cycle([proxy.cut, redis.restart])
        warm: tuple[int, int] | None = None
        users = breaks_done = 0
        slowest = 0.0
        while time.monotonic() < end:
            born = time.monotonic()
            live_and_log_out(stack, shop, forum, f"user-{users}")
            slowest = max(slowest, time.monotonic() - born)
            users += 1
            if warm is None and time.monotonic() > warm_at:
                warm = memory_kib(worker), open_files(worker)
            if time.monotonic() > break_at:
                next(breaks)()
                breaks_done += 1
                break_at += BREAK_EVERY_SECONDS

        poll_until(
            lambda: outcomes(stack) == ["confirmed"] * users, 60, what="Mosaic to be told of all"
        )
        assert stack.mosaic.live_sessions() == []
        assert worker.is_alive
        assert warm is not None
        late = memory_kib(worker), open_files(worker)
        with capsys.disabled():
            sys.stdout.write(
                f"\n{users} users, the slowest {slowest:.1f} s; {breaks_done} breaks; "
                f"memory {warm[0]} -> {late[0]} KiB, files {warm[1]} -> {late[1]}\n"
            )
        assert late[0] < warm[0] * MAX_GROWTH
        assert late[1] <= warm[1] + MAX_MORE_FILES


def live_and_log_out(stack: Stack, shop: SessionClient, forum: SessionClient, user_id: str) -> None:
    """One user's ordinary life; the network may refuse the middle of it, never its end."""
    login = stack.mosaic.login(user_id, "client-shop")
    session = shop.register(
        user_id=user_id,
        session_id=login.session_id,
        id_token=login.id_token,
        until_acknowledged=True,
        timeout=PATIENT,
    )
    assert session.verdict is Verdict.OK
    with suppress(SessionClientError):  # a cut at this very moment means a login screen
        forum.silent_auth(user_id=user_id, timeout=2)
    shop.logout(user_id=user_id, session_ref=session.session_ref, timeout=PATIENT)
