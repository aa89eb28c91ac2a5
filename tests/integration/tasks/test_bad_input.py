"""Bad input changes nothing, costs Mosaic nothing, and gets a typed answer."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from joserfc import jwe
from joserfc.jwk import OctKey

from session_client import contract, logins, methods, requests, times
from session_client.contract import Queue, Reason, Task, Verdict
from session_client.keys import AppKey
from tests.stage import Sent, Stage
from worker.app import app as celery_app
from worker.operations.apps import disable_app

REQUEST_ID = "r" * 22
INVALID, UNAUTHORIZED = Verdict.INVALID_REQUEST, Verdict.UNAUTHORIZED


@pytest.fixture
def apps(stage: Stage) -> Stage:
    stage.add_app("shop")
    stage.add_app("forum")
    stage.add_app("closed")
    stage.registered("ada", "shop", device_id="phone")
    stage.silent_auth("ada", "forum", device_id="phone")
    disable_app(stage.services, "closed")
    stage.reread_apps()
    return stage


@pytest.fixture
def small(sqlite_stage: Stage) -> Stage:
    """The same for tables of many rows: what is refused never reaches the database.

    All rows of a table are tried on one stage, since none may change it.
    """
    sqlite_stage.add_app("shop")
    sqlite_stage.add_app("forum")
    sqlite_stage.registered("ada", "shop")
    return sqlite_stage


class Unchanged:
    """Nothing written, nothing asked of Mosaic."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._before = self._now()

    def _now(self) -> tuple[Any, int]:
        return self._stage.dump(), self._stage.mosaic.state.calls.count()

    def check(self) -> None:
        assert self._now() == self._before


def sealed_raw(key: AppKey, content: bytes, **header: Any) -> str:
    """Seal anything at all, as somebody with the key could."""
    protected = {"alg": "dir", "enc": "A256GCM", "kid": key.kid, "typ": "session-request"}
    registry = jwe.JWERegistry(algorithms=["dir", "A256GCM", "DEF"])
    return jwe.encrypt_compact(
        protected | header, content, OctKey.import_key(key.secret), registry=registry
    )


def good_content(stage: Stage, **changes: Any) -> dict[str, Any]:
    request = requests.SilentAuth(user_id="ada")
    content = requests.content_of(
        request,
        app_id="shop",
        request_id=REQUEST_ID,
        issued_at=stage.now(),
        lifetime=timedelta(seconds=30),
    )
    return content | changes


def deliver(stage: Stage, envelope: object, task: Task = Task.SILENT_AUTH, **kwargs: Any) -> Any:
    return stage.deliver(Sent(task, REQUEST_ID, {"app_id": "shop", "envelope": envelope} | kwargs))


def told(answer: Any) -> tuple[Verdict, str | None] | None:
    """What an app hears, if it hears anything."""
    return None if answer is None else (answer.verdict, answer.reason)


# --- who is asking


def _nested(depth: int) -> str:
    return "[" * depth + "]" * depth


