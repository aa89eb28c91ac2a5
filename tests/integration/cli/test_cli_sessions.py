from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from sqlalchemy import select, update

from models import IdpSession, SessionEvent
from simulator.controls.faults import FaultKind
from simulator.idp.endpoints import Endpoint
from simulator.server import SimulatorServer
from tests.integration.cli.cli_rig import complaint, run, told
from tests.stage import Stage
from worker.cli import output
from worker.maintenance import expire
from worker.outbox import mosaic_logouts


def listed(*arguments: str) -> list[UUID]:
    return [UUID(row["session_ref"]) for row in told("sessions", "list", *arguments)["sessions"]]


@pytest.fixture
def busy(stage: Stage) -> Stage:
    """Two apps at Mosaic."""
    stage.add_app("shop")
    stage.add_app("forum")
    return stage


# --- list


def test_live_sessions_are_listed_newest_first(busy: Stage) -> None:
    first = busy.registered("ada", "shop")
    busy.pass_time(minutes=1)
    second = busy.registered("bob", "forum")

    assert listed() == [second, first]


def test_sessions_are_narrowed_by_user_and_by_sharing_app(busy: Stage) -> None:
    ada = busy.registered("ada", "shop")
    bob = busy.registered("bob", "shop")
    busy.silent_auth("ada", "forum")

    assert listed("--user", "ada") == [ada]
    assert listed("--app", "forum") == [ada]
    assert set(listed("--app", "shop")) == {ada, bob}
    assert listed("--app", "forum", "--user", "bob") == []


def test_what_ended_or_expired_is_listed_only_with_all(busy: Stage) -> None:
    ended = busy.registered("ada", "shop")
    busy.log_out("ada", "shop", session_ref=str(ended))
    expired = busy.registered("bob", "shop")
    busy.pass_time(days=15)
    live = busy.registered("eve", "shop")

    assert listed() == [live]
    assert set(listed("--all")) == {ended, expired, live}


def test_a_listing_says_when_there_is_more(busy: Stage) -> None:
    for _ in range(3):
        busy.registered("ada", "shop")

    assert "more than 2" in run("sessions", "list", "--limit", "2").stdout
    assert told("sessions", "list", "--limit", "2")["has_more"] is True
    assert told("sessions", "list", "--limit", "3")["has_more"] is False
    assert "more than" not in run("sessions", "list", "--limit", "3").stdout


def test_a_person_sees_user_apps_and_reference_on_one_line(busy: Stage) -> None:
    session = busy.registered("ada", "shop")
    busy.pass_time(seconds=1)  # tokens tell whole seconds
    busy.silent_auth("ada", "forum")

    (line,) = [line for line in run("sessions", "list").stdout.splitlines() if str(session) in line]

    assert "ada" in line
    assert "shop, forum" in line


