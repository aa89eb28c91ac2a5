"""A ticket serves only the browser that asked for it, once, at one app."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest
from sqlalchemy import update

from models import App
from session_client import LoginRequired, Ticket, contract, requests
from session_client.contract import TICKET_PATTERN, Reason, Verdict
from simulator.server import SimulatorServer
from tests.integration.logins.login_rig import furnish, log_in
from tests.integration.outbox.propagation_rig import notices
from tests.integration.sign_in.ticket_rig import (
    ASK,
    FORUM_URL,
    NOBODYS,
    Visit,
    ask_for_ticket,
    asked_of_mosaic,
    is_refused,
    noted,
    open_apps,
    refusals,
    tickets,
    tokens_of,
)
from tests.stage import Stage, claims_of
from worker.app_registry import RELOAD_AFTER_SECONDS
from worker.errors import StoreUnavailable
from worker.operations import apps
from worker.sign_in import redeem_ticket
from worker.storage.encryption import Hashed
from worker.tasks import wake_ups
from worker.tasks.logouts import END_AT_IDP
from worker.tasks.notices import DELIVER

ROOT = Path(__file__).parents[3]


@pytest.fixture
def hub(stage: Stage) -> Stage:
    open_apps(stage)
    return stage


@pytest.fixture
def small_hub(sqlite_stage: Stage) -> Stage:
    open_apps(sqlite_stage)
    return sqlite_stage


# --- a ticket that is good


def test_a_browser_that_is_signed_in_at_the_hub_is_signed_in_at_another_domain(hub: Stage) -> None:
    login = hub.signed_in("ada", "hub")
    visit = Visit(hub, login.browser_token)

    answer = visit.redeem()

    assert (visit.answer.transfer_url, visit.answer.expires_in) == (FORUM_URL, 60)
    assert (answer.verdict, answer.user_id) == (Verdict.AUTHENTICATED, "ada")
    assert answer.session_ref == login.session_ref
    assert claims_of(answer.tokens.id_token)["aud"] == "client-forum"
    assert hub.browse(answer.browser_token, "forum").session_ref == login.session_ref
    assert hub.browse(login.browser_token, "hub").verdict is Verdict.AUTHENTICATED
    assert noted(hub) == [("ticket_issued", "forum", "hub"), ("ticket_used", "hub", "forum")]


class Client:
    """One app's client, as far as the sample needs it; its requests go to the real tasks."""

    def __init__(self, stage: Stage, app_id: str) -> None:
        self._stage, self._app_id = stage, app_id

    def ticket(self, **given: Any) -> Any:
        heard = self._stage.ask(self._app_id, requests.IssueTicket(**given))
        if heard.verdict is not Verdict.OK:
            return LoginRequired(heard.reason)
        return Ticket(
            ticket=heard.ticket, transfer_url=heard.transfer_url, expires_in=heard.expires_in
        )

    def silent_auth(self, **given: Any) -> Any:
        return self._stage.ask(self._app_id, requests.SilentAuth(**given))


def test_the_sample_in_the_guide_for_apps_signs_a_browser_in(hub: Stage) -> None:
    guide = (ROOT / "docs" / "apps.md").read_text(encoding="utf-8")
    section = guide[guide.index("## One login app for all") :]
    sample: dict[str, Any] = {}
    exec(section.split("```")[1].removeprefix("python"), sample)  # noqa: S102 - it is ours
    token = hub.signed_in("ada", "hub").browser_token

    verifier, way_there = sample["leave_forum"]()
    asked = {name: value for name, (value,) in parse_qs(urlsplit(way_there).query).items()}
    way_back = sample["pass_on"](Client(hub, "hub"), token, **asked)
    address, _, query = way_back.partition("?")
    brought = {name: value for name, (value,) in parse_qs(query).items()}
    answer = sample["arrive_at_forum"](Client(hub, "forum"), brought["ticket"], verifier, None)

    assert address == FORUM_URL
    assert brought.keys() == {"ticket", "challenge"}  # which the frameworks' page asks for
    assert brought["challenge"] == asked["challenge"]
    assert (answer.verdict, answer.user_id) == (Verdict.AUTHENTICATED, "ada")
    assert sample["pass_on"](Client(hub, "hub"), NOBODYS, **asked) is None


