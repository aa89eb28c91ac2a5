"""A browser token names one session in one browser: what each state of it gives."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Row, select, update

from models import BrowserToken, EndCause, IdpSession
from session_client import requests
from session_client.contract import BROWSER_TOKEN_PATTERN, Reason, Task, Verdict
from simulator.server import SimulatorServer
from tests.stage import Stage, claims_of
from worker.maintenance.expire import expire_sessions
from worker.sessions.browser_tokens import MAX_LIVE
from worker.storage.encryption import Hashed

ASK = "session/authenticate"
NOBODYS = "msb1_" + "x" * 43


@pytest.fixture(autouse=True)
def _apps(request: pytest.FixtureRequest) -> None:
    for name in ("stage", "sqlite_stage"):
        if name in request.fixturenames:
            found: Stage = request.getfixturevalue(name)
            for app_id in ("shop", "forum"):
                found.add_app(app_id, silent_by_user=False)


def asked_of_mosaic(stage: Stage) -> int:
    return stage.mosaic.state.calls.count(ASK)


def tokens(stage: Stage) -> list[Row[Any]]:
    with stage.services.store.read() as connection:
        query = select(BrowserToken.__table__).order_by(BrowserToken.issued_at)
        return list(connection.execute(query).all())


def refused_with(answer: Any) -> Reason:
    assert answer.verdict is Verdict.LOGIN_REQUIRED, answer
    assert (answer.tokens, answer.user_id) == (None, None)
    if answer.reason in {Reason.NO_SESSION, Reason.TOKEN_REPLACED}:
        assert answer.session_ref is None  # it is named where it has ended, and nowhere else
    return Reason(answer.reason)


# --- a token that is good


def test_a_browser_that_signed_in_at_one_app_is_known_at_another(stage: Stage) -> None:
    login = stage.signed_in("ada", "shop")

    answer = stage.browse(login.browser_token, "forum")

    assert answer.verdict is Verdict.AUTHENTICATED
    assert (answer.user_id, answer.session_ref) == ("ada", login.session_ref)
    assert claims_of(answer.tokens.id_token)["sub"] == "ada"
    assert claims_of(answer.tokens.id_token)["aud"] == "client-forum"
    assert stage.events()[-1] == ("authenticated", None)


def test_only_a_keyed_hash_of_it_is_stored(stage: Stage) -> None:
    token = stage.signed_in().browser_token

    (row,) = tokens(stage)
    assert re.fullmatch(BROWSER_TOKEN_PATTERN, token)
    assert row.token_hash == stage.services.keyring.keyed_hash(Hashed.BROWSER_TOKEN, token)
    assert (row.issued_to, row.origin, row.replaced_at) == ("shop", "register", None)
    assert token.removeprefix("msb1_") not in repr(stage.dump())


def test_a_session_too_weak_is_named_with_its_user_and_gives_nothing(stage: Stage) -> None:
    login = stage.signed_in()
    before = stage.dump()

    answer = stage.browse(login.browser_token, amr_all_of=["mfa"])

    assert (answer.verdict, answer.reason) == (Verdict.INTERACTION_REQUIRED, Reason.AMR_MISSING)
    assert (answer.user_id, answer.session_ref) == ("ada", login.session_ref)
    assert (answer.missing_amr, answer.tokens) == (("mfa",), None)
    assert answer.browser_token is None
    assert stage.dump() == before
    assert asked_of_mosaic(stage) == 0


def test_asking_silently_gives_no_new_token_and_replaces_none(stage: Stage) -> None:
    token = stage.signed_in().browser_token
    before = tokens(stage)

    answers = [stage.browse(token), stage.browse(token), stage.browse(token, max_age=0)]

    assert [answer.browser_token for answer in answers] == [None] * 3
    assert tokens(stage) == before


# --- a token that is not


def of_another_installation(stage: Stage) -> str:
    token = str(stage.signed_in().browser_token)
    with stage.services.store.write() as connection:
        stored = stage.services.keyring.lookup_hash(token)
        connection.execute(update(BrowserToken).values(token_hash=stored))
    return token


def tokens_hash(stage: Stage) -> str:
    stage.signed_in()
    (row,) = tokens(stage)
    return "msb1_" + bytes(row.token_hash).hex()[:43]


FORGED: dict[str, Callable[[Stage], str]] = {
    "made up": lambda _: NOBODYS,
    "of another installation, or hashed as a session id": of_another_installation,
    "a character longer": lambda stage: f"{stage.signed_in().browser_token}x",
    "a character shorter": lambda stage: stage.signed_in().browser_token[:-1],
    "another prefix": lambda stage: stage.signed_in().browser_token.replace("msb1", "mst1"),
    "in capitals": lambda stage: stage.signed_in().browser_token.upper(),
    "with a line break": lambda stage: f"{stage.signed_in().browser_token}\n",
    "twice": lambda stage: ",".join([stage.signed_in().browser_token] * 2),
    "a session's reference": lambda stage: stage.signed_in().session_ref,
    "a session id": lambda stage: str(stage.login("ada", "shop").session_id),
    "its hash": tokens_hash,
    "control characters": lambda _: "\x00\x1b[31m",
    "another alphabet": lambda _: "msb1_" + "\uff41" * 43,
    "as long as may be": lambda _: "m" * 4096,
}


@pytest.mark.parametrize("how", FORGED)
def test_a_token_that_was_never_given_out_names_nobody(sqlite_stage: Stage, how: str) -> None:
    token = FORGED[how](sqlite_stage)
    before = sqlite_stage.dump()

    answer = sqlite_stage.browse(token)

    assert refused_with(answer) is Reason.NO_SESSION
    assert sqlite_stage.dump() == before
    assert asked_of_mosaic(sqlite_stage) == 0


def test_the_token_of_a_session_at_another_mosaic_names_nobody(stage: Stage) -> None:
    with SimulatorServer() as elsewhere:
        elsewhere.state.add_client("client-abroad", "secret-of-abroad")
        url = elsewhere.url
        stage.add_app(
            "abroad", base_url=url, token_url=elsewhere.token_url, jwks_url=elsewhere.jwks_url
        )
        token = stage.signed_in().browser_token

        answer = stage.browse(token, "abroad")

        assert refused_with(answer) is Reason.NO_SESSION
        assert elsewhere.state.calls.log() == []
    assert stage.browse(token).verdict is Verdict.AUTHENTICATED


def end_by(stage: Stage, login: Any, cause: EndCause) -> None:
    """End the session of *login* by hand."""
    with stage.services.store.write() as connection:
        connection.execute(
            update(IdpSession)
            .where(IdpSession.id == UUID(login.session_ref))
            .values(ended_at=stage.now(), end_cause=cause.value)
        )


ENDINGS = {
    EndCause.LOGOUT: Reason.LOGGED_OUT,
    EndCause.GONE_AT_IDP: Reason.GONE_AT_IDP,
    EndCause.EXPIRED: Reason.EXPIRED,
    EndCause.QUARANTINED: Reason.QUARANTINED,
    EndCause.REVOKED: Reason.REVOKED,
    EndCause.CAP_REACHED: Reason.CAP_REACHED,
    EndCause.REPLACED: Reason.REPLACED,
}


@pytest.mark.parametrize("cause", EndCause)
def test_the_token_of_an_ended_session_tells_how_it_ended(
    sqlite_stage: Stage, cause: EndCause
) -> None:
    login = sqlite_stage.signed_in()
    sqlite_stage.signed_in()
    end_by(sqlite_stage, login, cause)

    answer = sqlite_stage.browse(login.browser_token)

    assert refused_with(answer) is ENDINGS[cause]
    assert answer.session_ref == login.session_ref
    assert asked_of_mosaic(sqlite_stage) == 0


@pytest.mark.parametrize("is_marked", [False, True])
def test_the_token_of_an_expired_session_says_so_marked_or_not(
    stage: Stage, *, is_marked: bool
) -> None:
    login = stage.signed_in()
    stage.pass_time(days=14, minutes=5)
    if is_marked:
        expire_sessions(stage.services, override_guard=True)

    answer = stage.browse(login.browser_token)

    assert refused_with(answer) is Reason.EXPIRED
    # Before it is marked an answer of Mosaic's that is on its way may renew it.
    assert answer.session_ref == (login.session_ref if is_marked else None)


def test_a_session_past_a_cap_gives_nothing_before_maintenance_ends_it(
    store_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with Stage(store_url, redis_url, mosaic, session_absolute_cap_seconds="86400") as stage:
        stage.add_app("shop", silent_by_user=False)
        token = stage.signed_in().browser_token
        stage.pass_time(days=1, seconds=1)

        answer = stage.browse(token, "shop")

        assert refused_with(answer) is Reason.CAP_REACHED
        assert answer.session_ref is None
        assert stage.sessions()[0].ended_at is None


def test_a_session_gone_at_mosaic_ends_and_no_other_is_tried(stage: Stage) -> None:
    login = stage.login("ada", "shop")
    token = stage.remember(login).browser_token
    stage.signed_in()
    stage.mosaic.state.end_session(login.session_id)

    answer = stage.browse(token)

    assert refused_with(answer) is Reason.GONE_AT_IDP
    assert asked_of_mosaic(stage) == 1
    assert sorted(str(row.end_cause) for row in stage.sessions()) == ["None", "gone_at_idp"]


# --- a token that was replaced


def replaced(stage: Stage, **login: Any) -> str:
    """A token that a newer one has replaced: a factor was added."""
    given = stage.login("ada", "shop")
    token = stage.remember(given, **login).browser_token
    stage.pass_time(seconds=5)
    stage.remember(stage.mosaic.state.add_factor(given.session_id, "client-shop", "sms"))
    return str(token)


def test_a_token_replaced_a_moment_ago_says_so(stage: Stage) -> None:
    token = replaced(stage)
    before = stage.dump()

    first = stage.browse(token)
    stage.pass_time(seconds=25)
    second = stage.browse(token)

    assert refused_with(first) is refused_with(second) is Reason.TOKEN_REPLACED
    assert stage.dump() == before
    assert asked_of_mosaic(stage) == 0


def test_a_token_replaced_long_ago_names_nobody_and_its_session_lives_on(stage: Stage) -> None:
    token = replaced(stage)
    stage.pass_time(seconds=31)

    answer = stage.browse(token)

    assert refused_with(answer) is Reason.NO_SESSION
    assert asked_of_mosaic(stage) == 0
    assert stage.sessions()[0].ended_at is None
    assert stage.events()[-1] == ("replaced_token_presented", None)


def test_a_token_that_was_replaced_long_ago_is_not_replaced_a_moment_ago_by_coming_again(
    stage: Stage,
) -> None:
    login = stage.login("ada", "shop")
    token = stage.remember(login).browser_token
    stage.pass_time(seconds=5)
    factor = stage.mosaic.state.add_factor(login.session_id, "client-shop", "sms")
    stage.remember(factor)
    stage.pass_time(seconds=31)

    stage.remember(factor, replaces=token)

    assert refused_with(stage.browse(token)) is Reason.NO_SESSION


def test_a_restored_browser_does_not_fill_the_trail(stage: Stage) -> None:
    token = replaced(stage)
    stage.pass_time(seconds=31)

    for _ in range(5):
        stage.browse(token)
    within_the_hour = stage.events().count(("replaced_token_presented", None))
    stage.pass_time(hours=1)
    stage.browse(token)

    assert within_the_hour == 1
    assert stage.events().count(("replaced_token_presented", None)) == 2


# --- devices


def test_a_token_and_the_device_of_its_session_go_together(stage: Stage) -> None:
    token = stage.signed_in(device_id="laptop").browser_token

    assert stage.browse(token, device_id="laptop").verdict is Verdict.AUTHENTICATED
    assert stage.browse(token).verdict is Verdict.AUTHENTICATED


@pytest.mark.parametrize("device_id", ["laptop", None])
def test_another_device_than_the_sessions_is_refused_and_noted(
    stage: Stage, device_id: str | None
) -> None:
    login = stage.signed_in(device_id=device_id)

    answers = [stage.browse(login.browser_token, device_id="phone") for _ in range(3)]
    by_reference = requests.SilentAuth(
        session_ref=login.session_ref, user_id="ada", device_id="phone"
    )
    answers.append(stage.ask("shop", by_reference))

    assert {refused_with(answer) for answer in answers} == {Reason.NO_SESSION}
    assert asked_of_mosaic(stage) == 0
    assert stage.events().count(("other_device_named", None)) == 1


# --- one name, one session

NAMES = {
    "browser_token": {"browser_token": NOBODYS},
    "ticket": {"ticket": "mst1_" + "x" * 43, "verifier": "v" * 43},
    "session_ref": {"session_ref": str(uuid4()), "user_id": "ada"},
    "user_id": {"user_id": "ada"},
}
SEVERAL = [
    pytest.param(first | second, id=f"{one}, {other}")
    for one, first in NAMES.items()
    for other, second in NAMES.items()
    if one < other and (one, other) != ("session_ref", "user_id")
]
NO_NAME = [
    {},
    {"device_id": "laptop"},
    {"session_ref": str(uuid4())},
    {"verifier": "v" * 43},
    {"ticket": "mst1_" + "x" * 43},
    {"browser_token": NOBODYS, "verifier": "v" * 43},
    {"browser_token": NOBODYS, "replaces": NOBODYS},
    {"browser_token": ""},
    {"browser_token": None},
    {"browser_token": 7},
    {"browser_token": [NOBODYS, NOBODYS]},
    {"browser_token": "m" * 4097},
    {"browser_token": "\ud800"},
]


@pytest.mark.parametrize("payload", [*SEVERAL, *NO_NAME])
def test_a_request_that_names_none_or_several_changes_nothing(
    sqlite_stage: Stage, payload: dict[str, Any]
) -> None:
    sqlite_stage.signed_in()
    sent = requests.SilentAuth(user_id="ada")
    before = sqlite_stage.dump()

    answer = sqlite_stage.ask("forum", sent, payload=payload)

    assert (answer.verdict, answer.reason) == (Verdict.INVALID_REQUEST, Reason.INVALID_PAYLOAD)
    assert NOBODYS not in (answer.detail or "")
    assert sqlite_stage.dump() == before
    assert asked_of_mosaic(sqlite_stage) == 0


def test_a_browser_that_was_logged_out_is_not_served_by_another_browsers_session(
    stage: Stage,
) -> None:
    laptop = stage.signed_in()
    stage.pass_time(minutes=1)
    phone = stage.signed_in()

    stage.log_out(session_ref=laptop.session_ref)

    assert refused_with(stage.browse(laptop.browser_token)) is Reason.LOGGED_OUT
    by_reference = stage.ask(
        "shop", requests.SilentAuth(session_ref=laptop.session_ref, user_id="ada")
    )
    assert refused_with(by_reference) is Reason.LOGGED_OUT
    assert stage.browse(phone.browser_token).session_ref == phone.session_ref


# --- by reference, from the app's own session


def by_reference(stage: Stage, ref: str, user_id: str = "ada", app_id: str = "shop") -> Any:
    return stage.ask(app_id, requests.SilentAuth(session_ref=ref, user_id=user_id))


def test_an_app_gets_tokens_by_the_reference_it_keeps_of_its_own_user(stage: Stage) -> None:
    login = stage.signed_in()
    stage.browse(login.browser_token, "forum")

    answers = [by_reference(stage, login.session_ref, app_id=app) for app in ("shop", "forum")]

    for answer in answers:
        assert answer.verdict is Verdict.AUTHENTICATED
        assert (answer.user_id, answer.session_ref) == ("ada", login.session_ref)
        assert answer.browser_token is None


def test_a_reference_that_is_foreign_unknown_or_another_users_is_all_the_same(
    stage: Stage,
) -> None:
    """To the bit, but for the ids: whoever tries references learns nothing."""
    ada = stage.signed_in("ada")
    before = stage.dump()

    answers = {
        "not shared": by_reference(stage, ada.session_ref, app_id="forum"),
        "unknown": by_reference(stage, str(uuid4())),
        "another user's": by_reference(stage, ada.session_ref, "bob"),
    }

    assert {refused_with(answer) for answer in answers.values()} == {Reason.NO_SESSION}
    assert len({repr(answer).replace(answer.request_id, "") for answer in answers.values()}) == 1
    assert stage.dump() == before
    assert asked_of_mosaic(stage) == 0


def test_a_reference_tells_the_app_that_shares_it_how_the_session_ended(stage: Stage) -> None:
    login = stage.signed_in()
    stage.log_out(session_ref=login.session_ref)

    assert refused_with(by_reference(stage, login.session_ref)) is Reason.LOGGED_OUT


def test_an_app_without_the_power_may_not_name_a_user(stage: Stage) -> None:
    stage.signed_in()
    before = stage.dump()

    answers = [stage.silent_auth(), stage.silent_auth(device_id="laptop")]

    for answer in answers:
        assert (answer.verdict, answer.reason) == (Verdict.UNAUTHORIZED, Reason.NOT_PERMITTED)
    assert stage.dump() == before


def test_the_trail_marks_who_was_signed_in_without_being_at_a_browser(stage: Stage) -> None:
    stage.add_app("nightly")
    stage.signed_in()

    answer = stage.silent_auth("ada", "nightly")

    assert answer.user_id == "ada"
    assert stage.events()[-1] == ("authenticated", "by_user")


# --- new proof, new token


def test_an_added_factor_gives_a_new_token_and_all_older_ones_give_nothing(stage: Stage) -> None:
    login = stage.login("ada", "shop")
    older = [stage.remember(login).browser_token for _ in range(3)]
    stage.pass_time(seconds=5)

    factor = stage.mosaic.state.add_factor(login.session_id, "client-shop", "sms")
    newer = stage.remember(factor).browser_token

    assert [refused_with(stage.browse(token)) for token in older] == [Reason.TOKEN_REPLACED] * 3
    strong = stage.browse(newer, amr_all_of=["mfa"])
    assert strong.verdict is Verdict.AUTHENTICATED


def test_an_answer_on_its_way_when_a_factor_is_added_is_not_handed_out(stage: Stage) -> None:
    login = stage.login("ada", "shop")
    token = stage.remember(login).browser_token
    stage.pass_time(seconds=5)
    with (
        stage.mosaic.state.gates.hold(ASK) as gate,
        stage.meanwhile(lambda: stage.browse(token)) as asking,
    ):
        gate.wait_arrived()
        factor = stage.mosaic.state.add_factor(login.session_id, "client-shop", "sms")
        newer = stage.remember(factor).browser_token
        gate.release()

    assert refused_with(asking.result()) is Reason.TOKEN_REPLACED
    assert stage.browse(newer).verdict is Verdict.AUTHENTICATED


def test_a_login_told_after_its_factor_gives_no_token(stage: Stage) -> None:
    """Its browser has, or gets, the factor's: another would hold what was proved since."""
    login = stage.login("ada", "shop")
    stage.pass_time(seconds=5)
    factor = stage.mosaic.state.add_factor(login.session_id, "client-shop", "sms")
    newer = stage.remember(factor).browser_token

    late = stage.remember(login)

    assert (late.verdict, late.browser_token) == (Verdict.OK, None)
    assert stage.browse(newer).verdict is Verdict.AUTHENTICATED


