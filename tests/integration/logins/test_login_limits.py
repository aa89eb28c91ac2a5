"""How often somebody may guess, and that it costs the owner nothing."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from models import SessionEvent
from session_client import Wishes, methods, times
from session_client.contract import Reason, Verdict
from simulator.controls.devices import PasskeyDevice
from simulator.idp.endpoints import Endpoint
from tests.integration.logins.login_rig import (
    BACK,
    FACTORS,
    MAIL,
    PHONE,
    WAYS,
    begin,
    by_link,
    by_mail,
    by_sms,
    by_totp,
    calls,
    furnish,
    last_code,
    log_in,
    prove,
)
from tests.stage import Stage
from worker.errors import HeldBack, LoginRefused, StoreUnavailable
from worker.logins import journal, limits
from worker.logins.limits import Guesser
from worker.sessions.audit import Cause
from worker.storage import redis_scripts
from worker.storage.redis_client import connect_redis
from worker.storage.redis_scripts import ScriptRunner

PROVE = Endpoint.PASSWORD_AUTHENTICATE
WRONG = methods.Password("ada", "wrong")


@pytest.fixture(autouse=True)
def _people(sqlite_stage: Stage) -> None:
    furnish(sqlite_stage)
    sqlite_stage.mosaic.state.policy.change(wrong_proofs_allowed=10**6)


def guess(stage: Stage, times: int, **fields: Any) -> list[Any]:
    return [prove(stage, WRONG, **fields) for _ in range(times)]


def test_a_stranger_has_five_guesses_and_the_owners_browser_signs_in(
    sqlite_stage: Stage,
) -> None:
    known = log_in(sqlite_stage).known_browser

    answers = guess(sqlite_stage, 20)
    stranger, owner = log_in(sqlite_stage), log_in(sqlite_stage, known_browser=known)

    assert [a.reason for a in answers[:5]] == [Reason.INVALID_CREDENTIALS] * 5
    assert {a.reason for a in answers[5:]} == {Reason.TOO_MANY_ATTEMPTS}
    assert sqlite_stage.mosaic.state.calls.count(PROVE) == 1 + 5 + 1
    assert (stranger.verdict, stranger.reason) == (
        Verdict.ACCESS_DENIED,
        Reason.TOO_MANY_ATTEMPTS,
    )
    assert stranger.retry_after is not None
    assert 0 < stranger.retry_after <= 15 * 60
    assert owner.verdict is Verdict.AUTHENTICATED


def test_a_known_browser_has_five_guesses_of_its_own(sqlite_stage: Stage) -> None:
    known = log_in(sqlite_stage).known_browser
    other = log_in(sqlite_stage).known_browser

    answers = guess(sqlite_stage, 7, known_browser=known)

    assert [a.reason for a in answers].count(Reason.INVALID_CREDENTIALS) == 5
    assert log_in(sqlite_stage, known_browser=other).verdict is Verdict.AUTHENTICATED
    assert log_in(sqlite_stage).verdict is Verdict.AUTHENTICATED


@pytest.mark.parametrize("mark", ["x", "é", "AAAA"])
def test_a_mark_that_is_none_makes_no_browser_known(sqlite_stage: Stage, mark: str) -> None:
    guess(sqlite_stage, 5)

    assert log_in(sqlite_stage, known_browser=mark).reason == Reason.TOO_MANY_ATTEMPTS


def test_a_mark_of_an_earlier_form_counts_as_none(sqlite_stage: Stage) -> None:
    ada = limits.subject_of(sqlite_stage.services, "username", "ada").hex()
    text = json.dumps({"id": "i", "at": times.to_wire(sqlite_stage.now()), "for": [ada]})
    sealed = sqlite_stage.services.keyring.seal(text, "known_browser:shop")
    mark = base64.urlsafe_b64encode(sealed).decode()

    assert log_in(sqlite_stage, known_browser=mark).verdict is Verdict.AUTHENTICATED
    guess(sqlite_stage, 5)
    assert log_in(sqlite_stage, known_browser=mark).reason == Reason.TOO_MANY_ATTEMPTS


def test_no_mark_grows_larger_than_a_cookie_may_be(sqlite_stage: Stage) -> None:
    mark = None
    for number in range(12):
        name = (f"{number}@nowhere.example", "email")
        mark = _by_a_link_of_bobs(sqlite_stage, name, known_browser=mark)
        _let_a_day_go_by(sqlite_stage)

    assert mark is not None
    assert len(mark) < 2000
    asked = {}
    for number in (0, 8):
        step = methods.SendLink(BACK, f"{number}@nowhere.example", "email")
        begin(sqlite_stage, step)  # all other browsers have had their one of half a minute
        asked[number] = begin(sqlite_stage, step, known_browser=mark).reason
    assert asked == {0: Reason.TOO_MANY_ATTEMPTS, 8: None}  # the oldest names are forgotten


def test_the_mark_of_another_user_or_app_makes_no_browser_known(sqlite_stage: Stage) -> None:
    bobs = prove(sqlite_stage, methods.Password("bob", "bob's")).known_browser
    of_forum = log_in(sqlite_stage, "forum").known_browser
    guess(sqlite_stage, 5)

    for mark in (bobs, of_forum):
        assert log_in(sqlite_stage, known_browser=mark).reason == Reason.TOO_MANY_ATTEMPTS


def test_the_mark_of_one_user_says_nothing_of_another_who_signs_in_there(
    sqlite_stage: Stage,
) -> None:
    bob = methods.Password("bob", "bob's")
    bobs = prove(sqlite_stage, bob).known_browser
    adas = log_in(sqlite_stage, known_browser=bobs).known_browser
    guess(sqlite_stage, 5)
    for _ in range(5):
        prove(sqlite_stage, methods.Password("bob", "wrong"))

    assert prove(sqlite_stage, bob, known_browser=adas).reason == Reason.TOO_MANY_ATTEMPTS
    assert log_in(sqlite_stage, known_browser=adas).verdict is Verdict.AUTHENTICATED
    assert prove(sqlite_stage, bob, known_browser=bobs).verdict is Verdict.AUTHENTICATED


def test_a_mark_is_forgotten_after_half_a_year(sqlite_stage: Stage) -> None:
    known = log_in(sqlite_stage).known_browser
    sqlite_stage.pass_time(days=181)
    guess(sqlite_stage, 5)

    assert log_in(sqlite_stage, known_browser=known).reason == Reason.TOO_MANY_ATTEMPTS


def test_a_success_is_no_failure(sqlite_stage: Stage) -> None:
    answers = [log_in(sqlite_stage) for _ in range(7)]

    assert {answer.verdict for answer in answers} == {Verdict.AUTHENTICATED}


def test_parallel_guesses_do_not_slip_through_together(sqlite_stage: Stage) -> None:
    answers = sqlite_stage.at_once(*[lambda: prove(sqlite_stage, WRONG)] * 20)

    reasons = [answer.reason for answer in answers]
    assert reasons.count(Reason.INVALID_CREDENTIALS) == 5
    assert sqlite_stage.mosaic.state.calls.count(PROVE) == 5


def test_spellings_of_one_name_are_counted_as_one(sqlite_stage: Stage) -> None:
    for name in ("ada", "ADA", "Ada", " ada", "\uff41da"):
        prove(sqlite_stage, methods.Password(name, "wrong"))

    assert log_in(sqlite_stage).reason == Reason.TOO_MANY_ATTEMPTS


def test_a_handle_is_worn_out_by_five_wrong_codes(sqlite_stage: Stage) -> None:
    known = log_in(sqlite_stage).known_browser
    begun = begin(sqlite_stage, methods.SendOtp("sms", *PHONE))
    right = methods.Code(last_code(sqlite_stage))
    for _ in range(5):
        prove(sqlite_stage, methods.Code("x"), login=begun["login"])
    before = calls(sqlite_stage)

    answer = prove(sqlite_stage, right, login=begun["login"], known_browser=known)

    assert (answer.verdict, answer.reason) == (Verdict.ACCESS_DENIED, Reason.TOO_MANY_ATTEMPTS)
    assert answer.retry_after is None
    assert calls(sqlite_stage) == before


def test_second_factors_are_counted_apart_from_passwords_over_all_sessions(
    sqlite_stage: Stage,
) -> None:
    browsers = [log_in(sqlite_stage) for _ in range(2)]
    for browser in [*browsers, *browsers, browsers[0]]:
        wrong = methods.Totp("000000")
        prove(sqlite_stage, wrong, step_up=browser.browser_token)

    limited = prove(sqlite_stage, methods.Totp("1"), step_up=browsers[1].browser_token)

    assert limited.reason == Reason.TOO_MANY_ATTEMPTS
    assert log_in(sqlite_stage).verdict is Verdict.AUTHENTICATED
    assert [session.ended_at for session in sqlite_stage.sessions()] == [None] * 3


@pytest.mark.parametrize("way", WAYS)
def test_only_who_has_passed_a_factor_has_a_count_of_their_own_for_it(
    sqlite_stage: Stage, way: str
) -> None:
    """Else who knows the password would begin anew to guess at the factor with each login."""
    sign_in, _, _ = WAYS[way]
    answers = []
    for _ in range(3):
        browser = sign_in(sqlite_stage)
        mark: dict[str, Any] = {
            "step_up": browser.browser_token,
            "known_browser": browser.known_browser,
        }
        answers += [prove(sqlite_stage, methods.Totp("000000"), **mark) for _ in range(5)]
        _let_a_day_go_by(sqlite_stage)

    own = 3 if way == "an authenticator app" else 1
    assert [a.reason for a in answers].count(Reason.INVALID_CREDENTIALS) == 5 * own


@pytest.mark.parametrize("way", FACTORS)
def test_who_has_passed_one_factor_has_no_count_of_their_own_for_another(
    sqlite_stage: Stage, way: str
) -> None:
    add, _, _ = FACTORS[way]
    browsers = []
    for _ in range(3):
        browsers.append(add(sqlite_stage, step_up=log_in(sqlite_stage).browser_token))
        _let_a_day_go_by(sqlite_stage)
        sqlite_stage.pass_time(minutes=1)  # a code of an authenticator app serves once

    answers = [
        prove(
            sqlite_stage,
            methods.Totp("000000"),
            step_up=browser.browser_token,
            known_browser=browser.known_browser,
        )
        for browser in browsers
        for _ in range(5)
    ]

    own = 3 if way == "an authenticator app" else 1
    assert [a.reason for a in answers].count(Reason.INVALID_CREDENTIALS) == 5 * own


def test_a_browser_that_has_passed_a_factor_is_known_by_it_from_login_to_login(
    sqlite_stage: Stage,
) -> None:
    browser = log_in(sqlite_stage)
    stepped = by_totp(
        sqlite_stage, step_up=browser.browser_token, known_browser=browser.known_browser
    )
    for _ in range(5):
        prove(sqlite_stage, methods.Totp("000000"), step_up=stepped.browser_token)

    again = log_in(sqlite_stage, known_browser=stepped.known_browser)
    mark: dict[str, Any] = {"step_up": again.browser_token, "known_browser": again.known_browser}
    wrong = [prove(sqlite_stage, methods.Totp("000000"), **mark) for _ in range(4)]
    sqlite_stage.pass_time(minutes=1)
    right = by_totp(sqlite_stage, **mark)

    assert {answer.reason for answer in wrong} == {Reason.INVALID_CREDENTIALS}
    assert right.verdict is Verdict.AUTHENTICATED


def test_the_count_of_a_known_browser_does_not_begin_anew_with_a_login(
    sqlite_stage: Stage,
) -> None:
    browser = log_in(sqlite_stage)
    mark = browser.known_browser
    answers = []
    for _ in range(3):
        answers += guess(sqlite_stage, 2, known_browser=mark)
        mark = log_in(sqlite_stage, known_browser=mark).known_browser

    assert [a.reason for a in answers].count(Reason.INVALID_CREDENTIALS) == 5


@pytest.mark.parametrize("channel", ["sms", "email"])
def test_codes_by_another_channel_than_the_browser_is_known_by_are_counted_with_all_others(
    sqlite_stage: Stage, channel: str
) -> None:
    other = by_sms if channel == "email" else by_mail
    known = other(sqlite_stage).known_browser
    step = methods.SendOtp(channel, "ada", "user_id")

    first = begin(sqlite_stage, step)
    second = begin(sqlite_stage, step, known_browser=known)

    assert (first.verdict, second.reason) == (Verdict.OK, Reason.TOO_MANY_ATTEMPTS)


def _let_a_day_go_by(stage: Stage) -> None:
    """Let codes and links be sent again."""
    for key in stage.redis.keys("mosaic-sessions:sign-in:sent:*"):
        stage.redis.delete(key)


def _by_a_link_of_bobs(stage: Stage, name: tuple[str, str] = MAIL, **fields: Any) -> str:
    """Complete with bob's link what was begun in another name; Mosaic does not ask whose it was."""
    begun = begin(stage, methods.SendLink(BACK, *name))
    begin(stage, methods.SendLink(BACK, "bob@example.com", "email"))
    proof = methods.Link(stage.mosaic.state.outbox.latest("bob").code, begun["state"])
    return _mark_of_bob(prove(stage, proof, login=begun["login"], **fields))


