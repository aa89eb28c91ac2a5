"""The client in processes as apps have them: forked, ended, configured for another Celery."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sandbox.environment import base_variables
from sandbox.redis_server import RedisServer
from tests.integration.client.client_rig import KEY, Responder

ROOT = Path(__file__).parents[3]
BEGIN = """
import os, sys, threading, time
from session_client import *
client = SessionClient(broker_url=sys.argv[1], app_id="shop", app_key=sys.argv[2])
"""


def run(script: str, url: str, *arguments: str, **environment: str) -> str:
    """Run *script* in a process of its own, where every warning is an error; return its output."""
    done = subprocess.run(  # noqa: S603 - our own script
        [
            sys.executable,
            "-X",
            "dev",
            "-W",
            "error",
            "-c",
            BEGIN + script,
            url,
            KEY.text(),
            *arguments,
        ],
        cwd=ROOT,
        env={**base_variables(), "PYTHONPATH": "client"} | environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout


FORK = """
def in_child(body):
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            body()
            sys.stdout.flush()
        finally:
            os._exit(0)
    assert os.waitpid(pid, 0) == (pid, 0)

def ask():
    print('ok' if client.status(user_id="ada", timeout=30) == () else 'wrong', flush=True)
"""


def test_a_client_made_before_a_fork_works_in_the_child(redis_url: str) -> None:
    with Responder(redis_url):
        assert run(FORK + "in_child(ask); ask()", redis_url) == "ok\nok\n"


def test_a_client_used_before_a_fork_works_in_child_and_parent(redis_url: str) -> None:
    script = FORK + "ask(); in_child(ask); ask(); in_child(ask); ask()"

    with Responder(redis_url):
        assert run(script, redis_url) == "ok\n" * 5


def test_a_child_that_ends_normally_leaves_the_parents_connections_alone(redis_url: str) -> None:
    # gc: destructors of what the child inherited must not close the parent's conversation.
    script = (
        FORK
        + """
import gc
def idle(): return list(client._driver._link()._replies._idle)
def child():
    gc.collect()
    ask()
    client.close()
    gc.collect()
ask(); before = idle()
in_child(child)
ask(); assert idle() == before
"""
    )
    with Responder(redis_url):
        assert run(script, redis_url) == "ok\n" * 3


def test_a_fork_while_another_thread_waits_does_not_block_the_child(redis_url: str) -> None:
    script = (
        FORK
        + """
got = []  # not printed there: a child must not inherit the lock of stdout
asking = threading.Thread(target=lambda: got.append(client.status(user_id="ada", timeout=30)))
asking.start()
while not client._driver._links: time.sleep(0)
in_child(ask)
asking.join()
print(got)
"""
    )
    with Responder(redis_url):
        assert run(script, redis_url) == "ok\n[()]\n"


@pytest.mark.parametrize(
    ("client", "call"),
    [
        ("client", 'client.status(user_id="ada", timeout=30)'),
        ("AsyncSessionClient(broker_url=sys.argv[1], app_id='shop', app_key=sys.argv[2])",
         # Without its debug mode, which writes down each step that a busy machine made slow.
         'asyncio.run(client.status(user_id="ada", timeout=30), debug=False)'),
    ],
    ids=["sync", "asyncio"],
)  # fmt: skip
def test_the_first_call_imports_nothing(redis_url: str, client: str, call: str) -> None:
    """A child forked while a thread imports would wait for ever to import the same."""
    script = f"""
import asyncio, asyncio.base_events
client = {client}
before = set(sys.modules)
{call}
print(sorted(set(sys.modules) - before))
"""
    with Responder(redis_url):
        assert run(script, redis_url) == "[]\n"


FORK_AT_MOMENTS = """
step, first = int(sys.argv[3]), int(sys.argv[4])
passed, reached, go_on = 0, threading.Event(), threading.Event()
def at_moments(frame, event, arg):
    global passed
    passed += 1
    if passed % step == first:
        reached.set(); go_on.wait(); go_on.clear()
def first_call():
    sys.setprofile(at_moments)
    try: assert client.status(user_id="ada", timeout=100) == ()
    finally: sys.setprofile(None)
