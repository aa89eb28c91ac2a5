"""One session a browser: a login ends the session that its browser came with."""

from __future__ import annotations

from uuid import UUID

import pytest

from session_client import requests
from session_client.contract import Reason, Verdict
from simulator.server import SimulatorServer
from tests.integration.outbox.propagation_rig import by_queue, notices
from tests.stage import Stage
from worker.tasks import wake_ups
from worker.tasks.logouts import END_AT_IDP
from worker.tasks.notices import DELIVER

NOBODYS = "msb1_" + "x" * 43


@pytest.fixture
def apps(stage: Stage) -> Stage:
    """Every app wants to be told in its queue."""
    for app_id in ("shop", "forum", "blog"):
        by_queue(stage, app_id, silent_by_user=False)
    return stage


def told(stage: Stage, ref: str) -> dict[str, str]:
    return {row.app_id: row.cause for row in notices(stage) if row.idp_session_id == UUID(ref)}


@pytest.mark.parametrize("user_id", ["ada", "bob"])
def test_a_second_login_ends_the_first_session_everywhere(apps: Stage, user_id: str) -> None:
    first = apps.login("ada", "shop")
    browser = apps.remember(first)
    apps.browse(browser.browser_token, "forum")
    apps.browse(browser.browser_token, "blog")

    second = apps.signed_in(user_id, "forum", replaces=browser.browser_token)

    assert apps.session(UUID(browser.session_ref)).end_cause == "replaced"
    assert apps.session(UUID(second.session_ref)).ended_at is None
    # The app that did the login knows, and ends its own local session.
    assert told(apps, browser.session_ref) == {"shop": "replaced", "blog": "replaced"}
    assert ("ended", "replaced") in apps.events()
    assert apps.tell_mosaic() == ["confirmed"]
    assert not apps.mosaic.state.is_live(first.session_id)
    old, new = apps.browse(browser.browser_token), apps.browse(second.browser_token)
    assert (old.verdict, old.reason) == (Verdict.LOGIN_REQUIRED, Reason.REPLACED)
    assert (new.verdict, new.user_id) == (Verdict.AUTHENTICATED, user_id)


def test_its_apps_are_woken_at_once(apps: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only by the sweep: the user has signed in as somebody else, and their pages are open."""
    woken: dict[str, tuple[UUID, ...]] = {}
    monkeypatch.setattr(wake_ups, "_wake", lambda task, ids: woken.update({task.name: ids}))
    browser = apps.signed_in("ada", "shop")

    apps.signed_in("ada", "forum", replaces=browser.browser_token)

    (notice,), (logout,) = notices(apps), apps.logouts()
    assert woken == {DELIVER: (notice.id,), END_AT_IDP: (logout.id,)}


def test_another_browser_of_the_user_keeps_its_session(apps: Stage) -> None:
    laptop, phone = apps.signed_in(), apps.signed_in()

    apps.signed_in(replaces=laptop.browser_token)

    assert apps.browse(phone.browser_token).session_ref == phone.session_ref


def test_a_token_that_was_replaced_still_names_what_a_login_ends(apps: Stage) -> None:
    login = apps.login("ada", "shop")
    older = apps.remember(login)
    apps.pass_time(seconds=5)
    apps.remember(apps.mosaic.state.add_factor(login.session_id, "client-shop", "sms"))

    apps.signed_in("bob", replaces=older.browser_token)

    assert apps.session(UUID(older.session_ref)).end_cause == "replaced"


@pytest.mark.parametrize("garbage", [NOBODYS, "msb1_", "; DROP TABLE", "m" * 4096, "\x00"])
def test_a_token_that_names_nobody_ends_nothing_and_stops_no_login(
    apps: Stage, garbage: str
) -> None:
    other = apps.signed_in("ada")

    login = apps.signed_in("ada", replaces=garbage)

    assert apps.browse(login.browser_token).verdict is Verdict.AUTHENTICATED
    assert apps.browse(other.browser_token).verdict is Verdict.AUTHENTICATED


def test_an_ended_session_keeps_its_own_ending(apps: Stage) -> None:
    before = apps.signed_in()
    apps.log_out(session_ref=before.session_ref)

    apps.signed_in(replaces=before.browser_token)

    assert apps.session(UUID(before.session_ref)).end_cause == "logout"


def test_the_browsers_token_of_the_same_session_gives_way_to_the_new_one(apps: Stage) -> None:
    login = apps.login("ada", "shop")
    before = apps.remember(login)

    after = apps.remember(login, replaces=before.browser_token)

    assert after.session_ref == before.session_ref
    assert apps.browse(before.browser_token).reason == Reason.TOKEN_REPLACED
    assert apps.browse(after.browser_token).verdict is Verdict.AUTHENTICATED


def test_a_factor_told_with_the_browsers_own_token_ends_nothing(apps: Stage) -> None:
    login = apps.login("ada", "shop")
    before = apps.remember(login)
    apps.pass_time(seconds=5)
    factor = apps.mosaic.state.add_factor(login.session_id, "client-shop", "sms")

    after = apps.remember(factor, replaces=before.browser_token)

    assert apps.session(UUID(before.session_ref)).ended_at is None
    assert apps.browse(after.browser_token, amr_all_of=["mfa"]).verdict is Verdict.AUTHENTICATED


def test_a_login_that_is_refused_ends_nothing(apps: Stage) -> None:
    before = apps.signed_in("ada")
    bob = apps.login("bob", "shop")
    stored = apps.dump()

    refused = [
        apps.remember(bob, "ada", replaces=before.browser_token),
        apps.remember(bob, "bob", id_token="x.y.z", replaces=before.browser_token),
        apps.remember(bob, "bob", app_id="forum", replaces=before.browser_token),
    ]

    assert {answer.verdict for answer in refused} == {Verdict.INVALID_REQUEST}
    assert apps.dump() == stored


def test_a_login_that_was_logged_out_before_it_was_told_ends_nothing(apps: Stage) -> None:
    before = apps.signed_in("bob")
    late = apps.login("ada", "shop")
    apps.log_out("ada", session_id=late.session_id)

    answer = apps.remember(late, replaces=before.browser_token)

    assert (answer.verdict, answer.browser_token) == (Verdict.LOGIN_REQUIRED, None)
    assert apps.browse(before.browser_token).verdict is Verdict.AUTHENTICATED


def test_told_twice_it_ends_the_session_once(apps: Stage) -> None:
    before = apps.signed_in()
    login = apps.login("bob", "shop")
    request = requests.Register(
        session_id=login.session_id,
        user_id="bob",
        id_token=login.id_token,
        replaces=before.browser_token,
    )

    apps.ask("shop", request)
    apps.ask("shop", request)

    assert apps.events().count(("ended", "replaced")) == 1
    assert len(apps.logouts()) == 1


def test_the_session_of_another_mosaic_is_ended_there(stage: Stage) -> None:
    """No browser names it any more, whoever keeps it."""
    with SimulatorServer() as elsewhere:
        elsewhere.state.add_client("client-abroad", "secret-of-abroad")
        stage.add_app("shop")
        stage.add_app(
            "abroad",
            base_url=elsewhere.url,
            token_url=elsewhere.token_url,
            jwks_url=elsewhere.jwks_url,
        )
        abroad = elsewhere.state.login("ada", "client-abroad", amr=("pwd",))
        before = stage.remember(abroad, app_id="abroad")

        stage.signed_in("ada", "shop", replaces=before.browser_token)

        assert stage.tell_mosaic() == ["confirmed"]
        assert not elsewhere.state.is_live(abroad.session_id)
