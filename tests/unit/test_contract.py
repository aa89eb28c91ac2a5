"""Client, worker and page speak of the same things."""

from __future__ import annotations

import ast
import base64
import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from pytest_mock import MockerFixture

import session_client
from session_client import contract, ended, logins, methods, notices, requests, sealing
from session_client._core import call
from session_client.contract import Queue, Reason, Task, Verdict
from session_client.login_steps import FirstStep, Limits, LoginStep, Step, limits_of
from worker.backchannel.logout_tokens import LogoutTokens
from worker.logins import journal, known_browser, limits
from worker.logins.login_steps import LEAST_SECONDS
from worker.outbox import notice_delivery
from worker.outbox.mosaic_revocations import DELETE_WITHIN
from worker.requests import commands, replies
from worker.sessions.audit import Cause
from worker.sessions.browser_tokens import JUST_REPLACED, MAX_LIVE
from worker.settings.model import Settings
from worker.sign_in import describe_app, list_sessions

PAGE = (Path(__file__).parent.parent.parent / "docs" / "contract.md").read_text(encoding="utf-8")
WORKER = Path(__file__).parents[2] / "worker"
DEFAULTS = Settings.model_fields
SOME_UUID = "01a20879-0918-724e-bc9e-5bb1911c801a"
BROWSER = {"user_agent": "u", "ip_address": "::1"}
WISHES = requests.Wishes(resource="r", claims={"id_token": {"a": None}}, org_id="o", **BROWSER)
# All that each kind of request can say.
REQUESTS: tuple[requests.Request[Any], ...] = (
    requests.Register(user_id="ada", session_id="s", id_token="t", device_id="d", replaces="b"),
    requests.SilentAuth(
        user_id="ada", device_id="d", amr_all_of=["pwd"], amr_any_of=["otp"], max_age=1,
        wishes=WISHES,
    ),
    requests.SilentAuth(browser_token="b", device_id="d"),
    requests.SilentAuth(session_ref=SOME_UUID, user_id="ada"),
    requests.SilentAuth(ticket="t", verifier="v" * 43, replaces="b"),
    logins.Start(
        step=methods.SendOtp("sms", "+1", "phone_number"), known_browser="k", device_id="d",
        wishes=WISHES,
    ),
    logins.Start(step=methods.SendOtp("sms"), step_up="b", approval_data={"amount": "1"}),
    logins.Start(step=methods.VerifySocial("c", "s"), login="h"),
    logins.Authenticate(
        proof=methods.Password("ada", "p"), replaces="b", known_browser="k", device_id="d",
        wishes=WISHES,
    ),
    logins.Authenticate(proof=methods.Code("123456"), login="h", step_up="b"),
    requests.Refresh(refresh_token="r"),
    requests.IssueTicket(browser_token="b", for_app="forum", challenge="c" * 43),
    requests.Status(user_id="ada", session_ref=SOME_UUID),
    requests.Logout(user_id="ada", session_ref=SOME_UUID),
    requests.Logout(user_id="ada", session_id="s"),
    requests.Logout(user_id="ada", device_id="d"),
    requests.Logout(browser_token="b"),
    requests.RevokeUser(user_id="ada", frontend=True),
    requests.Receipt(receipt_id=SOME_UUID),
    requests.ConfirmNotice(
        session_client.LogoutNotice(notice_id=SOME_UUID, user_id="ada", session_ref=SOME_UUID)
    ),
    session_client.Check(),
)  # fmt: skip
NOW = datetime(2026, 11, 2, 8, 0, tzinfo=UTC)


def section(title: str) -> str:
    level = title.partition(" ")[0]
    return re.split(rf"^{level} |^## ", PAGE.partition(f"\n{title}\n")[2], flags=re.MULTILINE)[0]


def table(title: str) -> list[list[str]]:
    """The cells of a section's rows, without its head; code is taken out of its ticks."""
    rows = re.findall(r"^\|(.*)\|$", section(title), re.MULTILINE)[2:]
    return [[cell.strip().strip("`") for cell in row.split("|")] for row in rows]


def seconds(text: str) -> float:
    number, unit = text.partition(";")[0].split()
    return float(number) * {"s": 1, "min": 60, "h": 3600}[unit]


