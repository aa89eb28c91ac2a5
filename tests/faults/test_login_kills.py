"""Logins and refreshes whose worker is killed: each proof is sent once, each request is answered.

All is done by one worker, whose children are killed one after the other; what they left undone is
delivered again by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from sandbox.processes import poll_until
from sandbox.stack import START_SECONDS, Stack
from session_client import Authenticated, OutcomeUnknown, SessionClient, methods
from session_client.requests import new_request_id
from tests.faults.dying_worker import POINTS
from tests.faults.looking import rows
from tests.heard import authenticated

PATIENT = 60.0
PASSWORD = "a user's"
# Where nothing was sent, or all was stored, the answer is the one that there would have been.
HARMLESS = {"before the row", "before the answer"}
ORPHANS_ENDED = "SELECT count(*) FROM session_events WHERE event = 'orphan_ended'"
LOGINS = [f"login-{number}" for number, _ in enumerate(POINTS)]
SENT = {"login": "password/authenticate", "refresh": "token/refresh"}


@dataclass
class Killed:
    """One request whose worker was killed, and what came of it."""

    kind: str
    point: str
    answer: Any
    again: Any


@pytest.fixture
def after_kills(stack: Stack) -> Iterator[tuple[SessionClient, list[Killed]]]:
    die_at = stack.folder / "die-at"
    stack.environment["DIE_AT"] = str(die_at)
    key = stack.add_app("shop", "--methods", "password", "--allow", "offline")
    for kind in SENT:
        for number, _ in enumerate(POINTS):
            stack.mosaic.add_user(f"{kind}-{number}", password=PASSWORD)
    worker = stack.start(
        "worker",
        "celery",
        "-A",
        "tests.faults.dying_worker",
        "worker",
        "-P",
        "processes",
        "-c",
        "4",
    )
    worker.wait_for_line("ready.", timeout=START_SECONDS)
    with (
        SessionClient(broker_url=stack.broker_url, app_id="shop", app_key=key) as client,
        ThreadPoolExecutor(len(SENT) * len(POINTS)) as threads,
    ):
        yield client, kill_all(client, threads, die_at)


def kill_all(client: SessionClient, threads: ThreadPoolExecutor, die_at: Path) -> list[Killed]:
    asked: list[tuple[str, str, Callable[[], Any], Future[Any]]] = []
    for kind in SENT:
        for number, point in enumerate(POINTS):
            request_id = new_request_id()
            ask = asking(client, kind, f"{kind}-{number}", request_id)
            die_at.write_text(f"{request_id} {point}", encoding="utf-8")
            asked.append((kind, point, ask, threads.submit(ask)))
            poll_until(lambda: not die_at.exists(), PATIENT, what=f"a worker to die {point}")
    return [
        Killed(kind, point, answered.result(timeout=PATIENT), ask())
        for kind, point, ask, answered in asked
    ]


def asking(client: SessionClient, kind: str, user_id: str, request_id: str) -> Callable[[], Any]:
    """Return what asks, each time under the same id."""
    proof = methods.Password(user_id, PASSWORD)
    if kind == "login":
        return lambda: come_to(client.authenticate, proof, request_id)
    login = authenticated(client.authenticate(proof, timeout=PATIENT))
    token = str(login.tokens.refresh_token)
    return lambda: come_to(client.refresh, token, request_id)


def but_for_its_moment(answer: Any) -> Any:
    """What was lost with a killed child may come twice; both then give one login's answer.

    Each seals it at a moment of its own, from which the session's age and rest are counted.
    """
    if isinstance(answer, Authenticated):
        return replace(answer, auth_age=None, expires_in=None)
    return answer


def come_to(call: Callable[..., Any], given: Any, request_id: str) -> Any:
    try:
        return call(given, request_id=request_id, timeout=PATIENT)
    except OutcomeUnknown:
        return OutcomeUnknown


def test_whenever_a_worker_is_killed_a_proof_is_sent_once_and_its_request_answered(
    stack: Stack, after_kills: tuple[SessionClient, list[Killed]]
) -> None:
    client, killed = after_kills
    for one in killed:
        said = (one.kind, one.point)
        if one.point in HARMLESS:
            assert isinstance(one.answer, Authenticated), said
        else:
            assert one.answer is OutcomeUnknown, said
        assert but_for_its_moment(one.again) == but_for_its_moment(one.answer), said
    # What was told, and to whom, the journal knows: no call is left open, and none is unaccounted.
    assert rows(stack, "SELECT count(*) FROM login_calls WHERE closed_at IS NULL") == [(0,)]
    # Of each kind one died before its call; each login of a refresh is a call of its own.
    assert stack.mosaic.calls.count("password/authenticate") == len(POINTS) - 1 + len(POINTS)
    assert stack.mosaic.calls.count("token/refresh") == len(POINTS) - 1
    # A session that no answer told of is taken over by nobody.
    known = rows(stack, "SELECT count(*) FROM idp_sessions")
    assert known == [(len(HARMLESS) + len(POINTS),)]
    # The next login of the name has it ended: through the broker, by another process perhaps.
    orphaned = [user for user in LOGINS if len(stack.mosaic.live_sessions(user)) > 0]
    for user_id in LOGINS:
        authenticated(client.authenticate(methods.Password(user_id, PASSWORD), timeout=PATIENT))
    poll_until(
        lambda: rows(stack, ORPHANS_ENDED) == [(2,)],
        PATIENT,
        what="two orphans to be ended",
    )
    assert len(orphaned) == len(POINTS) - 1
    live = [len(stack.mosaic.live_sessions(user_id)) for user_id in LOGINS]
    assert sorted(live) == [1, 1, 1, 2, 2]  # two have a session that they were told of
