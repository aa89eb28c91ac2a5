"""The testing kit's pretend worker answers as the real one: the same stories run against both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

import pytest

from sandbox.stack import Stack
from session_client import (
    AppKey,
    Authenticated,
    Code,
    Denied,
    IssueOtp,
    LoginRequired,
    Password,
    SendOtp,
    SessionClient,
    StepUpRequired,
)
from session_client.begun import CodeIssued, CodeSent
from session_client.testing import SessionWorker, session_worker

__all__ = ["session_worker"]

PASSWORD = "a password"
MFA = ("mfa",)


@dataclass
class World:
    """Two apps of one worker, real or not."""

    forum: SessionClient
    shop: SessionClient
    add_user: Callable[[str], None]
    code_for: Callable[[str], str]

    def login(self, user_id: str, replaces: str | None = None) -> Authenticated:
        answer = self.forum.authenticate(Password(user_id, PASSWORD), replaces=replaces, timeout=30)
        assert isinstance(answer, Authenticated)
        return answer


@pytest.fixture(scope="module")
def real() -> Iterator[World]:
    numbers, methods = count(), "password,otp,otp_direct"
    with Stack() as stack:
        stack.migrate()
        keys = {app: stack.add_app(app, "--methods", methods) for app in ("forum", "shop")}
        stack.worker()
        forum, shop = (
            SessionClient(broker_url=stack.broker_url, app_id=app, app_key=key)
            for app, key in keys.items()
        )
        with forum, shop:
            yield World(
                forum,
                shop,
                lambda user: stack.mosaic.add_user(
                    user, password=PASSWORD, phone=f"+44163296{next(numbers):04}"
                ),
                lambda user: stack.mosaic.outbox.sent(user)[-1].code,
            )


@pytest.fixture
def pretended(session_worker: SessionWorker) -> World:
    forum, shop = (
        SessionClient(broker_url="redis://nobody", app_id=app, app_key=AppKey.generate())
        for app in ("forum", "shop")
    )
    session_worker.allow("silent_by_user")  # as the apps of the real one may
    return World(
        forum,
        shop,
        lambda user: session_worker.add_user(user, PASSWORD),
        session_worker.code_for,
    )


@pytest.fixture(params=["real", "pretended"])
def world(request: pytest.FixtureRequest) -> World:
    found: World = request.getfixturevalue(request.param)
    return found


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