TWO_TOKENS = (
    f'"payload": {{"browser_token": "msb1_{"x" * 43}", "browser_token": "msb1_{"y" * 43}", '
)
ENVELOPES: dict[str, tuple[Callable[[Stage], object], Reason]] = {
    "nothing": (lambda _: None, Reason.NOT_SEALED),
    "a number": (lambda _: 7, Reason.NOT_SEALED),
    "an object": (lambda s: good_content(s), Reason.NOT_SEALED),  # noqa: PLW0108
    "unsealed JSON": (lambda s: json.dumps(good_content(s)), Reason.NOT_SEALED),
    "empty": (lambda _: "", Reason.NOT_SEALED),
    "dots": (lambda _: "....", Reason.NOT_SEALED),
    "too few parts": (lambda _: "e30.e30.e30", Reason.NOT_SEALED),
    "half a surrogate pair": (lambda _: "\ud800....", Reason.NOT_SEALED),
    "letters beyond ASCII": (lambda _: "é.é.é.é.é", Reason.NOT_SEALED),
    "NUL": (lambda _: "\0.\0.\0.\0.\0", Reason.NOT_SEALED),
    "a header that is a list": (lambda _: "W10....", Reason.NOT_SEALED),
    "a header nested deep": (
        lambda _: sealed_header(_nested(10_000)),
        Reason.NOT_SEALED,
    ),
    "a megabyte": (lambda _: "A" * 2**20, Reason.TOO_LARGE),
    "another app's key": (
        lambda s: sealed_raw(s.keys["forum"], json.dumps(good_content(s)).encode()),
        Reason.WRONG_KEY,
    ),
    "nobody's key": (
        lambda s: sealed_raw(AppKey.generate(), json.dumps(good_content(s)).encode()),
        Reason.WRONG_KEY,
    ),
    "another key under our key's name": (
        lambda s: sealed_raw(
            AppKey(s.keys["shop"].kid, b"x" * 32), json.dumps(good_content(s)).encode()
        ),
        Reason.WRONG_KEY,
    ),
    "no kid": (
        lambda _: sealed_header(json.dumps({"alg": "dir", "enc": "A256GCM"})),
        Reason.WRONG_KEY,
    ),
    "a kid that is a list": (
        lambda _: sealed_header(json.dumps({"alg": "dir", "kid": ["a"]})),
        Reason.WRONG_KEY,
    ),
    "an answer sent back as a request": (
        lambda s: sealed_raw(
            s.keys["shop"], json.dumps(good_content(s)).encode(), typ="session-answer"
        ),
        Reason.WRONG_KEY,
    ),
    "compressed": (
        lambda s: sealed_raw(s.keys["shop"], json.dumps(good_content(s)).encode(), zip="DEF"),
        Reason.WRONG_KEY,
    ),
    "a bit changed": (
        lambda s: _flipped(sealed_raw(s.keys["shop"], json.dumps(good_content(s)).encode())),
        Reason.WRONG_KEY,
    ),
    "sealed, but no JSON": (lambda s: sealed_raw(s.keys["shop"], b"hello"), Reason.WRONG_KEY),
    "sealed, but no UTF-8": (lambda s: sealed_raw(s.keys["shop"], b"\xff"), Reason.WRONG_KEY),
    "sealed, but a list": (lambda s: sealed_raw(s.keys["shop"], b"[1]"), Reason.WRONG_KEY),
    "sealed, but nested deep": (
        lambda s: sealed_raw(s.keys["shop"], b'{"v":1,"x":%s}' % _nested(9000).encode()),
        Reason.WRONG_KEY,
    ),
    "sealed, with two browser tokens under one name": (
        lambda s: sealed_raw(
            s.keys["shop"],
            json.dumps(good_content(s)).replace('"payload": {', TWO_TOKENS).encode(),
        ),
        Reason.WRONG_KEY,
    ),
    "sealed, with an integer of 5000 digits": (
        lambda s: sealed_raw(s.keys["shop"], b'{"v":%s}' % (b"9" * 5000)),
        Reason.WRONG_KEY,
    ),
}


def sealed_header(header: str) -> str:
    return base64.urlsafe_b64encode(header.encode()).rstrip(b"=").decode() + "...."


def _flipped(envelope: str) -> str:
    head, key, iv, text, tag = envelope.split(".")
    return ".".join((head, key, iv, ("A" if text[0] != "A" else "B") + text[1:], tag))


def test_an_envelope_that_proves_nothing_is_unauthorized(small: Stage) -> None:
    unchanged = Unchanged(small)

    answers = {name: told(deliver(small, make(small))) for name, (make, _) in ENVELOPES.items()}

    assert answers == {name: (UNAUTHORIZED, reason) for name, (_, reason) in ENVELOPES.items()}
    unchanged.check()


def test_every_task_wants_proof_of_its_sender(small: Stage) -> None:
    unchanged = Unchanged(small)
    unsealed = json.dumps(good_content(small))

    answers = {task: told(deliver(small, unsealed, task)) for task in Task}

    assert answers == dict.fromkeys(Task, (UNAUTHORIZED, Reason.NOT_SEALED))
    unchanged.check()


