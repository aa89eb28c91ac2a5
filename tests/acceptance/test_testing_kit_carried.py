"""Tickets and refresh tokens: the same stories run against the testing kit and the real worker."""

from __future__ import annotations

import pytest

from session_client import (
    Authenticated,
    Code,
    IssueOtp,
    LoginRequired,
    Ticket,
    Tokens,
    Unauthorized,
)
from session_client.begun import CodeIssued
from session_client.contract import challenge_of
from session_client.requests import new_verifier
from tests.acceptance.kit_rig import (
    ARRIVAL,
    World,
    pretended,
    real,
    session_worker,
    world,
)

__all__ = ["pretended", "real", "session_worker", "world"]

REFUSED = LoginRequired("ticket_refused")


def at_the_shop(world: World, user_id: str) -> str:
    """Sign somebody in at the shop, and return the browser's token."""
    world.add_user(user_id)
    token = world.login(user_id).browser_token
    assert token is not None
    assert isinstance(world.shop.silent_auth(browser_token=token), Authenticated)
    return token


def carry(world: World, token: str) -> tuple[str, str]:
    """Leave the forum for the shop, and return the ticket with the verifier."""
    verifier = new_verifier()
    given = world.shop.ticket(
        browser_token=token, for_app="forum", challenge=challenge_of(verifier)
    )
    assert isinstance(given, Ticket)
    assert (given.transfer_url, given.expires_in) == (ARRIVAL, 60)
    return given.ticket, verifier


def test_a_ticket_carries_a_session_to_another_app_once(world: World) -> None:
    token = at_the_shop(world, "ada")
    ticket, verifier = carry(world, token)

    arrived = world.forum.silent_auth(ticket=ticket, verifier=verifier)
    twice = world.forum.silent_auth(ticket=ticket, verifier=verifier)

    assert isinstance(arrived, Authenticated)
    assert arrived.user_id == "ada"
    assert arrived.browser_token not in {None, token}
    assert twice == REFUSED
    for mine in (token, arrived.browser_token):
        assert isinstance(world.forum.silent_auth(browser_token=mine), Authenticated)


def test_a_session_that_is_too_weak_arrives_as_well_and_can_step_up(world: World) -> None:
    ticket, verifier = carry(world, at_the_shop(world, "bob"))

    arrived = world.forum.silent_auth(ticket=ticket, verifier=verifier, amr_all_of=("mfa",))
    begun = world.forum.start(IssueOtp(), step_up=getattr(arrived, "browser_token", None))

    assert getattr(arrived, "missing_amr", None) == ("mfa",)
    assert isinstance(begun, CodeIssued)


def test_a_ticket_serves_its_own_app_and_browser_and_what_is_refused_uses_nothing_up(
    world: World,
) -> None:
    ticket, verifier = carry(world, at_the_shop(world, "cora"))

    refused = [
        world.forum.silent_auth(ticket=ticket, verifier=new_verifier()),
        world.forum.silent_auth(ticket=ticket, verifier=verifier, device_id="laptop"),
        world.shop.silent_auth(ticket=ticket, verifier=verifier),
        world.forum.silent_auth(ticket="mst1_" + "x" * 43, verifier=verifier),
    ]

    assert refused == [REFUSED] * 4
    assert isinstance(world.forum.silent_auth(ticket=ticket, verifier=verifier), Authenticated)


def test_a_ticket_of_a_session_that_has_ended_gives_nothing(world: World) -> None:
    token = at_the_shop(world, "dave")
    ticket, verifier = carry(world, token)
    world.shop.logout(browser_token=token)

    late = world.forum.silent_auth(ticket=ticket, verifier=verifier)

    assert late == REFUSED
    nobody = world.shop.ticket(browser_token=token, for_app="forum", challenge="x" * 43)
    assert nobody == LoginRequired("logged_out")


def test_a_new_proof_takes_the_tickets_of_the_older_ones_away(world: World) -> None:
    token = at_the_shop(world, "elsa")
    ticket, verifier = carry(world, token)
    begun = world.forum.start(IssueOtp(), step_up=token)
    assert isinstance(begun, CodeIssued)
    world.forum.authenticate(Code(begun.code), login=begun.login, step_up=token)

    assert world.forum.silent_auth(ticket=ticket, verifier=verifier) == REFUSED


def test_a_ticket_is_given_only_where_the_operator_has_opened_the_way(world: World) -> None:
    token = at_the_shop(world, "fred")

    for app, for_app in ((world.forum, "shop"), (world.shop, "shop"), (world.shop, "nobody")):
        with pytest.raises(Unauthorized, match="not_permitted"):
            app.ticket(browser_token=token, for_app=for_app, challenge="x" * 43)


def test_a_ticket_takes_the_place_of_what_the_browser_had_of_the_same_user(world: World) -> None:
    ticket, verifier = carry(world, at_the_shop(world, "gina"))
    before = world.login("gina").browser_token

    arrived = world.forum.silent_auth(ticket=ticket, verifier=verifier, replaces=before)

    assert isinstance(arrived, Authenticated)
    assert world.forum.silent_auth(browser_token=before) == LoginRequired("replaced")


def test_a_ticket_replaces_the_own_token_of_its_session_alone(world: World) -> None:
    token = at_the_shop(world, "hugo")
    ticket, verifier = carry(world, token)

    arrived = world.forum.silent_auth(ticket=ticket, verifier=verifier, replaces=token)

    assert isinstance(arrived, Authenticated)
    assert world.forum.silent_auth(browser_token=token) == LoginRequired("token_replaced")
    assert isinstance(world.forum.silent_auth(browser_token=arrived.browser_token), Authenticated)


def test_a_ticket_does_not_sign_in_over_another_user(world: World) -> None:
    ticket, verifier = carry(world, at_the_shop(world, "ines"))
    other = at_the_shop(world, "jack")

    arrived = world.forum.silent_auth(ticket=ticket, verifier=verifier, replaces=other)

    assert arrived == REFUSED
    assert isinstance(world.shop.silent_auth(browser_token=other), Authenticated)
    world.shop.logout(browser_token=other)
    after = world.forum.silent_auth(ticket=ticket, verifier=verifier, replaces=other)
    assert isinstance(after, Authenticated)


def refreshed(answer: object) -> Tokens:
    assert isinstance(answer, Authenticated)
    return answer.tokens


def test_a_refresh_token_serves_once_and_is_told_the_same_again(world: World) -> None:
    world.add_user("kim")
    first = world.login("kim").tokens.refresh_token
    assert first is not None

    fresh = refreshed(world.forum.refresh(first))
    again = refreshed(world.forum.refresh(first))
    assert fresh.refresh_token is not None
    next_one = refreshed(world.forum.refresh(fresh.refresh_token))

    assert (again.access_token, again.refresh_token) == (fresh.access_token, fresh.refresh_token)
    assert len({first, fresh.refresh_token, next_one.refresh_token}) == 3


def test_a_refresh_token_is_its_own_apps_and_ends_with_its_session(world: World) -> None:
    world.add_user("leo")
    login = world.login("leo")
    token = login.tokens.refresh_token
    assert token is not None

    of_another = world.shop.refresh(token)
    made_up = world.forum.refresh("made up")
    world.shop.logout(browser_token=login.browser_token)
    after = world.forum.refresh(token)

    assert of_another == made_up == LoginRequired("refresh_refused")
    assert after == LoginRequired("logged_out")
