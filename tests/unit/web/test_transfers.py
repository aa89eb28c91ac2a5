"""Leaving for the hub, being passed on, and arriving: by whom, with what, and whereto."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from session_client.contract import challenge_of
from session_client.errors import NotAnswered, Unauthorized
from session_client.values import LoginRequired, StepUpRequired, Ticket
from session_client.web import Local, MemoryMarks, Options, Turned, arrive, leave, pass_on
from session_client.web.marks import of_session
from session_client.web.outcome import cookies_after
from tests.unit.web.rig import NOW, OTHER_TOKEN, TOKEN, Rig, Worker, authenticated, local, page

HUB = Options(pass_on="/pass", marks=MemoryMarks())
VERIFIER = "v" * 43
CHALLENGE = challenge_of(VERIFIER)
TICKET = Ticket(ticket="t1", transfer_url="https://forum.example/transfer", expires_in=60)


def spoke() -> Options:
    return Options(hub="https://hub.example/pass?for_app=forum", marks=MemoryMarks())


def left(way_back: str, options: Options) -> tuple[str, str]:
    """The challenge with which a browser left, and its cookies."""
    turned = leave(page(f"/login?next={way_back}"), options)
    assert turned.location is not None
    cookies = [value for name, value in turned.changes.headers if name == "Set-Cookie"]
    challenge = parse_qs(urlsplit(turned.location).query)["challenge"][0]
    return challenge, cookies[0].partition(";")[0]


def arriving(
    challenge: str, cookies: str, options: Options, kept: Local | None = None, **plans: Any
) -> tuple[Turned, Rig]:
    rig = Rig(Worker(**plans), options)
    incoming = page(f"/transfer?ticket=t1&challenge={challenge}", cookies=cookies)
    return rig.run(arrive(incoming, options, kept, NOW)), rig


def passing(path: str, **plans: Any) -> Turned:
    token = plans.pop("token", TOKEN)
    return Rig(Worker(**plans)).run(pass_on(page(path, token=token), HUB))  # type: ignore[no-any-return]


def test_who_left_arrives_where_they_wanted_to_go() -> None:
    options = spoke()
    challenge, cookies = left("/b%3Fc%3Dd", options)

    turned, rig = arriving(
        challenge, cookies, options, silent_auth=authenticated(browser_token=OTHER_TOKEN)
    )

    assert turned.location == "/b?c=d"
    assert turned.changes.local is not None
    ((_, asked),) = rig.worker.calls
    assert (asked["ticket"], asked["replaces"]) == ("t1", TOKEN)
    assert challenge_of(asked["verifier"]) == challenge
    assert ("Referrer-Policy", "no-referrer") in turned.changes.headers
    assert any(OTHER_TOKEN in value for _, value in turned.changes.headers)


@pytest.mark.parametrize("user_id", ["ada", "bob"])
def test_whoever_arrives_finds_nothing_of_somebody_else(user_id: str) -> None:
    options = spoke()
    challenge, cookies = left("/", options)

    turned, _ = arriving(
        challenge, cookies, options, local("ada"), silent_auth=authenticated(user_id)
    )

    assert turned.changes.local is not None
    assert turned.changes.local.user_id == user_id
    assert turned.changes.empties is (user_id == "bob")


@pytest.mark.parametrize("way_back", ["//evil.example", "https://evil.example", "/" + "a" * 600])
def test_a_way_back_that_leads_elsewhere_leads_home(way_back: str) -> None:
    options = spoke()
    challenge, cookies = left(way_back, options)

    turned, _ = arriving(challenge, cookies, options, silent_auth=authenticated())

    assert turned.location == "/"


def test_a_ticket_serves_no_browser_but_the_one_that_left() -> None:
    options = spoke()
    challenge, cookies = left("/", options)
    name, _, value = cookies.partition("=")
    other, _ = left("/", options)

    for sent in ("", f"{name}=x", f"{cookies}; {cookies}", f"{name}={'x' * 43}.Lw"):
        assert arriving(challenge, sent, options)[0].status == 409
    assert arriving(other, cookies, options)[0].status == 409
    renamed = f"__Host-mosaic-transfer-{other[:8]}={value}"
    assert arriving(other, renamed, options)[0].status == 409


def test_many_tabs_that_leave_fill_no_header_and_the_last_ones_arrive() -> None:
    options, cookies, left_with = spoke(), "theme=dark", list[str]()
    for number in range(100):
        way_back = f"/articles/{number}-{'a' * 100}"
        turned = leave(page(f"/login?next={way_back}", cookies=cookies), options)
        cookies = cookies_after(cookies, turned.changes.headers)
        left_with += parse_qs(urlsplit(str(turned.location)).query)["challenge"]

    assert len(cookies) < 8000 / 2  # what proxies take, and an app has cookies of its own
    assert "theme=dark" in cookies
    for number in range(90, 100):
        turned, _ = arriving(left_with[number], cookies, options, silent_auth=authenticated())
        assert str(turned.location).startswith(f"/articles/{number}-")


def test_what_does_not_carry_over_is_told_and_leads_into_no_circle() -> None:
    options = spoke()
    challenge, cookies = left("/x", options)
    weak = StepUpRequired(reason="amr_missing", user_id="bob", session_ref="r")

    refused, _ = arriving(challenge, cookies, options, silent_auth=LoginRequired("ticket_refused"))
    away, _ = arriving(challenge, cookies, options, silent_auth=NotAnswered("x"))
    too_weak, _ = arriving(challenge, cookies, options, local(), silent_auth=weak)
    options.marks.put(of_session("ref-1"), NOW, 60)
    ended, _ = arriving(challenge, cookies, options, silent_auth=authenticated())

    assert (refused.status, refused.location) == (403, None)
    assert away.status == 503
    assert too_weak.location == "/step-up?next=/x"
    assert too_weak.changes.empties
    assert (ended.status, ended.changes.local) == (403, None)


def test_the_hub_passes_on_who_is_signed_in_and_asks_others_first() -> None:
    path = f"/pass?for_app=forum&challenge={CHALLENGE}"

    passed = passing(path, ticket=TICKET)
    nobody = [passing(path, token=None), passing(path, ticket=LoginRequired("logged_out"))]

    assert passed.location == f"https://forum.example/transfer?ticket=t1&challenge={CHALLENGE}"
    assert {("Referrer-Policy", "no-referrer"), ("Cache-Control", "no-store")} <= {
        *passed.changes.headers
    }
    for turned in nobody:
        assert str(turned.location).startswith("/login?next=/pass%3Ffor_app%3Dforum%26challenge")


def test_what_leads_to_no_app_is_the_visitors_error_and_not_ours() -> None:
    path = f"/pass?for_app=forum&challenge={CHALLENGE}"
    not_permitted = Unauthorized("not_permitted", "r" * 16)

    for wrong in (
        "/pass",
        "/pass?for_app=forum",
        f"{path}&for_app=x",
        path.replace("forum", "%20"),
    ):
        assert passing(wrong).status == 400
    assert passing(path, ticket=not_permitted).status == 403
    assert passing(path, ticket=NotAnswered("x")).status == 503
    with pytest.raises(Unauthorized):
        passing(path, ticket=Unauthorized("wrong_key", "r" * 16))


def test_in_development_the_cookie_does_without_tls() -> None:
    options = replace(spoke(), cookie_domain="localhost")

    _, cookies = left("/", options)

    assert cookies.startswith("mosaic-transfer-")