def test_every_task_has_a_queue_and_a_lifetime() -> None:
    assert set(contract.QUEUE_OF) == set(contract.MAX_LIFETIME) == set(Task)
    assert all(lifetime > timedelta(0) for lifetime in contract.MAX_LIFETIME.values())


def test_every_task_has_a_request_in_the_client_and_a_command_in_the_worker() -> None:
    assert {request.task for request in REQUESTS} == set(commands.COMMANDS) == set(Task)
    known = {kind.__name__ for kind in requests.Request.__subclasses__()}
    assert {type(request).__name__ for request in REQUESTS} == known


@pytest.mark.parametrize("app_id", ["a", "shop", "shop-2", "s_1", "0", "a" * 64])
def test_these_are_app_ids(app_id: str) -> None:
    assert contract.is_app_id(app_id)


@pytest.mark.parametrize(
    "app_id",
    ["", "Shop", "-a", "a-", "_a", "a:b", "a b", "a\n", "ä", "a" * 65, "*", None, 1, ["a"]],
)
def test_these_are_none(app_id: object) -> None:
    assert not contract.is_app_id(app_id)


@pytest.mark.parametrize("request_id", ["a" * 16, "A0_-" * 16])
def test_these_are_request_ids(request_id: str) -> None:
    assert contract.is_request_id(request_id)


@pytest.mark.parametrize(
    "request_id", ["", "a" * 15, "a" * 65, "a" * 16 + "\n", "a" * 15 + ":", "é" * 16, None, 1]
)
def test_these_are_no_request_ids(request_id: object) -> None:
    assert not contract.is_request_id(request_id)


FORMS: dict[Callable[[object], bool], str] = {
    contract.is_browser_token: "msb1_" + "Az0_-" * 8 + "xyz",
    contract.is_ticket: "mst1_" + "Az0_-" * 8 + "xyz",
    contract.is_verifier: "Az0_-.~" * 6 + "x",
    contract.is_challenge: "Az0_-" * 8 + "xyz",
}


@pytest.mark.parametrize("has_form", FORMS)
def test_what_browsers_carry_has_one_form_each(has_form: Callable[[object], bool]) -> None:
    right = FORMS[has_form]
    wrong = [right[:-1], right + "\n", right + "=", right[:-1] + "é", "", None, 1, right.encode()]

    assert has_form(right)
    assert not any(has_form(value) for value in wrong)


def test_no_form_is_taken_for_another() -> None:
    tokens = [FORMS[contract.is_browser_token], FORMS[contract.is_ticket]]

    for has_form in (contract.is_browser_token, contract.is_ticket, contract.is_challenge):
        assert sum(has_form(token) for token in tokens) <= 1


def test_a_reply_key_cannot_be_another_apps() -> None:
    assert contract.reply_key("shop", "r" * 16) == "reply:shop:" + "r" * 16


def test_everything_public_is_exported_and_sorted() -> None:
    assert session_client.__all__ == sorted(session_client.__all__)
    assert all(hasattr(session_client, name) for name in session_client.__all__)


# --- the page


def test_the_page_lists_the_tasks_with_queue_and_lifetime() -> None:
    told = {row[0]: (row[1], seconds(row[2])) for row in table("## Tasks")}

    assert told == {
        task.value: (queue.value, contract.MAX_LIFETIME[task].total_seconds())
        for task, queue in contract.QUEUE_OF.items()
    }


def test_the_page_names_every_queue() -> None:
    assert all(f"`{queue.value}`" in section("## Tasks") for queue in Queue)


def test_the_pages_examples_send_each_task_to_its_queue() -> None:
    text = section("## The message")
    with_celery = re.search(r'send_task\(\s*"([^"]+)",.*?queue="([^"]+)"', text, re.DOTALL)
    by_hand = re.search(r"```json\n(.*?)```", text, re.DOTALL)
    assert with_celery is not None
    assert by_hand is not None
    message = json.loads(by_hand[1])
    delivery = message["properties"]["delivery_info"]

    told = [with_celery.groups(), (message["headers"]["task"], delivery["routing_key"])]

    for task, queue in told:
        assert contract.QUEUE_OF[Task(task)] == queue, task


def test_the_page_lists_the_verdicts() -> None:
    assert [row[0] for row in table("## Verdicts")] == [verdict.value for verdict in Verdict]


