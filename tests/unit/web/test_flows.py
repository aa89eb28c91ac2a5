"""Signing in and out, first steps, and notices, as the frameworks' core decides about them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sandbox.processes import poll_until
from session_client import (
    AppKey,
    BeginSocial,
    Code,
    Link,
    LogoutSpool,
    Password,
    SendLink,
    SendOtp,
    SessionClient,
    Social,
    SqliteSpool,
    VerifySocial,
)
from session_client.begun import CodeSent, LinkSent, SocialBegun, SocialVerified
from session_client.errors import (
    InvalidNotice,
    InvalidRequest,
    NotAcknowledged,
    NotAnswered,
    OutcomeUnknown,
    Unauthorized,
)
from session_client.requests import Wishes
from session_client.values import Denied, LoginRequired, LogoutNotice, LogoutReceipt, StepUpRequired
from session_client.web import (
    Incoming,
    Local,
    MemoryMarks,
    Options,
    Turned,
    TurnedAway,
    Visit,
    logout,
    take_notice,
)
from session_client.web.marks import of_session, of_user
from tests.unit.web.rig import (
    NOW,
    OTHER_TOKEN,
    TOKEN,
    TOKENS,
    Rig,
    Worker,
    authenticated,
    call,
    form,
    local,
    page,
    request,
)

PROOF = Password("ada", "secret")
SENT = CodeSent(login="handle-1", expires_in=600)
NOT_ACKNOWLEDGED = NotAcknowledged("r" * 16, "no answer")


def visit(incoming: Incoming, rig: Rig, kept: Local | None = None) -> Visit:
    return Visit(incoming, rig.options, kept, NOW)


def cookies_of(headers: Any) -> str:
    """What the browser sends after these headers."""
    pairs = [value.partition(";")[0] for name, value in headers if name == "Set-Cookie"]
    return "; ".join(pair for pair in pairs if not pair.endswith("="))


def away(raised: pytest.ExceptionInfo[TurnedAway]) -> Turned:
    return raised.value.turned


def test_a_login_writes_the_cookie_and_replaces_what_the_browser_came_with() -> None:
    rig = Rig(Worker(authenticate=authenticated(browser_token=OTHER_TOKEN, known_browser="mark")))

    answer, changes = rig.run(visit(form(), rig).log_in(PROOF))

    assert answer.user_id == "ada"
    assert changes.local is not None
    assert rig.worker.calls[0][1]["replaces"] == TOKEN
    assert OTHER_TOKEN in cookies_of(changes.headers)
    assert "__Host-mosaic-known=mark" in cookies_of(changes.headers)
    assert not changes.empties


def test_a_cookie_that_the_browser_will_drop_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for domain, warnings in (("shop.example", 0), ("apps.example", 1), ("localhost", 0)):
        rig = Rig(
            Worker(authenticate=authenticated(browser_token=OTHER_TOKEN)),
            Options(marks=MemoryMarks(), cookie_domain=domain),
        )
        caplog.clear()

        rig.run(visit(form(), rig).log_in(PROOF))

        assert caplog.text.count("it drops the cookie") == warnings, domain


def test_a_login_of_somebody_else_empties_the_session() -> None:
    for kept in (local("bob"), local("bob").over()):
        rig = Rig(Worker(authenticate=authenticated(browser_token=OTHER_TOKEN)))

        _, changes = rig.run(visit(form(), rig, kept).log_in(PROOF))

        assert changes.empties


def test_a_login_that_is_too_weak_gets_the_cookie_to_step_up_with_and_no_session() -> None:
    weak = StepUpRequired(
        reason="amr_missing", user_id="ada", session_ref="r", browser_token=OTHER_TOKEN
    )
    rig = Rig(Worker(authenticate=weak))

    answer, changes = rig.run(visit(form(), rig).log_in(PROOF))

    assert answer is weak
    assert changes.local is None
    assert OTHER_TOKEN in cookies_of(changes.headers)


@pytest.mark.parametrize("user_id", ["ada", "bob"])
def test_a_login_that_is_too_weak_finds_nothing_of_somebody_else(user_id: str) -> None:
    weak = StepUpRequired(
        reason="amr_missing", user_id=user_id, session_ref="r", browser_token=OTHER_TOKEN
    )
    rig = Rig(Worker(authenticate=weak))

    _, changes = rig.run(visit(form(), rig, local("ada")).log_in(PROOF))

    assert changes.empties is (user_id == "bob")


def test_a_login_that_is_refused_changes_nothing() -> None:
    for refusal in (Denied("invalid_credentials"), LoginRequired("no_session")):
        rig = Rig(Worker(authenticate=refusal))

        answer, changes = rig.run(visit(form(), rig, local()).log_in(PROOF))

        assert answer is refusal
        assert (changes.local, changes.empties) == (None, False)
        assert cookies_of(changes.headers) == ""


def test_a_login_whose_end_was_told_before_its_answer_signs_nobody_in() -> None:
    rig = Rig()
    rig.options.marks.put(of_session("ref-1"), NOW, 60)
    rig.worker = Worker(authenticate=authenticated(browser_token=OTHER_TOKEN))

    answer, changes = rig.run(visit(form(), rig).log_in(PROOF))

    assert answer == LoginRequired("logged_out")
    assert changes.local is None
    assert cookies_of(changes.headers) == ""


@pytest.mark.parametrize(
    ("error", "said"), [(NotAnswered("x"), "try again"), (OutcomeUnknown("x"), "begin anew")]
)
def test_a_login_without_a_worker_is_no_wrong_password(error: Exception, said: str) -> None:
    rig = Rig(Worker(authenticate=error))

    with pytest.raises(TurnedAway) as raised:
        rig.run(visit(form(), rig).log_in(PROOF))

    assert away(raised).status == 503
    assert said in str(away(raised).body)


def test_a_login_that_another_site_sends_is_refused_before_any_call() -> None:
    rig = Rig()
    foreign = request("/login", {"Sec-Fetch-Site": "cross-site"}, method="POST")

    for steps in (
        visit(foreign, rig).log_in(PROOF),
        visit(foreign, rig).begin(SendOtp("sms", "+44", "phone_number")),
        visit(foreign, rig).complete(Code("1")),
    ):
        with pytest.raises(TurnedAway) as raised:
            rig.run(steps)
        assert away(raised).status == 403
    assert rig.run(visit(foreign, rig).log_out()).status == 403
    assert rig.worker.asked == []


def test_a_factor_is_added_to_the_session_of_this_browser_alone() -> None:
    stronger = authenticated(amr=("pwd", "otp", "mfa"), browser_token=OTHER_TOKEN)
    rig = Rig(Worker(start=SENT, authenticate=stronger))

    begun, changes = rig.run(visit(form(), rig, local()).begin(SendOtp("sms"), step_up=True))
    sent = cookies_of(changes.headers)
    completing = visit(form(cookies=sent), rig, local()).complete(Code("123"), step_up=True)
    answer, changes = rig.run(completing)

    assert begun is SENT
    assert answer is stronger
    (_, started), (_, completed) = rig.worker.calls
    assert started["step_up"] == TOKEN
    assert (completed["step_up"], completed["login"]) == (TOKEN, "handle-1")
    assert "replaces" not in completed
    assert any("mosaic-login-" in value and "Max-Age=0" in value for _, value in changes.headers)


def test_a_page_that_signs_in_may_begin_a_factor_at_once() -> None:
    weak = StepUpRequired(
        reason="amr_missing", user_id="ada", session_ref="r", browser_token=OTHER_TOKEN
    )
    for token in (None, TOKEN):
        rig = Rig(Worker(authenticate=weak, start=SENT))
        incoming = form(token=token)

        _, changes = rig.run(visit(incoming, rig).log_in(PROOF))
        then = Visit(incoming, rig.options, None, NOW, changes.headers)
        begun, _ = rig.run(then.begin(SendOtp("sms"), step_up=True))

        assert begun is SENT
        assert rig.worker.calls[-1][1]["step_up"] == OTHER_TOKEN


def test_nobody_adds_a_factor_without_the_browsers_token() -> None:
    rig = Rig()
    nobody = form(token=None)

    begun, _ = rig.run(visit(nobody, rig, local()).begin(SendOtp("sms"), step_up=True))
    answer, _ = rig.run(visit(nobody, rig, local()).log_in(PROOF, step_up=True))

    assert begun == answer == LoginRequired("no_session")
    assert rig.worker.asked == []


def test_a_code_whose_login_began_elsewhere_or_long_ago_is_refused_before_any_call() -> None:
    rig = Rig(Worker(start=SENT))
    _, changes = rig.run(visit(form(), rig).begin(SendOtp("sms", "+44", "phone_number")))
    sent = cookies_of(changes.headers)
    late = Visit(form(cookies=sent), rig.options, None, NOW + 601)
    twice = visit(form(cookies=f"{sent}; {sent}"), rig)

    for steps in (
        visit(form(), rig).complete(Code("1")),
        late.complete(Code("1")),
        twice.complete(Code("1")),
        visit(form(cookies="__Host-mosaic-login-00000000=x"), rig).complete(Code("1")),
        visit(form(cookies=sent), rig).complete(Link("code", "another-state")),
    ):
        with pytest.raises(TurnedAway) as raised:
            rig.run(steps)
        assert away(raised).status == 409
    assert rig.worker.asked == ["start"]


def test_each_tab_goes_on_with_its_own_link_and_three_are_kept() -> None:
    sent = ""
    rig = Rig()
    for number in range(4):
        begun = LinkSent(login=f"handle-{number}", expires_in=600, state=f"state-{number}")
        rig.worker.plans["start"] = begun
        step = SendLink("https://shop.example/link", "a@b.example", "email")
        incoming = form(cookies=sent)
        _, changes = Rig(rig.worker, rig.options).run(
            Visit(incoming, rig.options, None, NOW + number).begin(step)
        )
        forgotten = [v for n, v in changes.headers if n == "Set-Cookie" and "Max-Age=0" in v]
        kept = [
            pair
            for pair in sent.split("; ")
            if pair and f"{pair.partition('=')[0]}=;" not in " ".join(forgotten)
        ]
        sent = "; ".join([*kept, cookies_of(changes.headers)])
    rig.worker.plans["authenticate"] = Denied("invalid_credentials")

    assert sent.count("mosaic-login-") == 3
    rig.run(visit(form(cookies=sent), rig).complete(Link("code", "state-1")))
    assert rig.worker.calls[-1][1]["login"] == "handle-1"
    with pytest.raises(TurnedAway):
        rig.run(visit(form(cookies=sent), rig).complete(Link("code", "state-0")))


def test_a_refused_code_may_be_typed_again() -> None:
    rig = Rig(Worker(start=SENT, authenticate=Denied("invalid_credentials")))
    _, changes = rig.run(visit(form(), rig).begin(SendOtp("sms", "+44", "phone_number")))
    sent = cookies_of(changes.headers)

    for _ in range(2):
        answer, changes = rig.run(visit(form(cookies=sent), rig).complete(Code("1")))
        assert answer == Denied("invalid_credentials")
        sent = cookies_of(changes.headers)
    assert [arguments["login"] for _, arguments in rig.worker.calls[1:]] == ["handle-1"] * 2


def test_what_a_person_mistyped_is_not_accepted_and_nobody_is_asked() -> None:
    rig = Rig()

    for proof in (Password("", ""), Password("ada", ""), Password("a\nb", "x")):
        answer, _ = rig.run(visit(form(), rig).log_in(proof))
        assert answer == Denied("invalid_credentials")
    begun, _ = rig.run(visit(form(), rig).begin(SendOtp("sms", "", "phone_number")))

    assert begun == Denied("invalid_credentials")
    assert rig.worker.asked == []


def test_a_state_that_is_no_text_names_no_login_and_is_no_error() -> None:
    rig = Rig(Worker(start=LinkSent(login="handle-1", state="s1", expires_in=600)))
    step = SendLink("https://shop.example/link", "ada@example.com", "email")
    _, begun = rig.run(visit(form(), rig).begin(step))
    landed = page(cookies=cookies_of(begun.headers))

    for state in ("s2", "\ud800"):  # half a letter: JSON can say so
        with pytest.raises(TurnedAway) as caught:
            rig.run(visit(landed, rig).complete(Link("code", state)))
        assert caught.value.turned.status == 409


@pytest.mark.parametrize("is_step_up", [False, True])
def test_a_login_at_a_provider_goes_on_with_what_began_in_this_browser(*, is_step_up: bool) -> None:
    began = SocialBegun(
        login="handle-1", expires_in=600, state="s" * 43, authorization_url="https://p.example"
    )
    verified = SocialVerified(login="handle-2", expires_in=500, claims={"sub": "7"})
    rig = Rig(Worker(start=began, authenticate=authenticated()))
    begin_there = BeginSocial("google", "https://a.example/cb")
    _, changes = rig.run(visit(form(), rig).begin(begin_there, step_up=is_step_up))
    sent = cookies_of(changes.headers)

    rig.worker.plans["start"] = verified
    _, changes = rig.run(
        visit(form(cookies=sent), rig).begin(
            VerifySocial(code="c", state="s" * 43), step_up=is_step_up
        )
    )
    sent = cookies_of(changes.headers)
    rig.run(visit(form(cookies=sent), rig).complete(Social("ada"), step_up=is_step_up))

    assert [named.get("login") for _, named in rig.worker.calls] == [None, "handle-1", "handle-2"]
    assert [named.get("step_up") for _, named in rig.worker.calls] == [
        TOKEN if is_step_up else None
    ] * 3


def test_a_first_step_says_which_browser_it_is() -> None:
    # Codes that a stranger has sent to this user then do not use up what this browser may ask for.
    rig = Rig(Worker(start=SENT))
    known = form(cookies=f"{rig.options.cookie.known_name}=a-mark")

    rig.run(visit(known, rig).begin(SendOtp("sms", "+44", "phone_number")))

    ((_, named),) = rig.worker.calls
    assert named["known_browser"] == "a-mark"


def test_a_first_step_that_is_denied_leaves_nothing_behind() -> None:
    rig = Rig(Worker(start=Denied("too_many_attempts", 30.0)))

    begun, changes = rig.run(visit(form(), rig).begin(SendOtp("sms", "+44", "phone_number")))

    assert begun == Denied("too_many_attempts", 30.0)
    assert cookies_of(changes.headers) == ""


def test_a_logout_ends_the_browsers_session_and_leaves_nothing_here() -> None:
    rig = Rig(Worker(logout=LogoutReceipt()))

    turned = rig.run(visit(form(), rig, local()).log_out())

    assert (turned.status, turned.location) == (303, "/")
    assert turned.changes.empties
    assert turned.changes.local is None
    assert ("Clear-Site-Data", '"cache"') in turned.changes.headers
    assert any("__Host-mosaic-sso=;" in value for _, value in turned.changes.headers)
    assert [named["browser_token"] for _, named in rig.worker.calls] == [TOKEN]
    # A copy of the local session's cookie is worth nothing either.
    assert of_session("ref-1") in rig.options.marks.look([of_session("ref-1")])


def test_a_logout_ends_the_local_session_too_where_it_is_another() -> None:
    rig = Rig(Worker(logout=LogoutReceipt()))

    turned = rig.run(visit(call(token=OTHER_TOKEN), rig, local()).log_out())
    assert turned.status == 405
    incoming = request("/logout", {"Sec-Fetch-Site": "same-origin"}, method="POST", token=None)
    turned = rig.run(visit(incoming, rig, local()).log_out())

    assert turned.status == 204
    assert rig.worker.calls[0][1]["session_ref"] == "ref-1"


def test_a_logout_by_get_does_nothing() -> None:
    rig = Rig()

    turned = rig.run(visit(page(), rig, local()).log_out())

    assert turned.status == 405
    assert not turned.changes.empties
    assert rig.worker.asked == []


@pytest.mark.parametrize("error", [NOT_ACKNOWLEDGED, NotAnswered("x")])
def test_a_logout_that_nobody_acknowledged_keeps_the_cookie_for_another_try(
    error: Exception,
) -> None:
    rig = Rig(Worker(logout=error))

    turned = rig.run(visit(form(), rig, local()).log_out())

    assert turned.status == 503
    assert "once more" in str(turned.body)
    assert turned.changes.empties
    assert not any(name == "Set-Cookie" for name, _ in turned.changes.headers)


def test_with_a_spool_it_is_handed_on_under_one_request_id() -> None:
    class Spool:
        def __init__(self) -> None:
            self.requests: list[dict[str, Any]] = []

        def logout(self, **given: Any) -> None:
            self.requests.append(given)

    rig = Rig(Worker(logout=NOT_ACKNOWLEDGED))
    spool = rig.options.spool = Spool()

    turned = rig.run(visit(form(), rig, local()).log_out())

    assert turned.status == 303
    (_, tried) = rig.worker.calls[0]
    assert tried.pop("timeout") == 1.0
    assert spool.requests == [{**tried, "within": 2.0}]


class Raising:
    """A store that fails: an app's own may raise whatever there is."""

    def __init__(self, error: Callable[[], Exception]) -> None:
        self._error = error

    def logout(self, **_: object) -> None:
        raise self._error()