def _by_a_passkey_of_bobs(stage: Stage) -> str:
    device = PasskeyDevice()
    stage.mosaic.state.passkeys.register("bob", device.credential_id, device.public_key)
    in_adas_name = begin(stage, methods.BeginWebauthn("ada"))
    own = begin(stage, methods.BeginWebauthn(None))
    proof = methods.Webauthn(device.answer(own["options"]))
    return _mark_of_bob(prove(stage, proof, login=in_adas_name["login"]))


def _mark_of_bob(answer: Any) -> str:
    assert (answer.verdict, answer.user_id) == (Verdict.AUTHENTICATED, "bob")
    return str(answer.known_browser)


@pytest.mark.parametrize("earn", [_by_a_link_of_bobs, _by_a_passkey_of_bobs])
def test_who_signs_in_as_another_than_the_one_named_is_not_known_by_that_name(
    sqlite_stage: Stage, earn: Callable[[Stage], str]
) -> None:
    ada = PasskeyDevice(is_discoverable=False)
    sqlite_stage.mosaic.state.passkeys.register("ada", ada.credential_id, ada.public_key)
    marks: list[Any] = []
    for _ in range(2):
        marks.append(earn(sqlite_stage))
        bob = methods.Password("bob", "bob's")
        marks.append(prove(sqlite_stage, bob, known_browser=marks[-1]).known_browser)
        _let_a_day_go_by(sqlite_stage)

    answers = [
        prove(sqlite_stage, methods.Password(name, "wrong", kind), known_browser=mark)
        for mark in marks
        for name, kind in (("ada", "username"), MAIL)
        for _ in range(5)
    ]

    assert [a.reason for a in answers].count(Reason.INVALID_CREDENTIALS) == 2 * 5


