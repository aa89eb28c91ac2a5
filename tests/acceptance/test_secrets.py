"""No secret in clear: not on the broker, not in the database, not in logs, events or files.

One flow through real processes, its failures included, with debug logs and task events on. Every
byte that Redis is told, that it holds, and that a process writes is searched for every secret.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import pytest
import redis
from joserfc.jwk import ECKey

from sandbox.processes import poll_until
from sandbox.stack import PREFIX, Stack
from session_client import (
    AppKey,
    Authenticated,
    CodeIssued,
    Denied,
    InvalidRequest,
    LinkIssued,
    LoginAnswer,
    LoginRequired,
    Logout,
    NotAcknowledged,
    OutcomeUnknown,
    Register,
    Registered,
    SessionClient,
    SilentAnswer,
    Unavailable,
    WorkerUnavailable,
    methods,
)
from session_client._core import message
from session_client.requests import new_request_id
from tests.sending import send

PATIENT = 60.0
RETRIED = rb"retries\": 1"
# Sent in clear on purpose, by a publisher that does everything wrong: the broker holds it, but
# nothing else may.
BLURTED = "Blurted.Out.Canary.4711"
# What users of the shop type, and who they say they are; and Mosaic's own refresh token, which the
# shop has only sealed.
PASSWORD = "Password.Canary.4711"
WRONG_PASSWORD = "Wrong.Password.Canary.4711"
WRONG_CODE = "Wrong.Code.Canary.4711"
EMAIL, PHONE = "carol.canary@users.example", "+4915900471147"
MOSAICS_OWN = "Refresh.Token.Of.Mosaic.Canary.4711"
METHODS = {"shop": ("--methods", "password,link_direct,otp_direct", "--allow", "offline")}
# Looked for at each place, since what is sealed may by chance begin like a token just before one.
JWS = re.compile(rb"(?=(eyJ[A-Za-z0-9_-]{10,})\.[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]{4,})")


def forms_of(secret: str | bytes) -> set[bytes]:
    """Return what *secret* looks like in clear and in encodings that hide nothing."""
    raw = secret.encode() if isinstance(secret, str) else secret
    forms = {raw, raw.hex().encode(), raw.hex().upper().encode(), repr(raw)[2:-1].encode()}
    for shift in range(3):  # base64 of a longer text holds it in one of three alignments
        encoded = base64.b64encode(bytes(shift) + raw)
        inner = encoded[-(-shift * 8 // 6) : (shift + len(raw)) * 8 // 6]
        forms |= {inner, inner.replace(b"+", b"-").replace(b"/", b"_")}
    return forms


def has_signed_token(content: bytes) -> bool:
    """Whether a JWS is in *content*; "eyJ" alone may also begin a random part of what is sealed."""
    return any(_is_header(found[1]) for found in JWS.finditer(content))


def _is_header(encoded: bytes) -> bool:
    try:
        header = json.loads(base64.urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4)))
    except ValueError:
        return False
    return "alg" in header


@dataclass
class Evidence:
    """All that could be read by somebody, by where it was found."""

    found: dict[str, bytes] = field(default_factory=dict)

    def add(self, where: str, content: bytes) -> None:
        self.found[where] = self.found.get(where, b"") + b"\n" + content

    def leaks(self, secrets: dict[str, str | bytes]) -> set[tuple[str, str]]:
        """Return which secret is where."""
        return {
            (name, where)
            for name, secret in secrets.items()
            for form in forms_of(secret)
            for where, content in self.found.items()
            if form in content
        }


class Monitor:
    """Everything Redis is told, as Redis writes it down."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._thread = threading.Thread(target=self._read)
        self._parts: list[bytes] = []

    def __enter__(self) -> Self:
        self._socket.sendall(b"MONITOR\r\n")
        self._thread.start()
        poll_until(lambda: self._parts, 60)
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def hear_the_last(self, broker: Any) -> None:
        """Return once all that was said before is written down."""
        mark = new_request_id()
        broker.echo(mark)
        self.hear(mark.encode())

    def hear(self, text: bytes) -> None:
        """Return once this was said."""
        poll_until(lambda: text in b"".join(self._parts), 60, what=f"{text!r} on the broker")

    def _read(self) -> None:
        while part := self._socket.recv(65_536):
            self._parts.append(part)

    @property
    def lines(self) -> list[bytes]:
        return b"".join(self._parts).splitlines()


