"""The testing kit's pretend worker answers as the real one: the same stories run against both."""

from __future__ import annotations

from pathlib import Path

import pytest

from session_client import (
    Authenticated,
    Code,
    Denied,
    InvalidRequest,
    IssueOtp,
    LoginRequired,
    LogoutSpool,
    Password,
    SendOtp,
    SpoolCounts,
    SqliteSpool,
    StepUpRequired,
    Totp,
    Unauthorized,
)
from session_client.begun import CodeIssued, CodeSent
from tests.acceptance.kit_rig import PASSWORD, World, pretended, real, session_worker, world

__all__ = ["pretended", "real", "session_worker", "world"]

MFA = ("mfa",)


def test_a_login_is_known_at_the_other_app_by_token_and_by_reference(world: World) -> None:
    world.add_user("ada")

    login = world.login("ada")
    known = world.shop.silent_auth(browser_token=login.browser_token)
    named = world.shop.silent_auth(user_id="ada", session_ref=login.session_ref)
    (listed,) = world.forum.status(user_id="ada")

    assert (login.user_id, login.amr, login.claims["sub"]) == ("ada", ("pwd",), "ada")
    assert login.browser_token is not None
    assert isinstance(known, Authenticated)
    assert isinstance(named, Authenticated)
    assert known.browser_token is None
    assert known.auth_age is not None
    assert {known.session_ref, named.session_ref, listed.session_ref} == {login.session_ref}
    assert world.forum.status(user_id="ada", session_ref="0" * 8 + login.session_ref[8:]) == ()


def test_what_names_nobody_is_no_session(world: World) -> None:
    world.add_user("bob")
    world.add_user("eve")
    login = world.login("bob")

    made_up = world.shop.silent_auth(browser_token="msb1_" + "x" * 43)
    of_another = world.shop.silent_auth(user_id="eve", session_ref=login.session_ref)
    nobody = world.shop.silent_auth(browser_token=None)

    assert made_up == of_another == nobody == LoginRequired("no_session")


def test_a_wrong_password_and_a_user_who_is_none_are_denied_alike(world: World) -> None:
    world.add_user("carl")

    wrong = world.forum.authenticate(Password("carl", "wrong"))
    unknown = world.forum.authenticate(Password("nobody", PASSWORD))

    assert wrong == unknown == Denied("invalid_credentials")


def test_a_logout_ends_the_session_by_every_name_and_once(world: World) -> None:
    world.add_user("dora")
    login = world.login("dora")

    first = world.shop.logout(browser_token=login.browser_token)
    again = world.shop.logout(browser_token=login.browser_token)

    assert (first.sessions_ended, again.sessions_ended) == (1, 0)
    for answer in (
        world.forum.silent_auth(browser_token=login.browser_token),
        world.forum.silent_auth(user_id="dora", session_ref=login.session_ref),
    ):
        assert answer == LoginRequired("logged_out")
    assert world.forum.status(user_id="dora") == ()


def test_a_device_is_logged_out_by_its_name(world: World) -> None:
    world.add_user("kit")
    world.login("kit")
    answer = world.forum.authenticate(Password("kit", PASSWORD), device_id="laptop")
    assert isinstance(answer, Authenticated)
    token = answer.browser_token

    named = world.forum.silent_auth(browser_token=token, device_id="laptop")
    unnamed = world.forum.silent_auth(browser_token=token)
    another = world.forum.silent_auth(browser_token=token, device_id="phone")
    receipt = world.forum.logout(user_id="kit", device_id="laptop")

    assert [type(found) for found in (named, unnamed)] == [Authenticated, Authenticated]
    assert another == LoginRequired("no_session")
    assert receipt.sessions_ended == 1
    assert len(world.forum.status(user_id="kit")) == 1


def test_a_user_id_alone_is_served_where_that_is_allowed(world: World) -> None:
    world.add_user("lea")
    login = world.login("lea")

    by_id = world.shop.silent_auth(user_id="lea")
    world.shop.logout(browser_token=login.browser_token)

    assert isinstance(by_id, Authenticated)
    assert world.shop.silent_auth(user_id="lea") == LoginRequired("logged_out")
    assert world.shop.silent_auth(user_id="never-seen") == LoginRequired("no_session")


def test_one_factor_of_several_is_enough_where_a_page_says_so(world: World) -> None:
    world.add_user("mo")
    token = world.login("mo").browser_token

    enough = world.shop.silent_auth(browser_token=token, amr_any_of=("pwd", "totp"))
    too_weak = world.shop.silent_auth(browser_token=token, amr_any_of=("totp", "sms"))

    assert isinstance(enough, Authenticated)
    assert isinstance(too_weak, StepUpRequired)
    assert set(too_weak.missing_amr) == {"totp", "sms"}


def test_a_login_ends_the_session_that_the_browser_came_with(world: World) -> None:
    world.add_user("finn")
    first = world.login("finn")

    second = world.login("finn", replaces=first.browser_token)

    assert world.forum.silent_auth(browser_token=first.browser_token) == LoginRequired("replaced")
    assert isinstance(world.forum.silent_auth(browser_token=second.browser_token), Authenticated)