def test_links_that_are_asked_for_in_a_name_that_is_not_proved_are_counted_by_who_it_was(
    sqlite_stage: Stage,
) -> None:
    """Ada's browsers are not locked out by others, and bob's have one count for hers together."""
    hers = by_link(sqlite_stage).known_browser
    _let_a_day_go_by(sqlite_stage)
    bobs = [_by_a_link_of_bobs(sqlite_stage)]
    _let_a_day_go_by(sqlite_stage)
    bobs.append(_by_a_link_of_bobs(sqlite_stage))

    step = methods.SendLink(BACK, *MAIL)
    of_bob = [begin(sqlite_stage, step, known_browser=mark) for mark in bobs]

    assert [answer.reason for answer in of_bob] == [None, Reason.TOO_MANY_ATTEMPTS]
    assert begin(sqlite_stage, step, known_browser=hers).verdict is Verdict.OK


def test_an_address_that_fails_for_many_names_waits_alone(sqlite_stage: Stage) -> None:
    here = Wishes(ip_address="2001:db8::1")
    next_door = Wishes(ip_address="2001:db8::ffff")
    for number in range(50):
        prove(sqlite_stage, methods.Password(f"nobody-{number}", "x"), wishes=here)

    assert log_in(sqlite_stage, wishes=next_door).reason == Reason.TOO_MANY_ATTEMPTS
    elsewhere = Wishes(ip_address="2001:db8:1::1")
    assert log_in(sqlite_stage, wishes=elsewhere).verdict is Verdict.AUTHENTICATED
    # Nor does it wait at another app: what one app says of addresses is its own word.
    assert log_in(sqlite_stage, "forum", wishes=here).verdict is Verdict.AUTHENTICATED