def test_the_page_lists_the_reasons_each_with_verdicts_that_exist() -> None:
    rows = table("## Reasons")

    assert sorted(row[0] for row in rows) == sorted(reason.value for reason in Reason)
    for row in rows:
        assert set(re.findall(r"\w+", row[1])) <= {verdict.value for verdict in Verdict}


def given_verdicts() -> Iterator[tuple[str, str]]:
    """Each reason that the worker's sources give, with the verdict it goes with."""
    by_error = {
        "Unauthorized": Verdict.UNAUTHORIZED,
        "InvalidRequest": Verdict.INVALID_REQUEST,
        "LoginRefused": Verdict.ACCESS_DENIED,
        "HeldBack": Verdict.TEMPORARILY_UNAVAILABLE,
    }
    for path in WORKER.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                named = [ast.unparse(argument) for argument in node.args]
                reasons = re.findall(r"^Reason\.(\w+)$", "\n".join(named), re.MULTILINE)
                verdicts = re.findall(r"^Verdict\.(\w+)$", "\n".join(named), re.MULTILINE)
                verdict = by_error.get(ast.unparse(node.func))
                if reasons and (verdict or verdicts):
                    yield Reason[reasons[0]].value, (verdict or Verdict[verdicts[0]]).value


def test_the_page_lists_the_reasons_each_with_the_verdicts_that_the_worker_gives() -> None:
    told = {row[0]: set(re.findall(r"\w+", row[1])) for row in table("## Reasons")}

    given = set(given_verdicts())

    assert len(given) > 25
    assert sorted(pair for pair in given if pair[1] not in told[pair[0]]) == []


@pytest.mark.parametrize("task", Task)
def test_the_page_lists_the_payload_as_the_worker_reads_it(task: Task) -> None:
    told = {row[0]: row for row in table(f"### `{task.value}`") if len(row) == 3}
    fields = commands.COMMANDS[task].model_fields

    assert set(told) == set(fields)
    for name, field in fields.items():
        assert ("optional" in told[name][1]) == (not field.is_required()), name
        for limit in ("min_length", "max_length", "ge", "le"):
            for rule in field.metadata:
                value = getattr(rule, limit, None)
                if value is not None:
                    shown = {10**9: "10^9"}.get(value, str(value))
                    assert re.search(rf"\b{re.escape(shown)}\b", told[name][2]), (name, limit)


def test_the_pages_examples_of_payloads_are_what_the_worker_reads() -> None:
    examples = {
        task: re.findall(r"```json\n(.*?)```", section(f"### `{task.value}`"), re.DOTALL)
        for task in Task
    }

    assert {task for task in Task if examples[task]} >= {Task.START, Task.AUTHENTICATE}
    for task in Task:
        for example in examples[task]:
            payload = json.loads(example)
            command = commands.parse(task, payload)
            assert command.model_fields_set == set(payload)


@pytest.mark.parametrize("request_made", REQUESTS, ids=repr)
def test_the_client_sends_only_what_the_worker_reads(request_made: requests.Request[Any]) -> None:
    payload = request_made.payload()

    command = commands.parse(request_made.task, json.loads(json.dumps(payload)))

    assert command.model_dump(exclude_unset=True, mode="json") == payload


@pytest.mark.parametrize("task", Task)
def test_the_client_can_send_all_that_the_worker_reads(task: Task) -> None:
    sent = {name for request in REQUESTS if request.task is task for name in request.payload()}

    assert sent == set(commands.COMMANDS[task].model_fields)


def given(limits: Limits) -> str:
    needed = "needed" if limits.is_required else "optional"
    return f"{needed}, not in a step-up" if limits.names_user else needed


def holds(limits: Limits) -> str:
    if limits.one_of:
        return ", ".join(f"`{value}`" for value in limits.one_of).strip("`")
    any_character = ", any character" if limits.takes_any_character else ""
    return f"1 to {limits.longest}{any_character}"


def test_the_page_lists_the_login_methods_as_they_are_declared() -> None:
    assert table("### Login methods") == [
        [step.method, step.step, name, given(limits), holds(limits),
         "yes" if limits.is_secret else "no"]
        for step in methods.TABLE
        for name, limits in limits_of(step).items()
    ]  # fmt: skip


