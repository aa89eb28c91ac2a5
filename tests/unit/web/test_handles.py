"""Which cookies count as the handle of a login that this browser has begun, and for which step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from session_client import BeginSocial, Code, Denied, SendOtp, Social, VerifySocial
from session_client.begun import Begun, CodeSent
from session_client.contract import is_request_id
from session_client.errors import (
    BrokerUnavailable,
    NotAnswered,
    OutcomeUnknown,
    Unavailable,
    WorkerUnavailable,
)
from session_client.login_steps import FirstStep, LoginStep, Proof, limits_of
from session_client.methods import TABLE
from session_client.web import Incoming, MemoryMarks, Options, TurnedAway, Visit
from session_client.web.outcome import Changes
from tests.unit.web.rig import NOW, TOKEN, Rig, Worker, form

SEND = SendOtp("sms", "+44", "phone_number")
LIFETIME = 600
SKEW = 60
FIRST_STEPS: list[Any] = [step for step in TABLE if issubclass(step, FirstStep)]


class Browser:
    """The handles that a browser keeps of one app: what it was sent, and not told to forget."""

    def __init__(self, options: Options | None = None) -> None:
        self.jar: dict[str, str] = {}
        self.token: str | None = TOKEN
        self.rig = Rig(Worker(), options or Options(marks=MemoryMarks()))

    def begin(self, begun: Any, step: Any = SEND, *, at: float = NOW, **more: Any) -> None:
        self.rig.worker.plans["start"] = begun
        _, changes = self.rig.run(self._visit(at).begin(step, **more))
        self._keep(changes)

    def begin_any(self, step: type[FirstStep[Any]], login: str, *, at: float, **more: Any) -> None:
        """Begin *step*, whatever it is, so that the handle is *login*."""
        if step.needs_login:
            self.begin(begun_by(BeginSocial, f"before-{login}"), filled(BeginSocial), at=at, **more)
        self.begin(begun_by(step, login), filled(step, state=f"before-{login}"), at=at, **more)

    def go_on(self, step: LoginStep, *, at: float = NOW, step_up: bool = False) -> Any:
        """Return the handle that the worker was asked with; None where it was not."""
        denied = Denied("invalid_credentials")
        self.rig.worker.plans.update(start=denied, authenticate=denied)
        asked = len(self.rig.worker.calls)
        visit: Any = self._visit(at)
        go_on = visit.complete if isinstance(step, Proof) else visit.begin
        steps = go_on(step, step_up=step_up)
        try:
            self._keep(self.rig.run(steps)[1])
        except TurnedAway as raised:
            status = raised.turned.status
        else:
            return self.rig.worker.calls[-1][1]["login"]
        assert (status, len(self.rig.worker.calls)) == (409, asked)
        return None

    def click(self, step: LoginStep, *, at: float = NOW, step_up: bool = False) -> str:
        """Go on, and return under which request id the worker was asked."""
        assert self.go_on(step, at=at, step_up=step_up) is not None
        return str(self.rig.worker.calls[-1][1]["request_id"])

    def is_refused(self, step: Proof, why: Unavailable) -> str:
        """Go on while the worker is away, and return the same."""
        self.rig.worker.plans["authenticate"] = why
        with pytest.raises(TurnedAway) as raised:
            self.rig.run(self._visit(NOW).complete(step))
        self._keep(raised.value.turned.changes)
        return str(self.rig.worker.calls[-1][1]["request_id"])

    def sent(self) -> Incoming:
        pairs = [f"{name}={value}" for name, value in self.jar.items()]
        return form(cookies="; ".join(pairs), token=self.token)

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


def filled(step: type[LoginStep], **given: str) -> Any:
    """Return a step of this kind; of *given* what it has fields for."""
    fields = {
        name: limits.one_of[0] if limits.one_of else "x" for name, limits in limits_of(step).items()
    }
    return step(**fields | {name: given[name] for name in fields.keys() & given.keys()})


def begun_by(step: type[FirstStep[Any]], login: str) -> Begun:
    """Return what *step* gives, with *login* for its handle and for its state if it has one."""
    given: dict[str, Any] = {"login": login, "state": login, "expires_in": LIFETIME}
    return step.gives(**{name: given.get(name, "x") for name in step.gives.__dataclass_fields__})


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
            stranger = Browser(options)
            stranger.jar[planted] = value
            victim.jar[planted] = value

            assert stranger.go_on(Code("1")) is None, planted
            assert victim.go_on(Code("1")) == "of-the-victim", planted


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
            assert browser.go_on(Code("1")) == "own", until
            del browser.jar[name]
            assert browser.go_on(Code("1")) is None, until
            browser.jar[name] = value


def test_a_handle_that_a_process_with_a_fast_clock_has_written_counts() -> None:
    browser = Browser()

    browser.begin(CodeSent(login="own", expires_in=LIFETIME), at=NOW + SKEW - 1)

    assert browser.go_on(Code("1")) == "own"


def test_a_handle_is_kept_for_as_long_as_the_worker_says_and_ten_minutes_at_most() -> None:
    for says, lasts in ((30, 30), (LIFETIME, LIFETIME), (10 * LIFETIME, LIFETIME)):
        browser = Browser()

        browser.begin(CodeSent(login="own", expires_in=says))

        assert browser.go_on(Code("1"), at=NOW + lasts - 1) == "own"
        assert browser.go_on(Code("1"), at=NOW + lasts + 1) is None


@pytest.mark.parametrize("first", FIRST_STEPS, ids=lambda step: step.__name__)
def test_a_step_goes_on_with_what_was_begun_for_it_whatever_else_was_begun_since(
    first: type[FirstStep[Any]],
) -> None:
    # Three logins at a provider are kept, whatever each has come to.
    own = {first.next_step, *([] if first is not BeginSocial else [Social])}
    others = [step for step in FIRST_STEPS if step.next_step not in own]
    assert len(others) >= 4
    for other in others:
        browser = Browser()
        browser.begin_any(first, "wanted", at=NOW)

        for number in range(1, 4):  # such as a passkey that is asked for, and cancelled
            browser.begin_any(other, f"other-{number}", at=NOW + number)

            wanted = filled(first.next_step, state="wanted")
            newest = filled(other.next_step, state=f"other-{number}")
            assert browser.go_on(wanted) == "wanted", (other, number)
            assert browser.go_on(newest) == f"other-{number}", (other, number)


def test_what_a_provider_has_led_back_to_is_kept_no_longer() -> None:
    browser = Browser()

    browser.begin_any(VerifySocial, "verified", at=NOW)

    assert len(browser.jar) == 1
    assert browser.go_on(VerifySocial("code", "before-verified")) is None
    assert browser.go_on(Social("ada")) == "verified"


def test_of_the_same_kind_the_newest_goes_on() -> None:
    browser = Browser()
    for number in range(1, 5):
        browser.begin_any(SendOtp, f"code-{number}", at=NOW + number)

        assert browser.go_on(Code("1")) == f"code-{number}"


@pytest.mark.parametrize("step_up", [False, True])
@pytest.mark.parametrize("first", FIRST_STEPS, ids=lambda step: step.__name__)
def test_a_login_and_a_step_up_are_never_taken_for_each_other(
    first: type[FirstStep[Any]], caplog: pytest.LogCaptureFixture, *, step_up: bool
) -> None:
    browser = Browser()
    wanted = filled(first.next_step, state="wanted")
    browser.begin_any(first, "wanted", at=NOW, step_up=step_up)

    assert browser.go_on(wanted, step_up=not step_up) is None
    assert "step_up=True belongs in both calls or in neither" in caplog.text

    for number in range(1, 4):  # in another tab
        browser.begin_any(first, f"other-{number}", at=NOW + number, step_up=not step_up)
    assert browser.go_on(wanted, step_up=step_up) == "wanted"


@pytest.mark.parametrize("step_up", [False, True])
@pytest.mark.parametrize("first", FIRST_STEPS, ids=lambda step: step.__name__)
def test_what_is_clicked_twice_is_one_request_and_what_follows_an_answer_is_another(
    first: type[FirstStep[Any]], *, step_up: bool
) -> None:
    browser = Browser()
    browser.begin_any(first, "wanted", at=NOW, step_up=step_up)
    step, unheard = filled(first.next_step, state="wanted"), dict(browser.jar)

    once = browser.click(step, step_up=step_up)
    heard, browser.jar = browser.jar, unheard
    twice = browser.click(step, at=NOW + 1, step_up=step_up)
    browser.jar = heard
    later = browser.click(step, step_up=step_up)

    assert is_request_id(once)
    assert once == twice != later


def test_a_provider_that_leads_back_twice_leads_to_one_login() -> None:
    browser = Browser()
    browser.begin(begun_by(BeginSocial, "begun"), filled(BeginSocial))
    led_back, asked = dict(browser.jar), []

    for second in range(2):
        browser.jar = dict(led_back)
        step = filled(VerifySocial, state="begun")
        browser.begin(begun_by(VerifySocial, "verified"), step, at=NOW + second)
        verified_as = browser.rig.worker.calls[-1][1]["request_id"]
        asked.append((verified_as, browser.click(Social("ada"), at=NOW + second)))

    assert asked[0] == asked[1]
    assert len(set(asked[0])) == 2


def test_what_is_not_the_same_is_no_click_more() -> None:
    browser = Browser()
    browser.begin(CodeSent(login="own", expires_in=LIFETIME))
    unheard = dict(browser.jar)
    asked = set()
    for code, token in (("1", TOKEN), ("2", TOKEN), ("1", None)):
        browser.jar, browser.token = dict(unheard), token
        asked.add(browser.click(Code(code)))

    assert len(asked) == 3


def test_an_outage_is_an_answer_where_the_worker_has_said_so() -> None:
    for why, is_answer in (
        (NotAnswered(), False),
        (BrokerUnavailable(), False),
        (Unavailable("too many calls wait"), False),
        (WorkerUnavailable("idp_unavailable"), True),
        (OutcomeUnknown(), True),
    ):
        browser = Browser()
        browser.begin(CodeSent(login="own", expires_in=LIFETIME))

        asked = browser.is_refused(Code("1"), why)

        assert (browser.click(Code("1")) != asked) == is_answer, why
