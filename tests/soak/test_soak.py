"""Minutes of ordinary life among everything that goes wrong at once (scenario F24).

The broker is cut and restarted under the workers, and cut again and again under the apps. Mosaic
fails for ever on the logouts of some sessions. One app takes its notices from a queue and is dead.
At the end the promises are held against what the simulator itself knows. `make soak` runs it.
"""

from __future__ import annotations

import itertools
import random
import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sandbox.environment import soak_minutes
from sandbox.processes import ManagedProcess, poll_until
from sandbox.proxy import FaultProxy
from sandbox.redis_server import RedisServer
from sandbox.stack import Stack
from session_client import Registered, SessionClient, SessionClientError, Verdict
from tests.faults.conftest import SHORT_TIMES
from tests.faults.looking import broker, outcomes, rows
from tests.heard import told

PATIENT = 60.0
BREAK_EVERY_SECONDS = 20.0
CUT_CLIENTS_EVERY_SECONDS = 3.0
MAX_GROWTH = 1.2  # of memory after the first quarter
MAX_MORE_FILES = 8
RESIDENTS = 5  # who stay signed in
DOOMED = 8  # whose logout Mosaic fails on
DEAD_APPS_QUEUE = "desk-notices"


@dataclass
class Life:
    """What happened so far, as the apps saw it."""

    logged_out: int = 0
    unanswered: int = 0
    slowest: float = 0.0
    breaks: int = 0
    # Users who got tokens from a silent authentication that began after an acknowledged logout.
    came_back: list[str] = field(default_factory=list)


def memory_kib(process: ManagedProcess) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def open_files(process: ManagedProcess) -> int:
    return len(list(Path(f"/proc/{process.pid}/fd").iterdir()))


@pytest.mark.timeout(0)
def test_a_long_life_among_faults_keeps_the_promises_and_leaks_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with ExitStack() as exits:
        redis = exits.enter_context(RedisServer(appendonly=True))
        to_workers = exits.enter_context(FaultProxy("127.0.0.1", redis.port))
        to_apps = exits.enter_context(FaultProxy("127.0.0.1", redis.port))
        url = f"redis://127.0.0.1:{to_workers.port}/0"
        stack = exits.enter_context(Stack(redis=redis, broker_url=url, settings=SHORT_TIMES))
        stack.migrate()
        shop, forum, desk = (
            exits.enter_context(client)
            for client in (
                app(stack, to_apps, "shop"),
                app(stack, to_apps, "forum"),
                app(stack, to_apps, "desk", "--notice-queue", DEAD_APPS_QUEUE),
            )
        )
        worker = stack.worker("-c", "4")
        stack.beat()
        residents = [f"resident-{number}" for number in range(RESIDENTS)]
        for user_id in residents:
            sign_in(stack, shop, user_id)
        for number in range(DOOMED):
            fail_to_log_out(stack, shop, f"doomed-{number}")

        life = Life()
        begin = time.monotonic()
        end = begin + soak_minutes() * 60
        warm_at = begin + (end - begin) / 4
        breaks = itertools.cycle([to_workers.cut, redis.restart])
        break_at, cut_at = begin + BREAK_EVERY_SECONDS, begin
        chance = random.Random(24)  # noqa: S311 - the same cuts at every run
        warm: tuple[int, int] | None = None
        while (now := time.monotonic()) < end:
            live_and_log_out(stack, shop, [forum, desk], f"user-{life.logged_out}", life)
            visit(forum, chance.choice(residents), life)
            if warm is None and now > warm_at:
                warm = memory_kib(worker), open_files(worker)
            if now > cut_at:
                to_apps.cut()
                cut_at = now + chance.uniform(0, 2 * CUT_CLIENTS_EVERY_SECONDS)
            if now > break_at:
                next(breaks)()
                life.breaks += 1
                break_at += BREAK_EVERY_SECONDS

        hold_the_promises(stack, life, residents)
        waiting, owed = notices_of_the_dead_app(stack)
        assert waiting <= owed  # its queue holds each notice once at most
        assert worker.is_alive
        assert warm is not None
        late = memory_kib(worker), open_files(worker)
        with capsys.disabled():
            sys.stdout.write(
                f"\n{life.logged_out} users, the slowest {life.slowest:.1f} s, "
                f"{life.unanswered} calls unanswered; {life.breaks} breaks; {waiting} of {owed} "
                f"notices wait for the dead app; memory {warm[0]} -> {late[0]} KiB, "
                f"files {warm[1]} -> {late[1]}\n"
            )
        assert late[0] < warm[0] * MAX_GROWTH
        assert late[1] <= warm[1] + MAX_MORE_FILES