asking = threading.Thread(target=first_call, daemon=True)
asking.start()
forks = 0
while asking.is_alive():
    if not reached.wait(0.01): continue
    reached.clear()
    pid = os.fork()
    if pid == 0: os._exit(0 if client.status(user_id="ada", timeout=30) == () else 1)
    for _ in range(4000):
        done, code = os.waitpid(pid, os.WNOHANG)
        if done: break
        time.sleep(0.005)
    else:
        os.kill(pid, 9)
        sys.exit(f"the child of moment {passed} hangs")
    assert code == 0, code
    forks += 1
    go_on.set()
asking.join()
print(forks)
"""


@pytest.mark.parametrize("turn", range(2))
def test_a_fork_at_any_moment_of_anothers_first_call_leaves_a_child_that_calls(
    redis_url: str, turn: int
) -> None:
    """Whatever lock that thread holds just then, the child must not need it."""
    step = 151  # of some seven thousand moments; others in each run
    first = secrets.randbelow(step)
    with Responder(redis_url):
        forks = int(run(FORK_AT_MOMENTS, redis_url, str(step), str(first)))

    assert forks > 20


def test_settings_of_another_celery_do_not_divert_messages(redis_url: str, tmp_path: Path) -> None:
    nowhere = "redis://127.0.0.1:1/0"
    theirs = tmp_path / "their_celery_settings.py"
    theirs.write_text('task_protocol = 1\ntask_compression = "gzip"\ntask_always_eager = True\n')
    with Responder(redis_url) as worker:
        told = run(
            "print(client.status(user_id='ada', timeout=30))",
            redis_url,
            CELERY_BROKER_URL=nowhere,
            CELERY_BROKER_READ_URL=nowhere,
            CELERY_BROKER_WRITE_URL=nowhere,
            CELERY_RESULT_BACKEND="nonsense://nowhere",
            CELERY_LOADER="default",
            CELERY_CONFIG_MODULE="their_celery_settings",
            PYTHONPATH=f"client:{tmp_path}",
        )

    assert told == "()\n"
    assert len(worker.requests) == 1


def test_the_apps_own_celery_is_left_alone(redis_url: str) -> None:
    script = """
from celery import Celery, current_app
theirs = Celery("theirs", broker="redis://127.0.0.1:1/0", set_as_current=True)
theirs.conf.task_always_eager = True
client.status(user_id="ada", timeout=30)
assert current_app._get_current_object() is theirs
print(theirs.conf.broker_url)
"""
    with Responder(redis_url):
        assert run(script, redis_url) == "redis://127.0.0.1:1/0\n"


def test_a_client_that_is_never_closed_ends_without_a_warning(redis_url: str) -> None:
    script = """
import gc
for _ in range(3):
    client.status(user_id="ada", timeout=30)
    client = SessionClient(broker_url=sys.argv[1], app_id="shop", app_key=sys.argv[2])
    gc.collect()
client.status(user_id="ada", timeout=30)
"""
    with Responder(redis_url):
        assert run(script, redis_url) == ""


def test_a_frozen_broker_does_not_hold_up_the_end_of_the_interpreter() -> None:
    script = """
def ask():
    try: client.status(user_id="ada", timeout=0.2)
    except SessionClientError: pass
askers = [threading.Thread(target=ask) for _ in range(20)]
[t.start() for t in askers]; [t.join() for t in askers]
print(time.time())
"""
    with RedisServer() as server:
        server.freeze()
        asked_until = float(run(script, server.url()))
        ended = time.time()
        server.thaw()

    assert ended - asked_until < 10


def test_what_a_child_learns_of_ended_sessions_waits_for_no_thread_of_its_parents(
    redis_url: str,
) -> None:
    script = (
        FORK
        + """
from session_client.ended import SEEN
def child():
    SEEN.add("ref")
    print(SEEN.reason("ref"))
with SEEN._lock:  # as a thread may, at the moment of the fork
    in_child(child)
print(SEEN.reason("ref"))
"""
    )

    assert run(script, redis_url) == "logged_out\nNone\n"
