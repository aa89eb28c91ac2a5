"""`make demo`: the main job, step by step, through real processes.

Each step prints what should happen, what happened, and which calls Mosaic saw for it. The exit
code is 1 as soon as any of these differ.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
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
from session_client import (
    AppKey,
    Authenticated,
    Code,
    CodeSent,
    LoginAnswer,
    LoginRequired,
    LogoutReceipt,
    Password,
    SendOtp,
    SessionClient,
    StepUpRequired,
    Unauthorized,
)

# Two weeks are long for a demo: this one app's sessions live for seconds.
KIOSK_SECONDS: Final = 3
NOTICE_QUEUE: Final = "shop-notices"  # the shop's own, on the same broker
LIBRARY: Final = "https://library.example/enter"
MANY_SECRETS: Final = 20  # passwords, session ids, tokens and tickets that the story brings forth
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


class Browser:
    """What one browser of a user keeps: the token that names its session."""

    def __init__(self) -> None:
        self.token: str | None = None
        self.login: str | None = None  # the handle of a login under way
        self.refresh_token: str | None = None  # the shop's of its session, for work at night


class Demo:
    """The cast: a shop, a forum, a bank that wants a second factor, a library, and a kiosk."""

    def __init__(self, stack: Stack, exit_stack: ExitStack) -> None:
        self._stack = stack
        self._exit = exit_stack
        self._calls_seen: Counter[str] = Counter()
        self._clients: dict[str, SessionClient] = {}
        self._keys: dict[str, str] = {}
        self._secrets: list[str] = []
        self._receipt: LogoutReceipt
        self.laptop, self.phone, self.library_on_phone = Browser(), Browser(), Browser()
        self.differences = 0
        self.steps = 0

    def set_up(self) -> None:
        """Register users at Mosaic, and apps as an operator does."""
        for number, user_id in enumerate(("ada", "bob", "carol")):
            password, phone = secrets.token_urlsafe(16), f"+4479460000{number}"
            self._stack.mosaic.add_user(user_id, password=password, phone=phone)
            self._secrets.append(password)
        policies = {
            "shop": ("--methods", "password", "--allow", "offline", "--notice-queue", NOTICE_QUEUE),
            "forum": (),
            "bank": ("--methods", "otp", "--require-amr", "mfa"),
            "library": ("--tickets-from", "forum", "--transfer-url", LIBRARY),
            "kiosk": ("--methods", "password", "--session-lifetime", str(KIOSK_SECONDS)),
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
        # Housekeeping shows once per app and process: what costs budget is counted here.
        log = self._stack.mosaic.calls.log()
        total = Counter(call.endpoint for call in log if call.endpoint not in {"token", "jwks"})
        new = total - self._calls_seen
        self._calls_seen = total
        return dict(new)

    # --- the steps

    def log_in(self, user_id: str, app_id: str, browser: Browser) -> str:
        """A user types a name and a password into an app's form."""
        position = ("ada", "bob", "carol").index(user_id)
        password = Password(user_id, self._secrets[position])
        answer = self._clients[app_id].authenticate(password, replaces=browser.token)
        return self._kept(answer, browser)

    def silently(self, browser: Browser, app_id: str) -> str:
        """A page is opened: who is at this browser? The user is not asked."""
        answer = self._clients[app_id].silent_auth(browser_token=browser.token)
        return self._kept(answer, browser)

    def begins_step_up(self, browser: Browser, app_id: str) -> str:
        """The app has a code sent to the user at this browser."""
        answer = self._clients[app_id].start(SendOtp("sms"), step_up=browser.token)
        browser.login = answer.login if isinstance(answer, CodeSent) else None
        return "a code is on its way" if browser.login else _in_words(answer)

    def types_the_code(self, user_id: str, browser: Browser, app_id: str) -> str:
        """The user reads the code from the phone and types it where the login began."""
        code = str(self._stack.mosaic.outbox.sent(user_id)[-1].code)
        answer = self._clients[app_id].authenticate(
            Code(code), login=browser.login, step_up=browser.token
        )
        factors = f", {' '.join(answer.amr)}" if isinstance(answer, Authenticated) else ""
        return self._kept(answer, browser) + factors

    def _kept(self, answer: LoginAnswer, browser: Browser) -> str:
        """Keep what a browser and an app keep, and say how it went."""
        if isinstance(answer, Authenticated):
            self._secrets += [answer.tokens.access_token, str(answer.tokens.id_token)]
            if answer.tokens.refresh_token is not None:
                browser.refresh_token = answer.tokens.refresh_token
                self._secrets.append(answer.tokens.refresh_token)
        if isinstance(answer, Authenticated | StepUpRequired) and answer.browser_token:
            browser.token = answer.browser_token
            self._secrets.append(answer.browser_token)
        self._secrets += [s.session_id for s in self._stack.mosaic.live_sessions()]
        return _in_words(answer)

    def refreshes(self, browser: Browser) -> str:
        """The shop works for a user who is away."""
        before = browser.refresh_token
        outcome = self._kept(self._clients["shop"].refresh(str(before)), browser)
        return outcome + (", with a new refresh token" if browser.refresh_token != before else "")

    def carried_to_the_library(self) -> str:
        """The library is on another domain: the forum sends the browser on with a ticket."""
        verifier = secrets.token_urlsafe(32)
        digest = hashlib.sha256(verifier.encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        ticket = self._clients["forum"].ticket(
            browser_token=self.phone.token, for_app="library", challenge=challenge
        )
        if isinstance(ticket, LoginRequired):
            return _in_words(ticket)
        self._secrets.append(ticket.ticket)
        answer = self._clients["library"].silent_auth(ticket=ticket.ticket, verifier=verifier)
        outcome = self._kept(answer, self.library_on_phone)
        return f"{outcome} at {ticket.transfer_url}"

    def sharing(self, user_id: str, app_id: str) -> str:
        """Ask the store which apps share the user's sessions."""
        listed = self._clients[app_id].status(user_id=user_id)
        return "; ".join(" ".join(sorted(session.apps)) for session in listed)

    def log_out(self, browser: Browser, app_id: str) -> str:
        """One app logs this browser out."""
        receipt = self._clients[app_id].logout(browser_token=browser.token)
        self._receipt = receipt
        return f"{receipt.sessions_ended} session ended"

    def shop_is_told(self) -> str:
        """Do what the shop's own worker does with the message on its queue."""
        with redis.Redis.from_url(self._stack.broker_url) as broker:
            _, item = cast("tuple[bytes, bytes]", broker.blpop([NOTICE_QUEUE], timeout=10))
        body = json.loads(base64.b64decode(json.loads(item)["body"]))
        notice = self._clients["shop"].open_notice(body[1]["envelope"])
        self._clients["shop"].confirm(notice)
        receipt = self._clients["forum"].receipt(str(self._receipt.receipt_id))
        return f"{notice.user_id} is logged out; confirmed by {' '.join(receipt.apps_confirmed)}"

    def everywhere(self, browser: Browser) -> str:
        """Ask as every app that shared the session."""
        return " / ".join(self.silently(browser, app_id) for app_id in ("shop", "forum"))

    def mosaic_told(self, user_id: str, left: int = 0) -> str:
        """Wait until Mosaic has so many live sessions of the user left."""
        poll_until(
            lambda: len(self._stack.mosaic.live_sessions(user_id)) == left,
            15,
            what="Mosaic to be told",
        )
        return "ended at Mosaic" + (f", {left} left" if left else "")

    def mosaic_goes_down(self) -> str:
        """From now on every logout call fails."""
        self._stack.mosaic.faults.add("session/logout", "status", status=503)
        return "503 for every logout"

    def mosaic_is_back(self, user_id: str) -> str:
        """Mosaic recovers, and what it missed reaches it."""
        self._stack.mosaic.faults.clear()
        return self.mosaic_told(user_id)

    def with_a_stolen_name(self) -> str:
        """An attacker who can reach the broker speaks as the shop, without its key."""
        stranger = self._client("shop", AppKey.generate())
        try:
            return _in_words(stranger.silent_auth(browser_token=self.phone.token))
        except Unauthorized as error:
            return f"Unauthorized: {error}"

    def expired(self) -> str:
        """Wait for beat: the expired session is ended. All ended ones are deleted days later."""
        poll_until(
            lambda: self._query("SELECT count(*) FROM idp_sessions WHERE ended_at IS NULL") == 0,
            40,
            what="beat to expire the session",
        )
        expired = self._query("SELECT count(*) FROM idp_sessions WHERE end_cause = 'expired'")
        return f"{expired} expired, 0 left live"

    def leaks(self) -> str:
        """Search everything the processes wrote for passwords, session ids, tokens, tickets."""
        planted = set(self._secrets)
        written = b"".join(
            path.read_bytes() for path in self._stack.folder.rglob("*") if path.is_file()
        )
        found = sum(secret.encode() in written for secret in planted)
        enough = "all" if len(planted) > MANY_SECRETS else f"only {len(planted)}"
        return f"{found} of {enough} secrets found in logs and database"

    def _query(self, query: str) -> int:
        path = self._stack.folder / "sessions.db"
        with closing(sqlite3.connect(path, timeout=10)) as connection:
            return int(connection.execute(query).fetchone()[0])


def _in_words(answer: object) -> str:
    """Return the kind of an answer, and why."""
    reason = getattr(answer, "reason", None)
    lacking = " ".join(getattr(answer, "missing_amr", ()))
    why = f": {reason}" if reason else ""
    return f"{type(answer).__name__}{why}{f', missing {lacking}' if lacking else ''}"


def play(demo: Demo) -> None:
    """Tell the story."""
    step, laptop, phone = demo.step, demo.laptop, demo.phone
    silent = {"session/authenticate": 1}
    password = {"password/authenticate": 1}
    step(
        "ada signs in to the shop with her password, on her laptop",
        "Authenticated",
        lambda: demo.log_in("ada", "shop", laptop),
        calls=password,
    )
    step(
        "she opens the forum there: signed in without being asked",
        "Authenticated",
        lambda: demo.silently(laptop, "forum"),
        calls=silent,
    )
    step(
        "the bank wants a second factor; known without asking Mosaic",
        "StepUpRequired: amr_missing, missing mfa",
        lambda: demo.silently(laptop, "bank"),
        calls={},
    )
    step(
        "it has a code sent to her phone",
        "a code is on its way",
        lambda: demo.begins_step_up(laptop, "bank"),
        calls={"otp/send": 1},
    )
    step(
        "she types it: a second factor on the very same session",
        "Authenticated, mfa pwd sms",
        lambda: demo.types_the_code("ada", laptop, "bank"),
        calls={"otp/authenticate": 1},
    )
    step(
        "she is away; at night the shop gets fresh tokens by its refresh token",
        "Authenticated, with a new refresh token",
        lambda: demo.refreshes(laptop),
        calls={"token/refresh": 1},
    )
    step(
        "who shares her session? The store knows",
        "bank forum shop",
        lambda: demo.sharing("ada", "shop"),
        calls={},
    )
    step(
        "she signs in on her phone as well: a session of its own",
        "Authenticated",
        lambda: demo.log_in("ada", "shop", phone),
        calls=password,
    )
    step(
        "she logs the laptop out, at the forum",
        "1 session ended",
        lambda: demo.log_out(laptop, "forum"),
    )
    step(
        "the shop finds a sealed notice on its own queue, and confirms it",
        "ada is logged out; confirmed by shop",
        demo.shop_is_told,
    )
    step(
        "the laptop gets in nowhere any more",
        "LoginRequired: logged_out / LoginRequired: logged_out",
        lambda: demo.everywhere(laptop),
    )
    step(
        "nor does the shop's refresh token give anything",
        "LoginRequired: logged_out",
        lambda: demo.refreshes(laptop),
        calls={},
    )
    step("Mosaic was told", "ended at Mosaic, 1 left", lambda: demo.mosaic_told("ada", left=1))
    step(
        "the phone stays signed in",
        "Authenticated",
        lambda: demo.silently(phone, "forum"),
        calls=silent,
    )
    step(
        "a library on another domain: the forum carries her there by a ticket",
        f"Authenticated at {LIBRARY}",
        demo.carried_to_the_library,
        calls=silent,
    )
    step(
        "somebody speaks as the shop without its key",
        "Unauthorized: wrong_key",
        demo.with_a_stolen_name,
    )
    step("Mosaic goes down", "503 for every logout", demo.mosaic_goes_down)
    step(
        "ada logs the phone out all the same",
        "1 session ended",
        lambda: demo.log_out(phone, "forum"),
    )
    step(
        "no app gets tokens for her",
        "LoginRequired: logged_out / LoginRequired: logged_out",
        lambda: demo.everywhere(phone),
    )
    step("Mosaic is back, and is told", "ended at Mosaic", lambda: demo.mosaic_is_back("ada"))
    step(
        f"carol signs in at a kiosk, where sessions live {KIOSK_SECONDS} s",
        "Authenticated",
        lambda: demo.log_in("carol", "kiosk", Browser()),
        calls=password,
    )
    step(
        "hers expires, and beat ends it",
        "1 expired, 0 left live",
        demo.expired,
        calls={},
    )
    step("did anything leak?", "0 of all secrets found in logs and database", demo.leaks)


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