def test_a_task_is_served_from_its_own_queue_alone(small: Stage) -> None:
    unchanged = Unchanged(small)
    answers = {}
    for task in Task:
        content = good_content(small, task=task.value, payload={"no_field": 1})
        sealed = sealed_raw(small.keys["shop"], json.dumps(content).encode())
        kwargs = {"app_id": "shop", "envelope": sealed}
        for queue in Queue:
            sent = Sent(task, REQUEST_ID, kwargs, queue.value)
            answers[task, queue] = told(small.deliver(sent))

    assert answers == {
        (task, queue): (INVALID, Reason.INVALID_PAYLOAD)
        if queue is contract.QUEUE_OF[task]
        else (UNAUTHORIZED, Reason.WRONG_QUEUE)
        for task in Task
        for queue in Queue
    }
    unchanged.check()


def test_an_app_nobody_registered_is_unauthorized(apps: Stage) -> None:
    unchanged = Unchanged(apps)
    apps.keys["stranger"] = AppKey.generate()

    answer = apps.silent_auth("ada", "stranger")

    assert (answer.verdict, answer.reason) == (UNAUTHORIZED, Reason.UNKNOWN_APP)
    unchanged.check()


def test_a_disabled_app_is_unauthorized_whatever_it_asks(apps: Stage) -> None:
    unchanged = Unchanged(apps)
    answers = {}
    for task in Task:
        sealed = apps.seal("closed", requests.SilentAuth(user_id="ada"), task=task.value)
        answers[task] = told(apps.deliver(Sent(task, sealed.request_id, sealed.kwargs)))

    assert answers == dict.fromkeys(Task, (UNAUTHORIZED, Reason.APP_DISABLED))
    unchanged.check()


KWARGS: list[dict[str, Any]] = [
    {},
    {"envelope": "x"},
    {"app_id": None},
    {"app_id": 7},
    {"app_id": ["shop"]},
    {"app_id": {"a": 1}},
    {"app_id": ""},
    {"app_id": "Shop"},
    {"app_id": "shop\n"},
    {"app_id": "shop\0"},
    {"app_id": "a" * 65},
    {"app_id": "*"},
    {"app_id": "../shop"},
]


def test_a_message_that_names_no_app_is_dropped_quietly(small: Stage) -> None:
    unchanged = Unchanged(small)
    keys = set(small.redis.keys("*"))

    for task in Task:
        for kwargs in KWARGS:
            small.run(Sent(task, REQUEST_ID, kwargs))

    assert set(small.redis.keys("*")) == keys
    unchanged.check()


def test_a_message_without_a_proper_id_is_dropped_quietly(small: Stage) -> None:
    sent = small.seal("shop", requests.SilentAuth(user_id="ada"))
    unchanged = Unchanged(small)
    keys = set(small.redis.keys("*"))

    for request_id in ("short", "r" * 65, "with space in it", "\0" * 22):
        small.run(Sent(sent.task, request_id, sent.kwargs))

    assert set(small.redis.keys("*")) == keys
    unchanged.check()


def test_further_arguments_are_ignored(small: Stage) -> None:
    sent = small.seal("shop", requests.Status(user_id="ada"))

    celery_app.tasks[sent.task.value].apply(
        args=(1, None),
        kwargs=sent.kwargs | {"extra": 1},
        task_id=sent.request_id,
        routing_key=contract.QUEUE_OF[sent.task].value,
        throw=True,
    )

    assert small.answer_to(sent).verdict is Verdict.OK


# --- what is sealed inside