def test_a_session_too_weak_gives_the_browser_its_token_alone(hub: Stage) -> None:
    login = hub.signed_in("ada", "hub")

    answer = Visit(hub, login.browser_token).redeem(amr_all_of=["mfa"])

    assert (answer.verdict, answer.missing_amr) == (Verdict.INTERACTION_REQUIRED, ("mfa",))
    assert (answer.tokens, answer.session_ref) == (None, login.session_ref)
    assert hub.browse(answer.browser_token, "forum").verdict is Verdict.AUTHENTICATED
    assert asked_of_mosaic(hub) == 1


def test_mosaic_may_find_it_too_weak_as_well(hub: Stage) -> None:
    login = hub.login("ada", "hub", ("pwd", "sms"))
    visit = Visit(hub, hub.remember(login, app_id="hub").browser_token)
    hub.mosaic.state.faults.add(ASK, "change_claims", changes={"amr": ["pwd"]}, times=1)

    answer = visit.redeem(amr_all_of=["sms"])

    assert answer.verdict is Verdict.INTERACTION_REQUIRED
    assert asked_of_mosaic(hub) == 1
    assert hub.browse(answer.browser_token, "forum").verdict is Verdict.AUTHENTICATED


def test_only_keyed_hashes_of_ticket_and_token_are_stored(hub: Stage) -> None:
    visit = Visit(hub, hub.signed_in("ada", "hub").browser_token)
    given = visit.redeem().browser_token

    (row,) = tickets(hub)
    assert row.ticket_hash == hub.services.keyring.keyed_hash(Hashed.TICKET, visit.ticket)
    assert row.challenge == hashlib.sha256(visit.verifier.encode()).digest()
    assert (row.from_app, row.for_app) == ("hub", "forum")
    (token,) = tokens_of(hub, "forum")
    assert token.origin == "ticket"
    stored = repr(hub.dump())
    for secret in (visit.ticket, visit.verifier, given):
        assert secret[5:] not in stored


def test_a_ticket_shows_in_no_text_of_its_answer(hub: Stage) -> None:
    visit = Visit(hub, hub.signed_in("ada", "hub").browser_token)

    assert visit.ticket not in repr(visit.answer)
    assert visit.ticket not in repr(visit.request())
    assert visit.verifier not in repr(visit.request())