def test_a_newer_login_by_the_same_factors_gives_a_new_token_and_the_older_gives_nothing(
    stage: Stage,
) -> None:
    login = stage.login("ada", "shop")
    older = stage.remember(login).browser_token
    stage.pass_time(minutes=1)

    again = stage.mosaic.state.mint_id_token(aud="client-shop", amr=["pwd"])
    newer = stage.remember(login, id_token=again).browser_token

    assert refused_with(stage.browse(older)) is Reason.TOKEN_REPLACED
    assert stage.browse(newer).verdict is Verdict.AUTHENTICATED


def test_a_registration_that_proves_nothing_new_leaves_the_other_tokens_good(stage: Stage) -> None:
    login = stage.login("ada", "shop")

    first = stage.remember(login).browser_token
    named = stage.remember(login, device_id="laptop").browser_token

    assert first != named
    for token in (first, named):
        assert stage.browse(token).verdict is Verdict.AUTHENTICATED


def test_a_registration_delivered_again_gives_the_same_token(stage: Stage) -> None:
    login = stage.login("ada", "shop")
    sent = stage.seal(
        "shop",
        requests.Register(
            session_id=login.session_id, user_id="ada", id_token=login.id_token, device_id=None
        ),
    )

    first, second = stage.deliver(sent), stage.deliver(sent)

    assert first.browser_token == second.browser_token
    assert len(tokens(stage)) == 1