def assert_signed_out_here_and_asked_to_do_it_once_more(spool: Any) -> None:
    rig = Rig(Worker(logout=NOT_ACKNOWLEDGED))
    rig.options.spool = spool

    turned = rig.run(visit(form(), rig, local()).log_out())

    assert turned.status == 503
    assert "once more" in str(turned.body)
    assert turned.changes.empties
    assert not any(name == "Set-Cookie" for name, _ in turned.changes.headers)


@pytest.mark.parametrize("trouble", ["BEGIN EXCLUSIVE", "DROP TABLE spooled_logouts"])
def test_a_logout_that_the_spools_store_does_not_take_ends_the_session_here_all_the_same(
    trouble: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logout, "_KEPT_WITHIN_SECONDS", 0.01)
    client = SessionClient(broker_url="redis://nobody", app_id="a", app_key=AppKey.generate())
    spool = LogoutSpool(client, SqliteSpool(tmp_path / "logouts.db"), thread=False)

    with closing(sqlite3.connect(tmp_path / "logouts.db", isolation_level=None)) as other:
        other.execute(trouble)
        assert_signed_out_here_and_asked_to_do_it_once_more(spool)

    assert "a logout could not be kept" in caplog.text
    assert "OperationalError" in caplog.text
    assert TOKEN not in caplog.text