CONTENTS: dict[str, tuple[Callable[[Stage], dict[str, Any]], Reason]] = {
    "no version": (lambda _: {"v": None}, Reason.UNKNOWN_VERSION),
    "a later version": (lambda _: {"v": 2}, Reason.UNKNOWN_VERSION),
    "a version that is text": (lambda _: {"v": "1"}, Reason.UNKNOWN_VERSION),
    "another task": (lambda _: {"task": "sessions.logout"}, Reason.OUTSIDE_MISMATCH),
    "another app": (lambda _: {"app_id": "forum"}, Reason.OUTSIDE_MISMATCH),
    "another request": (lambda _: {"request_id": "q" * 22}, Reason.OUTSIDE_MISMATCH),
    "no task": (lambda _: {"task": None}, Reason.OUTSIDE_MISMATCH),
    "a task that is a list": (lambda _: {"task": ["x"]}, Reason.OUTSIDE_MISMATCH),
    "no times": (lambda _: {"issued_at": None, "deadline": None}, Reason.MALFORMED),
    "a time that is a number": (lambda _: {"issued_at": 1}, Reason.MALFORMED),
    "a naive time": (
        lambda s: {"deadline": s.now().replace(tzinfo=None).isoformat()},
        Reason.MALFORMED,
    ),
    "a date of another age": (
        lambda _: {"issued_at": "0001-01-01T00:00:00+23:59"},
        Reason.MALFORMED,
    ),
    "a deadline before its issue": (
        lambda s: {"deadline": times.to_wire(s.now() - timedelta(seconds=1))},
        Reason.MALFORMED,
    ),
    "a deadline next year": (
        lambda s: {"deadline": times.to_wire(s.now() + timedelta(days=365))},
        Reason.MALFORMED,
    ),
    "a deadline that has passed": (
        lambda s: {
            "issued_at": times.to_wire(s.now() - timedelta(seconds=60)),
            "deadline": times.to_wire(s.now() - timedelta(seconds=30)),
        },
        Reason.DEADLINE_PASSED,
    ),
    "a clock an hour fast": (
        lambda s: {
            "issued_at": times.to_wire(s.now() + timedelta(hours=1)),
            "deadline": times.to_wire(s.now() + timedelta(hours=1, seconds=30)),
        },
        Reason.CLOCK_SKEW,
    ),
    "no payload": (lambda _: {"payload": None}, Reason.INVALID_PAYLOAD),
    "a payload that is a list": (lambda _: {"payload": [1]}, Reason.INVALID_PAYLOAD),
}


def test_content_that_does_not_fit_is_refused(small: Stage) -> None:
    unchanged = Unchanged(small)
    answers = {}
    for name, (make, _) in CONTENTS.items():
        content = good_content(small, **make(small))
        sealed = sealed_raw(small.keys["shop"], json.dumps(content).encode())
        answers[name] = told(deliver(small, sealed))

    assert answers == {name: (INVALID, reason) for name, (_, reason) in CONTENTS.items()}
    unchanged.check()


def test_what_comes_after_its_deadline_is_not_served(small: Stage) -> None:
    late = [
        small.seal("shop", requests.Status(user_id="ada")),
        small.seal("shop", requests.Logout(user_id="ada", everywhere=True)),
    ]
    small.pass_time(seconds=31)
    unchanged = Unchanged(small)

    answers = [told(small.deliver(sent)) for sent in late]

    assert answers == [(INVALID, Reason.DEADLINE_PASSED)] * len(late)
    unchanged.check()


def test_a_captured_envelope_is_no_use_as_another_task(apps: Stage) -> None:
    sent = apps.seal("shop", requests.SilentAuth(user_id="ada"), request_id=REQUEST_ID)
    unchanged = Unchanged(apps)

    answer = deliver(apps, sent.kwargs["envelope"], Task.LOGOUT)

    assert (answer.verdict, answer.reason) == (INVALID, Reason.OUTSIDE_MISMATCH)
    unchanged.check()


SOME_REF = "01a20872-f07c-748e-a5d6-4108532b6f0a"
TEXTS: list[Any] = [None, 7, True, [], {}, "", "a\0b", "a\nb", "\x7f", "\ud800", "a" * 350_000]
NO_PASSWORDS: list[Any] = [None, 7, True, [], {}, "", "a" * 4097, "\ud800"]
METHODS: list[Any] = ["pwd", {}, [7], [None], [""], ["\0"], ["\ud800"], ["a"] * 17, ["a" * 65]]
CLAIMS: list[Any] = [
    *([], "x", 7, {"id_token": {"email": "\ud800"}}, {"id_token": {"\udfff": None}}),
    # Not as OpenID Connect has it; Mosaic would refuse the whole request.
    *({"id_token": "wrong"}, {"id_token": None}, {"access_token": []}, {"email": {}}),
]
ATTRIBUTES: list[Any] = [[], "x", {"user_agent": 7}, {"user_agent": "a" * 5000}, {"x": "y"}]