@pytest.mark.parametrize("width", [80, 100, 120, 160])
def test_a_reference_can_be_copied_from_a_narrow_terminal(
    sqlite_stage: Stage, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setattr(output, "_WIDTH_IN_A_PIPE", width)
    sqlite_stage.add_app("shop")
    ref = sqlite_stage.registered("ada", "shop", amr=("pwd", "mfa"))
    sqlite_stage.log_out("ada", "shop", session_ref=str(ref))

    lines = run("sessions", "list", "--all").stdout.splitlines()

    assert sum(str(ref) in line for line in lines) == 1
    assert max(len(line) for line in lines) <= width


def test_where_a_table_is_too_wide_each_session_is_told_by_itself(
    sqlite_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "_WIDTH_IN_A_PIPE", 80)
    sqlite_stage.add_app("shop")
    for user in ("ada", "bob"):
        sqlite_stage.registered(user, "shop", amr=("pwd", "mfa"))

    bob, ada = run("sessions", "list").stdout.strip().split("\n\n")

    assert [line.split()[-1] for line in bob.splitlines() if line.startswith("user")] == ["bob"]
    assert "amr        mfa, pwd" in [line.rstrip() for line in ada.splitlines()]


def test_an_app_that_is_not_there_is_said_to_be_missing(sqlite_stage: Stage) -> None:
    message = complaint("sessions", "list", "--app", "nobody")

    assert "there is no app 'nobody' (mosaic-sessions apps list)" in message


def test_a_user_id_cannot_play_with_the_terminal(busy: Stage) -> None:
    session = busy.registered("ada", "shop")
    with busy.services.store.write() as connection:
        hostile = update(IdpSession).values(user_id="\x1b[2J[bold]ada\nbob")
        connection.execute(hostile.where(IdpSession.id == session))

    printed = run("sessions", "list").stdout

    assert "\\x1b[2J[bold]ada\\nbob" in printed
    assert "\x1b" not in printed


# --- show


def test_a_session_is_shown_with_its_apps_and_what_happened(busy: Stage) -> None:
    session = busy.registered("ada", "shop")
    busy.pass_time(seconds=1)  # tokens tell whole seconds
    busy.silent_auth("ada", "forum")

    story = told("sessions", "show", str(session))

    assert story["session"]["session_ref"] == str(session)
    assert story["session"]["user_id"] == "ada"
    assert [share["app_id"] for share in story["shares"]] == ["shop", "forum"]
    assert story["logout"] is None
    assert [(line["event"], line["app_id"]) for line in story["trail"]] == [
        ("registered", "shop"),
        ("authenticated", "forum"),
    ]


def test_an_open_logout_is_shown_with_its_latest_failure(busy: Stage) -> None:
    session = busy.registered("ada", "shop")
    busy.mosaic.state.faults.add(Endpoint.SESSION_LOGOUT, FaultKind.STATUS, status=503)
    busy.log_out("ada", "shop", session_ref=str(session))
    (delivery,) = busy.logouts()
    mosaic_logouts.end_at_idp(busy.services, delivery.id)

    logout = told("sessions", "show", str(session))["logout"]

    assert logout["requested_by"] == "shop"
    assert logout["attempts"] == 1
    assert logout["last_error"].startswith("MosaicUnavailable")
    assert logout["closed_at"] is None


def test_a_session_that_an_operator_revoked_names_the_operator_and_no_app(busy: Stage) -> None:
    session = busy.registered("ada", "shop")
    run("sessions", "revoke", str(session), "--reason", "stolen laptop", "--yes")

    logout = told("sessions", "show", str(session))["logout"]

    assert logout["requested_by"] == "operator: stolen laptop"
    assert "operator: stolen laptop" in run("sessions", "show", str(session)).stdout


def test_a_session_that_was_too_old_names_the_rule_and_no_app(
    sqlite_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with Stage(sqlite_url, redis_url, mosaic, session_absolute_cap_seconds="3600") as stage:
        stage.add_app("shop")
        session = stage.registered("ada", "shop")
        stage.pass_time(hours=2)
        expire.expire_sessions(stage.services)

        logout = told("sessions", "show", str(session))["logout"]

    assert logout["requested_by"] == "maintenance.expire_sessions"


def test_a_person_reads_the_same(busy: Stage) -> None:
    session = busy.registered("ada", "shop")
    live = run("sessions", "show", str(session)).stdout
    busy.log_out("ada", "shop", session_ref=str(session))

    ended = run("sessions", "show", str(session)).stdout

    assert "none is due" in live
    assert "registered" in live
    assert "requested by" in ended
    assert "logout" in ended


def test_a_session_that_is_not_there_is_said_to_be_missing(sqlite_stage: Stage) -> None:
    message = complaint("sessions", "show", str(uuid4()))

    assert "there is no session" in message
    assert "sessions list --all" in message


def test_a_reference_is_an_id_of_ours(sqlite_stage: Stage) -> None:
    run("sessions", "show", "not-a-reference", expect=2)


# --- what is never shown


def test_no_view_tells_a_session_id_its_hash_or_its_seal(busy: Stage) -> None:
    login = busy.login("ada", "shop")
    session = busy.registered("ada", "shop")
    busy.log_out("ada", "shop", session_ref=str(session))
    row = busy.session(session)
    with busy.services.store.read() as connection:
        assert connection.execute(select(SessionEvent.id)).all()

    shown = "".join(
        run(*arguments).output
        for view in (("sessions", "list", "--all"), ("sessions", "show", str(session)))
        for arguments in (view, (*view, "--json"))
    )

    opened = busy.services.keyring.open(row.sealed_session_id, f"idp_sessions:{session}:session_id")
    hidden = [login.session_id, opened]
    for secret in (row.session_hash, row.sealed_session_id):
        hidden += [secret.hex(), repr(secret)[2:-1]]
    assert str(session) in shown
    assert [secret for secret in hidden if secret in shown] == []