def test_no_browser_waits_for_a_store_that_is_locked_and_the_logout_is_kept_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logout, "_KEPT_WITHIN_SECONDS", 0.01)
    client = SessionClient(broker_url="redis://nobody", app_id="a", app_key=AppKey.generate())
    store = SqliteSpool(tmp_path / "logouts.db")
    spool = LogoutSpool(client, store)
    monkeypatch.setattr(spool, "start", lambda: None)  # nothing is to be delivered here

    with closing(sqlite3.connect(tmp_path / "logouts.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert_signed_out_here_and_asked_to_do_it_once_more(spool)
        other.rollback()

    poll_until(lambda: spool.counts().waiting == 1, 30, what="the logout to be kept")


def test_a_logout_ends_the_session_here_whatever_a_store_raises() -> None:
    kinds = (OSError, RuntimeError, ValueError, KeyError, TimeoutError, sqlite3.Error, MemoryError)
    errors: list[Callable[[], Exception]] = [*kinds]
    errors += [lambda: NotAnswered("x"), lambda: NOT_ACKNOWLEDGED]
    for error in errors:
        assert_signed_out_here_and_asked_to_do_it_once_more(Raising(error))


def test_marks_that_cannot_be_put_stop_no_logout() -> None:
    class Broken(MemoryMarks):
        def put(self, *_: object) -> None:
            raise OSError("full")

    rig = Rig(Worker(logout=LogoutReceipt()))
    rig.options.marks = Broken()

    assert rig.run(visit(form(), rig, local()).log_out()).status == 303
    notice = LogoutNotice(notice_id="n", user_id="ada", session_ref="ref-1")
    rig.worker = Worker(verify_logout_token=notice)
    with pytest.raises(OSError, match="full"):
        rig.run(take_notice("token", now=NOW))


def test_a_notice_is_marked_before_it_is_answered() -> None:
    for notice, name in (
        (LogoutNotice(notice_id="n", user_id="ada", session_ref="ref-1"), of_session("ref-1")),
        (LogoutNotice(notice_id="n", user_id="ada", session_ref=None), of_user("ada")),
    ):
        rig = Rig(Worker(verify_logout_token=notice))

        assert rig.run(take_notice("token", now=NOW)).status == 200
        assert rig.options.marks.look([name]) == {name: NOW}


def test_a_mark_outlives_every_local_session_that_nobody_has_checked() -> None:
    class Lasting(MemoryMarks):
        def put(self, name: str, at: float, lasts: float) -> None:
            super().put(name, at, lasts)
            self.lasts = lasts

    marks = Lasting()
    notice = LogoutNotice(notice_id="n", user_id="ada", session_ref="ref-1")
    worker = Worker(verify_logout_token=notice)

    Rig(worker, Options(marks=marks, recheck=100, grace=1000)).run(take_notice("token", now=NOW))

    # A clock that is a minute ahead may have checked the session a minute from now.
    assert marks.lasts >= 1160


def test_a_notice_that_is_none_is_refused_and_one_that_cannot_be_judged_comes_again() -> None:
    for error, status in ((InvalidNotice("wrong iss"), 400), (NotAnswered("x"), 503)):
        rig = Rig(Worker(verify_logout_token=error))

        assert rig.run(take_notice("token", now=NOW)).status == status


def test_tokens_are_of_who_is_in_here() -> None:
    wishes = Wishes(resource="https://api.example")
    rig = Rig(Worker(silent_auth=authenticated()))

    assert rig.run(visit(call(), rig, local()).tokens(local().user, wishes)) is TOKENS

    ((_, asked),) = rig.worker.calls
    assert asked == {"user_id": "ada", "session_ref": "ref-1", "wishes": wishes}
    weak = StepUpRequired(reason="amr_missing", user_id="ada", session_ref="ref-1")
    for answer, status in ((LoginRequired("revoked"), 401), (weak, 401), (NotAnswered("x"), 503)):
        rig.worker = Worker(silent_auth=answer)
        with pytest.raises(TurnedAway) as raised:
            rig.run(visit(call(), rig, local()).tokens(local().user, wishes))
        assert away(raised).status == status


def test_a_session_that_is_over_elsewhere_is_over_here() -> None:
    rig = Rig(Worker(silent_auth=LoginRequired("revoked")))

    with pytest.raises(TurnedAway) as raised:
        rig.run(visit(page(), rig).tokens(local().user, Wishes()))

    assert away(raised).location == "/login?next=/basket%3Fpage%3D2"


def test_a_login_by_get_is_refused() -> None:
    rig = Rig()

    for steps in (visit(page(), rig).log_in(PROOF), visit(page(), rig).begin(SendOtp("sms"))):
        with pytest.raises(TurnedAway) as raised:
            rig.run(steps)
        assert away(raised).status == 405
    assert rig.worker.asked == []


def test_what_goes_on_with_a_first_step_may_come_by_get_and_from_nowhere_else_by_post() -> None:
    from_the_provider = {"Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "cross-site"}
    for step, status_by_get in ((VerifySocial("c", "s"), 409), (BeginSocial("google", "x"), 405)):
        for method, status in (("GET", status_by_get), ("POST", 403)):
            rig = Rig()
            there = request("/callback", from_the_provider, method=method)
            begin: Any = visit(there, rig).begin
            with pytest.raises(TurnedAway) as raised:
                rig.run(begin(step))
            assert away(raised).status == status, (step, method)
            assert rig.worker.asked == []


def test_a_call_that_signs_out_is_no_redirect() -> None:
    rig = Rig(Worker(logout=LogoutReceipt()))
    script = {"Sec-Fetch-Dest": "empty", "Sec-Fetch-Site": "same-origin"}

    turned = rig.run(visit(request("/logout", script, method="POST"), rig, local()).log_out())

    assert (turned.status, turned.location) == (204, None)


def test_a_logout_of_what_the_worker_has_forgotten_is_one() -> None:
    rig = Rig(Worker(logout=InvalidRequest("no_session", "r" * 16)))

    assert rig.run(visit(form(token=None), rig, local()).log_out()).status == 303


def test_a_logout_that_the_worker_refuses_is_not_said_to_be_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rig = Rig(Worker(logout=Unauthorized("wrong_key", "r" * 16)))

    assert rig.run(visit(form(), rig, local()).log_out()).status == 503

    assert "a logout is refused" in caplog.text


def test_who_is_nobody_here_signs_out_of_nothing() -> None:
    rig = Rig()

    assert rig.run(visit(form(token=None), rig, local().over()).log_out()).status == 303
    assert rig.worker.asked == []