def everything_in(broker: Any) -> bytes:
    readers = {
        b"string": broker.get,
        b"list": lambda key: broker.lrange(key, 0, -1),
        b"hash": broker.hgetall,
        b"set": broker.smembers,
        b"zset": lambda key: broker.zrange(key, 0, -1),
    }
    parts = []
    for key in broker.scan_iter():
        read = readers.get(broker.type(key))
        parts += [key, broker.dump(key) or b"", _flat(read(key)) if read else b""]
    return b"\n".join(parts)


def _flat(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    items = [*value.keys(), *value.values()] if isinstance(value, dict) else value
    return b"\n".join(items or ())


class Flow:
    """A day in the life of two apps, good and bad."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.secrets: dict[str, str | bytes] = {}
        self.evidence = Evidence()
        self.broker = redis.Redis.from_url(stack.broker_url)
        for name in ("ENCRYPTION_KEYS", "LOOKUP_KEY"):
            text = stack.environment[PREFIX + name].removeprefix("k1:")
            self.secrets |= {name: text, f"{name} raw": base64.b64decode(text)}
        self.shop = self.add_app("shop")
        self.forum = self.add_app("forum")

    def close(self) -> None:
        self.shop.close()
        self.forum.close()
        self.broker.close()

    def add_app(self, app_id: str) -> SessionClient:
        option, credential = self.credential_of(app_id)
        file = self.stack.folder / f"{app_id}.credential"
        file.write_text(credential, encoding="utf-8")
        printed = self.stack.run(
            "mosaic-sessions", "apps", "add", app_id, "--client-id", f"client-{app_id}",
            option, str(file), "--quiet", "--allow", "silent_by_user", *METHODS.get(app_id, ()),
        )  # fmt: skip
        file.unlink()
        key = printed.strip().splitlines()[-1]
        self.secrets |= {
            f"app key of {app_id}": key,
            f"app key of {app_id} encoded": key.partition(".")[2],
            f"app key of {app_id} raw": AppKey.parse(key).secret,
        }
        return SessionClient(broker_url=self.stack.broker_url, app_id=app_id, app_key=key)

    def credential_of(self, app_id: str) -> tuple[str, str]:
        """Make what the app's client proves itself to Mosaic by: the shop a secret, forum a key."""
        if app_id == "forum":
            key = ECKey.generate_key("P-256")
            self.stack.mosaic.add_client("client-forum", public_jwk=key.as_dict(private=False))
            parts = key.as_dict(private=True)
            self.secrets["client key of forum"] = str(parts["d"])
            return "--client-key-file", json.dumps(parts)
        secret = f"client-secret-canary-of-{app_id}"
        self.stack.mosaic.add_client(f"client-{app_id}", secret)
        self.secrets[f"client secret of {app_id}"] = secret
        return "--client-secret-file", secret

    def login(self, user_id: str) -> Any:
        login = self.stack.mosaic.login(user_id, "client-shop", amr=("pwd",))
        number = len(self.secrets)
        self.secrets |= {
            f"session id {number}": login.session_id,
            f"id token {number}": login.id_token,
        }
        return login

    def registration(self, user_id: str) -> Register:
        login = self.login(user_id)
        return Register(user_id=user_id, session_id=login.session_id, id_token=login.id_token)

    def sign_in(self, user_id: str) -> SilentAnswer | None:
        try:
            answer = self.forum.silent_auth(user_id=user_id, timeout=PATIENT)
        except Unavailable:
            return None
        if isinstance(answer, Authenticated):
            number = len(self.secrets)
            given = {
                "access": answer.tokens.access_token,
                "id": answer.tokens.id_token,
                "refresh": answer.tokens.refresh_token,
            }
            self.secrets |= {f"{kind} token {number}": t for kind, t in given.items() if t}
        return answer

    def look_at_broker(self) -> None:
        self.evidence.add("what Redis holds", everything_in(self.broker))

    def database(self, statement: str) -> None:
        connection = sqlite3.connect(self.stack.folder / "sessions.db", timeout=30)
        with connection:
            connection.execute(statement)
        connection.close()

    # --- what happens

    def before_a_worker_runs(self) -> None:
        register = self.registration("ada")
        pending = send(self.shop, register, timeout=PATIENT)
        self.look_at_broker()
        self.stack.worker("-E")
        self.stack.beat()
        assert isinstance(pending.wait(), Registered)

    def all_goes_well(self) -> None:
        assert isinstance(self.sign_in("ada"), Authenticated)
        assert self.shop.status(user_id="ada", timeout=PATIENT)
        # An answer that nobody fetches lies on its list.
        send(self.forum, self.registration("bob"), timeout=PATIENT)
        login = self.login("ada")
        self.shop.logout(user_id="ada", session_id=login.session_id, timeout=PATIENT)
        self.look_at_broker()

    def users_sign_in(self) -> None:
        """By password and by link, rightly and wrongly; then the shop works for one who is away."""
        mosaic, shop = self.stack.mosaic, self.shop
        mosaic.add_user("carol", password=PASSWORD, email=EMAIL, phone=PHONE)
        own = {"refresh_token": MOSAICS_OWN}
        proof = methods.Password(EMAIL, PASSWORD, "email")
        mosaic.faults.add("password/authenticate", "change_answer", changes=own, times=1)
        first = self.kept(shop.authenticate(proof, timeout=PATIENT))
        refused = shop.refresh(str(first.tokens.refresh_token), timeout=PATIENT)
        wrong = methods.Password(EMAIL, WRONG_PASSWORD, "email")
        quoted = {"message": f"{WRONG_PASSWORD} is wrong", "error_code": WRONG_PASSWORD}
        mosaic.faults.add("password/authenticate", "status", status=400, body=quoted, times=1)
        denied = [shop.authenticate(wrong, timeout=PATIENT)]
        begun = shop.start(methods.IssueOtp(PHONE, "phone_number"), timeout=PATIENT)
        assert isinstance(begun, CodeIssued)
        code = methods.Code(WRONG_CODE)
        denied.append(shop.authenticate(code, login=begun.login, timeout=PATIENT))
        link = shop.start(methods.IssueLink("https://shop.example", EMAIL, "email"))
        assert isinstance(link, LinkIssued)
        second = self.kept(
            shop.authenticate(
                methods.Link(link.code, link.state),
                login=link.login,
                replaces=first.browser_token,
                known_browser=first.known_browser,
                timeout=PATIENT,
            )
        )
        third = self.kept(shop.refresh(str(second.tokens.refresh_token), timeout=PATIENT))
        mosaic.faults.add("token/refresh", "invalid_json", times=1)
        mosaic.faults.add("password/authenticate", "drop_answer", times=1)
        with pytest.raises(OutcomeUnknown):
            shop.refresh(str(third.tokens.refresh_token), timeout=PATIENT)
        with pytest.raises(OutcomeUnknown):
            shop.authenticate(proof, timeout=PATIENT)
        self.secrets |= {
            "password": PASSWORD,
            "wrong password": WRONG_PASSWORD,
            "wrong code": WRONG_CODE,
            "identifier": EMAIL,
            "phone number": PHONE,
            "refresh token of Mosaic's": MOSAICS_OWN,
            "link code": link.code,
            "link state": link.state,
            "login handle": link.login,
            "login handle of a code": begun.login,
        }
        assert refused == LoginRequired("refresh_refused")
        assert {type(answer) for answer in denied} == {Denied}
        self.look_at_broker()

    def kept(self, answer: LoginAnswer) -> Authenticated:
        """Note what an answer gives."""
        assert isinstance(answer, Authenticated), answer
        number = len(self.secrets)
        given = {
            "access token": answer.tokens.access_token,
            "id token": answer.tokens.id_token,
            "refresh token": answer.tokens.refresh_token,
            "browser token": answer.browser_token,
            "known browser": answer.known_browser,
        }
        self.secrets |= {f"{kind} {number}": secret for kind, secret in given.items() if secret}
        return answer

    def mosaic_fails(self) -> None:
        faults: list[tuple[str, dict[str, Any]]] = [
            ("status", {"status": 500, "message": BLURTED}),
            ("status", {"status": 400, "message": BLURTED}),
            ("invalid_json", {}),
            ("wrong_sub", {}),
            ("alg_none", {}),
        ]
        for kind, details in faults:
            send(self.shop, self.registration("bob"), timeout=PATIENT).wait()
            self.stack.mosaic.faults.add("session/authenticate", kind, **details)
            answer = self.sign_in("bob")
            self.stack.mosaic.faults.clear()
            assert not isinstance(answer, Authenticated), kind
        self.look_at_broker()

    def requests_are_refused(self) -> None:
        login = self.login("bob")
        for client, user_id, id_token in (
            (self.shop, "ada", login.id_token),
            (self.shop, "bob", login.id_token + "x"),
            (self.forum, "bob", login.id_token),
        ):
            given = {"user_id": user_id, "session_id": login.session_id, "id_token": id_token}
            with pytest.raises(InvalidRequest):
                client.register(**given, timeout=PATIENT)
        with pytest.raises(InvalidRequest):
            self.forum.logout(
                user_id="ada", session_id=self.login("bob").session_id + "\n", timeout=PATIENT
            )

    def the_store_breaks_and_the_job_is_retried(self) -> None:
        login = self.login("ada")
        self.database("ALTER TABLE logout_requests RENAME TO logout_requests_gone")
        request = Logout(user_id="ada", session_id=login.session_id)
        with pytest.raises(WorkerUnavailable):
            send(self.shop, request, timeout=PATIENT).wait()
        with pytest.raises(NotAcknowledged):
            self.shop.logout(user_id="ada", session_id=login.session_id, timeout=1.5)
        self.look_at_broker()
        self.database("ALTER TABLE logout_requests_gone RENAME TO logout_requests")

    def the_worker_meets_what_cannot_be(self) -> None:
        send(self.shop, self.registration("bob"), timeout=PATIENT).wait()
        self.database("UPDATE idp_sessions SET amr = '{'")
        with pytest.raises(WorkerUnavailable):
            self.shop.status(user_id="bob", timeout=PATIENT)
        self.database("UPDATE idp_sessions SET amr = '[]'")
        self.database("UPDATE idp_sessions SET sealed_session_id = x'6b31' WHERE ended_at IS NULL")
        answer = self.sign_in("bob")
        assert not isinstance(answer, Authenticated)
        self.look_at_broker()

    def somebody_publishes_badly(self) -> None:
        kwargs = {"app_id": "shop", "envelope": BLURTED, "session_id": BLURTED}
        badly: list[dict[str, Any]] = [
            {"task": "sessions.unknown", "kwargs": kwargs},
            {"kwargs": kwargs},  # no JWE
            {"kwargs": {"session_id": BLURTED}},  # nobody to answer
            {"kwargs": {"app_id": BLURTED, "envelope": BLURTED}},
            {"kwargs": {"app_id": "shop", "envelope": {"a": BLURTED}}},
            {"args": [BLURTED], "kwargs": {"session": BLURTED}},
            {"task": "logouts.end_at_idp", "args": [BLURTED]},
            {"task": "logouts.end_at_idp", "kwargs": {"secret": BLURTED}},
            {"task": "maintenance.expire_sessions", "args": [BLURTED]},
            {"body": json.dumps({"a": BLURTED})},
            {"body": json.dumps([BLURTED])},
            {"body": BLURTED},
            {"content_type": "application/x-python-serialize", "body": BLURTED},
            {"content_type": "application/x-yaml", "body": BLURTED},
            {"headers": {"eta": BLURTED}},
            {"headers": {"expires": BLURTED}},
            {"headers": {"argsrepr": BLURTED, "kwargsrepr": BLURTED}},
            {"headers": {"compression": "zlib"}, "body": BLURTED},
            {"headers": {"timelimit": BLURTED}},
        ]
        for one in badly:
            self.broker.lpush("auth", json.dumps(_written(**one)))
        poll_until(lambda: self.broker.llen("auth") == 0, PATIENT)
        # All of them are done with when one that came after is answered.
        self.shop.status(user_id="ada", timeout=PATIENT)


def _written(
    *,
    task: str = "sessions.status",
    id: str | None = None,  # noqa: A002 - its name in the message
    args: Any = (),
    kwargs: Any = None,
    body: str | None = None,
    content_type: str = "application/json",
    headers: dict[str, Any] | None = None,
) -> dict[str, Any]:
    text = json.dumps([list(args), kwargs or {}, {}]) if body is None else body
    request_id = id or new_request_id()
    return {
        "body": base64.b64encode(text.encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": content_type,
        "headers": {"lang": "py", "task": task, "id": request_id, **(headers or {})},
        "properties": {
            "body_encoding": "base64",
            "correlation_id": request_id,
            "delivery_info": {"exchange": "", "routing_key": "auth"},
            "delivery_mode": 2,
            "delivery_tag": new_request_id(),
            "priority": 0,
        },
    }


@contextmanager
def flow_on_a_stack() -> Iterator[tuple[Flow, Monitor]]:
    settings = {"log_level": "debug", "sweep_every_seconds": 1, "expire_every_seconds": 1}
    with Stack(settings=settings, simulator_process=True) as stack:
        stack.migrate()
        flow = Flow(stack)
        try:
            with Monitor(stack.redis.port) as monitor:
                yield flow, monitor
        finally:
            flow.close()


@pytest.fixture(scope="module")
def flow() -> Iterator[Flow]:
    with flow_on_a_stack() as (flow, monitor):
        flow.before_a_worker_runs()
        flow.all_goes_well()
        flow.users_sign_in()
        flow.mosaic_fails()
        flow.requests_are_refused()
        flow.the_worker_meets_what_cannot_be()
        flow.the_store_breaks_and_the_job_is_retried()
        flow.look_at_broker()
        monitor.hear(RETRIED)  # which the worker says only after it has answered
        monitor.hear_the_last(flow.broker)
        told_before = monitor.lines
        flow.somebody_publishes_badly()
        monitor.hear_the_last(flow.broker)
        collect(flow, told_before, monitor.lines)
        yield flow


def collect(flow: Flow, told_before: list[bytes], told: list[bytes]) -> None:
    flow.evidence.add("what Redis was told", b"\n".join(told_before))
    flow.evidence.add("events", b"\n".join(line for line in told if b'"PUBLISH"' in line))
    for name in ("worker", "beat", "simulator"):
        path = flow.stack.folder / f"{name}.log"
        flow.evidence.add(path.name, path.read_bytes())
    kept = [*flow.stack.folder.glob("sessions.db*")]
    for path in kept:
        flow.evidence.add(path.name, path.read_bytes())


def test_the_search_finds_a_secret_in_every_form() -> None:
    secret = "needle-in-a-haystack"  # long enough for base64 to hold it whole
    for hidden in (
        secret.encode(),
        base64.b64encode(f"a{secret}".encode()),
        base64.urlsafe_b64encode(f"ab{secret}??>".encode()),
        secret.encode().hex().encode(),
    ):
        evidence = Evidence({"here": b"hay " + hidden + b" hay"})
        assert evidence.leaks({"needle": secret}) == {("needle", "here")}
    assert not Evidence({"here": b"hay"}).leaks({"needle": secret})


def test_the_search_finds_a_signed_token_and_only_that() -> None:
    token = b".".join(
        base64.urlsafe_b64encode(part).rstrip(b"=")
        for part in (b'{"alg":"RS256","kid":"one"}', b'{"sub":"ada"}', b"signature")
    )
    by_chance = b"eyJ7Zm9vYmFyYmF6.Y2lwaGVydGV4dA.dGFn"  # a nonce, and what follows it

    assert has_signed_token(b"hay " + token + b" hay")
    assert has_signed_token(b"eyJhay-" + token)
    assert not has_signed_token(b"hay " + by_chance + b" hay")


def test_the_flow_had_all_kinds_of_secrets_and_places(flow: Flow) -> None:
    kinds = {re.sub(r" \d+$", "", name) for name in flow.secrets}

    assert {"session id", "id token", "access token", "client secret of shop"} <= kinds
    assert {"password", "link code", "refresh token", "browser token", "known browser"} <= kinds
    assert {"app key of shop raw", "ENCRYPTION_KEYS", "LOOKUP_KEY raw"} <= kinds
    assert {
        "what Redis holds", "what Redis was told", "events", "worker.log", "beat.log",
        "simulator.log", "sessions.db",
    } <= set(flow.evidence.found)  # fmt: skip
    assert b"/task.multi" in flow.evidence.found["events"]
    assert b"sessions.logout" in flow.evidence.found["what Redis was told"]


def test_the_failing_paths_were_taken(flow: Flow) -> None:
    log = flow.evidence.found["worker.log"]

    for event in (
        "message_rejected", "unknown_task", "request_refused", "request_dropped",
        "request_put_off", "task_bug", "operator_must_act",
    ):  # fmt: skip
        assert event.encode() in log, event
    assert RETRIED in flow.evidence.found["what Redis was told"]


def test_no_secret_is_anywhere_in_clear(flow: Flow) -> None:
    assert flow.evidence.leaks(flow.secrets) == set()


def test_nothing_shaped_like_a_signed_token_is_anywhere(flow: Flow) -> None:
    # Also those whose value no test knows, such as the worker's own client tokens.
    for where, content in flow.evidence.found.items():
        assert not has_signed_token(content), where


def test_what_a_bad_publisher_blurts_out_goes_no_further(flow: Flow) -> None:
    assert flow.evidence.leaks({"blurted out": BLURTED}) == set()
    assert flow.stack.processes["worker"].is_alive


def test_the_message_itself_is_all_that_an_app_leaves_on_the_broker(flow: Flow) -> None:
    lines = flow.evidence.found["what Redis was told"].splitlines()
    pushed = [line for line in lines if b'"LPUSH"' in line and b"sessions.register" in line]

    assert pushed
    assert all(b'\\"kwargsrepr\\": \\"-\\"' in line for line in pushed)


def test_a_sealed_message_names_neither_user_nor_session(flow: Flow) -> None:
    register = Register(user_id="ada", session_id="s" * 40, id_token="t" * 40)
    sent = message.seal(register, app_id="shop", key=AppKey.generate())
    evidence = Evidence({"message": json.dumps(sent.kwargs).encode()})

    assert not evidence.leaks({"session": "s" * 40, "token": "t" * 40})