def test_no_more_tokens_of_a_session_live_than_there_may_be(stage: Stage) -> None:
    login = stage.login("ada", "shop")
    given = []
    for _ in range(MAX_LIVE + 3):
        given.append(stage.remember(login).browser_token)
        stage.pass_time(seconds=1)

    verdicts = [stage.browse(token).verdict for token in given]

    assert verdicts == [Verdict.LOGIN_REQUIRED] * 3 + [Verdict.AUTHENTICATED] * MAX_LIVE
    assert len([row for row in tokens(stage) if row.replaced_at is None]) == MAX_LIVE


def test_no_more_live_than_may_be_when_many_are_made_at_once(stage: Stage) -> None:
    login = stage.login("ada", "shop")
    for _ in range(3):
        stage.at_once(*[lambda: stage.remember(login)] * 4)

    assert len([row for row in tokens(stage) if row.replaced_at is None]) == MAX_LIVE


# --- what others may have of an answer


def test_tokens_of_one_session_share_an_answer_that_names_no_browser(
    store_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with Stage(store_url, redis_url, mosaic, reuse_seconds="60") as stage:
        stage.add_app("shop", silent_by_user=False)
        stage.add_app("forum", silent_by_user=False)
        login = stage.login("ada", "shop")
        mine, other = (stage.remember(login).browser_token for _ in range(2))

        first, second = stage.browse(mine), stage.browse(other)

        assert first.tokens.access_token == second.tokens.access_token
        assert first.browser_token is second.browser_token is None
        assert asked_of_mosaic(stage) == 1


def test_a_replaced_token_gets_no_answer_that_was_shared(
    store_url: str, redis_url: str, mosaic: SimulatorServer
) -> None:
    with Stage(store_url, redis_url, mosaic, reuse_seconds="60") as stage:
        stage.add_app("shop", silent_by_user=False)
        stage.add_app("forum", silent_by_user=False)
        login = stage.login("ada", "shop")
        token = stage.remember(login).browser_token
        stage.pass_time(seconds=2)
        stage.browse(token)
        factor = stage.mosaic.state.add_factor(login.session_id, "client-shop", "sms")
        newer = stage.remember(factor).browser_token
        stage.browse(newer)

        assert refused_with(stage.browse(token)) is Reason.TOKEN_REPLACED


def test_nothing_tells_a_token(sqlite_stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    login = sqlite_stage.signed_in()
    request = requests.SilentAuth(browser_token=login.browser_token)
    sent = sqlite_stage.seal("forum", request)
    sqlite_stage.deliver(sent)

    token = login.browser_token
    assert token not in repr(login) + repr(request) + json.dumps(sent.kwargs)
    assert sent.task is Task.SILENT_AUTH
    assert token not in "".join(capsys.readouterr())
    keys = sqlite_stage.redis.keys("*")
    held = [sqlite_stage.redis.dump(key) for key in keys]
    assert token.encode() not in b"".join(bytes(value or b"") for value in held)