def _register(**changes: Any) -> tuple[Task, dict[str, Any]]:
    return Task.REGISTER, {"session_id": "s", "user_id": "ada", "id_token": "t"} | changes


def _ask(**changes: Any) -> tuple[Task, dict[str, Any]]:
    return Task.SILENT_AUTH, {"user_id": "ada"} | changes


def _send(**fields: Any) -> tuple[Task, dict[str, Any]]:
    right = {"channel": "sms", "identifier": "+1", "identifier_type": "phone_number"}
    return Task.START, {"method": "otp", "fields": right | fields}


def _prove(**fields: Any) -> tuple[Task, dict[str, Any]]:
    right = {"username": "ada", "password": "p"}
    return Task.AUTHENTICATE, {"method": "password", "fields": right | fields}


def _leave(**changes: Any) -> tuple[Task, dict[str, Any]]:
    return Task.LOGOUT, {"user_id": "ada"} | changes


PAYLOADS: list[tuple[Task, dict[str, Any]]] = [
    *[_register(session_id=text) for text in TEXTS],
    *[_register(user_id=text) for text in TEXTS],
    *[_register(id_token=text) for text in TEXTS],
    *[_register(device_id=text) for text in TEXTS if text is not None],
    _register(unknown="field"),
    _register(device_id="d" * 81),
    (Task.REGISTER, {}),
    (Task.REGISTER, {"user_id": "ada"}),
    *[_ask(user_id=text) for text in TEXTS],
    *[_ask(resource=text) for text in TEXTS if text is not None],
    *[_ask(org_id=text) for text in TEXTS if text is not None],
    *[_ask(amr_all_of=value) for value in METHODS],
    *[_ask(amr_any_of=value) for value in METHODS],
    *[_ask(max_age=value) for value in (-1, 1.5, "60", True, 10**10)],
    *[_ask(claims=value) for value in CLAIMS],
    *[_ask(client_attributes=value) for value in ATTRIBUTES],
    _ask(session_ref="x"),
    *[_ask(browser_token=text) for text in TEXTS if text is not None],
    _ask(ticket="t", verifier="v" * 43),
    (Task.SILENT_AUTH, {}),
    (Task.SILENT_AUTH, {"ticket": "t"}),
    (Task.SILENT_AUTH, {"session_ref": SOME_REF}),
    (Task.SILENT_AUTH, {"browser_token": "b", "ticket": "t", "verifier": "v" * 43}),
    (Task.SILENT_AUTH, {"browser_token": "b", "replaces": "b"}),
    (Task.START, {}),
    (Task.START, {"method": "telepathy"}),
    (Task.START, {"method": "password", "fields": {"username": "ada", "password": "p"}}),
    *[_send(channel=text) for text in TEXTS],
    *[_send(identifier=text) for text in TEXTS],
    _send(custom_email="mallory@example.com"),
    _send(custom_phone_number="+1"),
    (Task.AUTHENTICATE, {}),
    (Task.AUTHENTICATE, {"method": "otp", "fields": {"code": "1"}}),
    (Task.AUTHENTICATE, {"method": "otp", "fields": {"code": "1"}, "login": ""}),
    *[_prove(password=text) for text in NO_PASSWORDS],
    *[_prove(username=text) for text in TEXTS],
    _prove(passcode="1"),
    (Task.TICKET, {}),
    (Task.TICKET, {"browser_token": "b", "for_app": "forum", "challenge": "c"}),
    (Task.TICKET, {"browser_token": "b", "for_app": "fo:rum", "challenge": "c" * 43}),
    (Task.REVOKE_USER, {}),
    *[(Task.REVOKE_USER, {"user_id": text}) for text in TEXTS],
    (Task.REVOKE_USER, {"user_id": "ada", "frontend": 1}),
    (Task.STATUS, {}),
    (Task.STATUS, {"user_id": ["ada"]}),
    (Task.STATUS, {"user_id": "ada", "all": True}),
    *[_leave(user_id=text, session_id="s") for text in TEXTS],
    *[_leave(session_id=text) for text in TEXTS],
    *[_leave(session_ref=value) for value in ("", "x", 7, "0" * 31, "0" * 5000, "\ud800")],
    _leave(),
    _leave(session_id="s", session_ref="00000000-0000-0000-0000-000000000000"),
    _leave(scope="session", device_id="phone"),
    _leave(scope="device"),
    _leave(scope="device", session_id="s", device_id="phone"),
    _leave(scope="user", session_id="s"),
    _leave(scope="user", device_id="phone"),
    _leave(scope="everybody"),
    _leave(scope=None),
    _leave(scope=["user"]),
]


