"""An app's keys: rotated, and retired."""

from __future__ import annotations

from session_client.contract import Reason, Verdict
from session_client.keys import AppKey as ClientKey
from tests.integration.cli.apps_rig import add, ask_with
from tests.integration.cli.cli_rig import complaint, run, told
from tests.stage import Stage


def test_a_rotated_key_works_beside_the_old_one(sqlite_stage: Stage) -> None:
    old = add()

    new = ClientKey.parse(run("apps", "rotate-key", "shop", "--quiet").stdout)

    assert told("apps", "list")[0]["kids"] == [old.kid, new.kid]
    assert ask_with(sqlite_stage, old).verdict is Verdict.OK
    assert ask_with(sqlite_stage, new).verdict is Verdict.OK


def test_rotating_says_how_to_retire_the_old_key(sqlite_stage: Stage) -> None:
    add()

    said = run("apps", "rotate-key", "shop").stdout
    assert "apps retire-key shop KID" in said
    assert "SESSION_EARLIER_KEYS" in said


def test_a_retired_key_opens_nothing_any_more(sqlite_stage: Stage) -> None:
    old = add()
    new = ClientKey.parse(run("apps", "rotate-key", "shop", "--quiet").stdout)

    run("apps", "retire-key", "shop", old.kid)

    assert told("apps", "list")[0]["kids"] == [new.kid]
    assert ask_with(sqlite_stage, old).reason == Reason.WRONG_KEY
    assert ask_with(sqlite_stage, new).verdict is Verdict.OK


def test_the_last_key_is_not_retired(sqlite_stage: Stage) -> None:
    key = add()

    assert "rotate first" in complaint("apps", "retire-key", "shop", key.kid)
    assert told("apps", "list")[0]["kids"] == [key.kid]


def test_a_key_the_app_does_not_have_is_not_retired(sqlite_stage: Stage) -> None:
    add()

    assert "no live key 'dead'" in complaint("apps", "retire-key", "shop", "dead")