def hold_the_promises(stack: Stack, life: Life, residents: list[str]) -> None:
    # P2: each acknowledged logout reaches Mosaic; what Mosaic fails on stands open.
    poll_until(
        lambda: outcomes(stack).count("confirmed") == life.logged_out,
        120,
        what="Mosaic to be told of all",
    )
    assert outcomes(stack).count(None) == DOOMED
    # P1: no tokens came of a logged-out session.
    assert life.came_back == []
    # P4: who stayed signed in still is, here and at Mosaic, and nobody else is.
    doomed = {f"doomed-{number}" for number in range(DOOMED)}
    assert {s.user_id for s in stack.mosaic.live_sessions()} == {*residents, *doomed}
    here = rows(stack, "SELECT user_id FROM idp_sessions WHERE ended_at IS NULL ORDER BY 1")
    assert [user_id for (user_id,) in here] == sorted(residents)
    # P8: however often a message came, a login is one session, and a logout one receipt.
    logins = life.logged_out + RESIDENTS + DOOMED
    assert rows(stack, "SELECT count(*) FROM idp_sessions") == [(logins,)]
    requests = rows(stack, "SELECT count(*) FROM logout_requests")
    assert requests == [(life.logged_out + DOOMED,)]


def notices_of_the_dead_app(stack: Stack) -> tuple[int, int]:
    """Return how many messages wait on its queue, and how many notices there are for it."""
    with broker(stack) as client:
        waiting = client.llen(DEAD_APPS_QUEUE)
    ((owed,),) = rows(stack, "SELECT count(*) FROM notices WHERE app_id = 'desk'")
    return int(waiting), int(owed)


def app(stack: Stack, way: FaultProxy, app_id: str, *arguments: str) -> SessionClient:
    key = stack.add_app(app_id, *arguments)
    return SessionClient(broker_url=f"redis://127.0.0.1:{way.port}/0", app_id=app_id, app_key=key)


def sign_in(stack: Stack, shop: SessionClient, user_id: str) -> tuple[str, str]:
    """Return the session's id at Mosaic and its name here."""
    login = stack.mosaic.login(user_id, "client-shop")
    session = shop.register(
        user_id=user_id,
        session_id=login.session_id,
        id_token=login.id_token,
        timeout=PATIENT,
    )
    assert isinstance(session, Registered)
    assert session.session_ref is not None
    return login.session_id, session.session_ref


def fail_to_log_out(stack: Stack, shop: SessionClient, user_id: str) -> None:
    session_id, session_ref = sign_in(stack, shop, user_id)
    stack.mosaic.faults.add("session/logout", "status", status=500, mentioning=session_id)
    shop.logout(user_id=user_id, session_ref=session_ref, timeout=PATIENT)


def live_and_log_out(
    stack: Stack, shop: SessionClient, others: list[SessionClient], user_id: str, life: Life
) -> None:
    """One user's ordinary life; the network may refuse the middle of it, never its end."""
    born = time.monotonic()
    _, session_ref = sign_in(stack, shop, user_id)
    for other in others:
        visit(other, user_id, life)
    shop.logout(user_id=user_id, session_ref=session_ref, timeout=PATIENT)
    life.logged_out += 1
    life.slowest = max(life.slowest, time.monotonic() - born)
    if visit(others[0], user_id, life) is Verdict.AUTHENTICATED:
        life.came_back.append(user_id)


def visit(app: SessionClient, user_id: str, life: Life) -> Verdict | None:
    """Sign the user in silently; a cut at this very moment means a login screen."""
    with suppress(SessionClientError):
        return told(lambda: app.silent_auth(user_id=user_id, timeout=2))[0]
    life.unanswered += 1
    return None