def test_the_page_lists_the_limits_of_logins_as_the_worker_counts_them() -> None:
    guesser = limits.Guesser(by=Cause("shop", "r"), subject=b"s", origin="o", handle="h")
    adding = dataclasses.replace(guesser, is_second_factor=True)
    counted = [
        *limits.guesses(guesser)[:2],
        limits.guesses(adding)[1],
        limits.guesses(guesser)[2],
        *limits.sends(guesser),
    ]

    told, name = [], ""
    for row in table("### Limits of logins"):
        name = row[0] or name
        told.append((name, int(row[3]), seconds(row[4])))

    assert told == [(bucket.limit.value, bucket.size, bucket.seconds) for bucket in counted]


def test_the_page_tells_how_much_time_a_login_needs() -> None:
    assert f"less than {LEAST_SECONDS:.0f} s are left" in section("## The seal")
    assert f"less than {LEAST_SECONDS:.0f} s are left" in section("## Reasons")


def test_the_page_lists_what_a_first_step_gives_as_the_client_reads_it() -> None:
    told = [row for row in table("### `sessions.start`") if len(row) == 4][2:]

    assert [(row[0], row[1], re.findall(r"\w+", row[2])) for row in told] == [
        (step.method, step.step, [known.name for known in dataclasses.fields(step.gives)])
        for step in methods.TABLE
        if issubclass(step, FirstStep)
    ]
    assert [re.findall(r"\w+", row[3]) for row in told] == [
        [step.next_step.method, step.next_step.step]
        for step in methods.TABLE
        if issubclass(step, FirstStep)
    ]


@pytest.mark.parametrize("step", methods.TABLE)
def test_each_step_of_a_method_is_one_row_of_the_table(step: type[LoginStep]) -> None:
    assert methods.step_of(step.method.value, step.step.value) is step
    if issubclass(step, FirstStep):
        assert step.next_step.needs_login
    else:
        assert step.step is Step.AUTHENTICATE


def test_the_page_tells_the_limits() -> None:
    for limit in (contract.MAX_MESSAGE_BYTES, contract.MAX_REGISTER_MESSAGE_BYTES):
        assert str(limit) in section("## The message")
    assert f"{contract.MAX_FIELDS} fields" in section("## The seal")
    for task in Task:
        assert str(contract.max_envelope_bytes(task)) in section("## The message")
    assert contract.APP_ID_PATTERN in section("## The message")
    assert contract.REQUEST_ID_PATTERN in section("## Request ids")
    assert f"{contract.MAX_NESTING} levels" in section("## The seal")
    assert f"{contract.MAX_CLOCK_SKEW.total_seconds():.0f} s" in section("## The seal")
    assert f"{contract.ANSWER_LIFETIME.total_seconds():.0f} s" in section("## Answers")
    assert contract.MAX_ANSWER_BYTES == 2**20
    assert "1 MiB" in section("## Answers")
    assert contract.reply_key("<app_id>", "<request_id>") in section("## Answers")
    assert f"{contract.TICKET_LIFETIME.total_seconds():.0f} s" in section("### `sessions.ticket`")
    assert timedelta(minutes=10) == contract.LOGIN_LIFETIME
    assert "ten minutes" in section("### `sessions.start`")
    assert contract.is_browser_token("msb1_" + "x" * 43)
    assert "`msb1_` and 43 characters" in section("## Payloads and data")


