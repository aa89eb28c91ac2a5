"""Apps that cannot be told, and the others that can (scenario F18)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc.jwk import KeySet, RSAKey

from sandbox.processes import poll_until
from sandbox.redis_server import RedisServer
from sandbox.stack import PREFIX, Stack
from session_client import Authenticated, LogoutReceipt, SessionClient
from tests.faults.conftest import SHORT_TIMES
from tests.faults.looking import registered, rows
from tests.faults.receivers import Manner, Receiver, well

TIMEOUT_SECONDS = 8.0
SLOW_SECONDS = 1.0
HORIZON_SECONDS = 60
SHORT_HORIZON_SECONDS = 20


@pytest.fixture(scope="module")
def signing_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture
def stack(
    own_redis: RedisServer, signing_key: rsa.RSAPrivateKey, tmp_path: Path
) -> Iterator[Stack]:
    pem = tmp_path / "notices.pem"
    pem.write_bytes(signing_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    settings = {
        **SHORT_TIMES,
        "notice_issuer": "https://sessions.example.com",
        "notice_signing_keys_file": pem,
        "notice_private_addresses": "true",
        "notice_timeout_seconds": TIMEOUT_SECONDS,
        "notice_horizon_seconds": HORIZON_SECONDS,
    }
    with Stack(redis=own_redis, settings=settings) as stack:
        stack.migrate()
        yield stack


@pytest.fixture
def short_horizon(stack: Stack) -> None:
    """For who waits until an app is given up."""
    stack.environment[f"{PREFIX}NOTICE_HORIZON_SECONDS"] = str(SHORT_HORIZON_SECONDS)


class Apps:
    """A shop that logs out, and others that are told."""

    def __init__(self, stack: Stack, signing_key: rsa.RSAPrivateKey, exits: ExitStack) -> None:
        self.stack = stack
        self._exits = exits
        self._keys = KeySet([RSAKey.import_key(signing_key)])
        self._clients: dict[str, SessionClient] = {}
        self.receivers: dict[str, Receiver] = {}
        self._add("shop", "")

    def _add(self, app_id: str, url: str) -> None:
        arguments = ("--notice-url", url) if url else ()
        key = self.stack.add_app(app_id, *arguments)
        client = SessionClient(broker_url=self.stack.broker_url, app_id=app_id, app_key=key)
        self._clients[app_id] = self._exits.enter_context(client)

    def add(self, app_id: str, manner: Manner = well, url: str | None = None) -> Receiver:
        receiver = self._exits.enter_context(Receiver(manner))
        receiver.trust(self._keys)
        self.receivers[app_id] = receiver
        self._add(app_id, url or receiver.url)
        return receiver

    def log_out_everywhere(self, user_id: str = "ada") -> LogoutReceipt:
        """Sign the user in to every app, then log them out of the shop."""
        session = registered(self.stack, self._clients["shop"], user_id)
        for app_id in self.receivers:
            answer = self._clients[app_id].silent_auth(user_id=user_id, timeout=60)
            assert isinstance(answer, Authenticated)
        return self._clients["shop"].logout(
            user_id=user_id, session_ref=session.session_ref, timeout=60
        )

    def receipt(self, receipt: LogoutReceipt) -> LogoutReceipt:
        return self._clients["shop"].receipt(str(receipt.receipt_id), timeout=60)

    def until(self, receipt: LogoutReceipt, confirmed: set[str], seconds: float) -> None:
        poll_until(
            lambda: set(self.receipt(receipt).apps_confirmed) >= confirmed,
            seconds,
            what=f"{sorted(confirmed)} to confirm",
        )


@pytest.fixture
def apps(stack: Stack, signing_key: rsa.RSAPrivateKey) -> Iterator[Apps]:
    with ExitStack() as exits:
        stack.worker("-c", "4")
        stack.beat()
        yield Apps(stack, signing_key, exits)


def hang(_: BaseHTTPRequestHandler) -> None:
    time.sleep(4 * TIMEOUT_SECONDS)


def slowly(_: BaseHTTPRequestHandler) -> int:
    time.sleep(SLOW_SECONDS)
    return 200


def redirect(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(302)
    handler.send_header("Location", "http://127.0.0.1:1/stolen")
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def test_one_dead_app_among_ten_delays_none_of_the_others(apps: Apps) -> None:
    apps.add("dead", hang)
    living = {f"app-{number}" for number in range(9)}
    for app_id in living:
        apps.add(app_id)

    receipt = apps.log_out_everywhere()
    apps.until(receipt, living, seconds=HORIZON_SECONDS - 20)

    assert [len(apps.receivers[app_id].told) for app_id in sorted(living)] == [1] * 9
    assert apps.receipt(receipt).apps_pending == ("dead",)


@pytest.mark.usefixtures("short_horizon")
def test_each_way_an_app_can_fail_ends_as_it_should(apps: Apps) -> None:
    stumbles = iter([500, 503])
    apps.add("stumbling", lambda _: next(stumbles, 200))
    apps.add("slow", slowly)
    apps.add("refusing", lambda _: 400)
    apps.add("redirecting", redirect)
    apps.add("broken", lambda _: 500)

    receipt = apps.log_out_everywhere()
    apps.until(receipt, {"stumbling", "slow"}, seconds=60)
    poll_until(
        lambda: set(apps.receipt(receipt).apps_failed) == {"refusing", "redirecting", "broken"},
        90,
        what="the others to be given up",
    )

    told = {app_id: (r.asked, len(r.told)) for app_id, r in apps.receivers.items()}
    assert told["stumbling"] == (3, 1)
    assert told["slow"] == (1, 1)
    # Refused for good: not tried again, and the redirect was not followed.
    assert told["refusing"] == told["redirecting"] == (1, 0)
    assert told["broken"][0] > 2


def test_an_address_that_resolves_to_a_private_network_is_never_called(
    own_redis: RedisServer, stack: Stack, apps: Apps
) -> None:
    inside = apps.add("inside")
    stack.processes["worker"].terminate(60)
    # The operator's word counts at delivery too: what was allowed once is not for ever.
    stack.environment["MOSAIC_SESSIONS_NOTICE_PRIVATE_ADDRESSES"] = "false"
    stack.worker("-c", "4", name="strict")

    receipt = apps.log_out_everywhere()
    poll_until(
        lambda: apps.receipt(receipt).apps_failed == ("inside",), 60, what="it to be refused"
    )

    assert inside.asked == 0


def test_a_worker_killed_between_two_apps_tells_the_rest_and_nobody_twice(
    stack: Stack, apps: Apps
) -> None:
    first = apps.add("first")
    second = apps.add("second", slowly)
    third = apps.add("third")

    receipt = apps.log_out_everywhere()
    apps.until(receipt, {"first"}, seconds=60)
    stack.processes["worker"].kill()
    stack.worker("-c", "4", name="successor")
    apps.until(receipt, {"first", "second", "third"}, seconds=120)

    assert len(first.told) == 1
    # Told again where the answer was lost with the worker, but always under one id.
    for receiver in (second, third):
        assert len(set(receiver.told)) == 1


def test_failed_notices_are_seen_and_can_be_sent_again(stack: Stack, apps: Apps) -> None:
    broken = apps.add("broken", lambda _: 400)
    receipt = apps.log_out_everywhere()
    poll_until(lambda: apps.receipt(receipt).apps_failed == ("broken",), 60, what="the failure")
    assert rows(stack, "SELECT outcome FROM notices") == [("failed",)]
    status = json.loads(stack.run("mosaic-sessions", "status", "--json"))
    assert status["notices"]["failed"] == 1

    broken.manner = well
    stack.run("mosaic-sessions", "notices", "replay", "--app", "broken")

    apps.until(receipt, {"broken"}, seconds=60)
