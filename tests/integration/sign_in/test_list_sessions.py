"""Status: what the store knows, for those it concerns, at no cost to Mosaic."""

from __future__ import annotations

from uuid import UUID

import pytest

from session_client.contract import Verdict
from tests.stage import Stage
from worker.sign_in import list_sessions


@pytest.fixture
def apps(stage: Stage) -> Stage:
    stage.add_app("shop")
    stage.add_app("forum")
    return stage


def listed(stage: Stage, app_id: str) -> list[UUID]:
    return [UUID(session.session_ref) for session in stage.status(app_id=app_id).sessions]


def test_an_app_sees_the_sessions_it_shares_newest_first(apps: Stage) -> None:
    first = apps.registered("ada", "shop", device_id="phone")
    apps.pass_time(hours=1)
    second = apps.registered("ada", "shop", amr=("pwd", "sms"))
    apps.registered("bob", "shop")
    apps.registered("ada", "forum")

    answer = apps.status("ada", "shop")

    assert answer.verdict is Verdict.OK
    assert [UUID(session.session_ref) for session in answer.sessions] == [second, first]
    newest, oldest = answer.sessions
    assert (newest.amr, newest.device_id, newest.apps) == (("mfa", "pwd", "sms"), None, ("shop",))
    assert oldest.device_id == "phone"
    assert newest.expires_at == apps.session(second).expires_at


def test_no_more_are_listed_than_an_answer_holds_and_of_them_the_newest(
    apps: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_sessions, "_MAX_SESSIONS", 2)
    refs = []
    for _ in range(3):
        refs.append(apps.registered())
        apps.pass_time(seconds=2)

    assert listed(apps, "shop") == [refs[2], refs[1]]


def test_a_session_is_seen_by_an_app_from_its_first_tokens_on(apps: Stage) -> None:
    ref = apps.registered("ada", "shop")
    assert listed(apps, "forum") == []

    apps.silent_auth("ada", "forum")

    assert listed(apps, "forum") == [ref]
    assert set(apps.status().sessions[0].apps) == {"shop", "forum"}


def test_sessions_that_ended_or_expired_are_not_listed(apps: Stage) -> None:
    ref = apps.registered()
    apps.log_out(session_ref=str(ref))
    apps.registered()
    apps.pass_time(days=14, seconds=1)

    assert listed(apps, "shop") == []


def test_status_asks_mosaic_nothing_and_changes_nothing(apps: Stage) -> None:
    apps.registered()
    before, calls = apps.dump(), apps.mosaic.state.calls.count()

    apps.status()

    assert apps.dump() == before
    assert apps.mosaic.state.calls.count() == calls