def test_identical_requests_by_ticket_and_by_token_get_no_token_of_each_other(
    store_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with Stage(store_url, redis_url, mosaic, reuse_seconds="30") as stage:
        open_apps(stage)
        token = stage.signed_in("ada", "hub").browser_token

        first = Visit(stage, token).redeem()
        second = Visit(stage, token).redeem()
        third = stage.browse(token, "forum")

        assert asked_of_mosaic(stage) == 1
        assert first.browser_token != second.browser_token
        assert third.browser_token is None
        for given in (first.browser_token, second.browser_token):
            assert stage.browse(given, "forum").verdict is Verdict.AUTHENTICATED


# --- who may ask for one

NOT_OPEN: dict[str, tuple[str, str]] = {
    "to an app that takes none": ("hub", "shop"),
    "from an app it takes none of": ("shop", "forum"),
    "back to the hub": ("forum", "hub"),
    "to itself": ("forum", "forum"),
    "to an app that is not there": ("hub", "nowhere"),
}


@pytest.mark.parametrize("way", NOT_OPEN)
def test_no_ticket_goes_where_the_operator_has_not_opened_the_way(hub: Stage, way: str) -> None:
    from_app, for_app = NOT_OPEN[way]
    token = hub.signed_in("ada", "hub").browser_token
    before = hub.dump()

    answer = ask_for_ticket(hub, token, for_app, from_app=from_app)

    assert (answer.verdict, answer.reason) == (Verdict.UNAUTHORIZED, Reason.NOT_PERMITTED)
    assert hub.dump() == before


def test_no_ticket_goes_to_an_app_that_is_disabled(hub: Stage) -> None:
    token = hub.signed_in("ada", "hub").browser_token
    with hub.services.store.write() as connection:
        gone = update(App).where(App.app_id == "forum").values(disabled_at=hub.now())
        connection.execute(gone)

    answer = ask_for_ticket(hub, token)

    assert (answer.verdict, answer.reason) == (Verdict.UNAUTHORIZED, Reason.NOT_PERMITTED)


def test_no_ticket_goes_to_an_app_of_another_mosaic(hub: Stage) -> None:
    hub.add_app(
        "abroad",
        base_url="https://elsewhere.example",
        transfer_url="https://abroad.example/transfer",
        tickets_from=("hub",),
    )
    token = hub.signed_in("ada", "hub").browser_token

    answer = ask_for_ticket(hub, token, "abroad")

    assert (answer.verdict, answer.reason) == (Verdict.UNAUTHORIZED, Reason.NOT_PERMITTED)


def test_a_ticket_on_its_way_to_an_app_that_moves_to_another_mosaic_gives_nothing(
    hub: Stage,
) -> None:
    visit = Visit(hub, hub.signed_in("ada", "hub").browser_token)
    apps.set_app(hub.services, "forum", base_url="http://127.0.0.1:1")
    hub.reread_apps()

    answer = visit.redeem()

    assert is_refused(answer)
    assert refusals(hub) == ["other_mosaic"]


def test_the_same_user_id_at_another_mosaic_is_another_user(hub: Stage) -> None:
    with SimulatorServer() as elsewhere:
        elsewhere.state.add_client("client-abroad", "secret-of-abroad")
        there = {"base_url": elsewhere.url, "token_url": elsewhere.token_url}
        hub.add_app("abroad", **there, jwks_url=elsewhere.jwks_url)
        login = elsewhere.state.login("ada", "client-abroad", amr=("pwd",))
        abroad = hub.remember(login, app_id="abroad")
        visit = Visit(hub, hub.signed_in("ada", "hub").browser_token)

        answer = visit.redeem(replaces=abroad.browser_token)

    assert is_refused(answer)
    assert refusals(hub) == ["other_user"]
    assert hub.session(UUID(abroad.session_ref)).ended_at is None


NAMES_NOBODY: dict[str, Callable[[Stage], str]] = {
    "made up": lambda _: NOBODYS,
    "garbled": lambda _: "\0; DROP TABLE",
    "a session's reference": lambda stage: stage.signed_in("ada", "hub").session_ref,
    "a session id": lambda stage: str(stage.login("ada", "hub").session_id),
    "a ticket": lambda stage: Visit(stage, stage.signed_in("ada", "hub").browser_token).ticket,
}


@pytest.mark.parametrize("what", NAMES_NOBODY)
def test_a_ticket_is_asked_for_with_a_browser_token_alone(hub: Stage, what: str) -> None:
    name = NAMES_NOBODY[what](hub)
    before = hub.dump()

    answer = ask_for_ticket(hub, name)

    assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, Reason.NO_SESSION)
    assert (answer.ticket, answer.transfer_url) == (None, None)
    assert hub.dump() == before


def test_a_browser_that_was_logged_out_gets_no_ticket(hub: Stage) -> None:
    login = hub.signed_in("ada", "hub")
    hub.signed_in("ada", "hub")
    hub.log_out("ada", "hub", session_ref=login.session_ref)

    answer = ask_for_ticket(hub, login.browser_token)

    assert (answer.verdict, answer.reason) == (Verdict.LOGIN_REQUIRED, Reason.LOGGED_OUT)
    assert tickets(hub) == []


def test_a_token_that_was_replaced_gets_no_ticket(hub: Stage) -> None:
    login = hub.login("ada", "hub")
    older = hub.remember(login, app_id="hub").browser_token
    add_factor(hub, login)

    at_once = ask_for_ticket(hub, older)
    hub.pass_time(seconds=31)
    later = ask_for_ticket(hub, older)

    assert (at_once.reason, later.reason) == (Reason.TOKEN_REPLACED, Reason.NO_SESSION)
    assert tickets(hub) == []


def test_the_same_request_gets_the_same_ticket(hub: Stage) -> None:
    token = hub.signed_in("ada", "hub").browser_token
    challenge = contract.challenge_of(requests.new_verifier())
    asked = requests.IssueTicket(browser_token=token, for_app="forum", challenge=challenge)
    sent = hub.seal("hub", asked)

    first, again = hub.deliver(sent), hub.deliver(sent)

    assert first.ticket == again.ticket
    assert len(tickets(hub)) == 1


