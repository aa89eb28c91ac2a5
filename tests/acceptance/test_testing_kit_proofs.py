"""What proves people: the same stories run against the testing kit and the real worker."""

from __future__ import annotations

from typing import Any

import pytest

from session_client import (
    Authenticated,
    BeginTotpTransaction,
    BeginWebauthn,
    Code,
    Denied,
    InvalidRequest,
    IssueLink,
    IssueOtp,
    Link,
    LinkIssued,
    LoginRequired,
    Password,
    SendOtp,
    Totp,
    TotpTransaction,
    TotpTransactionBegun,
    Webauthn,
    WebauthnBegun,
)
from session_client.begun import CodeIssued, CodeSent
from tests.acceptance.kit_rig import PASSWORD, World, pretended, real, session_worker, world

__all__ = ["pretended", "real", "session_worker", "world"]

NOT_PROVEN = Denied("invalid_credentials")


def passkey_asked(world: World, token: str | None = None) -> WebauthnBegun:
    begun = world.forum.start(BeginWebauthn(), step_up=token)
    assert isinstance(begun, WebauthnBegun)
    return begun


def test_an_authenticator_app_signs_in_and_its_code_serves_once(world: World) -> None:
    world.add_user("ada")
    code = world.totp_for("ada")

    signed_in = world.forum.authenticate(Totp(code, "ada", "user_id"))
    again = world.forum.authenticate(Totp(code, "ada", "user_id"))
    wrong = world.forum.authenticate(Totp("12", "ada", "user_id"))

    assert isinstance(signed_in, Authenticated)
    assert (signed_in.user_id, signed_in.amr) == ("ada", ("totp",))
    assert again == wrong == NOT_PROVEN


def test_who_has_no_authenticator_app_is_not_signed_in_by_one(world: World) -> None:
    world.add_user("bob")

    named = world.forum.authenticate(Totp("123456", "bob", "user_id"))
    nobody = world.forum.authenticate(Totp("123456", "nobody", "user_id"))

    assert named == nobody == NOT_PROVEN


def test_an_authenticator_app_is_a_factor_of_its_own(world: World) -> None:
    world.add_user("cleo")
    token = world.login("cleo").browser_token

    wrong = world.forum.authenticate(Totp("12"), step_up=token)
    stronger = world.forum.authenticate(Totp(world.totp_for("cleo")), step_up=token)

    assert wrong == NOT_PROVEN
    assert isinstance(stronger, Authenticated)
    assert set(stronger.amr) == {"pwd", "totp", "mfa"}
    assert world.shop.silent_auth(browser_token=token) == LoginRequired("token_replaced")


def test_a_passkey_signs_in_whoever_holds_it_and_answers_once(world: World) -> None:
    world.add_user("dan")
    passkey, begun = world.add_passkey("dan"), passkey_asked(world)
    result = passkey.answer(begun.options)

    signed_in = world.forum.authenticate(Webauthn(result), login=begun.login)
    again = world.forum.authenticate(Webauthn(result), login=begun.login)

    assert isinstance(signed_in, Authenticated)
    assert (signed_in.user_id, signed_in.amr) == ("dan", ("webauthn",))
    assert again == Denied("code_expired")


def test_a_passkey_is_asked_of_a_named_user_who_has_one(world: World) -> None:
    world.add_user("eli")
    without = world.forum.start(BeginWebauthn("eli"))

    passkey = world.add_passkey("eli")
    begun = world.forum.start(BeginWebauthn("eli"))
    assert isinstance(begun, WebauthnBegun)
    signed_in = world.forum.authenticate(Webauthn(passkey.answer(begun.options)), login=begun.login)

    assert without == NOT_PROVEN
    allowed = begun.options["credential_request_options"]["allowCredentials"]
    assert len(allowed) == 1
    assert isinstance(signed_in, Authenticated)


def test_what_no_passkey_has_signed_proves_nobody(world: World) -> None:
    world.add_user("fay")
    world.add_user("gil")
    holder, other = world.add_passkey("fay"), world.add_passkey("gil")
    garbled, not_asked, named = (
        passkey_asked(world),
        passkey_asked(world),
        world.forum.start(BeginWebauthn("fay")),
    )
    assert isinstance(named, WebauthnBegun)
    made_up = {**not_asked.options, "webauthn_session_id": "made up"}

    answers = [
        world.forum.authenticate(Webauthn("garbled"), login=garbled.login),
        world.forum.authenticate(Webauthn(holder.answer(made_up)), login=not_asked.login),
        world.forum.authenticate(Webauthn(other.answer(named.options)), login=named.login),
    ]

    assert answers == [NOT_PROVEN] * 3


def test_a_passkey_is_a_factor_of_its_holders_session_alone(world: World) -> None:
    world.add_user("hal")
    world.add_user("ira")
    token = world.login("hal").browser_token
    mine, other = world.add_passkey("hal"), world.add_passkey("ira")

    begun = passkey_asked(world, token)
    of_another = world.forum.authenticate(
        Webauthn(other.answer(begun.options)), login=begun.login, step_up=token
    )
    begun = passkey_asked(world, token)
    stronger = world.forum.authenticate(
        Webauthn(mine.answer(begun.options)), login=begun.login, step_up=token
    )

    assert of_another == NOT_PROVEN
    assert isinstance(stronger, Authenticated)
    assert set(stronger.amr) == {"pwd", "webauthn", "mfa"}