def test_who_reads_redis_learns_of_no_name_and_no_address(sqlite_stage: Stage) -> None:
    addresses = ("203.0.113.7", "2001:db8:a:b::1", "::ffff:198.51.100.9", "no address")
    for number, address in enumerate(addresses):
        here = Wishes(ip_address=address)
        prove(sqlite_stage, WRONG, wishes=here)
        step = methods.SendOtp("sms", f"{PHONE[0]}{number}", PHONE[1])
        begin(sqlite_stage, step, wishes=here)
    begin(sqlite_stage, methods.SendLink(BACK, *MAIL))

    counts = repr(sqlite_stage.redis.keys("mosaic-sessions:sign-in:*"))

    assert counts.count(":address:") == 2 * len(addresses)
    shown = ("203.0.113", "2001:db8", "198.51.100", "no address", "ada", MAIL[0], PHONE[0])
    assert [text for text in shown if text in counts] == []


@pytest.mark.parametrize("carrier", ["::ffff:{}", "64:ff9b::{}"])
def test_an_ipv4_address_that_ipv6_carries_waits_alone(sqlite_stage: Stage, carrier: str) -> None:
    for number in range(50):
        here = Wishes(ip_address=carrier.format("192.0.2.7"))
        prove(sqlite_stage, methods.Password(f"nobody-{number}", "x"), wishes=here)

    elsewhere = Wishes(ip_address=carrier.format("198.51.100.9"))
    assert log_in(sqlite_stage, wishes=elsewhere).verdict is Verdict.AUTHENTICATED
    same = Wishes(ip_address="192.0.2.7")
    assert log_in(sqlite_stage, wishes=same).reason == Reason.TOO_MANY_ATTEMPTS


