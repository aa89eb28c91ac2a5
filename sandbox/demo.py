"""`make demo`: the main job, step by step, through real processes.

Each step prints what should happen, what happened, and which calls Mosaic saw for it. The exit
code is 1 as soon as any of these differ.
"""

from __future__ import annotations

import base64
import json
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from typing import Final, cast

import redis

from sandbox.processes import poll_until
from sandbox.stack import Stack
from session_client import AppKey, LogoutReceipt, Registration, SessionClient, open_notice
from simulator.idp.records import Login

# Two weeks are long for a demo: this one app's sessions live for seconds.
KIOSK_SECONDS: Final = 3
NOTICE_QUEUE: Final = "shop-notices"  # the shop's own, on the same broker
SETTINGS: Final = {
    "expire_every_seconds": 1,
    "expire_grace_seconds": 1,
    "guard_clock_seconds": 0.5,
    "sweep_every_seconds": 1,
    "delivery_retry_seconds": 0.2,
    "delivery_retry_max_seconds": 1,
    "delivery_wake_again_seconds": 1,
}

Calls = Mapping[str, int]


class Demo:
    """The cast: a shop, a forum, a bank that wants a second factor, and a kiosk."""

    def __init__(self, stack: Stack, exit_stack: ExitStack) -> None:
        self._stack = stack
        self._exit = exit_stack
        self._calls_seen: Counter[str] = Counter()
        self._clients: dict[str, SessionClient] = {}
        self._logins: dict[str, Login] = {}
        self._keys: dict[str, str] = {}
        self.session: Registration
        self._receipt: LogoutReceipt
        self.differences = 0
        self.steps = 0

    def set_up(self) -> None:
        """Register the apps as an operator does."""
        policies = {
            "shop": ("--notice-queue", NOTICE_QUEUE),
            "forum": (),
            "bank": ("--require-amr", "mfa"),
            "kiosk": ("--session-lifetime", str(KIOSK_SECONDS)),
        }
        for app_id, arguments in policies.items():
            self._keys[app_id] = self._stack.add_app(app_id, *arguments)
            self._clients[app_id] = self._client(app_id, self._keys[app_id])

    def _client(self, app_id: str, key: str | AppKey) -> SessionClient:
        broker_url = self._stack.broker_url
        return self._exit.enter_context(
            SessionClient(broker_url=broker_url, app_id=app_id, app_key=key)
        )

    def step(
        self, title: str, expected: str, act: Callable[[], str], *, calls: Calls | None = None
    ) -> None:
        """Do one thing, print it, and count it if it differs."""
        self.steps += 1
        started = time.monotonic()
        try:
            happened = act()
        except Exception as error:  # noqa: BLE001 - a step that breaks is a step that differs
            happened = f"{type(error).__name__}: {error}"
        took = (time.monotonic() - started) * 1000
        seen = self._new_calls()
        right = happened == expected and (calls is None or seen == dict(calls))
        self.differences += not right
        print(f"\n{self.steps:>2}. {title}")
        print(f"    expected  {expected}")
        print(f"    happened  {happened}   ({took:.0f} ms)")
        print(f"    Mosaic    {_calls_text(seen)}{'' if right else _calls_wanted(calls)}")
        if not right:
            print("    >>> DIFFERS <<<")

    def _new_calls(self) -> dict[str, int]:
        # Housekeeping shows once per app and process: what costs budget is what is told here.
        log = self._stack.mosaic.calls.log()
        total = Counter(call.endpoint for call in log if call.endpoint not in {"token", "jwks"})
        new = total - self._calls_seen
        self._calls_seen = total
        return dict(new)

    # --- the steps

    def login(self, user_id: str, app_id: str) -> str:
        """The app's own front end logs the user in; the app tells the worker."""
        login = self._stack.mosaic.login(user_id, f"client-{app_id}")
        self._logins[user_id] = login
        self.session = self._clients[app_id].register(
            user_id=user_id, session_id=login.session_id, id_token=login.id_token
        )
        return str(self.session.verdict)

    def silently(self, user_id: str, app_id: str) -> str:
        """Ask for tokens without asking the user."""
        answer = self._clients[app_id].silent_auth(user_id=user_id)
        missing = f", missing {' '.join(answer.missing_amr)}" if answer.missing_amr else ""
        reason = f" ({answer.reason}{missing})" if answer.reason else ""
        return f"{answer.verdict}{reason}"

    def second_factor(self, user_id: str, app_id: str) -> str:
        """The user proves a second factor; the app registers the session again."""
        session_id = self._logins[user_id].session_id
        stronger = self._stack.mosaic.add_factor(session_id, f"client-{app_id}", "sms")
        answer = self._clients[app_id].register(
            user_id=user_id, session_id=session_id, id_token=stronger.id_token
        )
        return str(answer.verdict)

    def sharing(self, user_id: str, app_id: str) -> str:
        """Ask the store which apps share the user's sessions."""
        listed = self._clients[app_id].status(user_id=user_id).sessions
        return "; ".join(" ".join(session.apps) for session in listed)

    def log_out(self, user_id: str, app_id: str) -> str:
        """One app logs the user out."""
        receipt = self._clients[app_id].logout(
            user_id=user_id, session_ref=self.session.session_ref
        )
        self._receipt = receipt
        return f"{receipt.verdict}, {receipt.sessions_ended} session ended"

    def shop_is_told(self) -> str:
        """Do what the shop's own worker does with the message on its queue."""
        with redis.Redis.from_url(self._stack.broker_url) as broker:
            _, item = cast("tuple[bytes, bytes]", broker.blpop([NOTICE_QUEUE], timeout=10))
        body = json.loads(base64.b64decode(json.loads(item)["body"]))
        notice = open_notice(
            body[1]["envelope"], app_id="shop", app_keys=[AppKey.parse(self._keys["shop"])]
        )
        self._clients["shop"].confirm_notice(notice)
        receipt = self._clients["forum"].receipt(str(self._receipt.receipt_id))
        return f"{notice.user_id} is logged out; confirmed by {' '.join(receipt.apps_confirmed)}"

    def everywhere(self, user_id: str) -> str:
        """Ask as every app that shared the session."""
        return " / ".join(self.silently(user_id, app_id) for app_id in ("shop", "forum"))

    def mosaic_told(self, user_id: str) -> str:
        """Wait until Mosaic has no live session of the user."""
        poll_until(
            lambda: not self._stack.mosaic.live_sessions(user_id), 15, what="Mosaic to be told"
        )
        return "ended at Mosaic"

    def mosaic_goes_down(self) -> str:
        """From now on every logout call fails."""
        self._stack.mosaic.faults.add("session/logout", "status", status=503)
        return "503 for every logout"

    def mosaic_is_back(self, user_id: str) -> str:
        """Mosaic recovers, and what it missed reaches it."""
        self._stack.mosaic.faults.clear()
        return self.mosaic_told(user_id)

    def with_a_stolen_name(self) -> str:
        """Somebody who can reach the broker speaks as the shop, without its key."""
        stranger = self._client("shop", AppKey.generate())
        answer = stranger.silent_auth(user_id="ada")
        return f"{answer.verdict} ({answer.reason})"

    def expired(self) -> str:
        """Wait for beat: the expired session is ended. All ended ones are deleted days later."""
        poll_until(
            lambda: self._query("SELECT count(*) FROM idp_sessions WHERE ended_at IS NULL") == 0,
            40,
            what="beat to expire the session",
        )
        expired = self._query("SELECT count(*) FROM session_events WHERE detail = 'expired'")
        return f"{expired} expired, 0 left live"

    def leaks(self) -> str:
        """Search everything the processes wrote for the session ids and tokens."""
        secrets = [s for login in self._logins.values() for s in (login.session_id, login.id_token)]
        written = b"".join(
            path.read_bytes() for path in self._stack.folder.rglob("*") if path.is_file()
        )
        found = sum(secret.encode() in written for secret in secrets)
        return f"{found} of {len(secrets)} secrets found in logs and database"

    def _query(self, query: str) -> int:
        path = self._stack.folder / "sessions.db"
        with closing(sqlite3.connect(path, timeout=10)) as connection:
            return int(connection.execute(query).fetchone()[0])


