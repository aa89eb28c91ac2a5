"""Whoever changes something is remembered, with what it was and what it is, and no secret."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Callable
from typing import Any

import pytest

from session_client.keys import AppKey
from tests.integration.cli.cli_rig import complaint, run, three_notices, told
from tests.stage import Stage
from worker.operations import apps
from worker.sessions import operator_trail

SECRET = "client-secret-canary-77c2"
ME = pwd.getpwuid(os.getuid()).pw_name


def actions(*arguments: str) -> list[Any]:
    """What operators did, oldest first."""
    found: list[Any] = told("audit", "list", *arguments)["actions"]
    return found[::-1]


def exported(*arguments: str) -> list[Any]:
    return [json.loads(line) for line in run("audit", "export", *arguments).stdout.splitlines()]


def add_shop() -> AppKey:
    where = ("--client-id", "client-shop", "--client-secret-file", "-", "--max-age", "600")
    return AppKey.parse(run("apps", "add", "shop", *where, "--quiet", stdin=SECRET).stdout)


def test_every_change_of_an_app_is_remembered_with_what_it_was(stage: Stage) -> None:
    key = add_shop()
    new = ("--client-secret-file", "-", "--max-age", "900", "--allow", "logout_user")
    run("--as", "ada, ticket 4711", "apps", "set", "shop", *new, stdin=SECRET[::-1])
    queue = "shop-notices"
    run("apps", "set-notice", "shop", "--notice-queue", queue, "--notify-on-expiry")
    second = told("apps", "rotate-key", "shop")["kid"]
    run("apps", "retire-key", "shop", key.kid)
    run("apps", "disable", "shop")
    run("apps", "enable", "shop")
    complaint("apps", "retire-key", "shop", second)  # the last one: nothing is done
    run("apps", "remove", "shop")

    found = actions("--app", "shop")
    assert [one["action"] for one in found] == [
        *("app_added", "app_changed", "app_notices_changed", "app_key_added"),
        *("app_key_retired", "app_disabled", "app_enabled", "app_removed"),
    ]
    added, changed, told_elsewhere, key_added, key_retired, *_, removed = found
    assert added["operator"] == ME
    assert (added["after"]["client_id"], added["after"]["key"]) == ("client-shop", key.kid)
    assert changed["operator"] == f"ada, ticket 4711 ({ME})"
    assert changed["before"] == {
        "max_age_seconds": 600,
        "capabilities": [],
        "client_credential": "the one before",
    }
    assert changed["after"] == {
        "max_age_seconds": 900,
        "capabilities": ["logout_user"],
        "client_credential": "a new one",
    }
    assert told_elsewhere["before"]["notice_address"] is None
    assert told_elsewhere["after"]["notice_address"] == queue
    assert key_added["after"] == {"key": second}
    assert key_retired["before"] == {"key": key.kid}
    assert removed["before"]["max_age_seconds"] == 900
    printed = run("audit", "list").stdout + json.dumps(found)
    assert "max_age_seconds: 600 -> 900, capabilities: none -> logout_user" in printed
    for secret in (SECRET, SECRET[::-1], key.text().partition(".")[2]):
        assert secret not in printed


def test_what_ends_or_repeats_something_is_remembered_with_its_reason(stage: Stage) -> None:
    session, *_ = three_notices(stage)
    del session
    ref = stage.registered("bob", "shop")
    reason = "stolen laptop"
    run("sessions", "revoke", str(ref), "--reason", reason, "--yes", "--override-guard")
    run("prune")
    run("prune", "--override-guard")
    run("notices", "replay", "--app", "forum")
    run("notices", "replay", "--app", "forum")  # there is nothing left to replay
    run("keys", "rotate")

    revoked, overridden, replayed, begun, done = actions()[2:]  # two apps were added
    assert revoked["action"] == "sessions_revoked"
    assert (revoked["session_ref"], revoked["reason"]) == (str(ref), reason)
    assert revoked["after"] == {"ended": 1, "override_guard": True}
    assert overridden["action"] == "guard_overridden"
    assert (replayed["action"], replayed["app_id"], replayed["after"]) == (
        "notices_replayed",
        "forum",
        {"opened": 1},
    )
    assert [begun["action"], done["action"]] == ["key_rotation_begun", "key_rotation_done"]
    assert begun["after"] == {"sealing_key": "k1", "ring": ["k1"]}


def test_operators_who_change_an_app_at_once_are_written_down_in_turn(stage: Stage) -> None:
    stage.add_app("shop", max_age_seconds=1)

    def set_to(seconds: int) -> Callable[[], None]:
        return lambda: apps.set_app(stage.services, "shop", max_age_seconds=seconds)

    stage.at_once(*(set_to(seconds) for seconds in range(2, 8)))

    _, *changes = actions("--app", "shop")
    found = [(one["before"]["max_age_seconds"], one["after"]["max_age_seconds"]) for one in changes]
    assert found[0][0] == 1
    assert [after for _, after in found[:-1]] == [before for before, _ in found[1:]]
    assert told("apps", "show", "shop")["max_age_seconds"] == found[-1][1]


def test_both_trails_are_exported_from_where_the_last_export_ended(stage: Stage) -> None:
    stage.add_app("shop")
    session = stage.registered("ada", "shop")
    run("apps", "disable", "shop")
    assert exported() == []  # younger than what may still be written
    stage.pass_time(minutes=2)

    first = exported("--limit", "2")
    rest = exported("--after", first[-1]["id"])
    nothing = exported("--after", rest[-1]["id"])

    assert [(one["trail"], one["event"]) for one in (*first, *rest)] == [
        ("operators", "app_added"),
        ("sessions", "registered"),
        ("operators", "app_disabled"),
    ]
    assert first[1]["session_ref"] == str(session)
    assert nothing == []


def test_a_change_that_fails_leaves_no_trace(sqlite_stage: Stage) -> None:
    sqlite_stage.add_app("shop")
    sqlite_stage.add_app("forum")
    assert "There are more than 1" in run("audit", "list", "--limit", "1").stdout
    before = sqlite_stage.dump()

    complaint("apps", "remove", "nobody")
    complaint("apps", "set", "shop", "--base-url", "ftp://no", expect=1)

    assert sqlite_stage.dump() == before


def test_an_operator_without_a_name_has_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4_000_123)
    monkeypatch.setenv("SUDO_USER", "grace")

    assert operator_trail.operator() == "uid 4000123 (sudo by grace)"


def test_what_is_past_its_retention_is_purged(sqlite_stage: Stage) -> None:
    sqlite_stage.add_app("shop")
    sqlite_stage.pass_time(days=sqlite_stage.settings.keep_events_days + 1)

    assert told("prune", "--history")["operator_actions"] == 1
    # What was written down of this run itself is of today.
    assert [action["action"] for action in actions()] == ["pruned"]