def test_codes_are_sent_once_in_half_a_minute_over_all_apps(sqlite_stage: Stage) -> None:
    answers = [
        begin(sqlite_stage, methods.SendOtp("sms", *PHONE)),
        begin(sqlite_stage, methods.SendOtp("sms", "+1 0 0", "phone_number"), "forum"),
        begin(sqlite_stage, methods.SendOtp("email", *MAIL)),
    ]

    assert [answer.reason for answer in answers] == [None, Reason.TOO_MANY_ATTEMPTS, None]
    assert answers[1].retry_after is not None
    assert 0 < answers[1].retry_after <= 30
    assert len(sqlite_stage.mosaic.state.outbox.sent()) == 2


def test_a_code_that_never_left_may_be_asked_for_again_at_once(sqlite_stage: Stage) -> None:
    sqlite_stage.mosaic.state.faults.add(Endpoint.TOKEN, "status", status=503, times=1)

    answers = [begin(sqlite_stage, methods.SendOtp("sms", *PHONE)) for _ in range(2)]

    assert [answer.reason for answer in answers] == [Reason.IDP_UNAVAILABLE, None]
    assert len(sqlite_stage.mosaic.state.outbox.sent()) == 1


def test_a_proof_that_the_store_could_not_note_counts_as_no_guess(
    sqlite_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise StoreUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(journal, "insert", away)
        answers = guess(sqlite_stage, 7)

    assert {answer.reason for answer in answers} == {Reason.STORE_UNAVAILABLE}
    assert log_in(sqlite_stage).verdict is Verdict.AUTHENTICATED


def test_a_factor_for_a_session_that_mosaic_has_lost_counts_as_no_guess(
    sqlite_stage: Stage,
) -> None:
    answers = []
    for _ in range(7):
        token = log_in(sqlite_stage).browser_token
        for live in sqlite_stage.mosaic.state.live_sessions("ada"):
            sqlite_stage.mosaic.state.end_session(live.session_id)
        answers.append(prove(sqlite_stage, methods.Totp("000000"), step_up=token))

    assert {answer.reason for answer in answers} == {Reason.GONE_AT_IDP}


def test_a_code_that_was_asked_for_counts_whatever_mosaic_answers(sqlite_stage: Stage) -> None:
    sqlite_stage.mosaic.state.faults.add(Endpoint.OTP_SEND, "status", status=403)

    answers = [begin(sqlite_stage, methods.SendOtp("sms", *PHONE)) for _ in range(2)]

    told = [answer.reason for answer in answers]
    assert told == [Reason.CLIENT_REFUSED, Reason.TOO_MANY_ATTEMPTS]


def test_a_count_is_empty_once_the_time_of_its_first_attempt_is_over(sqlite_stage: Stage) -> None:
    redis: Any = sqlite_stage.redis
    guess(sqlite_stage, 1)
    (key,) = redis.keys("mosaic-sessions:sign-in:failed:*")
    redis.pexpire(key, 60_000)  # fourteen of fifteen minutes go by

    guess(sqlite_stage, 1)
    log_in(sqlite_stage)  # counted, and taken back

    assert int(redis.get(key)) == 2
    assert 0 < redis.pttl(key) <= 60_000


def test_no_code_is_sent_to_a_name_that_was_guessed_at_too_often_and_the_trail_says_so_once(
    sqlite_stage: Stage,
) -> None:
    for _ in range(5):
        prove(sqlite_stage, methods.Password(MAIL[0], "wrong", MAIL[1]))
    before = calls(sqlite_stage)

    answers = [begin(sqlite_stage, methods.SendOtp("email", *MAIL)) for _ in range(3)]

    assert {answer.reason for answer in answers} == {Reason.TOO_MANY_ATTEMPTS}
    assert calls(sqlite_stage) == before
    limited = [detail for name, detail in sqlite_stage.events() if name == "sign_in_limited"]
    assert limited == ["login"]


def test_a_message_that_comes_again_is_counted_once(sqlite_stage: Stage) -> None:
    guesser = Guesser(by=Cause("shop", "its request"), subject=b"ada")
    buckets = limits.sends(guesser)

    for _ in range(2):
        limits.count(sqlite_stage.services, guesser, buckets)

    counts = [limits.counted(sqlite_stage.services, bucket)[0] for bucket in buckets]
    assert counts == [1] * len(buckets)
    limits.give_back(sqlite_stage.services, guesser, buckets)
    limits.count(sqlite_stage.services, guesser, buckets)
    assert [limits.counted(sqlite_stage.services, bucket)[0] for bucket in buckets] == counts


def test_what_was_counted_of_a_request_is_taken_back_once(sqlite_stage: Stage) -> None:
    """Redis' answer may be lost: then it is taken back again."""
    ours, others = (
        Guesser(by=Cause("shop", request), subject=b"ada") for request in ("ours", "another's")
    )
    buckets = limits.guesses(ours)
    for guesser in (ours, others):
        limits.count(sqlite_stage.services, guesser, buckets)

    for _ in range(2):
        limits.give_back(sqlite_stage.services, ours, buckets)

    assert [limits.counted(sqlite_stage.services, bucket)[0] for bucket in buckets] == [1]


def test_a_login_is_no_failure_although_its_answer_is_lost_on_its_way(
    sqlite_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when Redis fails over: all connections are cut, and the first to be used tells."""
    monkeypatch.setattr(redis_scripts, "BELIEVED_SECONDS", 600.0)
    subject = limits.subject_of(sqlite_stage.services, "username", "ada")
    (bucket,) = limits.guesses(Guesser(by=Cause("shop", "its request"), subject=subject))

    with (
        sqlite_stage.mosaic.state.gates.hold(PROVE) as gate,
        sqlite_stage.meanwhile(lambda: log_in(sqlite_stage)),
    ):
        gate.wait_arrived()
        assert limits.counted(sqlite_stage.services, bucket)[0] == 1
        sqlite_stage.redis.client_kill_filter(_type="normal", skipme=True)
        gate.release()

    assert limits.counted(sqlite_stage.services, bucket)[0] == 0


def test_sending_and_guessing_in_a_loop_stays_under_the_limits(sqlite_stage: Stage) -> None:
    redis = sqlite_stage.redis
    for _ in range(12):
        for key in redis.keys("mosaic-sessions:sign-in:sent:*:30"):
            redis.delete(key)  # half a minute goes by
        begun = begin(sqlite_stage, methods.SendOtp("sms", *PHONE))
        for _ in range(7 if begun.verdict is Verdict.OK else 0):
            prove(sqlite_stage, methods.Code("x"), login=begun["login"])

    state = sqlite_stage.mosaic.state
    assert 0 < len(state.outbox.sent()) <= 5
    assert 0 < state.calls.count(Endpoint.OTP_AUTHENTICATE) <= 5


def test_that_a_limit_is_reached_is_in_the_trail_once_for_as_long_as_it_holds(
    sqlite_stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    guess(sqlite_stage, 9)
    browser = log_in(sqlite_stage, "forum", known_browser=None)
    begin(sqlite_stage, methods.SendOtp("sms", *PHONE))
    begin(sqlite_stage, methods.SendOtp("sms", *PHONE))  # too soon, which is no news

    assert browser.reason == Reason.TOO_MANY_ATTEMPTS
    limited = [detail for name, detail in sqlite_stage.events() if name == "sign_in_limited"]
    assert limited == ["login"]
    assert capsys.readouterr().err.count("sign_in_limited") == 1
    for key in sqlite_stage.redis.keys("*:failed:*"):
        sqlite_stage.redis.delete(key)  # a quarter of an hour goes by
    guess(sqlite_stage, 7)
    limited = [detail for name, detail in sqlite_stage.events() if name == "sign_in_limited"]
    assert limited == ["login"] * 2


def test_of_a_limited_factor_the_trail_says_whose(sqlite_stage: Stage) -> None:
    browser = log_in(sqlite_stage)
    for _ in range(7):
        prove(sqlite_stage, methods.Totp("000000"), step_up=browser.browser_token)

    with sqlite_stage.services.store.read() as connection:
        query = select(SessionEvent.user_id, SessionEvent.detail).where(
            SessionEvent.event == "sign_in_limited"
        )
        assert connection.execute(query).all() == [("ada", "factor")]


def test_a_thousand_failures_get_nowhere_and_lock_nobody_out(sqlite_stage: Stage) -> None:
    """A guesser who knows ada's name, and a scanner that opens every link in her mail."""
    known = log_in(sqlite_stage).known_browser
    link = begin(sqlite_stage, methods.SendLink(BACK, *MAIL))
    opened = methods.Link(last_code(sqlite_stage), link["state"])
    scanner = begin(sqlite_stage, methods.SendLink(BACK, "nobody@example.com", "email"))["login"]
    before = calls(sqlite_stage)

    guesses = guess(sqlite_stage, 500)
    scans = [prove(sqlite_stage, opened, login=scanner) for _ in range(500)]

    assert {answer.reason for answer in guesses} == {
        Reason.INVALID_CREDENTIALS,
        Reason.TOO_MANY_ATTEMPTS,
    }
    assert {answer.reason for answer in scans} == {Reason.WRONG_BROWSER}
    assert calls(sqlite_stage) - before == limits.FAILURES
    assert log_in(sqlite_stage, known_browser=known).verdict is Verdict.AUTHENTICATED
    bob = prove(sqlite_stage, methods.Password("bob", "bob's"))
    assert bob.verdict is Verdict.AUTHENTICATED
    # Nor has the scanner used the link up: it works in the browser where the login began.
    clicked = prove(sqlite_stage, opened, login=link["login"])
    assert clicked.verdict is Verdict.AUTHENTICATED
    assert [e for e, _ in sqlite_stage.events()].count("sign_in_limited") == 1


def test_nobody_may_guess_while_nothing_can_be_counted(sqlite_stage: Stage) -> None:
    nowhere = connect_redis("redis://127.0.0.1:1/0", 1)
    services = replace(sqlite_stage.services, scripts=ScriptRunner(nowhere.connection_pool))
    guesser = Guesser(by=Cause("shop", None), subject=b"ada")

    with pytest.raises(HeldBack):
        limits.count(services, guesser, limits.guesses(guesser))
    limits.give_back(services, guesser, limits.guesses(guesser))
    nowhere.close()


@pytest.mark.parametrize("ask", [limits.count, limits.look])
def test_a_limit_lasts_no_longer_because_redis_clock_was_set_back(
    sqlite_stage: Stage, ask: Callable[[Any, Guesser, Any], None]
) -> None:
    guess(sqlite_stage, 5)
    subject = limits.subject_of(sqlite_stage.services, "username", "ada")
    guesser = Guesser(by=Cause("shop", "another request"), subject=subject)
    (bucket,) = limits.guesses(guesser)
    assert sqlite_stage.redis.pexpire(bucket.key, 24 * 3600 * 1000)  # as it lasts from then on

    with pytest.raises(LoginRefused) as refused:
        ask(sqlite_stage.services, guesser, [bucket])

    assert 0 < (refused.value.retry_after or 0) <= limits.FAILURE_SECONDS
    assert limits.counted(sqlite_stage.services, bucket)[1] <= limits.FAILURE_SECONDS
