"""Which cookies count as the handle of a login that this browser has begun, and for which step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from session_client import Code, Denied, SendOtp
from session_client.begun import CodeSent
from session_client.web import Incoming, MemoryMarks, Options, TurnedAway, Visit
from session_client.web.outcome import Changes
from tests.unit.web.rig import NOW, Rig, Worker, form

SEND = SendOtp("sms", "+44", "phone_number")
LIFETIME = 600
SKEW = 60


class Browser:
    """The handles that a browser keeps of one app: what it was sent, and not told to forget."""

    def __init__(self, options: Options | None = None) -> None:
        self.jar: dict[str, str] = {}
        self.rig = Rig(Worker(), options or Options(marks=MemoryMarks()))

    def begin(self, begun: Any, step: Any = SEND, *, at: float = NOW, **more: Any) -> None:
        self.rig.worker.plans["start"] = begun
        _, changes = self.rig.run(self._visit(at).begin(step, **more))
        self._keep(changes)

    def complete(self, proof: Any, *, at: float = NOW) -> Any:
        """Return the handle that the worker was asked with; None where nobody was asked."""
        self.rig.worker.plans.setdefault("authenticate", Denied("invalid_credentials"))
        asked = len(self.rig.worker.calls)
        try:
            _, changes = self.rig.run(self._visit(at).complete(proof))
        except TurnedAway as raised:
            status = raised.turned.status
        else:
            self._keep(changes)
            return self.rig.worker.calls[-1][1]["login"]
        assert (status, len(self.rig.worker.calls)) == (409, asked)
        return None

    def sent(self) -> Incoming:
        pairs = [f"{name}={value}" for name, value in self.jar.items()]
        return form(cookies="; ".join(pairs))

    def _visit(self, at: float) -> Visit:
        return Visit(self.sent(), self.rig.options, None, at)

    def _keep(self, changes: Changes) -> None:
        for header, text in changes.headers:
            pair, *attributes = text.split("; ")
            name, _, value = pair.partition("=")
            if header != "Set-Cookie":
                continue
            if "Max-Age=0" in attributes:
                self.jar.pop(name, None)
            else:
                self.jar[name] = value


def options_of_all_kinds() -> Iterator[Options]:
    for domain in (None, "apps.example.com", "localhost"):
        yield Options(marks=MemoryMarks(), cookie_domain=domain)


def test_a_handle_under_a_name_that_the_app_does_not_write_is_none() -> None:
    for options in options_of_all_kinds():
        mallory, victim = Browser(options), Browser(options)
        mallory.begin(CodeSent(login="of-mallory", expires_in=LIFETIME))
        victim.begin(CodeSent(login="of-the-victim", expires_in=LIFETIME), at=NOW - 1)
        ((name, value),) = mallory.jar.items()
        bare = name.removeprefix("__Host-")

        prefixes = ("", "__Host-", "__Secure-", "__host-", "__HOST-", "__Host-__Host-")
        for planted in {f"{prefix}{bare}" for prefix in prefixes} - {name}:
            nobody = Browser(options)
            nobody.jar[planted] = value
            victim.jar[planted] = value

            assert nobody.complete(Code("1")) is None, planted
            assert victim.complete(Code("1")) == "of-the-victim", planted


def test_a_handle_that_is_good_for_longer_than_any_the_worker_gives_is_none() -> None:
    for options in options_of_all_kinds():
        browser = Browser(options)
        browser.begin(CodeSent(login="own", expires_in=LIFETIME))
        ((name, value),) = browser.jar.items()
        ends = str(int(NOW + LIFETIME))
        assert ends in value

        for until in (NOW + LIFETIME + SKEW + 1, NOW + 86_400, 10**11, 10**12 - 1):
            planted = value.replace(ends, str(int(until))).replace("own", "planted")
            browser.jar[f"{name[:-8]}00000000"] = planted
            assert browser.complete(Code("1")) == "own", until
            del browser.jar[name]
            assert browser.complete(Code("1")) is None, until
            browser.jar[name] = value


def test_a_handle_that_a_process_with_a_fast_clock_has_written_counts() -> None:
    browser = Browser()

    browser.begin(CodeSent(login="own", expires_in=LIFETIME), at=NOW + SKEW - 1)

    assert browser.complete(Code("1")) == "own"


def test_a_handle_is_kept_for_as_long_as_the_worker_says_and_ten_minutes_at_most() -> None:
    for says, lasts in ((30, 30), (LIFETIME, LIFETIME), (10 * LIFETIME, LIFETIME)):
        browser = Browser()

        browser.begin(CodeSent(login="own", expires_in=says))

        assert browser.complete(Code("1"), at=NOW + lasts - 1) == "own"
        assert browser.complete(Code("1"), at=NOW + lasts + 1) is None