# --- a ticket that serves nobody


def add_factor(stage: Stage, login: Any) -> Any:
    stage.pass_time(seconds=2)
    factor = stage.mosaic.state.add_factor(login.session_id, "client-hub", "sms")
    return stage.remember(factor, "ada", "hub")


def test_a_ticket_that_is_injected_into_another_browser_signs_nobody_in(hub: Stage) -> None:
    """The attacker's own ticket, in a link: the victim's browser has another verifier, or none."""
    attackers = Visit(hub, hub.signed_in("eve", "hub").browser_token)
    victims = Visit(hub, hub.signed_in("ada", "hub").browser_token)

    answer = hub.ask("forum", attackers.request(verifier=victims.verifier))

    assert is_refused(answer)
    assert asked_of_mosaic(hub) == 0
    assert refusals(hub) == ["wrong_verifier"]
    assert victims.redeem().user_id == "ada"


@pytest.mark.parametrize("guess", ["v" * 43, "~" * 128, contract.challenge_of("v" * 43)])
def test_who_reads_a_ticket_on_its_way_gets_nothing_and_spoils_nothing(
    hub: Stage, guess: str
) -> None:
    visit = Visit(hub, hub.signed_in("ada", "hub").browser_token)
    stored = tickets(hub)

    answers = [visit.redeem(verifier=guess) for _ in range(10)]

    assert all(map(is_refused, answers))
    assert asked_of_mosaic(hub) == 0
    assert tickets(hub) == stored
    assert refusals(hub) == ["wrong_verifier"]  # once: the trail must not drown
    assert visit.redeem().verdict is Verdict.AUTHENTICATED


def test_the_challenge_is_no_verifier(hub: Stage) -> None:
    """It travels in the open: were it taken, reading the link to the hub would be enough."""
    visit = Visit(hub, hub.signed_in("ada", "hub").browser_token)

    assert is_refused(visit.redeem(verifier=contract.challenge_of(visit.verifier)))
    assert asked_of_mosaic(hub) == 0


def test_a_ticket_serves_once(hub: Stage) -> None:
    visit = Visit(hub, hub.signed_in("ada", "hub").browser_token)
    visit.redeem()

    again = visit.redeem()

    assert is_refused(again)
    assert asked_of_mosaic(hub) == 1
    assert refusals(hub) == ["used"]
    assert len(tokens_of(hub, "forum")) == 1


@pytest.mark.parametrize(("seconds", "is_late"), [(59, False), (60, True), (3600, True)])
def test_a_ticket_serves_for_a_minute(hub: Stage, seconds: int, *, is_late: bool) -> None:
    visit = Visit(hub, hub.signed_in("ada", "hub").browser_token)
    hub.pass_time(seconds=seconds)

    answer = visit.redeem()

    if is_late:
        assert is_refused(answer)
        assert (asked_of_mosaic(hub), refusals(hub)) == (0, ["late"])
    else:
        assert answer.verdict is Verdict.AUTHENTICATED


def test_each_reason_to_refuse_a_sessions_tickets_is_noted(hub: Stage) -> None:
    visit = Visit(hub, hub.signed_in("ada", "hub").browser_token)

    for verifier in (requests.new_verifier(), requests.new_verifier()):
        assert is_refused(visit.redeem(verifier=verifier))
    hub.pass_time(seconds=61)
    assert is_refused(visit.redeem())

    assert refusals(hub) == ["wrong_verifier", "late"]  # each once an hour


@pytest.mark.parametrize("app_id", ["blog", "hub", "shop"])
def test_a_ticket_serves_one_app(hub: Stage, app_id: str) -> None:
    visit = Visit(hub, hub.signed_in("ada", "hub").browser_token)
    stored = tickets(hub)

    answer = visit.redeem(app_id)

    assert is_refused(answer)
    assert (asked_of_mosaic(hub), refusals(hub)) == (0, ["other_app"])
    assert tickets(hub) == stored
    assert visit.redeem().verdict is Verdict.AUTHENTICATED


def test_a_ticket_of_a_session_that_ended_gives_nothing(hub: Stage) -> None:
    login = hub.signed_in("ada", "hub")
    hub.signed_in("ada", "hub")
    visit = Visit(hub, login.browser_token)
    hub.ask("hub", requests.Logout(browser_token=login.browser_token))

    answer = visit.redeem()

    assert is_refused(answer)
    assert (asked_of_mosaic(hub), refusals(hub)) == (0, ["session_ended"])
    assert tokens_of(hub, "forum") == []