def test_a_factor_raises_the_session_of_this_browser_for_all_apps(world: World) -> None:
    world.add_user("gus")
    login = world.login("gus")
    weak = world.shop.silent_auth(browser_token=login.browser_token, amr_all_of=MFA)

    begun = world.forum.start(IssueOtp(), step_up=login.browser_token)
    assert isinstance(begun, CodeIssued)
    stronger = world.forum.authenticate(
        Code(begun.code), login=begun.login, step_up=login.browser_token
    )

    assert isinstance(weak, StepUpRequired)
    assert (weak.user_id, weak.missing_amr, weak.browser_token) == ("gus", MFA, None)
    assert isinstance(stronger, Authenticated)
    assert stronger.session_ref == login.session_ref
    assert set(stronger.amr) == {"pwd", "otp", "mfa"}
    old = world.shop.silent_auth(browser_token=login.browser_token)
    new = world.shop.silent_auth(browser_token=stronger.browser_token, amr_all_of=MFA)
    assert old == LoginRequired("token_replaced")
    assert isinstance(new, Authenticated)


def test_a_code_counts_where_it_was_begun_alone(world: World) -> None:
    world.add_user("hal")
    mine, other = world.login("hal"), world.login("hal")
    begun = world.forum.start(IssueOtp(), step_up=mine.browser_token)
    assert isinstance(begun, CodeIssued)

    elsewhere = world.forum.authenticate(
        Code(begun.code), login=begun.login, step_up=other.browser_token
    )
    wrong = world.forum.authenticate(Code("wrong"), login=begun.login, step_up=mine.browser_token)
    right = world.forum.authenticate(
        Code(begun.code), login=begun.login, step_up=mine.browser_token
    )

    assert elsewhere == Denied("wrong_browser")
    assert wrong == Denied("invalid_credentials")
    assert isinstance(right, Authenticated)


def test_a_code_by_text_message_is_a_factor_of_its_own(world: World) -> None:
    world.add_user("josephine")
    login = world.login("josephine")

    begun = world.forum.start(SendOtp("sms"), step_up=login.browser_token)
    assert isinstance(begun, CodeSent)
    stronger = world.forum.authenticate(
        Code(world.code_for("josephine")), login=begun.login, step_up=login.browser_token
    )

    assert isinstance(stronger, Authenticated)
    assert set(stronger.amr) == {"pwd", "sms", "mfa"}


def test_nobody_adds_a_factor_to_a_session_that_has_ended(world: World) -> None:
    world.add_user("ida")
    login = world.login("ida")
    begun = world.forum.start(IssueOtp(), step_up=login.browser_token)
    assert isinstance(begun, CodeIssued)
    world.shop.logout(browser_token=login.browser_token)

    late = world.forum.authenticate(
        Code(begun.code), login=begun.login, step_up=login.browser_token
    )

    assert late == LoginRequired("logged_out")
    assert world.forum.start(IssueOtp(), step_up=login.browser_token) == late


def test_what_an_app_does_not_share_it_can_neither_see_nor_end(world: World) -> None:
    world.add_user("nina")
    login = world.login("nina")

    by_reference = world.shop.silent_auth(user_id="nina", session_ref=login.session_ref)
    with pytest.raises(Unauthorized, match="not_permitted"):
        world.shop.logout(user_id="nina", session_ref=login.session_ref)
    with pytest.raises(InvalidRequest, match="no_session"):
        world.shop.logout(user_id="nina", session_ref="0" * 8 + login.session_ref[8:])

    assert by_reference == LoginRequired("no_session")
    assert world.shop.status(user_id="nina") == ()
    assert len(world.forum.status(user_id="nina")) == 1


def test_power_over_people_who_are_not_there_is_given_by_the_operator(world: World) -> None:
    world.add_user("olga")
    world.login("olga")

    with pytest.raises(Unauthorized, match="not_permitted"):
        world.forum.logout(user_id="olga", everywhere=True)
    with pytest.raises(Unauthorized, match="not_permitted"):
        world.forum.revoke_user("olga")

    assert len(world.forum.status(user_id="olga")) == 1


def test_a_receipt_can_be_asked_for_again(world: World) -> None:
    world.add_user("pia")
    login = world.login("pia")

    receipt = world.forum.logout(browser_token=login.browser_token, wait="idp", timeout=30)

    assert receipt.receipt_id is not None
    assert (receipt.idp_confirmed, receipt.session_refs) == (1, (login.session_ref,))
    assert world.forum.receipt(receipt.receipt_id) == receipt
    with pytest.raises(InvalidRequest, match="no_receipt"):
        world.forum.receipt("0" * 8 + receipt.receipt_id[8:])


def test_two_tabs_at_once_may_both_add_a_factor(world: World) -> None:
    world.add_user("quin")
    token = world.login("quin").browser_token

    first = world.forum.authenticate(Totp(world.totp_for("quin")), step_up=token)
    second = world.forum.authenticate(Password("quin", PASSWORD), step_up=token)

    assert isinstance(first, Authenticated)
    assert isinstance(second, Authenticated)
    assert second.browser_token is None  # the newer one stays in the browser
    assert isinstance(world.shop.silent_auth(browser_token=first.browser_token), Authenticated)
    assert world.forum.start(IssueOtp(), step_up=token) == LoginRequired("token_replaced")


def test_a_spooled_logout_is_committed_or_refused_alike(world: World, tmp_path: Path) -> None:
    world.add_user("rosa")
    login = world.login("rosa")
    spool = LogoutSpool(world.forum, SqliteSpool(tmp_path / "logouts.db"), thread=False)

    spool.logout(browser_token=login.browser_token)
    refused = spool.logout(user_id="rosa", session_ref="0" * 8 + login.session_ref[8:])
    delivered = spool.deliver(timeout=30)

    assert (delivered, spool.counts()) == (1, SpoolCounts(waiting=0, refused=1))
    kept = {one.request_id: one.refused for one in spool.refused()}
    assert kept == {refused: "invalid_request: no_session"}
    assert world.shop.silent_auth(browser_token=login.browser_token) == LoginRequired("logged_out")