FIGURES: tuple[tuple[str, str, object, object], ...] = (
    ("## Payloads and data", "replaced less than 30 s ago", JUST_REPLACED, timedelta(seconds=30)),
    ("## Payloads and data", "A session has eight live ones at most", MAX_LIVE, 8),
    ("### `sessions.silent_auth`", "within half a minute", DEFAULTS["reuse_seconds"].default, 30.0),
    ("### `sessions.start`", "for 180 days", known_browser.LIFETIME, timedelta(days=180)),
    ("### `sessions.authenticate`", "older than 180 days", known_browser.LIFETIME,
     timedelta(days=180)),
    ("### `sessions.refresh`", "within 60 s after it", journal.ANSWER_KEPT, timedelta(seconds=60)),
    ("### `sessions.status`", "100 at most", list_sessions._MAX_SESSIONS, 100),
    ("### `sessions.revoke_user`", "within the first minute", DELETE_WITHIN, timedelta(minutes=1)),
    ("### The receipt", "1000 at most", contract.MAX_SESSION_REFS, 1000),
    ("## When a logout counts", "after 1 s, doubling, every 10 s at most",
     (call.REPEAT_AFTER_SECONDS, call.REPEAT_AT_MOST_EVERY_SECONDS), (1.0, 10.0)),
    ("## When a logout counts", "within one second", replies.MAX_TOKENS_AGE_SECONDS, 1.0),
    ("## When a logout counts", "20,000 sessions at most", ended.MAX_REMEMBERED, 20_000),
    ("### A call of the app's URL", "none in 5 s", DEFAULTS["notice_timeout_seconds"].default, 5.0),
    ("### A call of the app's URL", "Allow 60 s", contract.MAX_CLOCK_SKEW, timedelta(seconds=60)),
)  # fmt: skip


@pytest.mark.parametrize(("title", "words", "is_so", "told"), FIGURES)
def test_the_figures_in_the_pages_sentences_are_those_of_the_code(
    title: str, words: str, is_so: object, told: object
) -> None:
    assert words in " ".join(section(title).split())
    assert is_so == told


def test_the_page_lists_the_receipts_members_as_the_client_reads_them() -> None:
    told = {row[0] for row in table("### The receipt")}
    assert told == set(session_client.LogoutReceipt.__dataclass_fields__)


def test_the_page_lists_what_an_app_is_told_of_itself_as_the_worker_writes_it(
    mocker: MockerFixture,
) -> None:
    services, request = mocker.Mock(), mocker.Mock()
    services.notices.public_keys.return_value = {"keys": [{}]}
    request.app.capabilities, request.app.methods = frozenset(), frozenset()

    told = [row[0] for row in table("### `apps.about`")]

    assert told == list(describe_app.about(services, request).data)


def test_the_page_names_the_headers_that_an_app_may_set() -> None:
    for header in (contract.PUBLISHED_AT, contract.ANSWER_TO):
        assert f"`{header}`" in section("## The message")


def test_the_page_names_what_a_logout_may_wait_for() -> None:
    told = section("### `sessions.receipt`")

    assert all(f"`{wait.value}`" in told for wait in session_client.LogoutWait)


def test_the_page_lists_what_a_sealed_notice_holds_as_the_worker_writes_it(
    mocker: MockerFixture,
) -> None:
    told = [row[0] for row in table("### A message to the app's own queue")]
    key = session_client.AppKey("k1", bytes(32))
    services = mocker.Mock(now=lambda: NOW)
    services.apps.find.return_value.keys = {key.kid: key}
    ended = notice_delivery._Payload(UUID(SOME_UUID), UUID(SOME_UUID), "ada", "logged_out", NOW)

    envelope = notice_delivery._sealed(services, "shop", ended, mocker.Mock(attempts=1))

    content = sealing.unseal(envelope, sealing.Kind.NOTICE, {key.kid: key}.get)
    assert told == ["app_id", "envelope", "field", "---", *content]
    assert f"`{sealing.Kind.NOTICE.value}`" in section("### A message to the app's own queue")
    assert f"`{contract.LOGOUT_NOTICE_TASK}`" in section("### A message to the app's own queue")


def test_the_page_lists_the_claims_of_a_logout_token_as_the_worker_signs_them() -> None:
    key = rsa.generate_private_key(65537, 2048)
    token = LogoutTokens("https://worker", [key], lambda: NOW).sign(
        audience="client-shop", user_id="ada", session_ref="r", notice_id="n"
    )
    head, payload = (
        json.loads(base64.urlsafe_b64decode(part + "=="))
        for part in token.split(".")[:2]
    )  # fmt: skip

    told = [row[0] for row in table("### A call of the app's URL")]

    assert told[: told.index("answer")] == list(payload)
    text = section("### A call of the app's URL")
    assert f"`{head['typ']}`" in text
    assert head["alg"] in text
    assert f"{payload['exp'] - payload['iat']} s later" in text
    assert notices.BACKCHANNEL_EVENT in payload["events"]
    assert notices.BACKCHANNEL_EVENT in text