def test_a_ticket_of_a_session_that_mosaic_has_ended_is_refused_like_all(hub: Stage) -> None:
    login = hub.login("ada", "hub")
    visit = Visit(hub, hub.remember(login, app_id="hub").browser_token)
    hub.mosaic.state.end_session(login.session_id)

    assert is_refused(visit.redeem())
    assert tokens_of(hub, "forum") == []


def test_a_ticket_from_before_a_new_proof_gives_nothing(hub: Stage) -> None:
    """Whoever had it by an older token would hold the session that is stronger now."""
    login = hub.login("ada", "hub")
    visit = Visit(hub, hub.remember(login, app_id="hub").browser_token)
    newer = add_factor(hub, login).browser_token

    answer = visit.redeem(amr_all_of=["mfa"])

    assert is_refused(answer)
    assert asked_of_mosaic(hub) == 0
    assert Visit(hub, newer).redeem(amr_all_of=["mfa"]).verdict is Verdict.AUTHENTICATED


def test_a_ticket_from_before_a_step_up_gives_nothing(stage: Stage) -> None:
    """The same where the worker does the login, and the factor."""
    furnish(stage)
    url = "https://blog.example/transfer"
    stage.add_app("blog", transfer_url=url, tickets_from=("shop",), silent_by_user=False)
    older = str(log_in(stage).browser_token)
    verifier = requests.new_verifier()
    ticket = ask_for_ticket(stage, older, "blog", from_app="shop", verifier=verifier).ticket
    log_in(stage, step_up=older)

    redeemed = stage.ask("blog", requests.SilentAuth(ticket=ticket, verifier=verifier))
    another = ask_for_ticket(stage, older, "blog", from_app="shop")

    assert ticket is not None
    assert is_refused(redeemed)
    assert (another.verdict, another.ticket) == (Verdict.LOGIN_REQUIRED, None)


def test_a_device_other_than_the_sessions_is_refused(hub: Stage) -> None:
    visit = Visit(hub, hub.signed_in("ada", "hub", device_id="laptop").browser_token)

    answer = visit.redeem(device_id="phone")

    assert is_refused(answer)
    assert (asked_of_mosaic(hub), refusals(hub)) == (0, ["other_device"])
    assert visit.redeem(device_id="laptop").verdict is Verdict.AUTHENTICATED


