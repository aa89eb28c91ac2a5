"""A session, a user and a receipt are explained in sentences, without a secret."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import update

from models import Logout, Notice
from session_client import requests
from session_client.contract import LogoutScope
from simulator.server import SimulatorServer
from tests.integration.cli.cli_rig import complaint, run, told
from tests.integration.outbox.propagation_rig import (
    Broker,
    by_queue,
    confirm,
    deliver,
    the_notice,
)
from tests.stage import Stage
from worker.outbox.leases import MAX_CRASHES
from worker.sessions import mosaic_ids


@pytest.fixture
def shared(stage: Stage) -> UUID:
    """A session of ada's that shop, forum (told by queue) and desk (not told) share."""
    stage.add_app("shop")
    stage.add_app("desk")
    by_queue(stage, "forum")
    session = stage.registered("ada", "shop")
    stage.pass_time(minutes=5)
    stage.silent_auth("ada", "forum")
    stage.silent_auth("ada", "desk")
    return session


def says(facts: list[Any]) -> str:
    return "\n".join(fact["says"] for fact in facts)


def test_a_live_session_says_what_keeps_it_alive_and_when_it_ends(
    stage: Stage, shared: UUID
) -> None:
    found = told("explain", "session", str(shared))

    assert found["state"] == "alive"
    assert says(found["why"]).splitlines() == [
        "registered by shop",
        "nothing has ended it, and its time is not over",
    ]
    assert says(found["extended_by"]).splitlines() == [
        "forum got tokens, by naming the user",
        "desk got tokens, by naming the user",
    ]
    assert {fact["says"].split(",")[0] for fact in found["shared_by"]} == {"shop", "forum", "desk"}
    assert found["told"] == []
    assert says(found["next"]).startswith("it expires, unless an app uses it before")
    printed = run("explain", "session", str(shared)).stdout
    assert printed.startswith(f"session {shared} of user ada: alive\n")
    assert "forum got tokens" in printed


