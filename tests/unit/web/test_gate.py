"""Who may pass a guarded view: the whole table, page loads and calls."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from session_client.errors import (
    ConfigurationError,
    NotAnswered,
    OutcomeUnknown,
    Unauthorized,
    WorkerUnavailable,
)
from session_client.values import LoginRequired, SessionInfo, StepUpRequired
from session_client.web import (
    Changes,
    Incoming,
    Local,
    MemoryMarks,
    Options,
    Passed,
    Turned,
    Wants,
    glance,
    guard,
)
from session_client.web.local import digest_of
from session_client.web.marks import of_session, of_user
from tests.unit.web.rig import (
    NOW,
    OTHER_TOKEN,
    TOKEN,
    Rig,
    Worker,
    authenticated,
    call,
    form,
    local,
    page,
    request,
)

AWAY = NotAnswered("nobody")
MFA = Wants(amr=("mfa",))
TOO_WEAK = StepUpRequired(
    reason="amr_missing", user_id="ada", session_ref="ref-1", missing_amr=("mfa",)
)
STALE = local(checked_at=NOW - 301)


def live(session_ref: str = "ref-1", amr: tuple[str, ...] = ("pwd",)) -> tuple[SessionInfo, ...]:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    return (
        SessionInfo(
            session_ref=session_ref,
            apps=("shop",),
            amr=amr,
            device_id=None,
            authenticated_at=moment,
            expires_at=moment,
        ),
    )


def decide(
    incoming: Incoming,
    kept: Local | None = None,
    wants: Wants = Wants(),  # noqa: B008 - it is frozen
    rig: Rig | None = None,
    **plans: Any,
) -> tuple[Passed | Turned, Rig]:
    rig = rig or Rig()
    rig.worker = Worker(**plans)
    return rig.run(guard(incoming, rig.options, kept, wants, now=NOW)), rig


def passed(decided: Passed | Turned) -> Passed:
    assert isinstance(decided, Passed), decided
    return decided


def turned(decided: Passed | Turned) -> Turned:
    assert isinstance(decided, Turned), decided
    return decided


def test_who_is_in_and_was_checked_lately_costs_nobody_a_question() -> None:
    for incoming in (page(), call(), form()):
        decided, rig = decide(incoming, local())

        assert passed(decided).user.user_id == "ada"
        assert rig.worker.asked == []


def test_a_page_load_signs_in_silently_and_shows_it_to_no_cache() -> None:
    decided, _ = decide(page(), silent_auth=authenticated(browser_token=OTHER_TOKEN))

    kept = passed(decided).changes.local
    assert kept is not None
    assert (kept.user_id, kept.browser) == ("ada", digest_of(OTHER_TOKEN))
    headers = decided.changes.headers
    assert ("Cache-Control", "no-store") in headers
    assert ("Vary", "Cookie") in headers
    assert any(name == "Set-Cookie" and OTHER_TOKEN in value for name, value in headers)


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Dest": "empty"},
        {"Sec-Fetch-Dest": "iframe", "Accept": "text/html"},
        {"Accept": "application/json"},
        {},
    ],
)
def test_a_call_or_a_frame_signs_nobody_in(headers: dict[str, str]) -> None:
    decided, rig = decide(request("/api", headers), silent_auth=authenticated())

    assert turned(decided).status == 401
    assert turned(decided).body == {
        "error": "login_required",
        "reason": "no_session",
        "login": "/login",
    }
    assert rig.worker.asked == []


def test_a_form_signs_nobody_in_and_leads_back_to_its_page() -> None:
    decided, rig = decide(form(), silent_auth=authenticated())

    assert turned(decided).status == 303
    assert turned(decided).location == "/login?next=/basket%3Fpage%3D2"
    assert rig.worker.asked == []


def test_nobody_at_the_browser_is_led_to_the_login_and_back() -> None:
    for token in (None, OTHER_TOKEN):
        decided, _ = decide(page(token=token), silent_auth=LoginRequired("logged_out"))

        assert turned(decided).location == "/login?next=/basket%3Fpage%3D2"


def test_a_cookie_that_is_gone_or_came_twice_ends_the_local_session_unasked() -> None:
    for incoming in (page(token=None), page(cookies=f"__Host-mosaic-sso={OTHER_TOKEN}")):
        decided, rig = decide(incoming, local())

        assert turned(decided).status == 303
        assert decided.changes.local == local().over()
        assert rig.worker.asked == []


def test_another_user_at_the_browser_empties_the_session_first() -> None:
    for before in (local(), local().over()):
        decided, _ = decide(
            page(token=OTHER_TOKEN), before, silent_auth=authenticated("bob", "ref-2")
        )

        assert passed(decided).user.user_id == "bob"
        assert decided.changes.empties


def test_a_form_of_the_user_before_does_nothing_for_the_user_now() -> None:
    decided, _ = decide(form(token=OTHER_TOKEN), local(), silent_auth=authenticated("bob"))

    assert turned(decided).location == "/basket?page=2"
    assert decided.changes.empties
    decided, _ = decide(call(token=OTHER_TOKEN), local(), silent_auth=authenticated("bob"))
    assert turned(decided).status == 401
    assert decided.changes.local == local().over()


def test_the_same_session_under_a_newer_token_goes_on() -> None:
    answer = authenticated(amr=("pwd", "mfa"))
    for incoming in (page(token=OTHER_TOKEN), call(token=OTHER_TOKEN), form(token=OTHER_TOKEN)):
        decided, _ = decide(incoming, local(), silent_auth=answer)

        kept = passed(decided).changes.local
        assert kept is not None
        assert (kept.amr, kept.browser) == (("pwd", "mfa"), digest_of(OTHER_TOKEN))
        assert not decided.changes.empties


def test_a_replaced_token_loads_the_page_again_once() -> None:
    replaced = LoginRequired("token_replaced")

    first, _ = decide(page(), silent_auth=replaced)
    again, _ = decide(page(cookies="mosaic-again=1"), silent_auth=replaced)
    of_a_call, _ = decide(call(), local(browser="other"), silent_auth=replaced)

    assert turned(first).location == "/basket?page=2"
    assert ("Set-Cookie", "mosaic-again=1; Path=/; Max-Age=5; HttpOnly; SameSite=Lax") in (
        first.changes.headers
    )
    assert str(turned(again).location).startswith("/login?")
    assert turned(of_a_call).status == 401


def test_what_came_with_a_token_that_another_tab_has_replaced_ends_nothing_here() -> None:
    # A store of sessions has what that tab wrote, and so has the browser's jar of signed cookies.
    for written in (local(browser=digest_of(OTHER_TOKEN)), local(renew_at=NOW, checked_at=0)):
        for late in (call(), form(), page(cookies="mosaic-again=1")):
            decided, _ = decide(late, written, silent_auth=LoginRequired("token_replaced"))

            assert turned(decided).status in {303, 401}
            assert decided.changes.local is None


def test_a_stronger_page_asks_for_a_factor_and_leaves_the_session_alone() -> None:
    for incoming in (page(), form()):
        decided, rig = decide(incoming, local(), MFA, silent_auth=TOO_WEAK)

        assert turned(decided).location == "/step-up?next=/basket%3Fpage%3D2"
        assert decided.changes.local is None
        assert rig.worker.calls[0][1]["amr_all_of"] == ("mfa",)


def test_a_stronger_call_is_told_what_is_missing() -> None:
    decided, _ = decide(call(), local(), Wants(amr=("mfa",), max_age=60), silent_auth=TOO_WEAK)

    assert turned(decided).status == 401
    assert turned(decided).body == {
        "error": "insufficient_user_authentication",
        "missing_amr": ["mfa"],
        "step_up": "/step-up",
        "max_age": 60,
    }


def test_a_factor_that_was_added_at_another_app_counts_here() -> None:
    decided, _ = decide(call(), local(), MFA, silent_auth=authenticated(amr=("pwd", "mfa")))

    assert passed(decided).user.amr == ("pwd", "mfa")


@pytest.mark.parametrize(
    ("wants", "is_met"),
    [
        (Wants(max_age=100), True),
        (Wants(max_age=99), False),
        (Wants(amr_any_of=("otp", "pwd")), True),
        (Wants(amr_any_of=("otp",)), False),
        (Wants(amr=("pwd", "otp")), False),
    ],
)
def test_what_a_view_wants_is_held_to_what_is_known(wants: Wants, *, is_met: bool) -> None:
    decided, rig = decide(page(), local(), wants, silent_auth=TOO_WEAK)

    assert isinstance(decided, Passed) is is_met
    assert bool(rig.worker.calls) is not is_met


def test_a_login_of_unknown_age_is_new_for_no_page() -> None:
    decided, _ = decide(page(), silent_auth=authenticated(auth_age=None))
    kept = passed(decided).changes.local

    again, rig = decide(page(), kept, Wants(max_age=60), silent_auth=TOO_WEAK)

    assert turned(again).status == 303
    assert rig.worker.asked == ["silent_auth"]


def test_a_mark_ends_the_session_at_once() -> None:
    rig = Rig()
    rig.options.marks.put(of_session("ref-1"), NOW - 1, 60)

    on_page, _ = decide(page(), local(), rig=rig)
    on_call, _ = decide(call(), local(), rig=rig)

    assert turned(on_page).location == "/login?next=/basket%3Fpage%3D2"
    assert turned(on_call).status == 401


def test_a_notice_that_overtakes_the_answer_still_counts() -> None:
    for name in (of_session("ref-1"), of_user("ada")):
        rig = Rig()

        def meanwhile(_: object, name: str = name, rig: Rig = rig) -> Any:
            rig.options.marks.put(name, NOW + 0.1, 60)
            return authenticated()

        decided, _ = decide(page(), rig=rig, silent_auth=meanwhile)

        assert turned(decided).status == 303
        assert decided.changes.local is None


def test_a_mark_of_the_user_makes_the_worker_say_which_sessions_live() -> None:
    rig = Rig()
    rig.options.marks.put(of_user("ada"), NOW - 1, 60)

    lives, _ = decide(page(), local(), rig=rig, status=live())
    ended, _ = decide(page(), local(), rig=rig, status=())
    unknown, _ = decide(page(), local(), rig=rig, status=AWAY)
    newer, _ = decide(page(), local(checked_at=NOW - 0.5), rig=rig)

    assert passed(lives).changes.local == local(checked_at=NOW)
    assert turned(ended).status == 303
    assert turned(unknown).status == 503
    assert isinstance(newer, Passed)


def test_without_marks_a_session_is_right_within_the_recheck() -> None:
    options = Options()
    for sessions, is_in in ((live(), True), (live("another"), False), ((), False)):
        decided, rig = decide(page(), STALE, rig=Rig(options=options), status=sessions)

        assert isinstance(decided, Passed) is is_in
        assert rig.worker.asked == ["status"]


def test_a_recheck_learns_of_factors_and_is_remembered() -> None:
    decided, _ = decide(call(), STALE, status=live(amr=("pwd", "mfa")))

    assert passed(decided).changes.local == local(amr=("pwd", "mfa"), checked_at=NOW)


def test_half_way_to_its_end_a_session_is_renewed_and_not_only_looked_up() -> None:
    decided, rig = decide(page(), replace(STALE, renew_at=NOW - 1), silent_auth=authenticated())

    kept = passed(decided).changes.local
    assert kept is not None
    assert kept.renew_at == NOW + 5_000
    assert rig.worker.asked == ["silent_auth"]


def test_marks_that_cannot_be_read_make_the_worker_be_asked() -> None:
    class Broken(MemoryMarks):
        def look(self, *_: object) -> dict[str, float]:
            raise OSError

    rig = Rig(options=Options(marks=Broken()))

    assert isinstance(decide(page(), local(), rig=rig, status=live())[0], Passed)
    assert turned(decide(page(), local(), rig=rig, status=())[0]).status == 303


@pytest.mark.parametrize("error", [AWAY, WorkerUnavailable("rate_limited", retry_after=7.0)])
def test_a_worker_that_is_away_is_no_reason_to_log_in_again(error: Exception) -> None:
    for incoming, kept, wants in (
        (page(), None, Wants()),
        (call(), local(browser="other"), Wants()),
        (page(), local(), MFA),
        (page(), local(checked_at=NOW - 1201), Wants()),
    ):
        decided, _ = decide(incoming, kept, wants, silent_auth=error, status=error)

        assert turned(decided).status == 503
        assert turned(decided).location is None
        assert decided.changes.local is None
        assert dict(decided.changes.headers)["Retry-After"] in {"5", "7"}


def test_who_was_checked_lately_stays_in_while_the_worker_is_away() -> None:
    rig = Rig()
    for incoming in (page(), call(), form()):
        decided, _ = decide(incoming, local(checked_at=NOW - 1199), rig=rig, status=AWAY)

        assert passed(decided).changes.local is None

    assert rig.worker.asked == []  # the second and third did not wait for it again


def test_who_is_too_weak_ends_the_local_session_of_somebody_else() -> None:
    for user_id in ("ada", "bob"):
        kept = local(user_id, browser=digest_of(OTHER_TOKEN))
        decided, _ = decide(page(), kept, silent_auth=TOO_WEAK)

        assert turned(decided).location == "/step-up?next=/basket%3Fpage%3D2"
        assert turned(decided).changes.local == (kept.over() if user_id == "bob" else None)


def test_a_clock_that_was_set_back_does_not_spare_the_recheck() -> None:
    decided, rig = decide(page(), local(checked_at=NOW + 100), status=())

    assert turned(decided).status == 303
    assert rig.worker.asked == ["status"]


def test_a_clock_that_was_set_back_keeps_nobody_in_while_the_worker_is_away() -> None:
    decided, _ = decide(page(), local(checked_at=NOW + 100), status=AWAY)

    assert turned(decided).status == 503


def test_what_is_wrong_with_the_app_is_its_error_and_never_a_login() -> None:
    with pytest.raises(Unauthorized):
        decide(page(), silent_auth=Unauthorized("wrong_key", "r" * 16))
    with pytest.raises(Unauthorized):
        decide(page(), STALE, status=Unauthorized("wrong_key", "r" * 16))


def test_a_login_page_that_is_guarded_itself_is_an_error_and_no_endless_redirect() -> None:
    for path, given, plans in (
        ("/login", None, {}),
        ("/login?next=/basket", TOKEN, {"silent_auth": LoginRequired("logged_out")}),
        ("/step-up?next=/", TOKEN, {"silent_auth": TOO_WEAK}),
    ):
        with pytest.raises(ConfigurationError, match=r"^(login|step_up): .* take signed_in off"):
            decide(page(path, token=given), **plans)

    for path in ("/login", "/step-up"):  # who is in sees a guarded page
        passed(decide(page(path), local())[0])
    other, _ = decide(page("/login", token=TOKEN), wants=MFA, silent_auth=TOO_WEAK)
    assert turned(other).location == "/step-up?next=/login"


def test_a_page_that_is_loaded_again_leads_on() -> None:
    replaced = LoginRequired("token_replaced")
    decided, _ = decide(page("/step-up?next=/"), silent_auth=replaced)
    assert turned(decided).location == "/step-up?next=/"

    again = page("/login", cookies="mosaic-again=1")
    with pytest.raises(ConfigurationError, match=r"^login: .* take signed_in off"):
        decide(again, silent_auth=replaced)


def test_a_form_leads_to_the_page_that_it_is_on_whose_view_for_get_may_be_open() -> None:
    signed_out, _ = decide(form("/", token=None), rig=Rig(options=Options(login="/")))
    too_weak, _ = decide(form("/step-up"), local(), MFA, silent_auth=TOO_WEAK)

    assert str(turned(signed_out).location).startswith("/?next=")
    assert str(turned(too_weak).location).startswith("/step-up?next=")


def test_no_path_is_an_error() -> None:
    for path in ("//[", "//[x]:y/", "/[", "//"):
        decided, _ = decide(page(path, token=None))

        assert str(turned(decided).location).startswith("/login?next=/")


def test_a_glance_at_an_open_login_page_is_no_error() -> None:
    rig = Rig(Worker())
    seen = rig.run(glance(page("/login", token=None), rig.options, local(), silently=True, now=NOW))

    assert isinstance(seen, Changes)


def test_an_unknown_outcome_says_begin_anew() -> None:
    decided, _ = decide(page(), silent_auth=OutcomeUnknown("lost"))

    assert "begin anew" in str(turned(decided).body)


def test_a_request_with_effects_from_elsewhere_is_refused_whoever_is_in() -> None:
    for headers in (
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "https://evil.shop.example"},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {},
    ):
        for method in ("POST", "PUT", "DELETE", "PATCH", "TRACE"):
            decided, _ = decide(request("/", headers, method=method), local())

            assert turned(decided).status == 403


def test_a_request_from_here_or_from_an_origin_we_trust_is_none_from_elsewhere() -> None:
    rig = Rig(options=Options(trusted_origins=["https://www.example"]))
    for headers in (
        {"Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "https://shop.example"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://www.example"},
    ):
        decided, _ = decide(request("/", headers, method="POST"), local(), rig=rig)

        assert isinstance(decided, Passed), headers


def looked(incoming: Incoming, kept: Local | None, *, silently: bool = False, **plans: Any) -> Any:
    rig = Rig(Worker(**plans))
    steps = glance(incoming, rig.options, kept, silently=silently, now=NOW)
    return rig.run(steps), rig.worker.asked


def test_a_glance_tells_who_is_in_and_signs_nobody_in_unless_it_may() -> None:
    answer = authenticated()

    who, asked = looked(page(), local())
    nobody, _ = looked(page(), None, silent_auth=answer)
    silently, _ = looked(page(), None, silently=True, silent_auth=answer)
    of_a_form, _ = looked(form(), None, silently=True, silent_auth=answer)

    assert passed(who).user.user_id == "ada"
    assert asked == []
    assert nobody == of_a_form == Changes()
    assert passed(silently).user.user_id == "ada"


def test_a_glance_ends_what_has_ended_and_leaves_the_rest() -> None:
    ended, _ = looked(page(), STALE, status=())
    away, _ = looked(page(), local(checked_at=NOW - 1201), status=AWAY)
    weak, _ = looked(page(token=OTHER_TOKEN), local(), silent_auth=TOO_WEAK)
    another, _ = looked(form(token=OTHER_TOKEN), local(), silent_auth=authenticated("bob"))

    assert ended == Changes(local=STALE.over())
    assert away == weak == Changes()
    assert another == Changes(local=local().over())