def test_what_the_operator_takes_back_counts_for_tickets_on_their_way(
    hub: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    visit = Visit(hub, hub.signed_in("ada", "hub").browser_token)
    with hub.services.store.write() as connection:
        taken_back = update(App).where(App.app_id == "forum").values(tickets_from=["portal"])
        connection.execute(taken_back)
    monkeypatch.setattr("worker.app_registry.RELOAD_AFTER_SECONDS", -RELOAD_AFTER_SECONDS)

    answer = visit.redeem()

    assert is_refused(answer)
    assert (asked_of_mosaic(hub), refusals(hub)) == (0, ["source_not_allowed"])


FORGED: dict[str, Callable[[Visit], str]] = {
    "made up": lambda _: "mst1_" + "x" * 43,
    "a character longer": lambda visit: f"{visit.ticket}x",
    "a character shorter": lambda visit: visit.ticket[:-1],
    "with a line break": lambda visit: f"{visit.ticket}\n",
    "as a browser token": lambda visit: visit.ticket.replace("mst1", "msb1"),
    "another alphabet": lambda _: "mst1_" + "\uff41" * 43,
    "control characters": lambda _: "\x00\x1b[31m",
    "its hash": lambda visit: "mst1_" + bytes(tickets(visit.stage)[0].ticket_hash).hex()[:43],
}


@pytest.mark.parametrize("how", FORGED)
def test_a_ticket_that_was_never_given_out_changes_nothing(small_hub: Stage, how: str) -> None:
    visit = Visit(small_hub, small_hub.signed_in("ada", "hub").browser_token)
    before = small_hub.dump()

    answer = visit.redeem(ticket=FORGED[how](visit))

    assert is_refused(answer)
    assert asked_of_mosaic(small_hub) == 0
    assert small_hub.dump() == before


def test_a_browser_token_of_a_tickets_text_is_nobodys(small_hub: Stage) -> None:
    visit = Visit(small_hub, small_hub.signed_in("ada", "hub").browser_token)

    answer = small_hub.browse(visit.ticket.replace("mst1", "msb1"), "forum")

    assert answer.reason == Reason.NO_SESSION
    assert contract.is_ticket(visit.ticket), TICKET_PATTERN


# --- the same request again


def test_the_same_request_gets_the_same_answer(hub: Stage) -> None:
    visit = Visit(hub, hub.signed_in("ada", "hub").browser_token)
    sent = hub.seal("forum", visit.request())

    first, again = hub.deliver(sent), hub.deliver(sent)

    assert first.verdict is Verdict.AUTHENTICATED
    assert again.browser_token == first.browser_token
    assert asked_of_mosaic(hub) == 1


def test_a_request_that_redis_has_forgotten_may_use_its_ticket_again(hub: Stage) -> None:
    visit = Visit(hub, hub.signed_in("ada", "hub").browser_token)
    sent = hub.seal("forum", visit.request())
    first = hub.deliver(sent)
    hub.redis.flushdb()

    again = hub.deliver(sent)

    assert (again.verdict, again.session_ref) == (Verdict.AUTHENTICATED, first.session_ref)
    assert hub.browse(again.browser_token, "forum").verdict is Verdict.AUTHENTICATED
    assert is_refused(visit.redeem())


def test_a_request_may_use_its_ticket_again_when_mosaic_was_away(hub: Stage) -> None:
    visit = Visit(hub, hub.signed_in("ada", "hub").browser_token)
    sent = hub.seal("forum", visit.request())
    hub.mosaic.state.faults.add(ASK, "status", status=503, times=1)
    put_off = hub.deliver(sent)
    hub.pass_time(seconds=5)

    answer = hub.deliver(sent)

    assert put_off.verdict is Verdict.TEMPORARILY_UNAVAILABLE
    assert put_off.browser_token is None
    assert answer.verdict is Verdict.AUTHENTICATED
    assert len(tokens_of(hub, "forum")) == 1


@pytest.mark.parametrize("error", [StoreUnavailable, KeyboardInterrupt])
def test_a_request_whose_token_cannot_be_stored_lets_nobody_wait_for_what_mosaic_said(
    hub: Stage, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    visit = Visit(hub, hub.signed_in("ada", "hub").browser_token)
    sent = hub.seal("forum", visit.request())

    def fail(*_: Any) -> None:
        raise error

    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(redeem_ticket, "_handed_over", fail)
        hub.deliver(sent)

    assert asked_of_mosaic(hub) == 1
    assert hub.redis.keys("mosaic-sessions:flight:*:lease") == []
    assert hub.deliver(sent).verdict is Verdict.AUTHENTICATED


def test_a_request_of_another_id_cannot_use_what_waits_for_the_first(hub: Stage) -> None:
    visit = Visit(hub, hub.signed_in("ada", "hub").browser_token)
    hub.mosaic.state.faults.add(ASK, "status", status=503, times=1)
    visit.redeem()
    calls = asked_of_mosaic(hub)

    assert is_refused(visit.redeem())
    assert asked_of_mosaic(hub) == calls


# --- the token that the browser came with


def test_a_token_of_the_same_session_gives_way(hub: Stage) -> None:
    login = hub.signed_in("ada", "hub")
    before = Visit(hub, login.browser_token).redeem().browser_token

    after = Visit(hub, login.browser_token).redeem(replaces=before)

    assert hub.browse(before, "forum").reason == Reason.TOKEN_REPLACED
    assert hub.browse(after.browser_token, "forum").verdict is Verdict.AUTHENTICATED
    assert hub.browse(login.browser_token, "hub").verdict is Verdict.AUTHENTICATED
    assert notices(hub) == []


@pytest.mark.parametrize("too_weak", [False, True])
def test_another_session_of_the_user_ends_as_replaced(hub: Stage, *, too_weak: bool) -> None:
    login = hub.login("ada", "shop")
    before = hub.remember(login, "ada", "shop")
    hub.browse(before.browser_token, "forum")
    visit = Visit(hub, hub.signed_in("ada", "hub").browser_token)

    answer = visit.redeem(replaces=before.browser_token, amr_all_of=["mfa"] if too_weak else [])

    weak, strong = Verdict.INTERACTION_REQUIRED, Verdict.AUTHENTICATED
    assert answer.verdict is (weak if too_weak else strong)
    assert hub.session(UUID(before.session_ref)).end_cause == "replaced"
    # Forum knows, and ends its own local session; Mosaic and the others are told.
    assert {(row.app_id, row.cause) for row in notices(hub)} == {("shop", "replaced")}
    assert hub.tell_mosaic() == ["confirmed"]
    assert not hub.mosaic.state.is_live(login.session_id)
    assert hub.browse(answer.browser_token, "forum").session_ref == answer.session_ref


def test_its_apps_are_woken_at_once(hub: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    woken: dict[str, tuple[UUID, ...]] = {}
    monkeypatch.setattr(wake_ups, "_wake", lambda task, ids: woken.update({task.name: ids}))
    before = hub.signed_in("ada", "shop")

    Visit(hub, hub.signed_in("ada", "hub").browser_token).redeem(replaces=before.browser_token)

    (notice,), (logout,) = notices(hub), hub.logouts()
    assert woken == {DELIVER: (notice.id,), END_AT_IDP: (logout.id,)}


def test_the_apps_of_a_session_that_ends_under_its_ticket_are_woken_at_once(
    hub: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = hub.signed_in("ada", "hub")
    assert hub.browse(login.browser_token, "shop").verdict is Verdict.AUTHENTICATED
    visit = Visit(hub, login.browser_token)
    (session,) = hub.mosaic.state.live_sessions("ada")
    hub.mosaic.state.end_session(session.session_id)
    woken: list[UUID] = []
    monkeypatch.setattr(wake_ups, "_wake", lambda _, ids: woken.extend(ids))

    answer = visit.redeem()

    assert answer.reason == Reason.TICKET_REFUSED
    assert woken == [row.id for row in notices(hub)] != []


def test_where_another_user_is_signed_in_nobody_is_until_the_user_has_said(hub: Stage) -> None:
    bob = hub.signed_in("bob", "shop").browser_token
    visit = Visit(hub, hub.signed_in("ada", "hub").browser_token)
    stored = tickets(hub)

    answer = visit.redeem(replaces=bob)

    assert is_refused(answer)
    assert (asked_of_mosaic(hub), refusals(hub)) == (0, ["other_user"])
    assert tickets(hub) == stored
    assert hub.browse(bob, "forum").user_id == "bob"
    # The user says to leave, and the ticket still serves.
    hub.ask("forum", requests.Logout(browser_token=bob))
    assert visit.redeem(replaces=bob).user_id == "ada"


def test_another_users_session_that_has_ended_is_in_nobodys_way(hub: Stage) -> None:
    bob = hub.signed_in("bob", "shop")
    hub.log_out("bob", "shop", session_ref=bob.session_ref)

    answer = Visit(hub, hub.signed_in("ada", "hub").browser_token).redeem(
        replaces=bob.browser_token
    )

    assert answer.user_id == "ada"
    assert hub.session(UUID(bob.session_ref)).end_cause == "logout"


@pytest.mark.parametrize("garbage", [NOBODYS, "msb1_", "; DROP TABLE", "m" * 4096, "\x00"])
def test_a_token_that_names_nobody_stops_no_ticket(small_hub: Stage, garbage: str) -> None:
    other = small_hub.signed_in("ada", "shop").browser_token

    answer = Visit(small_hub, small_hub.signed_in("ada", "hub").browser_token).redeem(
        replaces=garbage
    )

    assert answer.verdict is Verdict.AUTHENTICATED
    assert small_hub.browse(other, "shop").verdict is Verdict.AUTHENTICATED


def test_a_ticket_that_is_refused_ends_nothing(hub: Stage) -> None:
    before = hub.signed_in("ada", "shop").browser_token
    visit = Visit(hub, hub.signed_in("ada", "hub").browser_token)

    assert is_refused(visit.redeem(verifier="v" * 43, replaces=before))
    assert hub.browse(before, "shop").verdict is Verdict.AUTHENTICATED