def test_of_many_uses_the_last_are_shown_and_a_cap_is_named(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    cap = {"session_absolute_cap_seconds": "3600"}
    with Stage(sqlite_url, redis_url, mosaic, **cap) as stage:
        stage.add_app("shop")
        session = stage.registered("ada", "shop")
        for _ in range(7):
            stage.silent_auth("ada", "shop")
        found = told("explain", "session", str(session))

    first, *last = found["extended_by"]
    assert first["says"] == "7 silent authentications since; the last of them:"
    assert len(last) == 5
    assert "a cap of the settings ends it before Mosaic would" in says(found["why"])


def test_one_whose_time_is_over_waits_for_its_expiry(stage: Stage, shared: UUID) -> None:
    stage.pass_time(days=15)

    found = told("explain", "session", str(shared))

    assert found["state"] == "expired"
    assert "it gives no tokens any more" in says(found["why"])
    assert says(found["next"]) == "expiry marks it as ended, if nobody has used it"


def test_an_ended_session_says_who_was_told_and_who_is_told_next(
    stage: Stage, shared: UUID
) -> None:
    stage.log_out(session_ref=str(shared))
    pending = told("explain", "session", str(shared))
    stage.tell_mosaic()
    deliver(stage, the_notice(stage).id, Broker())
    confirm(stage, the_notice(stage).id)
    done = told("explain", "session", str(shared))

    assert pending["state"] == done["state"] == "ended"
    assert "logged out, by shop" in says(pending["why"])
    assert [fact["state"] for fact in pending["told"]] == ["pending", "pending", None, None]
    assert "desk is not told: it has no notice address" in says(pending["told"])
    assert "shop is not told: it asked for it" in says(pending["told"])
    assert "Mosaic is told again" in says(pending["next"])
    assert [fact["state"] for fact in done["told"][:2]] == ["confirmed", "confirmed"]
    assert says(done["next"]) == "its row is deleted, at the earliest"


def test_what_was_given_up_says_how_it_is_told_again(stage: Stage, shared: UUID) -> None:
    receipt = stage.log_out(session_ref=str(shared)).receipt_id
    with stage.services.store.write() as connection:
        for kind in (Logout, Notice):
            connection.execute(update(kind).values(crashes=MAX_CRASHES + 1))
    stage.tell_mosaic()
    deliver(stage, the_notice(stage).id)

    found = told("explain", "session", str(shared))
    of_receipt = told("explain", "receipt", receipt)

    assert "Mosaic was given up (dead)" in says(found["told"])
    assert "unless by mosaic-sessions logouts replay" in says(found["next"])
    assert "unless by mosaic-sessions notices replay --app forum" in says(found["next"])
    assert of_receipt["state"] == "failed"


def test_a_receipt_says_what_became_of_the_logout(stage: Stage, shared: UUID) -> None:
    receipt = stage.log_out(session_ref=str(shared)).receipt_id
    pending = told("explain", "receipt", receipt)
    stage.tell_mosaic()
    confirm(stage, the_notice(stage).id)

    assert pending["state"] == "pending"
    assert "shop asked to log out user ada (scope session)" in says(pending["why"])
    assert "1 sessions ended by it" in says(pending["why"])
    (session,) = pending["sessions"]
    assert session["about"] == f"session {shared} of user ada"
    assert told("explain", "receipt", receipt)["state"] == "done"


def test_a_user_is_explained_with_all_that_was_revoked(stage: Stage, shared: UUID) -> None:
    stage.add_app("admin", capabilities=("revoke_user",))
    stage.registered("ada", "shop", device_id="laptop")
    stage.log_out("ada", "shop", scope=LogoutScope.DEVICE, device_id="laptop")
    stage.ask("admin", requests.RevokeUser(user_id="ada"))
    stage.pass_time(seconds=2)
    newer = stage.registered("ada", "shop")

    found = told("explain", "user", "ada")

    assert found["state"] == "1 alive, 2 ended or expired"
    first, *_, last = found["sessions"]
    assert (first["about"].split()[1], last["about"].split()[1]) == (str(newer), str(shared))
    assert "device laptop logged out for shop" in says(found["why"])
    assert "logged out everywhere" in says(found["why"])
    assert "Mosaic, of the whole user, is still to be told" in says(found["told"])
    assert "Mosaic is told of the whole user" in says(found["next"])
    assert "revoked" in run("explain", "user", "ada").stdout


def test_nothing_secret_is_told(sqlite_stage: Stage) -> None:
    by_queue(sqlite_stage, "forum")
    sqlite_stage.add_app("shop")
    answer = sqlite_stage.signed_in("ada", "shop")
    sqlite_stage.silent_auth("ada", "forum")
    session = UUID(answer.session_ref)
    alive = run("explain", "session", str(session), "--json").output
    row = sqlite_stage.session(session)
    hidden = [answer.browser_token, opened_id(sqlite_stage, row)]
    for secret in (row.session_hash, row.sealed_session_id):
        hidden += [secret.hex(), repr(secret)[2:-1]]
    receipt = sqlite_stage.log_out(session_ref=str(session)).receipt_id
    sqlite_stage.mosaic.state.faults.add("session/logout", "drop_request", times=3)
    sqlite_stage.tell_mosaic()

    told_of = (("session", str(session)), ("user", "ada"), ("receipt", receipt))
    shown = alive + "".join(
        run("explain", *what, *form).output for what in told_of for form in ((), ("--json",))
    )

    assert "the last error" in shown
    assert [secret for secret in hidden if secret in shown] == []


def opened_id(stage: Stage, row: Any) -> str:
    return stage.services.keyring.open(row.sealed_session_id, mosaic_ids.place_of(row.id))


def test_what_nobody_knows_is_said_to_be_unknown(sqlite_stage: Stage) -> None:
    nobody = str(uuid4())

    assert f"there is no session {nobody}" in complaint("explain", "session", nobody)
    assert f"there is no receipt {nobody}" in complaint("explain", "receipt", nobody)
    assert "nothing is known of a user 'ada'" in complaint("explain", "user", "ada")
