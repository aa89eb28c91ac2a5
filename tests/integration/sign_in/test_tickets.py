"""A ticket carries a session to one app on another domain, in the one browser that asked for it."""

from __future__ import annotations

from typing import Any

import pytest

from session_client import contract, methods, requests
from session_client.contract import Reason, Verdict
from tests.integration.sign_in.login_rig import browse, furnish, log_in, prove
from tests.stage import Stage
from worker.maintenance import purge

VERIFIER = "v" * 43
CHALLENGE = contract.challenge_of(VERIFIER)
URL = "https://blog.example/transfer"


@pytest.fixture(autouse=True)
def _apps(request: pytest.FixtureRequest) -> None:
    for name in ("stage", "sqlite_stage"):
        if name in request.fixturenames:
            found: Stage = request.getfixturevalue(name)
            furnish(found)
            found.add_app("blog", transfer_url=URL, tickets_from=("shop",), silent_by_user=False)


def ask_for(stage: Stage, token: Any, app_id: str = "shop", for_app: str = "blog") -> Any:
    request = requests.IssueTicket(browser_token=token, for_app=for_app, challenge=CHALLENGE)
    return stage.ask(app_id, request)


def redeem(
    stage: Stage, ticket: Any, verifier: str = VERIFIER, app_id: str = "blog", **fields: Any
) -> Any:
    options = {"request_id": fields.pop("request_id", None)}
    request = requests.SilentAuth(ticket=ticket, verifier=verifier, **fields)
    return stage.ask(app_id, request, **options)


def test_a_ticket_signs_the_browser_in_at_the_other_app(stage: Stage) -> None:
    hub = log_in(stage)

    issued = ask_for(stage, hub.browser_token)
    answer = redeem(stage, issued.ticket)

    assert (issued.verdict, issued.transfer_url, issued.expires_in) == (Verdict.OK, URL, 60)
    assert (answer.verdict, answer.user_id) == (Verdict.AUTHENTICATED, "ada")
    assert answer.session_ref == hub.session_ref
    assert browse(stage, answer.browser_token, "blog").verdict is Verdict.AUTHENTICATED
    assert browse(stage, hub.browser_token).verdict is Verdict.AUTHENTICATED
    names = [name for name, _ in stage.events()]
    assert names.count("ticket_issued") == names.count("ticket_used") == 1
    assert issued.ticket not in repr(stage.dump())


def test_a_session_too_weak_there_gets_the_browser_its_token_to_step_up(stage: Stage) -> None:
    hub = log_in(stage)

    answer = redeem(stage, ask_for(stage, hub.browser_token).ticket, amr_all_of=["mfa"])

    assert (answer.verdict, answer.tokens) == (Verdict.INTERACTION_REQUIRED, None)
    assert answer.browser_token is not None


def refused(answer: Any) -> None:
    assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, Reason.TICKET_REFUSED)
    assert (answer.tokens, answer.browser_token, answer.session_ref) == (None, None, None)


def test_a_ticket_serves_once_and_its_own_request_again(stage: Stage) -> None:
    ticket = ask_for(stage, log_in(stage).browser_token).ticket
    first = redeem(stage, ticket, request_id="r" * 16)
    stage.services.redis.flushall()

    again = redeem(stage, ticket, request_id="r" * 16)
    other = redeem(stage, ticket)

    assert first.verdict is again.verdict is Verdict.AUTHENTICATED
    refused(other)


def test_a_ticket_without_its_verifier_or_at_another_app_is_refused_and_not_used_up(
    stage: Stage,
) -> None:
    ticket = ask_for(stage, log_in(stage).browser_token).ticket

    refused(redeem(stage, ticket, verifier="w" * 43))
    refused(redeem(stage, ticket, app_id="forum"))
    refused(redeem(stage, "mst1_" + "x" * 43))
    refused(redeem(stage, ticket[:-1]))

    assert redeem(stage, ticket).verdict is Verdict.AUTHENTICATED


def test_a_late_ticket_is_refused(stage: Stage) -> None:
    ticket = ask_for(stage, log_in(stage).browser_token).ticket
    stage.pass_time(seconds=60)

    refused(redeem(stage, ticket))
    stage.pass_time(hours=2)
    assert purge.purge_history(stage.services).rows["tickets"] == 1


def test_a_ticket_of_a_session_that_has_ended_is_refused(stage: Stage) -> None:
    hub = log_in(stage)
    ticket = ask_for(stage, hub.browser_token).ticket
    stage.ask("shop", requests.Logout(browser_token=hub.browser_token))

    refused(redeem(stage, ticket))
    assert ask_for(stage, hub.browser_token).reason == Reason.LOGGED_OUT


def test_only_the_browsers_own_newest_token_gets_a_ticket(stage: Stage) -> None:
    hub = log_in(stage)
    log_in(stage, step_up=hub.browser_token)

    by_old = ask_for(stage, hub.browser_token)
    by_reference = ask_for(stage, hub.session_ref)

    assert (by_old.ticket, by_reference.ticket) == (None, None)
    assert by_reference.reason == Reason.NO_SESSION


@pytest.mark.parametrize(
    ("app_id", "for_app"),
    [("forum", "blog"), ("shop", "forum"), ("shop", "nobody"), ("blog", "shop")],
)
def test_both_apps_must_be_opted_in(sqlite_stage: Stage, app_id: str, for_app: str) -> None:
    hub = log_in(sqlite_stage)
    before = sqlite_stage.dump()

    answer = ask_for(sqlite_stage, hub.browser_token, app_id, for_app)

    assert (answer.verdict, answer.reason) == (Verdict.UNAUTHORIZED, Reason.NOT_PERMITTED)
    assert sqlite_stage.dump() == before


def test_the_session_the_browser_had_there_gives_way_to_the_same_users(stage: Stage) -> None:
    hub = log_in(stage)
    there = log_in(stage, "forum")

    answer = redeem(stage, ask_for(stage, hub.browser_token).ticket, replaces=there.browser_token)

    assert answer.verdict is Verdict.AUTHENTICATED
    assert browse(stage, there.browser_token).reason == Reason.REPLACED


def test_a_browser_signed_in_as_somebody_else_is_asked_first(stage: Stage) -> None:
    hub = log_in(stage)
    bob = prove(stage, methods.Password("bob", "bob's"), "forum")
    ticket = ask_for(stage, hub.browser_token).ticket

    refused(redeem(stage, ticket, replaces=bob.browser_token))

    assert browse(stage, bob.browser_token).verdict is Verdict.AUTHENTICATED
    assert redeem(stage, ticket).verdict is Verdict.AUTHENTICATED