def play(demo: Demo) -> None:
    """Tell the story."""
    step = demo.step
    silent = {"session/authenticate": 1}
    step(
        "ada logs in to the shop, which registers the session",
        "ok",
        lambda: demo.login("ada", "shop"),
        calls={},
    )
    step(
        "she opens the forum: signed in without being asked",
        "authenticated",
        lambda: demo.silently("ada", "forum"),
        calls=silent,
    )
    step(
        "the bank wants a second factor; known without asking Mosaic",
        "interaction_required (amr_missing, missing mfa)",
        lambda: demo.silently("ada", "bank"),
        calls={},
    )
    step(
        "she proves one, the shop registers the session again",
        "ok",
        lambda: demo.second_factor("ada", "shop"),
        calls={},
    )
    step(
        "now the bank signs her in silently too",
        "authenticated",
        lambda: demo.silently("ada", "bank"),
        calls=silent,
    )
    step(
        "who shares her session? The store knows",
        "shop forum bank",
        lambda: demo.sharing("ada", "shop"),
        calls={},
    )
    step("she logs out of the forum", "ok, 1 session ended", lambda: demo.log_out("ada", "forum"))
    step(
        "the shop finds a sealed notice on its own queue, and confirms it",
        "ada is logged out; confirmed by shop",
        demo.shop_is_told,
    )
    step(
        "no app gets tokens for her any more",
        "login_required (logged_out) / login_required (logged_out)",
        lambda: demo.everywhere("ada"),
    )
    step("and at Mosaic", "ended at Mosaic", lambda: demo.mosaic_told("ada"))
    step(
        "somebody speaks as the shop without its key",
        "unauthorized (wrong_key)",
        demo.with_a_stolen_name,
    )
    step("bob logs in to the shop", "ok", lambda: demo.login("bob", "shop"))
    step("Mosaic goes down", "503 for every logout", demo.mosaic_goes_down)
    step("bob logs out all the same", "ok, 1 session ended", lambda: demo.log_out("bob", "shop"))
    step(
        "no app gets tokens for him",
        "login_required (logged_out) / login_required (logged_out)",
        lambda: demo.everywhere("bob"),
    )
    step("Mosaic is back, and is told", "ended at Mosaic", lambda: demo.mosaic_is_back("bob"))
    step(
        f"carol logs in at a kiosk, where sessions live {KIOSK_SECONDS} s",
        "ok",
        lambda: demo.login("carol", "kiosk"),
    )
    step(
        "hers expires, and beat ends it",
        "1 expired, 0 left live",
        demo.expired,
        calls={},
    )
    step("did anything leak?", "0 of 6 secrets found in logs and database", demo.leaks)


def main() -> int:
    """Play the demo; 0 when all of it went as it should."""
    started = time.monotonic()
    print("Starting Redis, the Mosaic simulator, a worker and beat …")
    with ExitStack() as exit_stack:
        stack = exit_stack.enter_context(Stack(settings=SETTINGS))
        stack.migrate()
        demo = Demo(stack, exit_stack)
        demo.set_up()
        stack.worker()
        stack.beat()
        play(demo)
    verdict = "All as expected" if demo.differences == 0 else f"{demo.differences} differ"
    print(f"\n{verdict}: {demo.steps} steps in {time.monotonic() - started:.0f} s.")
    return 1 if demo.differences else 0


def _calls_text(calls: Calls) -> str:
    return ", ".join(f"{n} x {endpoint}" for endpoint, n in sorted(calls.items())) or "no call"


def _calls_wanted(calls: Calls | None) -> str:
    return "" if calls is None else f"   (expected {_calls_text(calls)})"


if __name__ == "__main__":
    sys.exit(main())