def test_a_payload_that_does_not_fit_is_refused(small: Stage) -> None:
    unchanged = Unchanged(small)

    for number, (task, payload) in enumerate(PAYLOADS):
        content = good_content(small, task=task.value, payload=payload, request_id=f"{number:022}")
        sealed = sealed_raw(small.keys["shop"], json.dumps(content).encode())
        sent = Sent(task, f"{number:022}", {"app_id": "shop", "envelope": sealed})
        answer = small.deliver(sent)

        too_large = len(sealed) > contract.max_envelope_bytes(task)
        expected = (
            (UNAUTHORIZED, Reason.TOO_LARGE) if too_large else (INVALID, Reason.INVALID_PAYLOAD)
        )
        assert (answer.verdict, answer.reason) == expected, payload
    unchanged.check()


def test_what_no_operator_has_granted_is_not_permitted(small: Stage) -> None:
    unchanged = Unchanged(small)
    ungranted: list[requests.Request[Any]] = [
        logins.Start(step=methods.SendOtp("sms", "+1", "phone_number")),
        logins.Authenticate(proof=methods.Password("ada", "p")),
        requests.IssueTicket(browser_token="b", for_app="forum", challenge="c" * 43),
        requests.RevokeUser(user_id="ada", frontend=True),
    ]

    answers = {request.task: told(small.ask("shop", request)) for request in ungranted}

    assert answers == dict.fromkeys(answers, (UNAUTHORIZED, Reason.NOT_PERMITTED))
    unchanged.check()


def test_a_browser_token_that_is_nobodys_is_no_session_and_no_alarm(small: Stage) -> None:
    tokens = ["x", "\0", "msb1_" + "x" * 42, "msb1_" + "x" * 43]
    unchanged = Unchanged(small)

    for token in tokens:
        silent = small.ask("shop", requests.SilentAuth(browser_token=token))
        ticket = small.ask("shop", requests.SilentAuth(ticket=token, verifier="v" * 43))
        assert told(silent) == (Verdict.LOGIN_REQUIRED, Reason.NO_SESSION), token
        assert told(ticket) == (Verdict.LOGIN_REQUIRED, Reason.TICKET_REFUSED), token
    unchanged.check()

    for token in tokens:
        receipt = small.ask("shop", requests.Logout(browser_token=token))
        assert told(receipt) == (Verdict.OK, Reason.NO_SESSION), token
        assert receipt.sessions_ended == 0


def test_claims_that_are_no_proper_json_are_refused(small: Stage) -> None:
    unchanged = Unchanged(small)
    asked = {"user_id": "ada", "claims": {"id_token": {"a": "HERE"}}}

    for claims in ("1e999", "NaN", _nested(400)):
        text = json.dumps(good_content(small, payload=asked)).replace('"HERE"', claims)
        answer = deliver(small, sealed_raw(small.keys["shop"], text.encode()))
        assert answer.verdict in {INVALID, UNAUTHORIZED}, claims
    unchanged.check()


def test_a_user_id_of_any_script_is_welcome(apps: Stage) -> None:
    login = apps.login("ада-🦄-亚达", "shop")

    answer = apps.remember(login, "ада-🦄-亚达")

    assert answer.verdict is Verdict.OK
    assert apps.silent_auth("ада-🦄-亚达").verdict is Verdict.AUTHENTICATED


def test_after_all_that_the_session_still_serves(apps: Stage) -> None:
    for task, payload in PAYLOADS[::7]:
        content = good_content(apps, task=task.value, payload=payload)
        deliver(apps, sealed_raw(apps.keys["shop"], json.dumps(content).encode()), task)

    assert apps.silent_auth("ada", "forum", device_id="phone").verdict is Verdict.AUTHENTICATED