def test_another_users_password_adds_nothing(world: World) -> None:
    world.add_user("jo")
    world.add_user("kay")
    token = world.login("jo").browser_token

    wrong = world.forum.authenticate(Password("kay", "wrong"), step_up=token)
    right = world.forum.authenticate(Password("kay", PASSWORD), step_up=token)

    assert wrong == right == NOT_PROVEN
    assert isinstance(world.forum.silent_auth(browser_token=token), Authenticated)


def test_a_user_is_found_by_an_address(world: World) -> None:
    world.add_user("lea")

    begun = world.forum.start(SendOtp("email", "lea@example.com", "email"))
    assert isinstance(begun, CodeSent)
    by_code = world.forum.authenticate(Code(world.code_for("lea")), login=begun.login)
    by_password = world.forum.authenticate(Password("lea@example.com", PASSWORD, "email"))
    as_a_name = world.forum.authenticate(Password("lea@example.com", PASSWORD))

    assert as_a_name == NOT_PROVEN
    for signed_in, factor in ((by_code, "eotp"), (by_password, "pwd")):
        assert isinstance(signed_in, Authenticated)
        assert (signed_in.user_id, signed_in.amr) == ("lea", (factor,))


def test_a_link_counts_with_its_own_state_and_once(world: World) -> None:
    world.add_user("lars")
    begun = world.forum.start(IssueLink("https://forum.example/back", "lars", "user_id"))
    assert isinstance(begun, LinkIssued)

    elsewhere = world.forum.authenticate(Link(begun.code, "another state"), login=begun.login)
    as_a_code = world.forum.authenticate(Code(begun.code), login=begun.login)
    signed_in = world.forum.authenticate(Link(begun.code, begun.state), login=begun.login)
    again = world.forum.authenticate(Link(begun.code, begun.state), login=begun.login)

    assert elsewhere == as_a_code == Denied("wrong_browser")
    assert isinstance(signed_in, Authenticated)
    assert signed_in.amr == ("eml",)
    assert again == Denied("code_expired")


def test_a_handle_that_is_none_leads_nowhere(world: World) -> None:
    world.add_user("mia")
    token = world.login("mia").browser_token
    begun = world.forum.start(IssueOtp("mia", "user_id"))
    assert isinstance(begun, CodeIssued)

    made_up = world.forum.authenticate(Code(begun.code), login="made up")
    as_a_factor = world.forum.authenticate(Code(begun.code), login=begun.login, step_up=token)

    assert made_up == as_a_factor == Denied("wrong_browser")


PAYMENT = {"payee": "DE02120300000000202051", "amount": "12.50"}


def test_a_user_approves_by_an_authenticator_app(world: World) -> None:
    world.add_user("kay")
    token = world.login("kay").browser_token
    begun = world.forum.start(BeginTotpTransaction(), step_up=token, approval_data=PAYMENT)
    assert isinstance(begun, TotpTransactionBegun)

    codes = (world.totp_for("kay"), world.totp_for("kay", begun.challenge))
    proofs = [TotpTransaction(code) for code in codes]
    of_now, of_this = [
        world.forum.authenticate(proof, login=begun.login, step_up=token) for proof in proofs
    ]

    assert of_now == NOT_PROVEN
    assert isinstance(of_this, Authenticated)
    assert of_this.approval_data == PAYMENT
    assert set(of_this.amr) == {"pwd", "totp", "mfa"}


def test_a_user_approves_by_a_code_and_by_a_passkey(world: World) -> None:
    world.add_user("lea")
    token = world.login("lea").browser_token
    passkey = world.add_passkey("lea")

    sent = world.forum.start(SendOtp("sms"), step_up=token, approval_data=PAYMENT)
    assert isinstance(sent, CodeSent)
    code = Code(world.code_for("lea"))
    by_code = world.forum.authenticate(code, login=sent.login, step_up=token)
    assert isinstance(by_code, Authenticated)
    token = by_code.browser_token
    asked = world.forum.start(BeginWebauthn(), step_up=token, approval_data=PAYMENT)
    assert isinstance(asked, WebauthnBegun)
    signed = Webauthn(passkey.answer(asked.options))
    by_passkey = world.forum.authenticate(signed, login=asked.login, step_up=token)

    assert isinstance(by_passkey, Authenticated)
    assert by_code.approval_data == by_passkey.approval_data == PAYMENT


def test_who_is_asked_to_approve_nothing_approves_nothing(world: World) -> None:
    world.add_user("mo")
    token = world.login("mo").browser_token

    answer = world.forum.authenticate(Totp(world.totp_for("mo")), step_up=token)

    assert isinstance(answer, Authenticated)
    assert answer.approval_data is None


def test_a_proof_that_comes_again_under_its_request_id_is_answered_as_before(world: World) -> None:
    world.add_user("nan")
    token = world.login("nan").browser_token
    begun = world.forum.start(SendOtp("sms"), step_up=token)
    assert isinstance(begun, CodeSent)
    code = Code(world.code_for("nan"))
    named: dict[str, Any] = {"login": begun.login, "step_up": token, "request_id": "n" * 16}

    once, twice = (world.forum.authenticate(code, **named) for _ in range(2))
    with pytest.raises(InvalidRequest, match="request_id_reused"):
        world.forum.authenticate(Code("12"), **named)
    world.forum.logout(browser_token=token)
    ended = world.forum.authenticate(code, **named)

    assert isinstance(once, Authenticated)
    assert isinstance(twice, Authenticated)
    assert (twice.tokens, twice.browser_token) == (once.tokens, once.browser_token)
    assert ended == LoginRequired("logged_out")
